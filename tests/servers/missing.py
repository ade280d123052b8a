"""What becomes of a test whose server is not installed: skipped on a laptop, failed in CI."""

import os
from typing import NoReturn

import pytest

IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}


def report_missing(what: str, remedy: str) -> NoReturn:
    """In CI nobody reads skips, so a test that could not run has to fail there."""
    message = f"{what} is not installed; {remedy}"
    if IN_CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
