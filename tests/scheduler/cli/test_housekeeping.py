"""Holds, the trail, the keys, the tables and the listings of settings: each does what it says, and says what it did."""

from __future__ import annotations

import stat

from sqlalchemy import text

from rules.secret import Secret
from tests.scheduler.cli.conftest import Home, Jobs
from worker.ledger import reads
from worker.ledger.database import Database
from worker.ledger.tables import audit as trail
from worker.safe import Ring


def test_hold_on_list_off(home: Home, jobs: Jobs, db: Database) -> None:
    """A hold is for everything or for one connection; each is lifted by itself, and the reason is kept."""
    jobs.queued()

    assert "unfinished jobs that this concerns: 1" in home.run("hold", "on", "--reason", "incident").stdout
    home.run("hold", "on", "--connection", "hub", "--reason", "maintenance")
    rows = home.ask("hold", "list")

    assert [(row["connection"], row["why"]) for row in rows] == [("*", "incident"), ("hub", "maintenance")]
    assert set(rows[0]) == {"connection", "by", "why", "since"}
    off = home.run("hold", "off", "--reason", "over")
    assert "Everything goes on" in off.stdout
    assert "Still on: hub is held by" in off.stdout
    assert [hold.connection for hold in reads.holds(db)] == ["hub"]


def test_lifting_what_is_not_held(home: Home) -> None:
    """That is said, and is no failure."""
    result = home.run("hold", "off", "--reason", "over")

    assert result.exit_code == 0
    assert "was not held" in result.stdout


def test_audit_list(home: Home, jobs: Jobs) -> None:
    """What a row says stands beside its place and its hash."""
    job = jobs.queued(ticket="SEC-1")

    (row,) = home.ask("audit", "list", "--job", job)

    assert (row["chain"], row["number"], row["event"], row["ticket"]) == (job, 1, "→queued", "SEC-1")
    assert len(row["hash"]) == 64
    assert "ticket SEC-1" in home.run("audit", "list").stdout


def test_audit_verify(home: Home, jobs: Jobs, db: Database) -> None:
    """Sound, until somebody changes a row: then the first wrong one is named, with exit code 1."""
    job = jobs.queued()
    sound = home.run("audit", "verify")
    with db.begin() as connection:
        # Whoever may change the tables can take away what guards them.
        connection.execute(text("DROP TRIGGER audit_no_update"))
        connection.execute(trail.update().values(row=b"{}"))
    broken = home.run("audit", "verify")

    assert (sound.exit_code, broken.exit_code) == (0, 1)
    assert "Sound: 1 rows in 1 chains" in sound.stdout
    assert f"{job}, row 1: edited" in broken.stdout
    assert home.ask("audit", "verify")["findings"][0]["chain"] == job


def test_keys_generate(empty_home: Home) -> None:
    """One key of each purpose, for their owner alone; never a second time."""
    assert empty_home.run("keys", "generate").exit_code == 0

    path = empty_home.data / "keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert empty_home.run("keys", "generate").exit_code == 2


def test_keys_for_producers(home: Home) -> None:
    """What is printed can be a key ring; it seals, and opens nothing; the file of whole keys is left as it is."""
    before = (home.data / "keys").read_text()
    result = home.run("keys", "producers")
    given = Ring.parse(Secret(result.stdout))

    assert (result.exit_code, result.stderr) == (0, "")
    assert (given.seals, given.opens) == ((), ())
    assert given.publics[0].id == home.ring.opens[0].id
    assert (home.data / "keys").read_text() == before
    held = [key.line.split()[1] for key in (*home.ring.seals, *home.ring.opens)]
    assert not any(key in result.stdout for key in held)


def test_a_machine_that_only_submits(home: Home) -> None:
    """Doctor says what its ring is; it can neither be rotated there nor stand in for the whole one."""
    given = home.run("keys", "producers").stdout
    home.environ["REVOQ_SEAL_KEYS"] = given

    checks = {check["name"]: check for check in home.ask("doctor") if check["name"] == "keys"}
    assert checks["keys"]["state"] == "ok"
    assert f"seals to the public key {home.ring.opens[0].id}, and cannot open" in checks["keys"]["says"]
    as_worker = {check["name"]: check for check in home.ask("doctor", "--role", "worker")}
    assert as_worker["keys"]["state"] == "fail"
    for words in (("keys", "rotate"), ("keys", "producers")):
        assert home.run(*words).exit_code == 2


def test_keys_rotate(home: Home, db: Database) -> None:
    """The new key comes first, the old one stays, the trail tells their ids, and the workers' restart is asked for."""
    result = home.run("keys", "rotate")

    rows = reads.audit_rows(db, "revoq", 10)
    assert result.exit_code == 0, result.stderr
    assert "restart" in result.stdout
    assert [row.facts["event"] for row in rows] == ["keys_rotated"]
    assert rows[0].facts["sealed_with"] == home.ring.seals[0].id
    material = (home.data / "keys").read_text().split()
    assert not any(part in rows[0].row for part in material if len(part) > 32)


def test_keys_from_elsewhere_are_left_alone(empty_home: Home) -> None:
    """A file that nothing reads would only look like a key."""
    empty_home.environ["REVOQ_SEAL_KEYS"] = Ring.generate().text.reveal()
    empty_home.create_tables().dispose()

    for verb in ("generate", "rotate"):
        result = empty_home.run("keys", verb)
        assert result.exit_code == 2
        assert "the settings take the keys from elsewhere" in result.stderr
    assert not (empty_home.data / "keys").exists()


def test_db(empty_home: Home) -> None:
    """Before there are tables a check says so; afterwards it is content, and so is a second upgrade."""
    codes = [empty_home.run("db", verb).exit_code for verb in ("check", "upgrade", "check", "upgrade")]

    assert codes == [2, 0, 0, 0]
    assert stat.S_IMODE(empty_home.database_file.stat().st_mode) == 0o600


def test_connections_list(home: Home) -> None:
    """What the settings say; the secrets stay the references that they are."""
    (row,) = home.ask("connections", "list")

    said = {"name", "provider", "base_url", "identity", "owns", "protected", "never_probe", "proxy"}
    assert set(row) == said | {"limits", "left", "retry_at", "failures", "broken_until"}
    assert row["identity"] == {"token": "env:HUB_TOKEN"}
    assert "the-hub-s-own" not in home.run("connections", "list").output


def test_connections_test_says_what_is_wrong(home: Home) -> None:
    """Each connection by itself; one that fails makes the exit code 1."""
    del home.environ["HUB_TOKEN"]

    result = home.run("connections", "test")

    assert result.exit_code == 1
    assert "HUB_TOKEN is not set" in " ".join(result.stdout.split())
    assert home.ask("connections", "test", "hub")[0]["ok"] is False


def test_rules_list_and_show(home: Home) -> None:
    """Each rule with what it needs; an alias leads to it."""
    rows = home.ask("rules", "list")
    shown = home.ask("rules", "show", "jupyterhub.token")

    assert {row["id"] for row in rows} >= {
        "jupyterhub.token",
        "pangolin.token",
        "sendgrid.api_key",
        "tailscale.api_key",
    }
    assert set(rows[0]) <= set(shown)
    assert "--var" in home.run("rules", "show", "pangolin.token").stdout
    for row in rows:
        for alias in row["aliases"]:
            assert home.ask("rules", "show", alias)["id"] == row["id"]
