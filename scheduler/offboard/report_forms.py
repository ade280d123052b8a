"""A report written down: JSON for programs, CSV for spreadsheets, one page of HTML for paper and phones.

JSON is the whole of it, and its keys stay; the page shows the same rows. Times are ISO 8601 in UTC, what is not known
is null.

report      id name state requester made_at created_at opened_at ended_at complete missing[…] counts{…} subjects[…]
            credentials[…] exposures[…] waiting[…] unprovable[…] todo[…] died_along[…] limits[…] unknown_rules[…]
            audit{seal head sealed_at unsealed rows rows_unsealed}
counts      jobs own joined credentials subjects over by_standing{…} by_state{…} by_verdict{…} by_cause{…}
subject     subject credentials over by_standing{…} dead_at lives_until
credential  job joined credential subject rule rule_name connection provider_id named{…} intent standing over state
            verdict reason says means advice candidates owner requester ticket cause leaked submitted_at exposed_since
            acted_at dead_at ended_at due_at expires_at lives_until next_look_at proof{…} seen{…}
proof, seen purpose outcome says status date request_id digest at
exposure    kind says rule connection subjects[…] jobs[…] since until
waiting,    word means advice jobs[{job subject waits_for says advice candidates}]
unprovable
todo        task says connection subjects[…] jobs[…] since until
remark      rule says

In CSV a cell that a spreadsheet would take for a formula (it begins with = + - @, a tab or a line break) begins with an
apostrophe, and in CSV and HTML a sign of its own stands for each character that would steer what shows it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from liquid import BoundTemplate, Environment, StrictUndefined

from scheduler.cli.output import clean
from scheduler.cli.present import moment
from scheduler.offboard.report import Alike, Evidence, Exposure, Item, Person, Remark, Report, Todo
from worker.ledger.reports import Anchor

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the beginning of a formula, or skips on its way to one."""
FLAT = tuple(each.name for each in fields(Item) if each.name not in {"named", "proof", "seen"})
PROOF = tuple(each.name for each in fields(Evidence))
COLUMNS = ("batch", *FLAT, "named", "proves", *(f"evidence_{name}" for name in PROOF))
"""The columns of CSV, a row for each job: what `proves` is no, the evidence is only what was seen last."""
NAMED = 20
"""How many names or jobs the page shows of a longer list; JSON has all."""


class Form(StrEnum):
    """How a report can be written."""

    JSON = "json"
    CSV = "csv"
    HTML = "html"


def write(report: Report, form: Form) -> bytes:
    """The report in this form, as UTF-8."""
    match form:
        case Form.JSON:
            # Half a surrogate pair, which a provider may well send, has no UTF-8; its escape is the same JSON.
            return (json.dumps(rows(report), indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
        case Form.CSV:
            return _csv(report).encode("utf-8", "replace")
        case Form.HTML:
            return _html(report).encode("utf-8", "replace")


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def rows(report: Report) -> dict[str, Any]:
    """All of it, as plain values."""
    batch = report.batch
    return {
        "id": batch.id,
        "name": batch.name,
        "state": batch.state.value,
        "requester": batch.requester,
        "made_at": moment(report.made_at),
        "created_at": moment(batch.created_at),
        "opened_at": moment(batch.opened_at),
        "ended_at": moment(batch.ended_at),
        "complete": report.complete,
        "missing": list(report.missing),
        "counts": dict(report.counts),
        "subjects": [_person(person) for person in report.people],
        "credentials": [_item(item) for item in report.items],
        "exposures": [_plain(each) for each in report.exposures],
        "waiting": [_alike(each) for each in report.waiting],
        "unprovable": [_alike(each) for each in report.unprovable],
        "todo": [_plain(each) for each in report.todo],
        "died_along": [_plain(each) for each in report.died_along],
        "limits": [_plain(each) for each in report.limits],
        "unknown_rules": list(report.unknown_rules),
        "audit": _anchor(report.anchor),
    }


def _person(person: Person) -> dict[str, Any]:
    return {
        "subject": person.subject or None,
        "credentials": person.credentials,
        "over": person.over,
        "by_standing": {standing.value: count for standing, count in person.standings.items()},
        "dead_at": moment(person.dead_at),
        "lives_until": moment(person.lives_until),
    }


def _item(item: Item) -> dict[str, Any]:
    return {**_plain(item), "subject": item.subject or None, "over": item.over}


def _alike(alike: Alike) -> dict[str, Any]:
    jobs = [
        {
            "job": item.job,
            "subject": item.subject or None,
            "waits_for": item.owner or item.requester,
            "says": item.says,
            "advice": item.advice,
            "candidates": item.candidates,
        }
        for item in alike.items
    ]
    return {"word": alike.word, "means": alike.means, "advice": alike.advice, "jobs": jobs}


def _anchor(anchor: Anchor) -> dict[str, Any]:
    return {
        "seal": anchor.number,
        "head": anchor.head,
        "sealed_at": moment(anchor.sealed_at),
        "unsealed": anchor.unsealed,
        "rows": anchor.rows,
        "rows_unsealed": anchor.rows_unsealed,
    }


MOMENTS = frozenset({"at", "since", "until", "lives_until"})


def _plain(value: Item | Evidence | Exposure | Todo | Remark) -> dict[str, Any]:
    """A value by the names of its fields, its times spelled."""
    return {each.name: _spelled(each.name, getattr(value, each.name)) for each in fields(value)}


def _spelled(name: str, value: Any) -> Any:
    match value:
        case int() if name in MOMENTS or name.endswith(("_at", "_since")):
            return moment(value)
        case StrEnum():
            return value.value
        case Evidence():
            return _plain(value)
        case Mapping():
            return dict(value)
        case str():
            return value
        case Sequence():
            return list(value)
        case _:
            return value


# ── CSV ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _csv(report: Report) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for item in report.items:
        told = _plain(item)
        evidence = told["proof"] or told["seen"] or dict.fromkeys(PROOF)
        named = " ".join(f"{name}={value}" for name, value in item.named.items())
        flat = [told[name] for name in FLAT]
        writer.writerow(
            map(_cell, (report.batch.id, *flat, named, item.proof is not None, *(evidence[name] for name in PROOF)))
        )
    return out.getvalue()


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case _:
            text = str(value)
            return clean(f"'{text}" if text.startswith(FORMULA) else text)


# ── HTML ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _html(report: Report) -> str:
    template, style = _page()
    # The page may use this very style and nothing else: no script, no image, no font, no address of any kind.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return template.render(report=_cleaned(rows(report)), style=style, policy=policy, named=NAMED)


@cache
def _page() -> tuple[BoundTemplate, str]:
    """The template, which escapes every value by itself, and the style that goes into it."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.add_filter("when", _when)
    environment.add_filter("sentence", lambda text: f"{text[:1].upper()}{text[1:]}")
    environment.add_filter("words", lambda text: str(text).replace("_", " "))
    folder = Path(__file__).parent
    source, style = ((folder / name).read_text("utf-8") for name in ("report.html", "report.css"))
    return environment.from_string(source), style


def _when(text: str | None) -> str:
    return f"{text[:10]} {text[11:19]} UTC" if text else "not known"


def _cleaned(value: Any) -> Any:
    """Every text in it without what would steer the page: a NUL, an override of the writing's direction."""
    match value:
        case str():
            return clean(value)
        case Mapping():
            return {clean(name): _cleaned(each) for name, each in value.items()}
        case list():
            return [_cleaned(each) for each in value]
        case _:
            return value
