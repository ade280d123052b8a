"""`revoq metrics`: figures for Prometheus, on a small server of their own; what they are is `scheduler.metrics`'."""

from __future__ import annotations

import re
import signal

import click
from prometheus_client import CollectorRegistry, start_http_server

from rules.errors import BadInput
from scheduler.cli.desk import open_ledger, open_settings
from scheduler.cli.output import say
from scheduler.errors import NotStarted
from scheduler.metrics.collector import LedgerCollector

ENDS = (signal.SIGINT, signal.SIGTERM)


@click.command(name="metrics")
@click.option("--listen", metavar="ADDRESS:PORT", help="Where; without it, where the settings say.")
def command(listen: str | None) -> None:
    """Serve figures for Prometheus at /metrics until it is told to end.

    It reads the ledger and needs neither keys nor broker. There is no password: let only Prometheus reach it.
    """
    settings = open_settings()
    address, port = (settings.metrics_address, settings.metrics_port) if listen is None else read_listen(listen)
    collector = LedgerCollector(open_ledger(settings), settings)
    collector.catch_up()
    registry = CollectorRegistry()
    registry.register(collector)
    # Blocked before any thread starts, so that none of them is ended by a signal that is meant for us.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        raise NotStarted(f"cannot listen on {address} port {port} ({error.strerror})") from None
    shown = f"[{address}]" if ":" in address else address
    say(f"Figures for Prometheus: http://{shown}:{server.server_port}/metrics")
    signal.sigwait(ENDS)
    server.shutdown()
    thread.join()


def read_listen(text: str) -> tuple[str, int]:
    """An address and a port out of `127.0.0.1:9464` or `[::1]:9464`."""
    found = re.fullmatch(r"\[?([^\[\]]+?)\]?:(\d{1,5})", text)
    if found is None or int(found[2]) > 65535:
        raise BadInput(f"--listen: expected ADDRESS:PORT such as 127.0.0.1:9464, got {text!r}")
    return found[1], int(found[2])
