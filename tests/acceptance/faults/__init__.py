"""The whole system as processes, hurt at named points: a case names what is hurt, when, and what holds all the same."""
