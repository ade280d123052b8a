"""The report on a batch: what it says of each kind of ending, that counts add up, and that no text breaks a form."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.lifecycle import BatchState, Intent, Outcome, Reason, State, Verdict
from rules.loader import builtin, load
from rules.schema import Rule
from scheduler.cli.batches import report_on
from scheduler.offboard import report
from scheduler.offboard.report import ENDED_BY_LOOK, OF_STATE, OF_VERDICT, Kind, Report, Standing, Task, make
from scheduler.offboard.report_forms import COLUMNS, FORMULA, Form, rows, write
from tests.scheduler.offboard.batch import DAY, DIGEST, begin, claim, mixed, of, revoke, seal, step
from tests.servers.tables import make_tables
from worker.ledger import batches, moves, reports
from worker.ledger.batches import Batch
from worker.ledger.database import Database
from worker.ledger.reports import Anchor, Entry, Residual
from worker.ledger.rows import Credential, JobLine

LOADED = load([builtin()])
RULES: Mapping[str, Rule] = {loaded.rule.id: loaded.rule for loaded in LOADED}
AT = 1_800_000_000_000_000
ANCHOR = Anchor(7, "c" * 64, AT, 3, 2, 1)
BATCH = Batch(
    id="batch_1",
    state=BatchState.ENDED,
    name="leavers.csv",
    requester="kim@desk",
    plan=None,
    source=None,
    beat_at=None,
    created_at=AT,
    opened_at=AT,
    watched_from=None,
    says=None,
    ended_at=AT,
    abandoned=False,
)
CREDENTIAL = Credential(
    id="cred_1",
    fingerprint="f" * 64,
    fingerprint_key="f1",
    rule="jupyterhub.token",
    connection="hub",
    provider_id="a1",
    subject="ada",
    expires_at=None,
    first_seen=AT,
    alive_at=None,
    alive_where=None,
    dead_at=None,
    stage=None,
    staged_at=None,
    target=None,
)
LINE = JobLine(
    id="job_1",
    intent=Intent.REVOKE,
    rule="jupyterhub.token",
    connection="hub",
    state=State.DONE,
    verdict=Verdict.ACKNOWLEDGED,
    reason=None,
    says="it said yes",
    credential="cred_1",
    batch="batch_1",
    parent=None,
    queue="bulk",
    priority=7,
    drive=1,
    acted=True,
    attempt=0,
    not_before=AT,
    first_seen=AT,
    ended_at=AT,
    ticket=None,
    owner=None,
    requester="kim@desk",
    cause=None,
)


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """An upgraded, empty ledger; once of each kind."""
    database = Database(database_url)
    make_tables(database.url)
    yield database
    database.dispose()


def entry(job: Mapping[str, Any] | None = None, credential: Mapping[str, Any] | None = None, **beside: Any) -> Entry:
    """A job with its credential, changed as said."""
    known = {"joined": False, "inputs": {}, "options": {}, "candidates": []}
    return Entry(
        job=replace(LINE, **(job or {})), credential=replace(CREDENTIAL, **(credential or {})), **{**known, **beside}
    )


def made(*entries: Entry, batch: Batch = BATCH, residuals: tuple[Residual, ...] = ()) -> Report:
    """The report on these."""
    return make(batch, entries, residuals, ANCHOR, RULES, AT)


def tasks(found: Report) -> dict[Task, list[str]]:
    """What is left to do, as sentences."""
    told: dict[Task, list[str]] = {}
    for todo in found.todo:
        told.setdefault(todo.task, []).append(todo.says)
    return told


# ── what it says ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_ending_has_its_place() -> None:
    """No verdict and no state is left without a standing, and only those that a look shows count as shown."""
    assert set(OF_VERDICT) == set(Verdict)
    assert set(OF_STATE) == set(State) - {State.DONE}
    assert {verdict for verdict, standing in OF_VERDICT.items() if standing in ENDED_BY_LOOK} == {
        Verdict.REVOKED,
        Verdict.ALREADY_REVOKED,
        Verdict.DEAD,
        Verdict.DISABLED,
        Verdict.ROTATED,
        Verdict.ISSUED,
    }


def test_a_mixed_batch(db: Database) -> None:
    """Each credential with its verdict or reason, its proof, its times; counts add up, the joined job among them."""
    batch = mixed(db)

    found = report_on(db, batch, LOADED)

    told = rows(found)
    by_subject = {(item["subject"], item["standing"]): item for item in told["credentials"]}
    proved = by_subject["ada", "dead"]
    assert proved["proof"] == {
        "purpose": "after",
        "outcome": "dead",
        "says": "GET https://hub.example.com/hub/api/user answered 403",
        "status": 403,
        "date": "Sun, 22 Nov 2026 14:20:00 GMT",
        "request_id": "req-403",
        "digest": DIGEST,
        "at": proved["dead_at"],
    }
    assert proved["submitted_at"] <= proved["acted_at"] <= proved["dead_at"] <= proved["ended_at"]
    assert by_subject["ada", "under_way"]["joined"]
    assert (by_subject["bob", "unprovable"]["proof"], by_subject["bob", "unprovable"]["dead_at"]) == (None, None)
    assert by_subject["bob", "unprovable"]["named"] == {"TOKEN_ID": "77"}
    assert by_subject["cy", "waiting"]["lives_until"] == by_subject["cy", "waiting"]["expires_at"]
    counts = told["counts"]
    assert (counts["jobs"], counts["own"], counts["joined"], counts["over"]) == (8, 7, 1, 2)
    for way in ("by_standing", "by_state"):
        assert sum(counts[way].values()) == counts["jobs"] == len(told["credentials"])
    assert sum(person["credentials"] for person in told["subjects"]) == counts["credentials"]
    shown = batches.counts(db, batch)
    assert counts["by_verdict"] == {count.verdict.value: count.count for count in shown if count.verdict}
    assert counts["by_cause"] == {"needs_selection": 1, "not_ours": 1}
    assert [(each["word"], [job["waits_for"] for job in each["jobs"]]) for each in told["waiting"]] == [
        ("needs_selection", ["sam@example.com"]),
        ("not_ours", ["kim@desk"]),
    ]
    assert told["waiting"][0]["jobs"][0]["advice"].endswith(f"{told['waiting'][0]['jobs'][0]['job']} CANDIDATE")
    assert [each["word"] for each in told["unprovable"]] == ["acknowledged"]
    assert told["missing"] == ["2 jobs are not at the end yet", "2 jobs wait for a person"]
    with db.read() as conn:
        assert told["audit"]["head"] == reports.anchor(conn, batch).head is not None


def test_a_finished_batch_says_so(db: Database) -> None:
    """Where every job has come to its end nothing is missing, and nothing is left but what the rule says lives on."""
    new = of("ada")
    batch = begin(db, new)
    loading = report_on(db, batch, LOADED)
    batches.release(db, batch, actor="kim@desk")
    revoke(db, moves.submit(db, new).job_id, "ada")
    batches.end_finished(db)
    seal(db)

    found = report_on(db, batch, LOADED)

    assert (loading.complete, found.complete, found.batch.state) == (False, True, BatchState.ENDED)
    assert loading.missing[0].startswith("it is still being loaded")
    assert [(each.kind, each.says) for each in found.exposures] == [
        (Kind.BESIDE, "servers that the user has started go on running")
    ]
    assert [person.over for person in found.people] == [True]
    (logs,) = found.todo
    assert (logs.task, logs.since, logs.until) == (
        Task.READ_LOGS,
        found.items[0].exposed_since,
        found.items[0].dead_at,
    )


def test_what_works_again_is_not_called_dead(db: Database) -> None:
    """A credential that was seen alive after its proof stands as alive, whatever the verdict was, and is left to do."""
    new = of("ada")
    batch = begin(db, new)
    batches.release(db, batch, actor="kim@desk")
    revoke(db, moves.submit(db, new).job_id, "ada")
    held = claim(db, moves.submit(db, replace(new, intent=Intent.RECHECK)).job_id)
    step(db, held, "before", Outcome.ALIVE, 200)

    (item,) = report_on(db, batch, LOADED).items

    assert (item.verdict, item.standing, item.over, item.dead_at) == (Verdict.REVOKED, Standing.ALIVE, False, None)
    assert "worked again" in item.means
    assert Task.END_IT in tasks(report_on(db, batch, LOADED))


def test_no_end_is_shown_without_a_look() -> None:
    """A verdict whose look is not in the ledger has no time of death; what was seen last is not called a proof."""
    (item,) = made(entry({"verdict": Verdict.REVOKED})).items

    assert (item.standing, item.proof, item.dead_at) == (Standing.DEAD, None, None)


@pytest.mark.parametrize(
    ("rule", "expires_at", "until"),
    [
        ("jupyterhub.token", None, None),
        ("jupyterhub.token", AT + DAY, AT + DAY),
        ("pangolin.token", None, AT + 365 * DAY),
        ("pangolin.token", AT + DAY, AT + DAY),
    ],
)
def test_how_long_it_may_live(rule: str, expires_at: int | None, until: int | None) -> None:
    """Not longer than its own expiry and what the provider allows any; else nobody knows."""
    found = made(entry({"rule": rule}, {"expires_at": expires_at}))

    assert found.items[0].lives_until == until
    assert found.exposures[0].until == until


def test_one_unknown_end_makes_the_group_s_unknown() -> None:
    """Of two that may live, one until a date and one without any, no date is told for both."""
    found = made(entry(credential={"expires_at": AT + DAY}), entry({"id": "job_2"}, {"id": "cred_2"}))

    assert [(each.until, len(each.jobs)) for each in found.exposures if each.kind is Kind.CREDENTIAL] == [(None, 2)]


def test_residuals_of_subjects_come_first_and_end() -> None:
    """What was noted with the batch is told with its end, and no more once that has passed."""
    noted = (
        Residual("ada", "hub", "a login token that cannot be revoked", AT + DAY),
        Residual("bob", "hub", "a login token that cannot be revoked", AT - 1),
        Residual("cy", "hub", "a session", None),
    )

    found = made(residuals=noted)

    assert [(each.subjects, each.until) for each in found.exposures] == [(("ada",), AT + DAY), (("cy",), None)]


def test_what_is_left_to_do() -> None:
    """Passwords where signing in gives more, logs further back where it got about, owners by name, the rest by hand."""
    found = made(
        entry({"rule": "pangolin.token", "connection": "prod", "owner": "sam"}),
        entry({"id": "job_2", "cause": "leaked by accident", "verdict": Verdict.REVOKED}),
        entry({"id": "job_3", "state": State.CANCELLED, "verdict": None}),
        entry({"id": "job_4", "state": State.PARKED, "verdict": None, "reason": Reason.NOT_OURS}),
    )

    told = tasks(found)
    assert "login and OAuth tokens" in told[Task.CHANGE_PASSWORD][0]
    assert [("further back" in says) for says in told[Task.READ_LOGS]] == [True, False, False]
    assert told[Task.TELL_OWNER][0].startswith("tell sam: of 1 credential, 0")
    assert told[Task.TELL_OWNER][1].startswith("find out whose it is")
    assert [todo.jobs for todo in found.todo if todo.task is Task.END_IT] == [("job_3",)]
    assert [todo.jobs for todo in found.todo if todo.task is Task.CHECK_BY_HAND] == [("job_1",)]


def test_a_rule_that_is_gone() -> None:
    """A rule that is loaded no more is named, since nothing can be said of what lives on."""
    found = made(entry({"rule": "gone.token"}))

    assert (found.unknown_rules, found.died_along, found.items[0].rule_name) == (("gone.token",), (), "")


# ── the forms ─────────────────────────────────────────────────────────────────────────────────────────────────────────

HOSTILE = st.one_of(
    st.text(st.characters(codec=None), max_size=30),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            "</td></table><img src=x onerror=alert(1)>",
            "</style><style>*{display:none}</style>",
            '" onmouseover="alert(1)',
            "&lt;b&gt;",
            "{{ report.id }}{% raw %}",
            '=HYPERLINK("http://evil.example")',
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            "a\0b",
            "\u202egnp.exe",
            "\u2066hidden\u2069",
            "half \ud800",
            'quo"te,comma;semicolon\nline',
        ]
    ),
)


class Outline(HTMLParser):
    """The tags of a page in their order, with the names of their attributes, and all its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep its name and those of its attributes."""
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Keep its name."""
        self.tags.append((f"/{tag}", ()))

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.text += data


def with_names(text: str) -> Report:
    """A report in which every text that comes from outside is this one."""
    job = {"says": text, "owner": text, "ticket": text, "cause": text, "requester": text}
    hostile = entry(job, {"subject": text, "provider_id": text}, inputs={"NAME": text})
    parked = {**job, "id": "job_2", "state": State.PARKED, "verdict": None, "reason": Reason.DENIED}
    noted = (Residual(text, text, text, None),)
    return made(
        hostile, entry(parked, {"subject": text}), batch=replace(BATCH, name=text, requester=text), residuals=noted
    )


@cache
def harmless() -> list[tuple[str, tuple[str, ...]]]:
    """The tags of a page with names that do nothing."""
    return Outline(write(with_names("x"), Form.HTML).decode()).tags


@given(HOSTILE.filter(lambda text: text.strip()))
def test_no_text_breaks_the_page(text: str) -> None:
    """Whatever a name holds, the page has the tags that it has for a harmless one, and nothing that steers it."""
    page = Outline(write(with_names(text), Form.HTML).decode())

    assert page.tags == harmless()
    assert not set(page.text) & {"\0", "\u202a", "\u202b", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068"}


@given(HOSTILE)
def test_no_text_is_a_formula(text: str) -> None:
    """Read back, the CSV has its rows and columns, and no cell begins as a formula does."""
    read = list(csv.reader(io.StringIO(write(with_names(text), Form.CSV).decode(), newline="")))

    assert read[0] == list(COLUMNS)
    assert [len(row) for row in read] == [len(COLUMNS)] * 3
    assert not [cell for row in read for cell in row if cell.startswith(FORMULA)]


@given(HOSTILE)
def test_json_keeps_every_text(text: str) -> None:
    """A program gets exactly what there is, half a surrogate pair included."""
    told = json.loads(write(with_names(text), Form.JSON))

    assert told["name"] == text
    assert told["credentials"][0]["owner"] in {text, None}


def test_a_formula_keeps_its_text() -> None:
    """Only an apostrophe is put before it."""
    read = list(csv.DictReader(io.StringIO(write(with_names("=1+1"), Form.CSV).decode(), newline="")))

    assert [row["owner"] for row in read] == ["'=1+1", "'=1+1"]


def test_the_page_asks_for_nothing() -> None:
    """No address, no script, no image; the policy allows the one style that is in it, by its digest."""
    page = write(with_names("x"), Form.HTML).decode()

    tags = {tag for tag, _ in Outline(page).tags}
    names = {name for _, names in Outline(page).tags for name in names}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "a", "form", "base"}
    assert not names & {"src", "href", "style", "srcset", "action"}
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src &#39;none&#39;; style-src &#39;sha256-" in page
    assert "unsafe" not in page


def test_the_forms_say_the_same(db: Database) -> None:
    """CSV and page have a row for each credential of the JSON."""
    found = report_on(db, mixed(db), LOADED)

    told = rows(found)
    read = list(csv.DictReader(io.StringIO(write(found, Form.CSV).decode(), newline="")))
    page = write(found, Form.HTML).decode()
    assert json.loads(write(found, Form.JSON)) == told
    assert [row["job"] for row in read] == [item["job"] for item in told["credentials"]]
    assert [row["dead_at"] or None for row in read] == [item["dead_at"] for item in told["credentials"]]
    assert [row["proves"] for row in read] == ["yes" if item["proof"] else "no" for item in told["credentials"]]
    assert all(f"<code>{item['job']}</code>" in page for item in told["credentials"])
    assert told["audit"]["head"] in page


def test_the_report_has_no_sql() -> None:
    """The value and its forms know no database: what they say can be worked out from their arguments."""
    for name in ("report.py", "report_forms.py"):
        text = (Path(report.__file__).parent / name).read_text()
        assert "sqlalchemy" not in text
        assert "db." not in text
