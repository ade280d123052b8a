"""Notices reach those who want them by JSON and by mail, through Apprise as it is; nobody waits for one that fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rules.lifecycle import Intent, Reason, SlotState, State, TargetState, Verdict
from rules.notice import Event
from rules.units import SECOND
from scheduler import notices
from tests.sandbox import Sandbox
from tests.sandbox.fixtures import sandbox
from tests.servers.mail import Mailbox, running_mail
from tests.servers.ports import find_free_port
from tests.servers.recorder import Recorder, Said, running_recorder
from tests.worker.bench import Bench, open_bench
from tests.worker.ledger.samples import claimed, execute, new_job
from tests.worker.ledger.test_batches import loaded
from worker.ledger import accounts, batches, moves, reads, slots
from worker.ledger.database import Database
from worker.ledger.notices import count_unsent
from worker.ledger.rows import NewSlot, SlotKey, TargetRow

__all__ = ["sandbox"]

PASSWORD = "hunter2-hunter2"
HUB = {"hub": {"provider": "jupyterhub", "base_url": "https://hub.example.com", "identity": {"token": "env:HUB_TOKEN"}}}
WEEKLY = {
    "weekly": {
        "intent": "rotate",
        "rule": "jupyterhub.service_token",
        "connection": "hub",
        "every": "7d",
        "targets": {"max_age": "7d"},
    }
}
Furnish = Callable[..., Bench]


@pytest.fixture
def furnish(tmp_path: Path, sqlite_url: str, sandbox: Sandbox) -> Iterator[Furnish]:
    """A bench that tells these addresses of everything, or of what is said."""
    with ExitStack() as stack:

        def furnish(*addresses: str, **wanted: Any) -> Bench:
            routes = []
            for number, address in enumerate(addresses):
                path = tmp_path / f"address{number}"
                path.write_text(f"{address}\n")
                routes.append({"to": f"file:{path}", **wanted})
            chosen = {"notices": routes, "schedules": WEEKLY}
            return stack.enter_context(open_bench(tmp_path, sqlite_url, sandbox, connections=HUB, settings=chosen))

        yield furnish


@pytest.fixture
def web() -> Iterator[Recorder]:
    """Whom Apprise's JSON plugin posts to."""
    with running_recorder() as recorder:
        yield recorder


@pytest.fixture
def mail() -> Iterator[Mailbox]:
    """Whom Apprise's mail plugin sends to."""
    with running_mail() as mailbox:
        yield mailbox


def json_address(web: Recorder) -> str:
    """With a password, as such addresses have."""
    return web.url.replace("http://", f"json://revoq:{PASSWORD}@")


def posted(web: Recorder) -> list[dict[str, Any]]:
    """What was posted."""
    return [json.loads(seen.body) for seen in web.seen]


def park(db: Database, reason: Reason, **job: Any) -> str:
    """A job that is parked; its id."""
    claim = claimed(db, new_job(**job))
    moves.park(db, claim, reason, "it says why")
    return claim.job.id


def bring_about_everything(bench: Bench) -> None:
    """Each event of the list, by the move that it belongs to."""
    db = bench.runtime.database
    park(db, Reason.STILL_ALIVE)
    park(db, Reason.CAME_BACK, intent=Intent.RECHECK)
    park(db, Reason.DENIED)
    park(db, Reason.SINK_FAILED, intent=Intent.ROTATE)
    batch = loaded(db, new_job())
    (line,) = reads.jobs(db, batch=batch)
    claim = moves.claim(db, line.id, lease=60, worker="w1")
    assert claim is not None
    moves.finish(db, claim, Verdict.REVOKED, "proved")
    batches.end_finished(db)
    while accounts.fail(db, "hub", 0.5, actor="w1", says="503") is None:
        pass
    list_old_key(db)
    notices.watch(bench.runtime)


def list_old_key(db: Database) -> None:
    """A slot whose listing showed a key of a month ago."""
    now = db.now()
    slots.watch(db, "weekly", "digest")
    key = SlotKey("weekly", now)
    rule = WEEKLY["weekly"]["rule"]
    slots.open_now(
        db,
        "weekly",
        NewSlot(due=now, closes=now, intent=Intent.ROTATE, rule=str(rule), connection="hub", requester="clock"),
    )
    row = TargetRow(
        target="7",
        number=1,
        id="7",
        subject="ada",
        name="ada-laptop",
        role=None,
        canary=False,
        state=TargetState.SKIPPED,
        born=now - 30 * 86400 * SECOND,
        used=None,
        variables={},
        not_before=now,
        says=None,
    )
    assert slots.list_targets(db, key, [row])
    slots.end(db, key, SlotState.RUNNING, SlotState.DONE)


def test_every_event_by_json_and_by_mail(
    furnish: Furnish, web: Recorder, mail: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are told of all of them, with ids and reasons; no subject, no batch's name and no address is in any."""
    # No test waits until a row is ten minutes old.
    monkeypatch.setattr(notices, "AUDIT_LATE", -1)
    bench = furnish(json_address(web), f"mailto://127.0.0.1:{mail.port}/ops@example.com?from=revoq@example.com")
    bring_about_everything(bench)

    sent = notices.tell(bench.runtime)

    titles = sorted(message["title"] for message in posted(web))
    assert sent == 2 * len(titles) == 2 * len(Event)
    assert sorted(str(each["subject"]) for each in mail.mails) == titles
    for event in Event:
        assert sum(event.value.replace("_", " ") in title for title in titles) == 1, (event, titles)
    said = "".join(seen.body.decode() for seen in web.seen) + "".join(str(each) for each in mail.mails)
    assert not [word for word in (PASSWORD, "ada", "leavers.csv") if word in said]
    assert {message["type"] for message in posted(web)} == {"info", "warning", "failure"}
    # Nothing is told twice, however often the clock looks.
    notices.watch(bench.runtime)
    assert notices.tell(bench.runtime) == 0


def test_a_route_says_what_it_wants(furnish: Furnish, web: Recorder) -> None:
    """By event and by severity."""
    bench = furnish(json_address(web), events=["still_alive", "parked"], severity="critical")
    park(bench.runtime.database, Reason.STILL_ALIVE)
    park(bench.runtime.database, Reason.DENIED)

    assert notices.tell(bench.runtime) == 1

    assert [message["title"] for message in posted(web)] == ["revoq: still alive: pangolin.user"]


def test_a_notice_that_fails_fails_nothing(
    furnish: Furnish, web: Recorder, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The job stays as it was, other receivers are told, and it is tried again later, once for a receiver and round."""
    bench = furnish(json_address(web), f"json://127.0.0.1:{find_free_port()}/{PASSWORD}")
    db = bench.runtime.database
    jobs = [park(db, Reason.DENIED), park(db, Reason.STILL_ALIVE)]
    web.script = lambda _seen: Said(500)

    assert notices.tell(bench.runtime) == 0

    assert len(web.seen) == 1
    assert [reads.job(db, job).state for job in jobs] == [State.PARKED] * 2
    assert notices.tell(bench.runtime) == 0
    assert len(web.seen) == 1
    web.script = lambda _seen: Said()
    execute(db, "UPDATE messages SET not_before = 0")
    assert notices.tell(bench.runtime) == 2
    assert sorted(message["title"] for message in posted(web)[1:]) == [
        "revoq: parked: pangolin.user",
        "revoq: still alive: pangolin.user",
    ]
    assert PASSWORD not in caplog.text + "".join(capsys.readouterr())


def test_what_cannot_be_told_is_given_up_in_the_end(furnish: Furnish) -> None:
    """After as long as anything is tried; so is a message for somebody whom the settings name no more."""
    bench = furnish("nonsense://")
    park(bench.runtime.database, Reason.DENIED)
    assert notices.tell(bench.runtime) == 0
    execute(bench.runtime.database, "UPDATE messages SET not_before = 0, created_at = 0")
    assert notices.tell(bench.runtime) == 0
    with bench.runtime.database.read() as conn:
        assert count_unsent(conn) == 0
