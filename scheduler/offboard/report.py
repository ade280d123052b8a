"""What came of a batch, as one frozen value: made of the ledger's facts and the rules' texts, and of nothing else.

Reading the ledger is `worker.ledger.reports`', writing the value down is `report_forms`'. Times are microseconds. The
ledger's words are not judged again: what a job was not proved to be, the report does not say either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from rules.describe import plain
from rules.lifecycle import REASONS, VERDICTS, BatchState, Intent, Outcome, Reason, State, Verdict, ending
from rules.plan import LOOKS, Purpose
from rules.recheck import LEAK
from rules.schema import Rule
from rules.units import SECOND
from worker.ledger.batches import Batch
from worker.ledger.reports import Anchor, Entry, Residual
from worker.ledger.rows import Step

Key = TypeVar("Key")
SIGN_IN = re.compile(r"\b(password|log ?in|signing in)\b", re.IGNORECASE)
"""Words by which a rule says that what lives on can be had again by signing in."""


class Standing(StrEnum):
    """What may be said of a credential; every job of a batch is in exactly one of these."""

    DEAD = "dead"  # a look has shown it
    DISABLED = "disabled"  # a look has shown it, and it can be enabled again
    REPLACED = "replaced"  # a new key is in its place; where there was an old one, that is dead
    EXPIRED = "expired"  # its own expiry has passed
    UNPROVABLE = "unprovable"  # the provider said yes, or nothing, and cannot be asked
    ALIVE = "alive"  # a look has shown that it works: it was only probed, was restored, or came back
    WAITING = "waiting"  # parked: a person has to act
    UNDER_WAY = "under_way"  # it goes on by itself
    GIVEN_UP = "given_up"  # cancelled before anything was changed


OF_VERDICT = {
    Verdict.REVOKED: Standing.DEAD,
    Verdict.ALREADY_REVOKED: Standing.DEAD,
    Verdict.DEAD: Standing.DEAD,
    Verdict.DISABLED: Standing.DISABLED,
    Verdict.ROTATED: Standing.REPLACED,
    Verdict.ISSUED: Standing.REPLACED,
    Verdict.ACKNOWLEDGED: Standing.UNPROVABLE,
    Verdict.UNPROVABLE: Standing.UNPROVABLE,
    Verdict.INCONCLUSIVE: Standing.UNPROVABLE,
    Verdict.DELIVERED_UNCONFIRMED: Standing.UNPROVABLE,
    Verdict.ALIVE: Standing.ALIVE,
    Verdict.RESTORED: Standing.ALIVE,
    Verdict.ROLLED_BACK: Standing.ALIVE,
}
OF_STATE = {
    State.QUEUED: Standing.UNDER_WAY,
    State.RUNNING: Standing.UNDER_WAY,
    State.WAITING: Standing.UNDER_WAY,
    State.PARKED: Standing.WAITING,
    State.CANCELLED: Standing.GIVEN_UP,
    State.EXPIRED: Standing.EXPIRED,
}
ENDED_BY_LOOK = frozenset({Standing.DEAD, Standing.DISABLED, Standing.REPLACED})
OVER = ENDED_BY_LOOK | {Standing.EXPIRED}
"""What cannot be used any more."""


class Task(StrEnum):
    """What is left for a person to do, beside deciding about what is parked."""

    CHANGE_PASSWORD = "change_password"  # noqa: S105 - the name of a task
    READ_LOGS = "read_access_logs"
    TELL_OWNER = "tell_owner"
    CHECK_BY_HAND = "check_by_hand"
    END_IT = "end_it"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One answer that shows how a credential stands, as it was kept: never a body."""

    purpose: str
    outcome: str
    says: str
    status: int | None
    date: str | None
    request_id: str | None
    digest: str | None
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One job of the batch and its credential. `named` is what singles the credential out; no secret is among it.

    `proof` shows how it ended; where nothing does, `seen` is the last thing that was seen. `dead_at` is the
    time of the proof, be it dead or disabled. `lives_until`: what is not over ends by itself then at the latest; None
    where nobody knows.
    """

    job: str
    joined: bool
    credential: str
    subject: str
    rule: str
    rule_name: str
    connection: str
    provider_id: str | None
    named: Mapping[str, str]
    intent: Intent
    standing: Standing
    state: State
    verdict: Verdict | None
    reason: str | None
    says: str
    means: str
    advice: str
    candidates: int
    owner: str | None
    requester: str
    ticket: str | None
    cause: str | None
    leaked: bool
    submitted_at: int
    exposed_since: int
    acted_at: int | None
    dead_at: int | None
    ended_at: int | None
    due_at: int | None
    expires_at: int | None
    lives_until: int | None
    next_look_at: int | None
    proof: Evidence | None
    seen: Evidence | None

    @property
    def over(self) -> bool:
        """Whether nobody can use it any more."""
        return self.standing in OVER


@dataclass(frozen=True, slots=True)
class Person:
    """One subject, and how their credentials stand; the empty name is for those whose owner is not known."""

    subject: str
    credentials: int
    standings: Mapping[Standing, int]
    dead_at: int | None
    lives_until: int | None

    @property
    def over(self) -> bool:
        """Whether everything of theirs in this batch is over."""
        return OVER.issuperset(self.standings)


class Kind(StrEnum):
    """What it is that may live on."""

    CREDENTIAL = "credential"  # a credential of the batch itself
    BESIDE = "beside"  # what its rule says that its death does not end
    NOTED = "noted"  # what was noted of a subject when the batch was made


@dataclass(frozen=True, slots=True)
class Exposure:
    """What may live on, since when. `until`: when it ends by itself at the latest; None where nobody knows."""

    kind: Kind
    says: str
    rule: str
    connection: str
    subjects: Sequence[str]
    jobs: Sequence[str]
    since: int | None
    until: int | None


@dataclass(frozen=True, slots=True)
class Alike:
    """Jobs that are parked for one reason, or ended with one verdict, what that means and what a person can do."""

    word: str
    means: str
    advice: str
    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class Todo:
    """One thing that a person has to do, and what about."""

    task: Task
    says: str
    connection: str
    subjects: Sequence[str]
    jobs: Sequence[str]
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """What a rule says of its kind of credential."""

    rule: str
    says: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything. `missing` are sentences that say why the batch is not at its end; none, and it is."""

    batch: Batch
    made_at: int
    missing: Sequence[str]
    items: Sequence[Item]
    people: Sequence[Person]
    exposures: Sequence[Exposure]
    waiting: Sequence[Alike]
    unprovable: Sequence[Alike]
    todo: Sequence[Todo]
    died_along: Sequence[Remark]
    limits: Sequence[Remark]
    unknown_rules: Sequence[str]
    anchor: Anchor
    counts: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether nothing of it can change any more but by a new job."""
        return not self.missing


def make(
    batch: Batch,
    entries: Iterable[Entry],
    residuals: Iterable[Residual],
    anchor: Anchor,
    rules: Mapping[str, Rule],
    at: int,
) -> Report:
    """The report on a batch at one moment; `rules` are those that are loaded now, by their ids."""
    items = sorted((_item(entry, rules) for entry in entries), key=_place)
    used = {item.rule: rules.get(item.rule) for item in items}
    known = {name: rule for name, rule in sorted(used.items()) if rule is not None}
    return Report(
        batch=batch,
        made_at=at,
        missing=tuple(_missing(batch, items)),
        items=items,
        people=tuple(_people(items)),
        exposures=(*_of_subjects(residuals, at), *_not_over(items), *_live_on(items, known)),
        waiting=tuple(_waiting(items)),
        unprovable=tuple(_unprovable(items)),
        todo=tuple(_todo(items, known)),
        died_along=tuple(Remark(name, text) for name, rule in known.items() for text in _plain(rule.also_kills)),
        limits=tuple(
            Remark(name, text) for name, rule in known.items() for text in _plain([*rule.cannot, *rule.unverified])
        ),
        unknown_rules=tuple(sorted(name for name, rule in used.items() if rule is None)),
        anchor=anchor,
        counts=_counts(items),
    )


# ── one credential ────────────────────────────────────────────────────────────────────────────────────────────────────


def _item(entry: Entry, rules: Mapping[str, Rule]) -> Item:
    job, credential, rule = entry.job, entry.credential, rules.get(entry.job.rule)
    parked = job.state is State.PARKED
    how = ending(job.state, job.verdict, Reason(str(job.reason)) if parked else None)
    standing = OF_VERDICT[job.verdict] if job.verdict is not None else OF_STATE[job.state]
    proof = _proof(entry, standing)
    shown = proof.at if proof is not None else job.ended_at
    came_back = standing in OVER and (credential.alive_at or 0) > (shown or 0) and job.intent is not Intent.ROTATE
    if came_back:
        standing = Standing.ALIVE
    ends = [credential.expires_at] if credential.expires_at is not None else []
    ends += [job.first_seen + int(rule.lifetime * SECOND)] if rule is not None and rule.lifetime is not None else []
    return Item(
        job=job.id,
        joined=entry.joined,
        credential=credential.id,
        subject=credential.subject or "",
        rule=job.rule,
        rule_name=rule.name if rule is not None else "",
        connection=job.connection,
        provider_id=credential.provider_id,
        named={name: str(value) for name, value in entry.inputs.items()},
        intent=job.intent,
        standing=standing,
        state=job.state,
        verdict=job.verdict,
        reason=job.reason if parked else None,
        says=job.says or "",
        means=f"{how.says}; it has worked again since" if came_back else how.says,
        advice=re.sub(r"\bID\b", job.id, how.advice) if parked else "",
        candidates=len(entry.candidates) if job.reason == Reason.NEEDS_SELECTION else 0,
        owner=job.owner,
        requester=job.requester,
        ticket=job.ticket,
        cause=job.cause,
        leaked=bool(entry.options.get("finding")) or LEAK.search(job.cause or "") is not None,
        submitted_at=job.first_seen,
        exposed_since=min(credential.first_seen, job.first_seen),
        acted_at=max((step.ended_at or 0 for step in entry.steps if _has_acted(step)), default=None),
        dead_at=proof.at if proof is not None and standing in ENDED_BY_LOOK else None,
        ended_at=job.ended_at,
        due_at=job.not_before if job.state is State.WAITING else None,
        expires_at=credential.expires_at,
        lives_until=None if standing in OVER else min(ends, default=None),
        next_look_at=min((look.due for look in entry.looks if look.ended_at is None), default=None),
        proof=proof,
        seen=None if proof is not None else _last(entry.steps, lambda _step: True),
    )


def _proof(entry: Entry, standing: Standing) -> Evidence | None:
    """The look that shows the end; for what cannot be looked at, the provider's yes is all there is, and no proof."""
    if standing not in ENDED_BY_LOOK:
        return None
    return _last(entry.steps, lambda step: step.purpose in LOOKS and step.outcome in {Outcome.DEAD, Outcome.DISABLED})


def _last(steps: Sequence[Step], fits: Callable[[Step], bool]) -> Evidence | None:
    found = next((step for step in reversed(steps) if step.ended_at is not None and fits(step)), None)
    return _evidence(found) if found is not None else None


def _has_acted(step: Step) -> bool:
    return step.purpose == Purpose.ACT and step.outcome in {Outcome.OK, Outcome.ALREADY_GONE}


def _evidence(step: Step) -> Evidence:
    kept = step.evidence or {}
    headers = kept.get("headers")
    named: dict[str, Any] = dict(headers) if isinstance(headers, dict) else {}
    status = kept.get("status", kept.get("exit"))
    return Evidence(
        purpose=step.purpose,
        outcome=step.outcome.value if step.outcome is not None else "",
        says=step.says or "",
        status=status if isinstance(status, int) else None,
        date=_text(named.pop("date", None)),
        request_id=_text(next(iter(named.values()), None)),
        digest=_text(kept.get("digest")),
        at=step.ended_at or step.started_at,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _counts(items: Sequence[Item]) -> dict[str, Any]:
    """How many, in every way to look at it; each of the groupings adds up to `jobs`, causes to those that wait."""
    standings = Counter(item.standing.value for item in items)
    return {
        "jobs": len(items),
        "own": sum(not item.joined for item in items),
        "joined": sum(item.joined for item in items),
        "credentials": len({item.credential for item in items}),
        "subjects": len({item.subject for item in items if item.subject}),
        "over": sum(item.over for item in items),
        "by_standing": {standing.value: standings[standing.value] for standing in Standing},
        "by_state": _tally(item.state.value for item in items),
        "by_verdict": _tally(item.verdict.value for item in items if item.verdict is not None),
        "by_cause": _tally(item.reason for item in items if item.reason is not None),
    }


def _tally(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _missing(batch: Batch, items: Sequence[Item]) -> Iterator[str]:
    counts = Counter(item.standing for item in items)
    if batch.state is BatchState.LOADING:
        yield "it is still being loaded: more credentials may come" + (
            ", and what loaded it is gone" if batch.abandoned else ""
        )
    if batch.state is BatchState.PAUSED:
        yield f"it is paused: revoq batches resume {batch.id}"
    if counts[Standing.UNDER_WAY]:
        yield f"{_many(counts[Standing.UNDER_WAY], 'job is', 'jobs are')} not at the end yet"
    if counts[Standing.WAITING]:
        yield f"{_many(counts[Standing.WAITING], 'job waits', 'jobs wait')} for a person"


def _people(items: Sequence[Item]) -> Iterator[Person]:
    for subject, theirs in _grouped(items, lambda item: item.subject):
        open_ones = [item for item in theirs if not item.over]
        yield Person(
            subject=subject,
            credentials=len({item.credential for item in theirs}),
            standings=Counter(item.standing for item in theirs),
            dead_at=max((item.dead_at for item in theirs if item.dead_at is not None), default=None),
            lives_until=_latest([item.lives_until for item in open_ones]),
        )


def _of_subjects(residuals: Iterable[Residual], at: int) -> Iterator[Exposure]:
    """What was noted of a subject when the batch was made; what has ended by itself since is nothing any more."""
    for each in residuals:
        if each.until is None or each.until > at:
            yield Exposure(Kind.NOTED, each.says, "", each.connection, (each.subject,), (), None, each.until)


def _not_over(items: Sequence[Item]) -> Iterator[Exposure]:
    """The credentials themselves, where nothing shows that they are over."""
    rest = [item for item in items if not item.over]
    for (rule, connection, standing), some in _grouped(rest, lambda item: (item.rule, item.connection, item.standing)):
        says = (
            f"{_many(len(some), 'credential that is', 'credentials that are')} not known to be dead: {LIVES[standing]}"
        )
        until = _latest([item.lives_until for item in some])
        yield Exposure(Kind.CREDENTIAL, says, rule, connection, _subjects(some), _jobs(some), _since(some), until)


LIVES = {
    Standing.UNPROVABLE: "nothing can tell whether it works",
    Standing.ALIVE: "it works",
    Standing.WAITING: "a person has to act",
    Standing.UNDER_WAY: "the job is not at its end",
    Standing.GIVEN_UP: "the job was cancelled",
}


def _live_on(items: Sequence[Item], rules: Mapping[str, Rule]) -> Iterator[Exposure]:
    """What the rules say that lives on when the credential itself is dead; its time counts from that death."""
    for (name, connection), some in _grouped(items, lambda item: (item.rule, item.connection)):
        ends = [end for item in some if (end := item.dead_at or item.acted_at) is not None]
        for text in _plain(rules[name].residual) if name in rules else ():
            since = max(ends, default=None)
            yield Exposure(Kind.BESIDE, text, name, connection, _subjects(some), _jobs(some), since, None)


def _waiting(items: Sequence[Item]) -> Iterator[Alike]:
    parked = [item for item in items if item.standing is Standing.WAITING]
    for word, some in _grouped(parked, lambda item: str(item.reason)):
        how = REASONS[Reason(word)]
        yield Alike(word, how.says, how.advice, some)


def _unprovable(items: Sequence[Item]) -> Iterator[Alike]:
    ended = [(item.verdict, item) for item in items if item.standing is Standing.UNPROVABLE]
    for verdict in dict.fromkeys(verdict for verdict, _ in ended if verdict is not None):
        how = VERDICTS[verdict]
        yield Alike(verdict.value, how.says, how.advice, [item for each, item in ended if each is verdict])


# ── what is left to do ────────────────────────────────────────────────────────────────────────────────────────────────


def _todo(items: Sequence[Item], rules: Mapping[str, Rule]) -> Iterator[Todo]:
    yield from _passwords(items, rules)
    yield from _logs(items)
    yield from _owners(items)
    for standing, task, says in (
        (Standing.UNPROVABLE, Task.CHECK_BY_HAND, "look at the provider whether it is gone: nothing here can prove it"),
        (Standing.ALIVE, Task.END_IT, "it works: find out whether it may, and end it otherwise"),
        (Standing.GIVEN_UP, Task.END_IT, "it was cancelled, so nothing was changed: it has to be ended another way"),
    ):
        some = [item for item in items if item.standing is standing]
        for connection, theirs in _grouped(some, _where):
            yield Todo(task, says, connection, _subjects(theirs), _jobs(theirs))


def _passwords(items: Sequence[Item], rules: Mapping[str, Rule]) -> Iterator[Todo]:
    """Where what lives on comes from signing in, only a new password keeps its owner from having it again."""
    for (name, _connection), some in _grouped(items, lambda item: (item.rule, item.connection)):
        texts = [text for text in _plain(rules[name].residual if name in rules else ()) if SIGN_IN.search(text)]
        if texts:
            says = f"change the password, or take the sign-in away: what lives on is {'; '.join(texts)}"
            yield Todo(Task.CHANGE_PASSWORD, says, _where(some[0]), _subjects(some), _jobs(some))


def _logs(items: Sequence[Item]) -> Iterator[Todo]:
    """From when we first knew of it until it was shown dead; what is not, is used as long as it likes."""
    used = [item for item in items if item.intent is not Intent.ISSUE]
    for (connection, leaked), some in _grouped(used, lambda item: (_where(item), item.leaked)):
        ends = [item.dead_at for item in some]
        closed = all(end is not None for end in ends)
        says = "read the access logs from exposure to death" + ("" if closed else ", which not all have come to")
        says += "; it got about, so look further back, to when that happened" if leaked else ""
        until = max((end for end in ends if end is not None), default=None) if closed else None
        yield Todo(Task.READ_LOGS, says, connection, _subjects(some), _jobs(some), _since(some), until)


def _owners(items: Sequence[Item]) -> Iterator[Todo]:
    owned = [item for item in items if item.owner]
    for owner, some in _grouped(owned, lambda item: str(item.owner)):
        over = sum(item.over for item in some)
        says = f"tell {owner}: of {_many(len(some), 'credential', 'credentials')}, {over} cannot be used any more"
        yield Todo(Task.TELL_OWNER, says, "", _subjects(some), _jobs(some))
    strange = [item for item in items if item.reason == Reason.NOT_OURS and not item.owner]
    if strange:
        says = "find out whose it is, and tell them: it is not ours, and was left alone"
        yield Todo(Task.TELL_OWNER, says, "", _subjects(strange), _jobs(strange))


# ── order and words ───────────────────────────────────────────────────────────────────────────────────────────────────


def _place(item: Item) -> tuple[bool, str, str, str]:
    """By subject; what is nobody's, so far as we know, comes last."""
    return not item.subject, item.subject, item.rule, item.job


def _where(item: Item) -> str:
    """The connection; a credential that needs none is at its provider."""
    return item.connection or item.rule.partition(".")[0]


def _grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> list[tuple[Key, list[Item]]]:
    found: dict[Key, list[Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return list(found.items())


def _subjects(items: Sequence[Item]) -> tuple[str, ...]:
    return tuple(sorted({item.subject for item in items if item.subject}))


def _jobs(items: Sequence[Item]) -> tuple[str, ...]:
    return tuple(item.job for item in items)


def _since(items: Sequence[Item]) -> int:
    return min(item.exposed_since for item in items)


def _latest(ends: Sequence[int | None]) -> int | None:
    """The last of them; where one is not known, nobody knows."""
    known = [end for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None


def _plain(texts: Iterable[str]) -> list[str]:
    """Texts of a rule in one line each, without its language."""
    return [" ".join(plain(text).split()) for text in texts]


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
