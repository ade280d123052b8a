"""Pretend providers on loopback, labelled as such, that misbehave the way the real ones are known to do."""

from tests.sandbox.server import Sandbox

__all__ = ["Sandbox"]
