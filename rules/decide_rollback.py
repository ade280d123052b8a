"""(plan, what happened so far, now) → the next thing to do on a rotation's way back: the old key in place again.

The old key is tried before anything is moved, and the new one is deleted only after every sink was seen to hold the old
one. What cannot be done parks with both keys sealed, and driving the job again goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rules.course import SETTLING
from rules.decide_rotation import Rotating
from rules.decision import TELLING, Decision, Do, Facts, Finish, Park, Record
from rules.lifecycle import Outcome, Reason, Verdict
from rules.plan import Plan, Planned, Purpose

BOTH_LIVE = "no key was deleted; mend it, and retry goes on from there"


def decide_rollback(plan: Plan, records: Sequence[Record], facts: Facts, now: int) -> Decision:
    """Say what comes next. Whether there is a way back at all was asked when a person turned the job round."""
    return _Rollback(plan, records, facts, now).decide()


class _Rollback(Rotating):
    """One look at one way back."""

    def decide(self) -> Decision:
        """Take the steps of the way back in their order; the first that is not settled decides."""
        lacking = self._lacking()
        if lacking:
            says = f"what the sinks held before is not known ({', '.join(lacking)})"
            return Park(Reason.SINK_FAILED, f"{says}; put the old key back by hand")
        return self._take_steps() or self._finish()

    def _settlers(self) -> dict[Purpose, Callable[[Planned], Decision | None]]:
        return {
            Purpose.STILL: self._still,
            Purpose.PUT_BACK: self._put_back,
            Purpose.SEEN_BACK: self._seen_back,
            Purpose.TELL_BACK: self._tell_back,
            Purpose.DEMOTE: self._mark,
            Purpose.WITHDRAW: self._withdraw,
            Purpose.GONE: self._gone,
        }

    def _lacking(self) -> list[str]:
        needed = {name for step in self.plan.steps if step.purpose is Purpose.PUT_BACK for name in step.uses}
        return sorted(needed - self.names)

    def _still(self, step: Planned) -> Decision | None:
        """A key that does not work is not put back."""
        if not self.facts.probe:
            return None
        looks = self._now(step)
        if not looks:
            return Do(step)
        last = looks[-1]
        if last.outcome in {Outcome.DEAD, Outcome.DISABLED}:
            says = f"the old key does not work, so it was not put back: {last.says}"
            return Park(Reason.PROVIDER_BROKEN, f"{says}; the new one is still in place")
        return None if last.outcome in TELLING else self._again(step, looks)

    def _put_back(self, step: Planned) -> Decision | None:
        tries = self._now(step)
        if not tries:
            return Do(step)
        return self._settled_at_sink(step, tries)

    def _seen_back(self, step: Planned) -> Decision | None:
        """Every sink has to show the old key. One that cannot be read is believed, or the new key is left alive."""
        looks = self._now(step)
        if not looks:
            return Do(step)
        if looks[-1].outcome is Outcome.UNPROVABLE:
            return None
        if looks[-1].outcome is Outcome.NO_ROW and not self._settling(looks[0].at):
            return Park(Reason.SINK_FAILED, f"{looks[-1].says}; {BOTH_LIVE}")
        return self._settled_at_sink(step, looks)

    def _tell_back(self, step: Planned) -> Decision | None:
        tries = self._now(step)
        if not tries:
            return Do(step)
        return self._settled_at_sink(step, tries)

    def _settled_at_sink(self, step: Planned, tries: Sequence[Record]) -> Decision | None:
        last = tries[-1]
        match last.outcome:
            case Outcome.OK:
                return None
            case Outcome.DENIED:
                return Park(Reason.DENIED, f"{last.says}; {BOTH_LIVE}")
            case Outcome.BROKEN:
                return Park(Reason.SINK_FAILED, f"{last.says}; {BOTH_LIVE}")
            case _:
                return self._again(step, tries)

    def _withdraw(self, step: Planned) -> Decision | None:
        """Delete the new key. Whether it is gone, the look after it tells; so a lost answer is sent again."""
        if self._blind():
            return None
        tries = self._now(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        match last.outcome:
            case Outcome.OK | Outcome.ALREADY_GONE:
                return None
            case Outcome.RETRY | Outcome.NOT_SENT | Outcome.LOST:
                return self._again(step, tries)
            case _:
                refused = self._refused(last)
                return Park(refused.reason, f"the old key is in place, and the new one lives on: {last.says}")

    def _gone(self, step: Planned) -> Decision | None:
        withdrawn = [record for record in self.records if record.purpose is Purpose.WITHDRAW]
        if not withdrawn or not self.facts.probe:
            return None
        looks = [look for look in self._now(step) if look.at >= withdrawn[-1].at]
        if not looks:
            return Do(step)
        last = looks[-1]
        match last.outcome:
            case Outcome.DEAD | Outcome.UNPROVABLE:
                return None
            case Outcome.ALIVE | Outcome.DISABLED if self._settling(withdrawn[-1].at):
                return self._look_again(step, last, SETTLING)
            case Outcome.ALIVE | Outcome.DISABLED:
                return Park(Reason.STILL_ALIVE, f"the old key is in place, and the new one still works: {last.says}")
            case _:
                return self._again(step, looks)

    def _blind(self) -> list[str]:
        """The sinks that cannot show what they hold, where nobody said that they are to be trusted."""
        if self.facts.trusts_sinks:
            return []
        steps = [step for step in self.plan.steps if step.purpose is Purpose.SEEN_BACK]
        blind = [step for step in steps if any(look.outcome is Outcome.UNPROVABLE for look in self._now(step)[-1:])]
        return [step.sink for step in blind if step.sink is not None]

    def _finish(self) -> Decision:
        blind = self._blind()
        if blind:
            says = f"{', '.join(blind)} cannot be read back; so the new key was not deleted"
            return Finish(Verdict.DELIVERED_UNCONFIRMED, f"the old key was put back; {says}")
        gone = [record for record in self.records if record.purpose is Purpose.GONE]
        rest = f"the new one is dead: {gone[-1].says}" if gone else "the new one was given up"
        return Finish(Verdict.ROLLED_BACK, f"every sink holds the old key again; {rest}")
