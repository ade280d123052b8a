"""`revoq batches` at the terminal: how batches are told in 80 columns, and what their report writes where."""

from __future__ import annotations

import csv
import io
import json
import stat
from pathlib import Path

import pytest

from rules.lifecycle import Reason
from tests.scheduler.cli.conftest import TOKEN, Home, Jobs
from tests.scheduler.offboard.batch import begin, mixed, of
from worker.ledger import batches
from worker.ledger.database import Database

LONG = "leavers of the whole summer, with everybody who went in autumn too.csv"


def widest(text: str) -> int:
    """The longest line."""
    return max(map(len, text.splitlines()))


# ── list and show ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_list_fits_a_terminal(home: Home, db: Database) -> None:
    """The newest first, each on lines of 80 columns at most; ids are whole, also beside a long name."""
    first = mixed(db)
    second = begin(db, of("ada"), name=LONG)

    shown = home.run("batches", "list").stdout
    told = home.ask("batches", "list")

    assert [row["id"] for row in told] == [second, first]
    assert widest(shown) <= 80
    assert shown.index(second) < shown.index(first)
    assert "3 of 8" not in shown
    assert "6 of 8" in shown
    assert "loading" in shown
    assert LONG.split(maxsplit=1)[0] in shown


def test_no_batches_are_a_sentence(home: Home) -> None:
    """An empty table would leave one wondering."""
    assert "revoq offboard FILE" in home.run("batches", "list").stdout
    assert home.ask("batches", "list") == []


def test_a_batch_is_told(home: Home, db: Database) -> None:
    """How many stand how, each in a table that fits; what to do about the parked, and where the whole story is."""
    batch = mixed(db)

    shown = home.run("batches", "show", batch).stdout
    told = home.ask("batches", "show", batch)

    assert widest(shown) <= 80
    assert f"{batch} (leavers.csv) is open: 6 of 8 jobs are settled." in shown
    assert told["by_state"] == {"cancelled": 1, "done": 3, "parked": 2, "queued": 2}
    assert sum(told["by_state"].values()) == told["jobs"]
    for name in ("by_state", "by_verdict", "by_cause"):
        for word, count in told[name].items():
            assert [word, str(count)] in [line.split() for line in shown.splitlines()]
    assert f"revoq batches retry {batch} --cause {Reason.NEEDS_SELECTION}" in shown
    assert f"revoq batches report {batch}" in shown


def test_a_loader_that_is_gone_is_told(home: Home, db: Database) -> None:
    """A batch whose loader died is not left standing as loading, in the list and when it is shown."""
    batch = begin(db, of("ada"), name=LONG)
    batches.abandon(db, batch)

    shown, listed = (home.run("batches", *words).stdout for words in (("show", batch), ("list",)))

    assert f"revoq batches cancel {batch}" in shown
    assert f"revoq batches cancel {batch}" in listed
    assert widest(listed.split("\nWhat loaded")[0]) <= 80


def test_an_unknown_batch_is_a_sentence(home: Home) -> None:
    """Wrong use, with the way to the right id; whatever the verb is."""
    for verb in ("show", "report"):
        done = home.run("batches", verb, "batch_nothing")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "revoq batches list" in done.stderr


# ── the report ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_running_batch_says_what_is_missing(home: Home, db: Database) -> None:
    """The report is written all the same; what it lacks stands in it, and on standard error."""
    batch = mixed(db)

    done = home.run("batches", "report", batch)

    told = json.loads(done.stdout)
    assert (done.exit_code, told["complete"]) == (0, False)
    assert [sentence in done.stderr for sentence in told["missing"]] == [True, True]
    assert f"{batch} is not finished" in done.stderr
    page = home.run("batches", "report", batch, "--format", "html").stdout
    assert "This batch is not finished." in page


@pytest.mark.parametrize(
    ("name", "words", "begins"),
    [
        ("r.json", (), b"{"),
        ("r.csv", (), b'"batch",'),
        ("r.html", (), b"<!DOCTYPE html>"),
        ("r.txt", (), b"{"),
        ("r.json", ("--format", "csv"), b'"batch",'),
    ],
)
def test_a_file_is_for_its_owner_alone(
    home: Home, db: Database, name: str, words: tuple[str, ...], begins: bytes
) -> None:
    """Mode 0600; its name says the form, unless --format does. Standard output says the same bytes."""
    batch, file = mixed(db), home.folder / name

    done = home.run("batches", "report", batch, "--output", str(file), *words)

    assert (done.exit_code, done.stdout) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes().startswith(begins)
    assert str(file) in done.stderr


def test_nothing_is_written_over_in_silence(home: Home, db: Database) -> None:
    """A file that is there stays as it is; --force replaces it, mode and all, and a link is not followed."""
    batch = mixed(db)
    file, target, link = home.folder / "r.json", home.folder / "precious", home.folder / "link.json"
    for each in (file, target):
        each.write_text("precious")
        each.chmod(0o644)
    link.symlink_to(target)

    for each in (file, link):
        refused = home.run("batches", "report", batch, "--output", str(each))
        assert (refused.exit_code, each.read_text()) == (2, "precious")
        assert "--force" in refused.stderr
        assert home.run("batches", "report", batch, "--output", str(each), "--force").exit_code == 0
        assert json.loads(each.read_text())["id"] == batch
        assert stat.S_IMODE(each.lstat().st_mode) == 0o600
    assert target.read_text() == "precious"


@pytest.mark.parametrize("where", ["nowhere/r.json", ".", "/dev/full"])
def test_a_file_that_cannot_be_written_is_a_sentence(home: Home, db: Database, where: str) -> None:
    """No folder is made, no folder replaced, and no device taken away."""
    batch = mixed(db)

    done = home.run("batches", "report", batch, "--output", where, "--force")

    assert (done.exit_code, "Traceback" in done.output) == (2, False)
    assert where in done.stderr
    assert Path("/dev/full").is_char_device()


def test_a_planted_secret_is_in_no_form(home: Home, jobs: Jobs, db: Database) -> None:
    """What was handed in in a file and is sealed for its jobs is in none of the three."""
    file = home.folder / "leavers.csv"
    other = TOKEN[::-1]
    file.write_text(
        f"rule,secret,connection,reason\njupyterhub.token,{TOKEN},hub,left\njupyterhub.token,{other},hub,\n"
    )
    batch = home.ask("offboard", str(file))["batch"]
    (first, _second) = [item["job"] for item in json.loads(home.run("batches", "report", batch).stdout)["credentials"]]
    jobs.claimed(first)

    told = {form: home.run("batches", "report", batch, "--format", form).stdout for form in ("json", "csv", "html")}

    assert len(list(csv.DictReader(io.StringIO(told["csv"])))) == 2
    for form, text in told.items():
        assert first in text, form
        assert not [secret for secret in (TOKEN, other) if secret in text], form
