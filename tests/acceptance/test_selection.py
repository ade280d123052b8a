"""The right one of 200 rows, in an order that changes with every reading, or no one: never a wrong delete.

Each selection is a whole job of the real engine, over real HTTP against the pretend provider, within this process.
There are 200 of them; REVOQ_TEST_SELECTIONS says another number, as `make selections` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from rules.lifecycle import Reason, Verdict
from tests.sandbox import Sandbox
from tests.sandbox.cast import connections, environment, seed
from tests.sandbox.fixtures import sandbox
from tests.sandbox.keyring import Key
from tests.worker.bench import SANDBOX_RULES, Bench, open_bench
from worker.ledger.rows import Job

__all__ = ["sandbox"]

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1800)]

SELECTIONS = int(os.environ.get("REVOQ_TEST_SELECTIONS", "200"))
SEED = int(os.environ.get("REVOQ_TEST_SEED", "20261122"))
ROWS = 200
FAMILY = 4
"""A key, one that begins like it, one that begins and ends like it and is revoked, and one like none."""
UNTIED = "keyring.untied"


@dataclass
class Ring:
    """A list of 200 rows that is read in pages, and the keys of it that may be picked as a target."""

    bench: Bench
    sandbox: Sandbox
    random: Random

    def fill(self) -> None:
        """Sweep the dead away, and bring the list back to its 200 rows."""
        keyring = self.sandbox.keyring
        keyring.forget_dead()
        while len(keyring.keys) + FAMILY <= ROWS:
            key = keyring.add_key(owner=self.draw_owner())
            keyring.add_key(owner=self.draw_owner(), like=key.secret, same_end=False)
            keyring.add_key(owner=self.draw_owner(), like=key.secret, revoked=True)
            keyring.add_key(owner=self.draw_owner())
        while len(keyring.keys) < ROWS:
            keyring.add_key(owner=self.draw_owner())

    def draw_owner(self) -> str:
        """One of a few names, so that many rows share one."""
        return self.random.choice(["dana", "erin", "finn"])

    def draw_target(self) -> Key:
        """Any key that lives and that nobody signs in with."""
        return self.random.choice(self.targets())

    def targets(self) -> list[Key]:
        """The keys that work, without those of the provider's own and of the connection."""
        return [key for key in self.living() if not key.admin and key.owner not in {"billing", "lonely"}]

    def living(self) -> list[Key]:
        """The keys that work."""
        return [key for key in self.sandbox.keyring.keys.values() if key.revoked is None]

    def revoke(self, key: Key, rule: str = "keyring.token") -> tuple[Job, set[str], list[str]]:
        """Carry one job to its end: it, who died of it, and which DELETEs were sent."""
        before = {each.id for each in self.living()}
        self.sandbox.forget_calls()
        job = self.bench.run(rule, key.secret, "keyring-demo")
        died = before - {each.id for each in self.living()}
        return job, died, [call.path for call in self.sandbox.calls("keyring", "DELETE")]

    def park(self, key: Key, rule: str = "keyring.token") -> str:
        """Carry one job that must be parked with nothing deleted; what it says."""
        job, died, deletes = self.revoke(key, rule)
        assert (job.reason, died, deletes) == (Reason.NEEDS_SELECTION, set(), [])
        return str(job.says)


def write_rules(folder: Path) -> None:
    """The provider's rule with pages of 20 rows, and beside it one whose conditions tie no row to the credential."""
    text = (SANDBOX_RULES / "keyring.yaml").read_text().replace("size: 5,", "size: 20,")
    head, rule = text.split("rules:\n", 1)
    rule = rule.partition("    recorded:\n")[0]
    tie = '- {field: hint, prefix: "{{ HEAD }}", suffix: "{{ TAIL }}"}'
    assert tie in rule
    untied = rule.replace("keyring.token", UNTIED).replace(tie, "- {field: owner, equals: lonely}")
    (folder / "keyring.yaml").write_text(f"{head}rules:\n{rule}\n{untied}")


@pytest.fixture
def ring(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ring]:
    """200 rows on ten pages, whose order is drawn anew for each reading."""
    cast = seed(sandbox)
    for name, value in environment(cast).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tests.sandbox.keyring.draw", Draw(Random(SEED)))
    sandbox.keyring.random.seed(SEED)
    sandbox.switch("keyring", shuffle="list")
    folder = tmp_path / "rules"
    folder.mkdir()
    write_rules(folder)
    chosen = {"rules_path": [str(folder)]}
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connections(cast), settings=chosen) as bench:
        ring = Ring(bench, sandbox, Random(SEED))
        for key in ring.targets():
            # The cast's own keys are liars and twins; the rows here differ in what is read of them alone.
            key.revoked = 1.0
        ring.fill()
        yield ring


def test_the_right_one_of_200(ring: Ring) -> None:
    """Random targets, random order, decoys that begin alike or look alike and are dead: 0 wrong deletes."""
    pages = set()
    for number in range(SELECTIONS):
        ring.fill()
        target = ring.draw_target()

        job, died, deletes = ring.revoke(target)

        assert (number, job.verdict, died) == (number, Verdict.REVOKED, {target.id}), job.says
        assert [path.rpartition("/")[2] for path in deletes] == [target.id]
        pages |= {len(ring.sandbox.calls("keyring", "GET", "*/v1/keys"))}
    assert pages == {ROWS // 20}


def test_two_equal_rows_are_parked(ring: Ring) -> None:
    """Wherever the order puts the two, neither is deleted, and both are named."""
    for _ in range(20):
        target = ring.draw_target()
        twin = ring.sandbox.keyring.add_key(owner="finn", like=target.secret)

        assert "2 rows fit" in ring.park(target)

        ring.sandbox.keyring.keys[twin.id].revoked = 1.0
        ring.fill()


def test_one_untied_row_is_parked(ring: Ring) -> None:
    """Exactly one row fits, but nothing in it has to do with the credential that was handed in."""
    ring.sandbox.keyring.add_key(owner="lonely")
    for _ in range(10):
        assert "no condition ties it to the credential" in ring.park(ring.draw_target(), UNTIED)


def test_a_list_that_is_cut_off_is_parked(ring: Ring) -> None:
    """Also where the row that fits was among those that came: another may be among those that did not."""
    for _ in range(20):
        ring.sandbox.switch("keyring", list_cut_at=ring.random.randrange(1, ROWS))

        assert "the answer speaks of 200 rows and gave" in ring.park(ring.draw_target())


def test_a_list_that_changes_under_its_reader_harms_nobody(ring: Ring) -> None:
    """Each page in an order of its own: rows come twice and others never, so nothing is acted on."""
    ring.sandbox.switch("keyring", shuffle="page")
    for _ in range(10):
        target = ring.draw_target()
        ring.sandbox.keyring.add_key(owner="finn", like=target.secret)

        assert "two rows have the same id" in ring.park(target)


class Draw:
    """Draws the sandbox's random characters from a seed, so that a failure can be had again."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def __call__(self, length: int, alphabet: str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") -> str:
        return "".join(self.random.choices(alphabet, k=length))
