"""A real Prometheus that scrapes one address every second; what it is asked, and should answer, is the test's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.servers.missing import report_missing
from tests.servers.ports import find_free_port
from tests.servers.process import Process

REMEDY = "Debian: apt install prometheus"


@dataclass(frozen=True)
class Prometheus:
    """One server, and how it is asked."""

    process: Process
    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression comes to now; a wrong one is an error with Prometheus' own words."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, trust_env=False, timeout=30)
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def wait_for(self, expression: str) -> list[dict[str, Any]]:
        """Ask again until it comes to something."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = self.query(expression)
            return bool(found)

        self.process.wait_until(look)
        return found


@contextmanager
def running_prometheus(directory: Path, target: str, rules: Path) -> Iterator[Prometheus]:
    """A server that knows nothing but this target and these alerts."""
    program = find("prometheus")
    port = find_free_port()
    config = directory / "prometheus.yml"
    scraped = {"job_name": "revoq", "static_configs": [{"targets": [target]}]}
    chosen = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [scraped],
    }
    config.write_text(yaml.safe_dump(chosen))
    with Process.start(
        [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'series'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        log=directory / "prometheus.log",
        cwd=directory,
    ) as process:
        process.wait_until(lambda: answers(f"http://127.0.0.1:{port}/-/ready"))
        yield Prometheus(process, f"http://127.0.0.1:{port}")


def find(program: str) -> str:
    """Where Debian's package has put it."""
    return shutil.which(program) or report_missing(program, REMEDY)


def answers(url: str) -> bool:
    """Whether it is there."""
    try:
        return httpx.get(url, trust_env=False, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
