"""A real Chromium without a window, the one that is installed; what is looked at in it is the tests'."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.servers.missing import report_missing

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""It asks nobody for anything by itself."""


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser whose profile goes away with it."""
    # Chromium's own sandbox refuses to run as root, which is what CI is.
    words = [*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=words)
        try:
            yield browser
        finally:
            browser.close()


def find_browser() -> str:
    """Where it is installed."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found if found is not None else report_missing("Chromium", "Debian: apt install chromium")
