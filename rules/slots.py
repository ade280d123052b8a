"""What a slot does next, and to whom: which rows a schedule means, who goes first, when to stop; doing it is not ours.

Times are the ledger's microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from rules.errors import BadInput
from rules.lifecycle import Intent, TargetState
from rules.schema import Listing, Rule
from rules.select import Candidate, read_time
from rules.template import Place, compile_template
from rules.units import SECOND

# ── who is meant ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a listing: `born` is when it was made or last rotated; what is not known is None.

    `variables` are those of the rule that the row fills in, for a job about it.
    """

    id: str
    name: str
    subject: str | None = None
    role: str | None = None
    born: int | None = None
    used: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """What a slot knows it by."""
        return self.id if self.subject is None else f"{self.subject}/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows a schedule means. Names, ids and roles are globs; spans are in microseconds.

    `until_next` is the time from this slot to the next one: a key is rotated before it gets older than `max_age`, and
    the last chance for that is the slot before.
    """

    names: Sequence[str] = ("*",)
    exclude: Sequence[str] = ()
    ids: Sequence[str] = ()
    roles: Sequence[str] = ()
    max_age: int | None = None
    unused_for: int | None = None
    canary: str | None = None
    until_next: int = 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """One row with its place in the slot: `why` it is left out, or an empty text."""

    row: Row
    why: str = ""
    canary: bool = False


def read_row(listing: Listing, candidate: Candidate, subject: str | None, sink_name: str | None = None) -> Row:
    """A listed row as a schedule looks at it; what the rule's listing does not name stays unknown.

    What is rotated goes by the name that sinks know it by (`sink_name`, a template): the same for all its keys.
    """
    found = candidate["shown"]
    shown: Mapping[str, str] = found if isinstance(found, dict) else {}
    identifier = str(candidate["id"])
    variables = {name: shown[source] for name, source in listing.variables.items() if source in shown}
    name = shown.get(listing.name or "") or identifier
    if sink_name is not None and compile_template(sink_name).required <= variables.keys():
        name = compile_template(sink_name).fill(variables, Place.PLAIN) or name
    return Row(
        id=identifier,
        name=name,
        subject=subject,
        role=shown.get(listing.role or ""),
        born=_microseconds(shown.get(listing.created or "")),
        used=_microseconds(shown.get(listing.used or "")),
        variables=variables,
    )


def read_rows(rule: Rule, listed: Iterable[Candidate], subject: str | None = None) -> list[Row]:
    """Every row of a rule's listing, read so."""
    if rule.listing is None:
        return []
    sink_name = rule.rotation.sink_name if rule.rotation is not None else None
    return [read_row(rule.listing, candidate, subject, sink_name) for candidate in listed]


def choose(rows: Iterable[Row], wanted: Wanted, intent: Intent, now: int) -> list[Chosen]:
    """Every row, the canary first, with why it is left out; raises BadInput where others are meant and it is gone.

    A canary that is not old enough yet goes first all the same, but is never revoked for it.
    """
    chosen = [Chosen(row, leave_out(row, wanted, intent, now), canary=_is(row, wanted.canary)) for row in rows]
    if wanted.canary is not None and any(not each.why for each in chosen):
        canaries = [each for each in chosen if each.canary and not _misfit(each.row, wanted)]
        if len(canaries) != 1 or (canaries[0].why and intent is Intent.REVOKE):
            raise BadInput(
                f"the canary {wanted.canary} has to go first, and {len(canaries)} of what the provider lists are meant "
                "by that: nothing was begun"
            )
        chosen = [Chosen(each.row, "" if each is canaries[0] else each.why, each is canaries[0]) for each in chosen]
    return sorted(chosen, key=lambda each: (not each.canary, each.row.name, each.row.target))


def leave_out(row: Row, wanted: Wanted, intent: Intent, now: int) -> str:
    """Why a row is not meant now, or an empty text. What is not known never makes a credential die."""
    return _misfit(row, wanted) or _too_young(row, wanted, intent, now) or _in_use(row, wanted, intent, now)


def is_overdue(row: Row, wanted: Wanted, now: int) -> bool:
    """Whether a row is meant and older than it should ever be."""
    known = wanted.max_age is not None and row.born is not None and not _misfit(row, wanted)
    return known and now - (row.born or 0) > (wanted.max_age or 0)


def is_meant(row: Row, wanted: Wanted) -> bool:
    """Whether the schedule is for it at all, however old it is."""
    return not _misfit(row, wanted)


def _misfit(row: Row, wanted: Wanted) -> str:
    if _fits(row.name, wanted.exclude) or _fits(row.id, wanted.exclude):
        return "the schedule excepts it"
    if not _fits(row.name, wanted.names):
        return f"its name {row.name!r} is not one that the schedule means"
    if wanted.ids and not _fits(row.id, wanted.ids):
        return "its id is not one that the schedule means"
    if wanted.roles and not _fits(row.role or "", wanted.roles):
        return f"its role is {row.role!r}" if row.role else "its role is not known"
    return ""


def _too_young(row: Row, wanted: Wanted, intent: Intent, now: int) -> str:
    if wanted.max_age is None:
        return ""
    if row.born is None:
        return "its age is not known" if intent is Intent.REVOKE else ""
    # Looking ahead makes a key new in time; it must never make one die early.
    ahead = wanted.until_next if intent is Intent.ROTATE else 0
    return "" if now + ahead - row.born > wanted.max_age else f"it is {_days(now - row.born)} old"


def _in_use(row: Row, wanted: Wanted, intent: Intent, now: int) -> str:
    if wanted.unused_for is None:
        return ""
    # One that was never used has not been used since it was made.
    last = row.used if row.used is not None else row.born
    if last is None:
        return "when it was last used is not known" if intent is Intent.REVOKE else ""
    return "" if now - last > wanted.unused_for else f"it was used {_days(now - last)} ago"


def _fits(text: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(text, glob) for glob in globs)


def _is(row: Row, canary: str | None) -> bool:
    return canary is not None and canary in {row.name, row.id}


def _microseconds(text: str | None) -> int | None:
    seconds = read_time(text)
    return None if seconds is None else int(seconds * SECOND)


def _days(span: int) -> str:
    return f"{span / (86400 * SECOND):.1f} days"


# ── who is next ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Member:
    """One target of a slot. `busy`: another slot of the schedule has it under way."""

    target: str
    state: TargetState
    canary: bool
    not_before: int
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Begin with these; with none where there is only to wait."""

    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """Leave the others alone, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Every target has ended."""


def next_move(
    members: Sequence[Member], *, now: int, places: int, stop_after: int | None = None
) -> Start | Stop | Finished:
    """What a running slot does next; `places` are how many more targets may be under way."""
    waiting = [each for each in members if each.state is TargetState.WAITING]
    failed = sum(each.state is TargetState.FAILED for each in members)
    canary = next((each for each in members if each.canary), None)
    if waiting and canary is not None and canary.state is TargetState.FAILED:
        return Stop(f"the canary {canary.target} did not end well; the others were left alone: {len(waiting)}")
    if waiting and stop_after is not None and failed >= stop_after:
        return Stop(f"{failed} targets did not end well; the others were left alone: {len(waiting)}")
    if not waiting:
        return Start() if any(each.state is TargetState.STARTED for each in members) else Finished()
    if canary is not None and canary.state is not TargetState.WELL:
        waiting = [each for each in waiting if each.canary]
    due = [each.target for each in waiting if each.not_before <= now and not each.busy]
    return Start(tuple(due[: max(places, 0)]))
