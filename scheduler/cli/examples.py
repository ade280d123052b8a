"""Examples for each verb, shown below its --help; a test reads every one of them with the verb's own options."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "audit": ("revoq audit verify", "revoq audit list --job ID"),
    "batches": ("revoq batches list", "revoq batches report ID --output report.html"),
    "completion": ('eval "$(revoq completion bash)"', "revoq completion fish > ~/.config/fish/completions/revoq.fish"),
    "connections": ("revoq connections list", "revoq connections test prod"),
    "credentials": ("revoq credentials list --rule jupyterhub.token --connection hub --subject bob",),
    "db": ("revoq db upgrade", "revoq db check"),
    "demo": ("revoq demo",),
    "doctor": ("revoq doctor", "revoq doctor --role worker"),
    "history": ("pass show leaked | revoq history",),
    "hold": ('revoq hold on --reason "wrong file"', 'revoq hold off --connection prod --reason "found it"'),
    "issue": ("revoq issue --rule RULE --connection prod --var NAME=etl --sink vault-prod --wait",),
    "jobs": ("revoq jobs list --state parked", "revoq jobs show ID", "revoq jobs select ID CANDIDATE"),
    "keys": ("revoq keys generate",),
    "metrics": ("revoq metrics", "revoq metrics --listen 0.0.0.0:9464"),
    "offboard": ("revoq offboard leavers.csv --dry-run", "revoq offboard --approve HASH --wait"),
    "probe": ("pass show suspect | revoq probe --rule sendgrid.api_key --wait",),
    "revoke": (
        "pass show leaked | revoq revoke --rule sendgrid.api_key --ticket SEC-17 --wait",
        "revoq revoke --rule jupyterhub.token --connection hub --dry-run < token.txt",
    ),
    "rotate": ("revoq rotate --rule RULE --connection prod --target ci-smoke --sink vault-prod --wait",),
    "rules": ("revoq rules show sendgrid.api_key", "revoq rules check my-rules"),
    "schedules": ("revoq schedules list", "revoq schedules run weekly-service-users --dry-run"),
    "up": ("revoq up",),
}


def examples(verb: str) -> str | None:
    """An epilog that click leaves as it is written."""
    lines = EXAMPLES.get(verb)
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines) if lines else None
