"""A machine that only submits: it seals to the workers' public key, and can open nothing, not even its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from rules.secret import Secret
from tests.acceptance.conftest import Build
from tests.acceptance.system import System
from tests.sandbox import Sandbox
from tests.sandbox.fixtures import sandbox
from tests.worker.bench import SANDBOX_RULES
from worker.envelopes import open_row, owner_of
from worker.errors import SafeError
from worker.ledger import tables
from worker.ledger.database import Database
from worker.ledger.rows import SealedSecret
from worker.safe import Ring, Safe

__all__ = ["sandbox"]

pytestmark = pytest.mark.acceptance

RULE = ("--rule", "keyring.token", "--connection", "ring")
SEALED = [column for column in tables.secrets.c if column.name in SealedSecret.__slots__]


@pytest.fixture
def home(build_system: Build, sandbox: Sandbox, database_url: str) -> System:
    """The machine with the whole ring."""
    admin = sandbox.keyring.add_key(owner="revoq", admin=True)
    ring = {"provider": "keyring", "base_url": sandbox.url("keyring"), "identity": {"token": "env:RING_ADMIN"}}
    return build_system(
        database_url,
        connections={"ring": ring},
        secrets={"RING_ADMIN": admin.secret},
        settings={"rules_path": [str(SANDBOX_RULES)]},
    )


def producer_of(home: System) -> System:
    """Another machine with the same settings, and what `revoq keys producers` prints in the place of the keys."""
    given = home.revoq("keys", "producers")
    assert given.returncode == 0, given.stderr
    return replace(home, environ={**home.environ, "REVOQ_SEAL_KEYS": given.stdout}, processes={})


def test_what_a_producer_submits_is_revoked_at_home(home: System, sandbox: Sandbox) -> None:
    """Submitted and found again there; opened and revoked by the worker with the whole ring, and by nobody else."""
    producer = producer_of(home)
    key = sandbox.keyring.add_key(owner="dana")

    job = producer.submit(*RULE, stdin=key.secret)
    (before,) = producer.ask("history", stdin=key.secret)
    database = Database(home.database_url)
    with database.begin() as connection:
        row = SealedSecret(**connection.execute(select(*SEALED)).one()._mapping)  # noqa: SLF001 - its public name
    database.dispose()
    rings = [Secret(producer.environ["REVOQ_SEAL_KEYS"]), Secret((home.directory / "data" / "keys").read_text())]
    theirs, ours = (Safe(Ring.parse(text)) for text in rings)
    owner = owner_of("keyring.token", "ring", ours.fingerprint(Secret(key.secret)))
    with pytest.raises(SafeError, match="cannot open"):
        open_row(theirs, row, owner=owner, now=row.created_at)
    assert open_row(ours, row, owner=owner, now=row.created_at) == Secret(key.secret)

    home.start_all()
    assert home.wait_ended(job)["verdict"] == "revoked"
    assert not sandbox.works("keyring", key.secret)
    (after,) = producer.ask("history", stdin=key.secret)
    assert (before["id"], before["state"], after["id"], after["verdict"]) == (job, "queued", job, "revoked")


def test_no_worker_starts_with_a_ring_that_opens_nothing(home: System) -> None:
    """It would take jobs and fail each: it says what it lacks, and ends."""
    producer = producer_of(home)
    producer.start("bulk", "clock", ready=False)

    try:
        for name in ("bulk", "clock"):
            process = producer.processes[name]
            assert process.exit_code(within=60) == 1
            assert "revoq: this key ring is one for producers, which seals and cannot open" in process.output()
            assert "Traceback" not in process.output()
    finally:
        producer.stop()
