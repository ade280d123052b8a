"""Whatever the order of moves: the chains verify, and every job went only where the lifecycle lets it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rules.errors import RevoqError
from rules.lifecycle import MOVES, OPEN, Outcome, Reason, State, Verdict
from tests.servers.tables import make_tables
from tests.worker.ledger.samples import acted, findings, lapse, looked, new_job
from worker.ledger import audit, moves, reads
from worker.ledger.database import Database
from worker.ledger.rows import Claim
from worker.ledger.tables import metadata

LEASE = 60


class World:
    """Two credentials, two workers that may be late, and a person; each action goes as far as the ledger lets it."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.claims: list[Claim] = []

    def submit(self, which: int) -> None:
        """Somebody asks for it, once more."""
        moves.submit(self.db, new_job(fingerprint=str(which) * 64, priority=which))

    def claim(self, which: int) -> None:
        """A worker hears a bell."""
        for job in reads.jobs(self.db)[which : which + 1]:
            claim = moves.claim(self.db, job.id, lease=LEASE, worker=f"w{which}")
            self.claims += [claim] if claim is not None else []

    def lapse(self, which: int) -> None:
        """Time passes: leases run out, and waits are over."""
        for job in reads.jobs(self.db)[which : which + 1]:
            lapse(self.db, job.id)

    def person(self, which: int) -> None:
        """A person drives a job again, or cancels it."""
        verb = (moves.retry, moves.cancel)[which % 2]
        for job in reads.jobs(self.db)[:1]:
            verb(self.db, job.id, actor="ada", why="so")

    def hold(self, which: int) -> None:
        """A person switches a hold."""
        switch = (moves.hold_on, moves.hold_off)[which % 2]
        switch(self.db, "prod", actor="ada", why="so")

    def seal(self, which: int) -> None:
        """The sealer does a part of its round."""
        with self.db.begin() as conn:
            audit.fold(conn, which + 1, self.db.now())

    def work(self, which: int) -> None:
        """Some worker does something under some claim, be it lost or not."""
        verbs: list[Callable[[Database, Claim], object]] = [
            acted,
            looked,
            lambda db, claim: moves.record(db, claim, claim.steps, outcome=Outcome.OK, says="yes"),
            lambda db, claim: moves.wait(db, claim, 0, "later"),
            lambda db, claim: moves.park(db, claim, Reason.DENIED, "no"),
            lambda db, claim: moves.finish(db, claim, Verdict.REVOKED, "dead"),
            lambda db, claim: moves.expire(db, claim, "over"),
            lambda db, claim: moves.give_back(db, claim, "stopping"),
            lambda db, claim: moves.extend(db, claim, LEASE),
        ]
        if self.claims:
            verbs[which % len(verbs)](self.db, self.claims[which % len(self.claims)])


ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["submit", "claim", "lapse", "person", "hold"]), st.integers(0, 1)),
    st.tuples(st.just("work"), st.integers(0, 1000)),
    st.tuples(st.just("seal"), st.integers(0, 20)),
)


@contextmanager
def empty_ledger(url: str) -> Iterator[Database]:
    """The tables made once for a URL, and emptied for each example."""
    db = Database(url)
    make_tables(db.url)
    yield db
    db.dispose()


def play(db: Database, actions: list[tuple[str, int]]) -> None:
    """Do all of it, and look at what the ledger says then."""
    world = World(db)
    for name, which in actions:
        try:
            getattr(world, name)(which)
        except RevoqError:
            continue
    assert findings(db) == []
    for job in reads.jobs(db):
        check_path(db, job.id, job.state)
    open_jobs = [job.credential for job in reads.jobs(db) if job.state in OPEN]
    assert len(set(open_jobs)) == len(open_jobs)


def check_path(db: Database, job_id: str, state: State) -> None:
    """The arrows of the chain follow one another, each is listed, and the last one ends where the job is."""
    here: str = ""
    for row in reads.audit_rows(db, job_id, 10_000):
        before, arrow, after = row.facts["event"].partition("→")
        if not arrow or before.startswith("step"):
            continue
        assert here == before
        assert not before or (State(before), State(after)) in MOVES
        here = after
    assert state == here


@settings(max_examples=60)
@given(st.lists(ACTIONS, max_size=40))
def test_any_order_on_sqlite(actions: list[tuple[str, int]]) -> None:
    """On SQLite."""
    with tempfile.TemporaryDirectory() as folder, empty_ledger(f"sqlite:///{Path(folder) / 'ledger.db'}") as db:
        play(db, actions)


def test_any_order_on_postgresql(postgres_url: str) -> None:
    """On PostgreSQL, whose tables are emptied between the examples."""
    with empty_ledger(postgres_url) as db:
        names = ", ".join(table.name for table in metadata.sorted_tables)

        @settings(max_examples=30)
        @given(st.lists(ACTIONS, max_size=40))
        def examples(actions: list[tuple[str, int]]) -> None:
            with db.begin() as conn:
                conn.exec_driver_sql("SET LOCAL session_replication_role = replica")
                conn.exec_driver_sql(f"TRUNCATE {names}")
            play(db, actions)

        examples()
