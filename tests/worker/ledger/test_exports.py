"""An export of the trail, alone with the public key and the delivered heads: whatever was changed in it is found.

REVOQ_TEST_TRAIL says how many changes are tried; `make trail` tries 10,000.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.tables import make_tables
from tests.worker.ledger.samples import claimed, delivered, ended, execute, looked, new_job, sealed
from worker.ledger import archives, audit, moves
from worker.ledger.audit import Fault, Finding, Tally
from worker.ledger.database import Database
from worker.ledger.exports import Form, export, head_line, read_heads, verify_file
from worker.ledger.heads import Signed
from worker.signing import Signer

CHANGES = int(os.environ.get("REVOQ_TEST_TRAIL", "160"))
PARTS = 8
"""The changes are spread over so many tests, which can run at once."""


@dataclass
class Trail:
    """A trail with everything that a trail can have, in both forms, and what somebody elsewhere knows of it."""

    files: dict[Form, bytes]
    public: str
    heads: list[Signed]
    archive: Path

    def verify(self, data: bytes, **options: object) -> list[Finding]:
        """What is found by somebody who knows the first public key and all delivered heads."""
        known = {"anchors": [self.public], "delivered": self.heads, **options}
        return verify_file(io.BytesIO(data), Tally(), **known)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Trail:
    """Jobs under way and ended, holds, two keys one after the other, and rows that left with two archives."""
    folder = tmp_path_factory.mktemp("trail")
    db = Database(f"sqlite:///{folder / 'ledger.db'}")
    make_tables(db.url)
    first, second = Signer.generate(), Signer.generate()
    ended(db)
    claim = claimed(db, new_job(requester="=cmd|' /C calc'!A0"))
    sealed(db, first)
    moves.hold_on(db, "prod", actor="-ada", why="é\ud800")
    ended(db)
    sealed(db, first)
    archives.archive(db, [first], db.now(), folder / "first.jsonl", actor="ada")
    ended(db)
    sealed(db, second, first)
    looked(db, claim)
    archives.archive(db, [second], db.now(), folder / "second.jsonl", actor="ada")
    ended(db)
    sealed(db, second)
    with db.read() as conn:
        files = {form: b"".join(export(conn, form)) for form in Form}
    heads = delivered(db)
    db.dispose()
    return Trail(files, first.public, heads, folder / "first.jsonl")


# ── nobody was here ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", Form)
def test_untouched(trail: Trail, form: Form) -> None:
    """An untouched export is sound, with its rotated key and its seams; all is counted."""
    tally = Tally()
    found = verify_file(io.BytesIO(trail.files[form]), tally, anchors=[trail.public], delivered=trail.heads)
    assert found == []
    assert (tally.unsealed, tally.unsigned, tally.heads, len(tally.keys)) == (0, 0, len(trail.heads), 2)
    assert tally.left > 0


def test_archives_come_back(trail: Trail) -> None:
    """With its archive, what has left is checked, too; a file that is no archive of this trail is not."""
    tally = Tally()
    data = io.BytesIO(trail.files[Form.JSONL])
    assert verify_file(data, tally, archives=[trail.archive, trail.archive.with_name("second.jsonl")]) == []
    assert (tally.left, tally.rows) == (0, tally.seals)


def test_changed_archive(trail: Trail, tmp_path: Path) -> None:
    """An archive that was changed is another one: its rows belong nowhere."""
    changed = tmp_path / "changed.jsonl"
    changed.write_bytes(trail.archive.read_bytes().replace(b"w1", b"w2"))
    assert trail.verify(trail.files[Form.JSONL], archives=[changed]) != []


def test_random_trails(db: Database) -> None:
    """On both databases: after each of many rounds the ledger and its exports are sound."""
    chance = random.Random(7)
    signers = [Signer.generate()]
    public = signers[0].public
    for number in range(12):
        match chance.randrange(4):
            case 0:
                signers.insert(0, Signer.generate())
            case 1:
                claimed(db)
            case _:
                ended(db)
        sealed(db, *signers)
        tally = Tally()
        with db.read() as conn:
            assert list(audit.verify(conn, anchors=[public], delivered=delivered(db))) == []
            data = b"".join(export(conn, chance.choice(list(Form))))
        assert verify_file(io.BytesIO(data), tally, anchors=[public], delivered=delivered(db)) == [], number


# ── somebody was here ─────────────────────────────────────────────────────────────────────────────────────────────────


def edit(lines: list[bytes], chance: random.Random) -> list[bytes]:
    """Another byte somewhere."""
    at = chance.randrange(len(lines))
    line = bytearray(lines[at])
    place = chance.randrange(len(line))
    line[place] = chance.choice([value for value in range(256) if value != line[place]])
    return [*lines[:at], bytes(line), *lines[at + 1 :]]


def edit_well(lines: list[bytes], chance: random.Random) -> list[bytes]:
    """A row that says something else, and all hashes behind it in its chain adjusted."""
    rows = [json.loads(line) if line.startswith(b"{") else {} for line in lines]
    at = chance.choice([number for number, row in enumerate(rows) if row.get("kind") == "row"] or [-1])
    if at < 0:
        return edit(lines, chance)
    chain = rows[at]["chain"]
    rows[at]["text"] = audit.canonical({**json.loads(rows[at]["text"]), "actor": "mallory"}).decode()
    for before, row in zip(rows[at - 1 :], rows[at:], strict=False):
        if row.get("chain") == chain and row["kind"] == "row":
            previous = before["hash"] if before.get("chain") == chain else audit.GENESIS.hash
            row["hash"] = audit.link(previous, row["text"].encode())
    return [json.dumps(row, sort_keys=True, separators=(",", ":")).encode() + b"\n" for row in rows]


def delete(lines: list[bytes], chance: random.Random) -> list[bytes]:
    """One line or a few less."""
    at = chance.randrange(len(lines))
    return lines[:at] + lines[at + chance.randint(1, 3) :]


def insert(lines: list[bytes], chance: random.Random) -> list[bytes]:
    """A line twice, or one like it, anywhere."""
    line = chance.choice(lines)
    if chance.random() < 0.5:
        (line,) = edit([line], chance)
    at = chance.randrange(len(lines) + 1)
    return [*lines[:at], line, *lines[at:]]


def swap(lines: list[bytes], chance: random.Random) -> list[bytes]:
    """Two lines in each other's place."""
    one, other = sorted(chance.sample(range(len(lines)), 2))
    changed = list(lines)
    changed[one], changed[other] = changed[other], changed[one]
    return changed


def truncate(lines: list[bytes], chance: random.Random) -> list[bytes]:
    """The end is gone, anywhere."""
    whole = b"".join(lines)
    return whole[: chance.randrange(len(whole))].splitlines(keepends=True)


def cover(lines: list[bytes], changed: list[bytes]) -> list[bytes]:
    """Have the last line tell what is there now, as somebody would who knows how the file is made."""
    title = 0 if lines[0].startswith(b"{") else 1
    whole = [line for line in changed if line != lines[-1] and line.endswith(b"\n")]
    count = str(len(lines) - 1 - title).encode()
    return [*whole, lines[-1].replace(count, str(len(whole) - title).encode())]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_change_is_found(trail: Trail, part: int) -> None:
    """Edited, edited with all hashes, deleted, inserted, swapped, truncated: found each time, however well covered."""
    chance = random.Random(f"{part} of {PARTS}")
    missed = []
    for number in range(CHANGES // PARTS):
        form = chance.choice(list(Form))
        lines = trail.files[form].splitlines(keepends=True)
        change = (edit, edit_well, delete, insert, swap, truncate)[number % 6]
        changed = change(lines, chance)
        if chance.random() < 0.5:
            changed = cover(lines, changed)
        if changed == lines:
            changed = edit(lines, chance)
        if not trail.verify(b"".join(changed)):
            missed.append((form, change.__name__, number))
    assert missed == []
    assert trail.verify(trail.files[Form.JSONL]) == []


@pytest.mark.parametrize("form", Form)
def test_without_its_first_line(trail: Trail, form: Form) -> None:
    """The line that says the version is missed, however well that is covered."""
    lines = trail.files[form].splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if b"start" in line)
    (found,) = trail.verify(b"".join(cover(lines, lines[:first] + lines[first + 1 :])))
    assert (found.chain, found.fault) == ("file", Fault.MISSING)


@pytest.mark.parametrize("form", Form)
def test_first_wrong_row(trail: Trail, form: Form) -> None:
    """It is said which row is wrong, and how."""
    lines = trail.files[form].splitlines(keepends=True)
    kind = b'"kind":"row"' if form is Form.JSONL else b"row,"
    first = next(number for number, line in enumerate(lines) if kind in line)
    swapped = [*lines[:first], lines[first + 1], lines[first], *lines[first + 2 :]]
    lacking = [*lines[:first], *lines[first + 1 :]]
    doubled = [*lines[: first + 1], lines[first], *lines[first + 1 :]]
    faults = [trail.verify(b"".join(changed))[0].fault for changed in (swapped, lacking, doubled)]
    assert faults == [Fault.MOVED, Fault.MISSING, Fault.INSERTED]


def test_cut_off_at_the_end(trail: Trail) -> None:
    """Whoever cuts the end off cleanly, with seals and heads, is found by the delivered heads, and by them alone."""
    rows = [json.loads(line) for line in trail.files[Form.JSONL].splitlines()]
    heads = [row for row in rows if row["kind"] == "head"]
    seals = json.loads(heads[-2]["text"])["seal"]
    kept_seals = {(row["chain"], row["of"]) for row in rows if row["kind"] == "seal" and row["number"] <= seals}
    kept = [
        row
        for row in rows
        if (row["kind"] == "row" and (row["chain"], row["number"]) in kept_seals)
        or (row["kind"] == "seal" and row["number"] <= seals)
        or (row["kind"] == "head" and row != heads[-1])
        or row["kind"] == "start"
    ]
    kept.append({"kind": "end", "number": len(kept)})
    data = b"".join(json.dumps(row, sort_keys=True, separators=(",", ":")).encode() + b"\n" for row in kept)
    assert trail.verify(data, delivered=[]) == []
    (found,) = trail.verify(data)
    assert (found.chain, found.fault) == ("heads", Fault.CUT)


def test_another_key(trail: Trail) -> None:
    """A trail that somebody else has signed is not ours, however sound it is."""
    (found,) = verify_file(io.BytesIO(trail.files[Form.JSONL]), Tally(), anchors=[Signer.generate().public])
    assert found.fault is Fault.FORGED


@pytest.mark.parametrize("junk", [b"", b"\n", b"\xff\xfe", b"{}\n", b"[" * 100_000, b'{"kind":"start","number":2}\n'])
def test_no_export(trail: Trail, junk: bytes) -> None:
    """What is no export at all is broken, in a sentence."""
    assert trail.verify(junk) != []


# ── the forms ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_formulas(trail: Trail) -> None:
    """No cell of a CSV begins as a formula does."""
    cells = [cell for row in csv.reader(io.StringIO(trail.files[Form.CSV].decode())) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert "'=cmd|' /C calc'!A0" in cells


def test_junk_in_the_ledger_is_exported(db: Database) -> None:
    """Bytes that no row ever had come out of an export as what they are: wrong, and nothing breaks."""
    claim = ended(db)
    for name in ["append_only"] if db.on_postgres else ["no_update"]:
        execute(db, f"DROP TRIGGER audit_{name}" + (" ON audit" if db.on_postgres else ""))
    execute(db, "UPDATE audit SET row = :junk WHERE number = 2", junk=b"\xff\xfe=\n")
    with db.read() as conn:
        data = b"".join(export(conn, Form.JSONL))
        assert b"".join(export(conn, Form.CSV))
    (found,) = verify_file(io.BytesIO(data), Tally())
    assert (found.chain, found.number, found.fault) == (claim.job.id, 2, Fault.EDITED)


def test_file_of_heads(trail: Trail, tmp_path: Path) -> None:
    """A torn line that was written again is no fault; anything else is refused by its line."""
    path = tmp_path / "heads.jsonl"
    lines = [head_line(head) for head in trail.heads]
    path.write_bytes(lines[0] + lines[1][:40] + b"\n" + b"".join(lines[1:]) + lines[0][:10])
    assert [head.statement for head in read_heads(path)] == [head.statement for head in trail.heads]
    path.write_bytes(lines[0] + b"nonsense\n" + lines[1])
    with pytest.raises(Exception, match="line 2: expected a head"):
        list(read_heads(path))
