"""The sandbox as a pytest fixture; tests/conftest.py imports it from here."""

from collections.abc import Iterator

import pytest

from tests.sandbox.server import Sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Pretend providers of the test's own, on a port that the system chooses."""
    with Sandbox() as running:
        yield running
