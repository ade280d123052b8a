"""What follows from a job's end: when its credential is looked at again, and what a look came to; no row is written.

When and whether is decided by `rules.recheck`; here its questions are answered from the case that has just ended.
"""

from __future__ import annotations

from functools import partial

from rules.decision import Decision, Expire, Finish, Park
from rules.errors import BadInput
from rules.lifecycle import Intent, Outcome, Reason, Verdict
from rules.plan import ACTOR, Plan, Purpose
from rules.planning import plan
from rules.recheck import DONE, ENDED, Ended, Found, Kind, expiry, kinds_of, lapse_of, look_plan, series
from rules.units import SECOND
from worker.case import Case
from worker.ledger import rechecks
from worker.ledger.moves import Also
from worker.ledger.rechecks import Watch

FOUND = {
    Verdict.DEAD: Found.DEAD,
    Verdict.DISABLED: Found.DEAD,
    Verdict.UNPROVABLE: Found.UNPROVABLE,
}
RESTORED = frozenset({Verdict.RESTORED, Verdict.ACKNOWLEDGED})


def after_end(case: Case | None, verdict: Verdict) -> Watch | None:
    """What is to be watched after a job has ended its credential, or brought it back; None where nothing follows."""
    if case is None:
        return None
    if case.plan.intent is Intent.RESTORE and verdict in RESTORED:
        return Watch()
    if case.plan.intent is not Intent.REVOKE or verdict not in ENDED:
        return None
    if verdict is Verdict.ALREADY_REVOKED and _is_watched(case):
        # The series that is under way knows more: when what was done lapses, and that it is ours.
        return None
    return _watch(case, verdict)


def after_look(case: Case | None, decision: Decision) -> Also | None:
    """What the end of a look says of its credential; None for another job, and where the look goes on."""
    if case is None or case.plan.intent is not Intent.RECHECK:
        return None
    found = _found(case, decision)
    return None if found is None else partial(rechecks.end_look, job=case.job, found=found)


def _found(case: Case, decision: Decision) -> Found | None:
    match decision:
        case Finish(verdict, _):
            return FOUND.get(verdict, Found.UNPROVABLE)
        case Expire():
            return Found.EXPIRED
        case Park(Reason.CAME_BACK, _) if case.records and case.records[-1].outcome is not Outcome.ALIVE:
            return Found.DEAD
        case Park(Reason.CAME_BACK, _):
            return Found.CAME_BACK
        case _:
            return None


def _is_watched(case: Case) -> bool:
    return any(row.ended_at is None for row in rechecks.of_credential(case.runtime.database, case.job.credential))


def _watch(case: Case, verdict: Verdict) -> Watch:
    database, settings = case.runtime.database, case.runtime.settings
    now, within = database.now(), int(settings.shred_after * SECOND)
    look = _look(case, verdict)
    kinds = kinds_of(case.rule, look.steps[0].uses) if look is not None else frozenset[str]()
    kept = rechecks.kept_secrets(database, case.job.credential) if kinds else []
    needed = [row for row in kept if row.kind in kinds]
    ended = Ended(
        verdict=verdict,
        at=now,
        lapses=lapse_of(case.plan, _acted_by(case)),
        can_look=look is not None,
        expires_at=expiry(case.expires_at, case.first_seen, case.rule),
        sealed_until=min((row.created_at + within for row in needed), default=None),
    )
    chosen = case.rule.verification.recheck
    coming = series(ended, settings.recheck if chosen is None else chosen)
    if not coming:
        return Watch()
    keeps = _to_repeat(case) if ended.lapses is not None else frozenset[str]()
    keeps |= kinds | _to_restore(case) if any(due.kind is Kind.LOOK for due in coming) else frozenset()
    # A look that fails is repeated for as long as everything is; after the last one, its secrets are shredded at once.
    until = coming[-1].at + int(settings.retry_for * SECOND)
    return Watch(coming, ended.lapsed_at, keeps, until, within)


def _look(case: Case, verdict: Verdict) -> Plan | None:
    """How the credential can be looked at from here, or None: it cannot, or must not be."""
    if not case.facts(0.0).probe:
        return None
    try:
        return look_plan(case.loaded, _given(case), verdict)
    except BadInput:
        return None


def _to_restore(case: Case) -> frozenset[str]:
    """What a restoration would need, as long as one is possible."""
    try:
        made = plan(case.loaded, Intent.RESTORE, _given(case))
    except BadInput:
        return frozenset()
    return kinds_of(case.rule, (name for step in made.steps for name in step.uses))


def _to_repeat(case: Case) -> frozenset[str]:
    """What the steps need that the provider forgets."""
    acted = _acted_by(case)
    used = {name for step in case.plan.steps if step.name in acted and step.lapses is not None for name in step.uses}
    return kinds_of(case.rule, used)


def _given(case: Case) -> set[str]:
    return set(case.values) | ({ACTOR} if case.account.signs else set())


def _acted_by(case: Case) -> set[str]:
    now = {record.name for record in case.records if record.purpose is Purpose.ACT and record.outcome in DONE}
    return now | case.acted_by
