"""Cases in which the provider misbehaves, or the way there. Each has its own provider, so all are played at once."""

from __future__ import annotations

import socket
import time
from typing import Any

from sqlalchemy import update

from rules.lifecycle import State
from tests.acceptance.faults.case import ENDED, EVERY, Case, Hurt
from tests.acceptance.faults.rig import WITHIN, Rig
from tests.acceptance.faults.stage import Stage
from worker.ledger.accounts import standings
from worker.ledger.tables import accounts, jobs, steps

BROKEN = frozenset({*ENDED, "provider_broken", "denied"})
"""An answer that no rule knows is shown to a person; so is one that does not let us sign in."""
BELIEVED = BROKEN | {"still_alive"}
"""A yes that was none is found out by the look that follows."""
LISTED = ("keyring", "roller", "rotation")
HOUR = 3600 * 1_000_000


def fault(kind: str, **options: Any) -> Hurt:
    """It goes wrong at both providers of the case."""

    def before(_: Rig, stage: Stage) -> None:
        stage.fault(kind, **options)

    return before


def status(number: int, **options: Any) -> Hurt:
    return fault("status", status=number, **options)


def redirect(**options: Any) -> Hurt:
    """To another provider, which has no business with any of this."""

    def before(_: Rig, stage: Stage) -> None:
        stage.fault("redirect", to=f"{stage.elsewhere.base_url}/sendgrid/v3/scopes", **options)

    return before


def away(_: Rig, stage: Stage) -> None:
    stage.sandbox.stop()


def back(_: Rig, stage: Stage) -> None:
    time.sleep(3.0)
    stage.sandbox.start()


def another_key(_: Rig, stage: Stage) -> None:
    """The provider answers what somebody else has asked."""
    other = stage.sandbox.sendgrid.first
    row = f'{{"api_key_id": "{other.id}", "name": "{other.name}"}}'
    stage.sandbox.fault("sendgrid", status=200, method="GET", path="/v3/api_keys/*", body=row, times=None)
    stage.sandbox.fault("keyring", status=200, method="GET", path="/v1/keys", body=SOMEBODYS_LIST, times=None)


SOMEBODYS_LIST = '{"keys": [{"id": "key_x", "hint": "kr_0000…0000", "revoked_at": null}], "page": 1, "total": 1}'


def maintenance(_: Rig, stage: Stage) -> None:
    stage.fault("status", status=503, headers={"Retry-After": "3600"}, times=None)


def an_hour_later(rig: Rig, stage: Stage) -> None:
    """Nobody asks before it is over; then every date in the ledger that concerns the case is an hour nearer."""
    deadline = time.monotonic() + WITHIN
    while not all_rest(rig, stage):
        assert time.monotonic() < deadline, standings(rig.runtime.database)
        time.sleep(0.1)
    asked = len(stage.sandbox.calls())
    time.sleep(4.0)
    assert len(stage.sandbox.calls()) == asked, "the provider had said when to come back"
    stage.sandbox.clear_faults()
    names = [stage.account(name) for name in stage.admins]
    with rig.runtime.database.begin() as connection:
        connection.execute(
            update(accounts)
            .where(accounts.c.connection.in_(names))
            .values(retry_at=accounts.c.retry_at - HOUR, broken_until=accounts.c.broken_until - HOUR)
        )
        mine = [actor.job_id for actor in stage.actors]
        connection.execute(update(jobs).where(jobs.c.id.in_(mine)).values(not_before=jobs.c.not_before - HOUR))
        connection.execute(update(steps).where(steps.c.job.in_(mine)).values(ended_at=steps.c.ended_at - HOUR))


def all_rest(rig: Rig, stage: Stage) -> bool:
    """Whether all accounts of the case were told when to come back, and nobody is at work there any more."""
    database = rig.runtime.database
    soon = database.now() + HOUR // 2
    resting = {name for name, standing in standings(database).items() if standing.rests_until(soon)}
    found = rig.jobs(stage).values()
    return resting >= {job.account for job in found} and all(job.state != State.RUNNING for job in found)


def denied_for_now(_: Rig, stage: Stage) -> None:
    stage.sandbox.fault("keyring", status=403, method="GET", path="/v1/keys", times=None)


def allow_and_retry(rig: Rig, stage: Stage) -> None:
    """Its scope is given back, and a person drives all of that cause again by one command."""
    rig.settle(stage, within=30)
    stage.sandbox.clear_faults()
    rig.system.revoq("jobs", "retry", "--reason", "denied").check_returncode()


def jam_one_account(_: Rig, stage: Stage) -> None:
    """Only SendGrid's account of this case is in trouble; the other two share its queue and its workers."""
    stage.sandbox.fault("sendgrid", status=500, times=6)


def closed_port() -> str:
    """An address at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}"


GET, ACT, POST = {"method": "GET"}, {"method": "DELETE"}, {"method": "POST"}

CASES = [
    Case("nobody listens, and then somebody does", "it is tried until it works", mend=back, before=away),
    Case("nobody ever listens", "nothing is ended", where=closed_port(), waits=True, may=frozenset()),
    Case("a name without an address", "nothing is ended", where="https://nowhere.invalid", waits=True, may=frozenset()),
    Case("no TLS where TLS was said", "nothing is sent", where="https://127.0.0.1:{port}", waits=True, may=frozenset()),
    Case("reset before a look was handled", "it is sent again", before=fault("drop_before", **GET)),
    Case("reset before a deed was handled", "it is asked, and sent again", before=fault("drop_before", **ACT)),
    Case("reset after a deed was handled", "it is asked, and not sent again", before=fault("drop_after", **ACT)),
    Case("reset before what must not be repeated", "a person is asked", before=fault("drop_before", **POST),
         jobs=LISTED),
    Case("reset after what must not be repeated", "it is asked, and not repeated", before=fault("drop_after", **POST),
         jobs=LISTED),
    Case("reset after what must not be repeated and cannot be asked", "a person is asked",
         before=fault("drop_after", **POST), jobs=("blind",), may=frozenset({"outcome_unknown"})),
    Case("reset before what must not be repeated and cannot be asked", "a person is asked",
         before=fault("drop_before", **POST), jobs=("blind",), may=frozenset({"outcome_unknown"})),
    Case("a look is drip-fed", "the deadline holds for all of it", before=fault("drip", seconds=0.2, **GET)),
    Case("the answer to a deed is drip-fed", "it is asked", before=fault("drip", seconds=0.2, path="/v1/keys*", **POST),
         jobs=("roller", "rotation")),
    Case("an endless answer to a look", "the limit holds", before=fault("endless", **GET)),
    Case("an endless answer to a deed", "it is asked", before=fault("endless", **ACT)),
    Case("an endless answer to what must not be repeated", "it is not repeated", before=fault("endless", **POST),
         jobs=LISTED),
    Case("a bomb in the answer to a look", "the limit holds for what comes out", before=fault("bomb", **GET)),
    Case("a bomb in the answer to what must not be repeated", "it is not repeated", before=fault("bomb", **POST),
         jobs=LISTED),
    Case("a look's answer is shorter than it said", "it is not read", before=fault("cut", **GET)),
    Case("a deed's answer is cut off", "it is asked", before=fault("cut", **ACT)),
    Case("a new key's answer is cut off", "no key is left behind", before=fault("cut", **POST), jobs=LISTED),
    Case("a look's answer is longer than it said", "what is beyond is not read", before=fault("short", **GET)),
    Case("JSON that breaks off, to a look", "it is no answer", before=fault("broken_json", **GET), may=BROKEN),
    Case("JSON that breaks off, to a deed", "it is not taken for a yes", before=fault("broken_json", **ACT),
         may=BELIEVED),
    Case("JSON of another shape", "it is no answer", before=fault("wrong_json", **GET), may=BROKEN),
    Case("a page to sign in, with 200, to a look", "it is no answer", before=fault("html_200", **GET), may=BROKEN),
    Case("a page to sign in, with 200, to a deed", "it is not taken for a yes", before=fault("html_200", **ACT),
         may=BELIEVED),
    Case("a look is redirected", "nobody else is asked", before=redirect(**GET), may=BROKEN),
    Case("a deed is redirected, with its body", "nobody else is asked", before=redirect(status=307, **POST),
         jobs=LISTED,
         may=BROKEN),
    Case("408", "it is sent again", before=status(408, times=2)),
    Case("425", "it is sent again", before=status(425, times=2)),
    Case("429 with Retry-After", "nobody asks sooner", before=status(429, headers={"Retry-After": "2"}, times=2)),
    Case("429 without Retry-After", "it is asked later", before=status(429, times=2)),
    Case("500 to everything for a while", "it is tried until it works", before=status(500, method="GET", times=4)),
    Case("500 after a deed was handled", "it is asked, and not sent again", before=status(500, handled=True, **ACT)),
    Case("502 after what must not be repeated", "it is asked, and not repeated",
         before=status(502, handled=True, **POST), jobs=LISTED),
    Case("503 with Retry-After", "nobody asks sooner", before=status(503, headers={"Retry-After": "2"}, times=2)),
    Case("504 after a deed was handled", "it is asked, and not sent again", before=status(504, handled=True, **ACT)),
    Case("401 from something in between", "it is not read as dead", before=fault("html_200", status=401, **GET),
         may=BROKEN),
    Case("an hour of maintenance", "nobody asks before it is over", before=maintenance, mend=an_hour_later),
    Case("answers to somebody else's request", "nothing is done", before=another_key, jobs=("sendgrid", "keyring"),
         may=frozenset({"provider_broken", "needs_selection"})),
    Case("settling that takes most of the minute that it may", "it is looked at until then", jobs=("slow", "slow")),
    Case("a yes, and the key lives on", "that is an incident", jobs=("liar",), may=frozenset({"still_alive"})),
    Case("every answer takes a second", "each is waited for", before=fault("delay", seconds=1.0, times=None)),
    Case("a right that is missing, until it is given", "all of that cause are driven again", before=denied_for_now,
         mend=allow_and_retry, jobs=LISTED),
    Case("one account in trouble", "its queue goes on for the others", before=jam_one_account, jobs=EVERY),
]  # fmt: skip
