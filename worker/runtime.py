"""What one process holds while it works: settings, ledger, safe, rules, connections; built on first use.

Whoever needs one of these takes it from `runtime()`, or is handed a `Runtime` made for a test. Nothing here acts, but
for one thing: a process that finds a restored ledger holds it before it does anything else.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from rules.budget import Limits
from rules.errors import RuleError
from rules.loader import Catalogue, builtin, read
from rules.secret import Secret
from worker import restored
from worker.connections import Connections
from worker.ledger.accounts import LimitsOf
from worker.ledger.database import Database
from worker.safe import Ring, Safe
from worker.settings import Settings, settings
from worker.signing import Signer, read_signers

NICE = 10
"""How far bulk stands behind incidents, in the steps of nice(2)."""
AUTOGROUP = Path("/proc/self/autogroup")
"""Linux weighs a session against other sessions before it weighs the processes within one: sched(7), autogroup."""


@dataclass(frozen=True)
class Runtime:
    """The tools of one process. `broken` are the rules that could not be loaded; the others work."""

    settings: Settings
    database: Database
    safe: Safe
    catalogue: Catalogue
    connections: Connections
    broken: tuple[RuleError, ...] = field(default=())
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when this process was asked to end: jobs are given back at their next step, and none is begun."""

    @property
    def signers(self) -> tuple[Signer, ...]:
        """The keys that sign the audit trail; none where this process has none."""
        return read_signers(self.settings.audit_keys) if self.settings.audit_keys is not None else ()

    @property
    def limits(self) -> LimitsOf:
        """What each provider account allows."""
        return limits_of(self.settings, self.catalogue)


def limits_of(settings: Settings, catalogue: Catalogue) -> LimitsOf:
    """(account, rule) → what the connection's settings say, or else the rule; None where neither says anything."""

    def find(account: str, rule: str) -> Limits | None:
        connection = settings.connections.get(account)
        if connection is not None and connection.limits is not None:
            return connection.limits
        return catalogue.get(rule).rule.limits if rule in catalogue else None

    return find


def build(chosen: Settings) -> Runtime:
    """Put a runtime together; raises with a sentence where a key is missing. The database is not asked for yet."""
    catalogue, broken = read([builtin(), *chosen.rules_path])
    return Runtime(
        settings=chosen,
        database=Database(chosen.database_url),
        safe=Safe(Ring.parse(chosen.seal_keys or Secret(""))),
        catalogue=catalogue,
        connections=Connections(chosen, catalogue),
        broken=tuple(broken),
    )


_lock = threading.Lock()
_built: dict[int, Runtime] = {}
_stopping = threading.Event()


def runtime() -> Runtime:
    """Give this process's own runtime: sockets and pools must not be shared across a fork."""
    with _lock:
        here = os.getpid()
        if here not in _built:
            _built.clear()
            fresh = replace(build(settings()), stopping=_stopping)
            restored.hold_if_behind(fresh.settings, fresh.database)
            _built[here] = fresh
        return _built[here]


def stop() -> None:
    """Tell this process's runtime that the process is to end, whether it is built yet or not."""
    _stopping.set()


def step_back() -> None:
    """Leave the processor to whoever works on an incident; it costs nothing where nobody else wants it.

    The session is weighed as well where it is a service's own, begun by us or for us, and not a person's at a terminal.
    """
    os.nice(max(NICE - os.nice(0), 0))
    if os.getsid(0) in {os.getpid(), os.getppid()} and not _at_terminal():
        # It is there on Linux only, and a container may not let it be written.
        with suppress(OSError):
            AUTOGROUP.write_text(str(NICE), encoding="ascii")


def _at_terminal() -> bool:
    try:
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
