"""The house that acts: it touches the ledger, sealed secrets and providers, and carries jobs forward."""
