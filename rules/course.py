"""What every policy knows of one job's course so far, and its patience: when a step is taken again, when given up.

Which step comes next is decided by the policies: `rules.decide`, `rules.decide_rotation` and `rules.decide_rollback`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rules.decision import REFUSALS, Decision, Do, Facts, Park, Record, Wait, backoff
from rules.lifecycle import Reason
from rules.plan import Plan, Planned
from rules.units import SECOND

FOR_PROOF = "another look, for proof"
"""One refusal is not enough where a provider is known to refuse what works, now and then."""
SETTLING = "the provider may be settling"


class Course:
    """One look at one job. Every method of a policy either decides or returns None, which means: go on."""

    def __init__(self, plan: Plan, records: Sequence[Record], facts: Facts, now: int) -> None:
        self.plan, self.records, self.facts, self.now = plan, records, facts, now
        self.names = facts.given | {name for record in records for name in record.taken}

    def _of(self, step: Planned) -> list[Record]:
        return [r for r in self.records if r.purpose is step.purpose and r.name == step.name]

    def _refused(self, last: Record) -> Park:
        return Park(REFUSALS.get(last.outcome, Reason.PROVIDER_BROKEN), last.says)

    def _again(self, step: Planned, tries: Sequence[Record]) -> Decision:
        """Try again later: no sooner than was asked for, slower each time, for as long as the settings say."""
        last = tries[-1]
        recent = [record for record in tries if not record.earlier] or [last]
        if self.now - recent[0].at > self.facts.retry_for * SECOND:
            return Park(Reason.BUDGET_SPENT, last.says)
        if self._at_once(step, recent):
            return Do(step)
        delay = max(backoff(len(recent), self.facts.chance), last.retry_after or 0.0)
        return self._when(step, last.at + int(delay * SECOND), last.says)

    def _at_once(self, step: Planned, tries: Sequence[Record]) -> bool:  # noqa: ARG002 - a policy may say so
        """Whether the next try need not wait."""
        return False

    def _settling(self, since: int) -> bool:
        """Whether what was done then may not show everywhere yet."""
        return self.now < since + int(self.plan.window * SECOND)

    def _look_again(self, step: Planned, last: Record, why: str = FOR_PROOF) -> Decision:
        """Another look, no sooner than the rule wants it after the last one."""
        return self._when(step, last.at + int(self.plan.spacing * SECOND), why)

    def _when(self, step: Planned, due: int, why: str) -> Decision:
        return Do(step) if due <= self.now else Wait(due, why)
