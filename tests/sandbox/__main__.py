"""`python -m tests.sandbox`: the pretend providers as a process of their own, until SIGTERM or SIGINT."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.sandbox.server import Sandbox

LOOK_EVERY = 0.2


def main() -> None:
    """Print one line of JSON with the port and the base URLs, then serve."""
    options = read_options()
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: signals.append(received))
    with Sandbox(options.port) as sandbox:
        if options.leak is not None:
            leak(sandbox, options.leak)
        urls = {name: sandbox.url(name) for name in sandbox.providers}
        line = {"pretend": True, "port": sandbox.port, "base_url": sandbox.base_url, "urls": urls}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        serve(sandbox, options.state, signals)


def read_options() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.sandbox", description="Pretend providers on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0: one that is free")
    parser.add_argument(
        "--state", type=Path, help="a file that is kept up to date: which credentials are alive, as JSON"
    )
    parser.add_argument(
        "--leak",
        type=Path,
        metavar="FOLDER",
        help="write two SendGrid keys: `leaked`, and `signer`, which may delete it",
    )
    return parser.parse_args()


def leak(sandbox: Sandbox, folder: Path) -> None:
    """What the tutorial begins with."""
    for name in ("leaked", "signer"):
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(sandbox.sendgrid.add_key(name=name).secret)


def serve(sandbox: Sandbox, path: Path | None, signals: list[int]) -> None:
    """Wait for a signal; where a state file is wanted, write it whenever something has changed, and at the end."""
    written = None
    while True:
        over = bool(signals)
        state = sandbox.state()
        if path is not None and state != written:
            write_state(path, state)
            written = state
        if over:
            return
        time.sleep(LOOK_EVERY)


def write_state(path: Path, state: dict[str, Any]) -> None:
    """The file is replaced as a whole: a reader never sees half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(state, indent=1, sort_keys=True))
    draft.replace(path)


if __name__ == "__main__":
    main()
