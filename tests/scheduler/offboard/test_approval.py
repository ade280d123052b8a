"""Who may approve a plan: signatures made by the real ssh-keygen, right ones and wrong ones."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from rules.errors import BadInput, MoveRefused
from scheduler.offboard.applying import approve
from scheduler.offboard.signatures import verify
from tests.sandbox import Sandbox
from tests.sandbox.fixtures import sandbox
from tests.servers.missing import report_missing
from tests.worker.bench import Bench, open_bench
from worker.ledger import plans
from worker.ledger.plans import PlanRow

__all__ = ["sandbox"]

HASH = "0123456789abcdef" * 4


def sign(folder: Path, who: str, text: str, namespace: str = "revoq") -> tuple[Path, str]:
    """A signature by a new key, and the line that allows it."""
    if shutil.which("ssh-keygen") is None:
        report_missing("ssh-keygen", "install OpenSSH's client")
    key = folder / who
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", str(key)]
    subprocess.run(words, check=True, capture_output=True)
    words = ["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(key)]
    done = subprocess.run(words, input=text.encode(), check=True, capture_output=True)
    signature = folder / f"{who}.sig"
    signature.write_bytes(done.stdout)
    return signature, f"{who}@example.com {key.with_suffix('.pub').read_text()}"


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_signature_over_the_hash(tmp_path: Path, ending: str) -> None:
    """It counts with the line break of `echo` and without it."""
    signature, line = sign(tmp_path, "ada", HASH + ending)
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(line)

    assert verify(signature, HASH, allowed) == "ada@example.com"


def test_what_is_no_approval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another text, another purpose, somebody whom nobody allowed, no signature, no ssh-keygen: each is told."""
    other, first = sign(tmp_path, "other", "f" * 64)
    purpose, second = sign(tmp_path, "purpose", HASH, "git")
    stranger, _ = sign(tmp_path, "stranger", HASH)
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(first + second)

    for signature, says in (
        (other, "signed something else"),
        (purpose, "or for another purpose"),
        (stranger, "nobody of"),
        (allowed, "it is no SSH signature"),
        (tmp_path / "nowhere", "there is no file"),
    ):
        with pytest.raises(BadInput, match=says):
            verify(signature, HASH, allowed)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="ssh-keygen is not on this machine"):
        verify(other, HASH, allowed)


def keep(bench: Bench) -> PlanRow:
    """A plan of one credential, made by ada."""
    now = bench.runtime.database.now()
    row = PlanRow("plan_1", HASH, {"items": [{"rule": "x"}]}, "ada@desk", now, now + 10**9, None)
    plans.keep(bench.runtime.database, row, [])
    return row


def test_by_another(tmp_path: Path, sandbox: Sandbox, database_url: str) -> None:
    """Above the number a signature is needed, and not the requester's own; the approval is kept with its signature."""
    own, first = sign(tmp_path, "ada", HASH)
    other, second = sign(tmp_path, "ben", HASH)
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(first + second)
    settings = {"approval": {"above": 0, "by_another": True, "allowed_signers": str(allowed)}}
    with open_bench(tmp_path, database_url, sandbox, connections={}, settings=settings) as bench:
        row = keep(bench)
        with pytest.raises(MoveRefused, match="signed by another than ada@desk"):
            approve(bench.runtime, row, "ada@desk", None)
        with pytest.raises(MoveRefused, match="approval by another"):
            approve(bench.runtime, row, "ada@desk", own)
        assert plans.approvals_of(bench.runtime.database, row.id) == []

        assert approve(bench.runtime, row, "ada@desk", other) == ("ben@example.com", True)

        (kept,) = plans.approvals_of(bench.runtime.database, row.id)
        assert (kept.approver, kept.signature) == ("ben@example.com", other.read_text())


def test_without_a_rule_anybody_may(tmp_path: Path, sandbox: Sandbox, database_url: str) -> None:
    """Where the settings ask for nothing, the approver is the requester's word, and is kept as not authenticated."""
    with open_bench(tmp_path, database_url, sandbox, connections={}) as bench:
        row = keep(bench)

        assert approve(bench.runtime, row, "ada@desk", None) == ("ada@desk", False)

        (kept,) = plans.approvals_of(bench.runtime.database, row.id)
        assert (kept.approver, kept.signature) == ("ada@desk", None)
