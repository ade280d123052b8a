"""The fixture for the sandbox's own tests."""

from tests.sandbox.fixtures import sandbox

__all__ = ["sandbox"]
