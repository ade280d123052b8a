"""How much longer an incident takes to its first request while bulk loads and while bulk waits; prints two ratios.

    python -m bench.urgent 10000

Real processes, Redis and PostgreSQL; the provider is a pretend one on loopback. Each time runs from the moment at which
another producer submits until the provider gets the first call. The bulk waits at other accounts of the same
provider, and its worker works on it meanwhile.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from rules.secret import Secret
from scheduler.submit import Order, submit
from tests.acceptance.system import ROOT, System
from tests.sandbox import Sandbox
from tests.sandbox.sendgrid import Key
from tests.servers.broker import start_broker
from tests.servers.database import running_postgres
from worker.ledger import batches
from worker.log import configure
from worker.runtime import Runtime, build
from worker.settings import load_settings, using

BULK = 300
SAMPLES = 15
ALLOWED = 2.0


def first_call(sandbox: Sandbox, key: Key, since: int) -> float:
    """When the provider was first asked with this key; waits for that."""
    while True:
        for call in sandbox.log.entries[since:]:
            if call.actor == key.id:
                return time.monotonic()
        time.sleep(0.001)


def measure(runtime: Runtime, sandbox: Sandbox, samples: int) -> float:
    """The middle of several times from a submission to its first request, in seconds."""
    times = []
    for _ in range(samples):
        key, since = sandbox.sendgrid.add_key(), len(sandbox.log.entries)
        began = time.monotonic()
        submit(runtime, Order(rule="sendgrid.api_key", secret=Secret(key.secret), requester="bench", connection="mail"))
        times.append(first_call(sandbox, key, since) - began)
        time.sleep(0.2)
    return median(times)


def write_file(folder: Path, sandbox: Sandbox, count: int) -> Path:
    """So many keys of a hub, in one CSV."""
    file = folder / "bulk.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["rule", "secret", "connection"])
        for number in range(count):
            token = sandbox.hub.add_token(f"user{number // 20}")
            writer.writerow(["jupyterhub.token", token.secret, "hub"])
    return file


def settings_of(sandbox: Sandbox) -> dict[str, Any]:
    """Two connections; the hub allows so little that most of the bulk waits for as long as this takes."""
    hub = {"provider": "jupyterhub", "base_url": sandbox.url("hub"), "identity": {"token": "env:HUB"}}
    mail = {"provider": "sendgrid", "base_url": sandbox.url("sendgrid"), "identity": {"token": "env:MAIL"}}
    return {"hub": {**hub, "limits": {"requests": 200, "per": "10s"}}, "mail": mail}


def run(count: int) -> float:
    """Measure idle, while a batch is loading, and while it waits; the worse of the two ratios."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sandbox = stack.enter_context(Sandbox())
        postgres = stack.enter_context(running_postgres())
        broker = start_broker(folder)
        stack.callback(broker.stop)
        secrets = {"HUB": sandbox.hub.add_token("revoq", admin=True).secret, "MAIL": sandbox.sendgrid.add_key().secret}
        chosen = {"claim": "20s", "request_timeout": "8s", "ring_after": "30s", "log_level": "info"}
        connections = settings_of(sandbox)
        database = postgres.create_database()
        system = System.build(folder, broker, database, connections=connections, secrets=secrets, settings=chosen)
        stack.callback(system.stop)
        system.start_all()
        os.environ.update({name: value for name, value in system.environ.items() if name.startswith("REVOQ_")})
        os.environ.update(secrets)
        settings = load_settings()
        stack.enter_context(using(settings))
        configure(settings.model_copy(update={"log_level": "error"}))
        runtime = build(settings)
        stack.callback(runtime.database.dispose)
        return compare(system, runtime, sandbox, write_file(folder, sandbox, count), count)


def compare(system: System, runtime: Runtime, sandbox: Sandbox, file: Path, count: int) -> float:
    """Idle, loading, waiting, and idle's middle against each."""
    measure(runtime, sandbox, 3)  # the first ones open connections
    idle = measure(runtime, sandbox, SAMPLES)
    command = [sys.executable, "-m", "scheduler.cli", "offboard", str(file), "--format", "json"]
    with subprocess.Popen(command, cwd=ROOT, env=system.environ, stdout=subprocess.DEVNULL) as loader:
        while not batches.newest(runtime.database, 1):
            time.sleep(0.05)
        loading, samples = [], 0
        while loader.poll() is None and samples < SAMPLES:
            loading.append(measure(runtime, sandbox, 1))
            samples += 1
    if loader.wait() != 0:
        sys.exit("the batch was not loaded")
    time.sleep(2 * runtime.settings.sweep_every)
    waiting = measure(runtime, sandbox, SAMPLES)
    (batch,) = batches.newest(runtime.database, 1)
    left = sum(each.count for each in batches.counts(runtime.database, batch.id) if each.verdict is None)
    told = {"loading": median(loading) if loading else idle, "waiting": waiting}
    print(f"idle: {idle * 1000:.0f} ms to the first request (the middle of {SAMPLES})")
    for name, seconds in told.items():
        number = len(loading) if name == "loading" else SAMPLES
        print(f"while {count} are {name}: {seconds * 1000:.0f} ms (of {number}), ratio {seconds / idle:.2f}")
    print(f"{left} of the batch had not ended at the last look")
    return max(told.values()) / idle


if __name__ == "__main__":
    worst = run(int(sys.argv[1]) if len(sys.argv) > 1 else BULK)
    print(f"the worse ratio is {worst:.2f}; {ALLOWED:g} is allowed")
    sys.exit(worst > ALLOWED)
