"""`make advisories`: whether an advisory is known for any pinned package, and in words where nobody could be asked.

pip-audit calls a package that its service does not know skipped, and ends with 0; here that is no answer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WITHIN = 300
UNASKED = 2
"""The exit code where it is not known whether there are advisories."""

Packages = list[dict[str, Any]]


def main() -> None:
    """Ask, tell, and end with 0 where every package was asked about and nothing is known against any."""
    file = sys.argv[1]
    packages, words = ask(Path(file))
    known = list(advisories(packages))
    unasked = [package["name"] for package in packages if "skip_reason" in package]
    for line in known:
        say(line)
    if unasked or not packages:
        say(f"It is not known whether there are advisories: nobody could be asked about {tell(unasked)}.{words}")
    else:
        say(f"{len(packages)} packages of {file} were asked about; {len(known) or 'no'} advisories are known.")
    sys.exit(1 if known else UNASKED if unasked or not packages else 0)


def ask(file: Path) -> tuple[Packages, str]:
    """What pip-audit was told of each package, or none and its last words."""
    options = ["--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "-r", file, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN,
    )
    try:
        packages: Packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        return [], f" pip-audit says: {last[0][:300]}"
    reasons = {package["skip_reason"] for package in packages if "skip_reason" in package}
    return packages, f" pip-audit says: {min(reasons)}" if reasons else ""


def advisories(packages: Packages) -> Iterator[str]:
    """A line for each advisory: what it is about, which it is, and what mends it."""
    for package in packages:
        for found in package.get("vulns", []):
            mends = ", ".join(found["fix_versions"]) or "no version yet"
            yield f"{package['name']} {package['version']}: {found['id']}, mended in {mends}"


def say(line: str) -> None:
    """One line of the answer."""
    sys.stdout.write(f"{line}\n")


def tell(names: list[str]) -> str:
    """Which packages, as far as a line can hold them."""
    if not names:
        return "any package"
    shown = ", ".join(sorted(names)[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


if __name__ == "__main__":
    main()
