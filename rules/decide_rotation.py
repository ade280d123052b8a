"""(plan, what happened so far, now) → the next thing to do for a rotation or an issue; `rules.decide` has the rest.

The order of a rotation is its safety: nothing is issued before every sink was found ready, nothing is retired before
the new key was delivered, read back and seen to work, and a lost answer to the issuing is resolved by asking. What
cannot be resolved parks with the sentence that a person needs; the new key stays sealed, and driving the job again
goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rules.course import SETTLING, Course
from rules.decision import AGAIN, TELLING, Decision, Do, Facts, Finish, Park, Record, Wait, in_a_row
from rules.lifecycle import Intent, Outcome, Reason, Verdict
from rules.plan import Plan, Planned, Purpose
from rules.units import SECOND

NOT_TOUCHED = "the old key was not touched"
LOOKED_FOR = 2
"""How often a list must show no new key before one whose answer was lost counts as never made."""


def decide_rotation(plan: Plan, records: Sequence[Record], facts: Facts, now: int) -> Decision:
    """Say what comes next. `records` are oldest first, those of earlier drives that still count among them."""
    return Rotating(plan, records, facts, now).decide()


class Rotating(Course):
    """One look at one rotation.

    Its way back (`rules.decide_rollback`) is told by the same pieces.
    """

    def decide(self) -> Decision:
        """A guard speaks first, then the steps, and then what a late request may have left behind."""
        if self.facts.refused is not None and not self._issued():
            return Park(*self.facts.refused)
        return self._take_steps() or self._left_behind() or self._finish()

    def _take_steps(self) -> Decision | None:
        """Take the steps in their order; the first that is not settled decides."""
        settlers = self._settlers()
        for step in self.plan.steps:
            settle = settlers.get(step.purpose)
            decision = settle(step) if settle is not None and step.runs(self.names) else None
            if decision is not None:
                return decision
        return None

    def _settlers(self) -> dict[Purpose, Callable[[Planned], Decision | None]]:
        return {
            Purpose.READ: self._read,
            Purpose.PREFLIGHT: self._preflight,
            Purpose.VACANT: self._preflight,
            Purpose.BEFORE: self._old,
            Purpose.LIST: self._read,
            Purpose.GENERATE: self._mark,
            Purpose.ISSUE: self._issue,
            Purpose.GRANT: self._grant,
            Purpose.TEST: self._test,
            Purpose.DELIVER: self._deliver,
            Purpose.READ_BACK: self._read_back,
            Purpose.RELOAD: self._reload,
            Purpose.PROMOTE: self._mark,
            Purpose.PAUSE: self._grace,
            Purpose.USED: self._used,
            Purpose.ACT: self._retire,
            Purpose.AFTER: self._prove,
        }

    # ── before anything changes ───────────────────────────────────────────────────────────────────────────────────

    def _read(self, step: Planned) -> Decision | None:
        """Read the target, or what exists. No row means that the target is not what was asked for.

        As long as no new key is known, each drive reads the target anew: a request whose answer was lost, or a person,
        may have changed it. What existed before that request is kept: by it a key that nobody holds is told.
        """
        tries = self._of(step) if step.purpose is Purpose.LIST or self._last_issue() is not None else self._now(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        match last.outcome:
            case Outcome.OK:
                return None
            case Outcome.NO_ROW | Outcome.ALREADY_GONE:
                return Park(Reason.NOT_RECOGNISED, f"{step.name!r} did not find what was asked for: {last.says}")
            case Outcome.AMBIGUOUS:
                return Park(Reason.NEEDS_SELECTION, last.says)
            case Outcome.RETRY | Outcome.NOT_SENT | Outcome.LOST:
                return self._again(step, tries)
            case _:
                refused = self._refused(last)
                return Park(refused.reason, f"{last.says}{self._before_issue()}")

    def _preflight(self, step: Planned) -> Decision | None:
        """Look at a sink: where nothing overlaps, one that is not ready would be an outage."""
        tries = self._now(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        match last.outcome:
            case Outcome.OK:
                return None
            # Empty, or it cannot be read: what its consumer uses cannot be told.
            case Outcome.NO_ROW | Outcome.UNPROVABLE if self._may_be_blind(last):
                return None
            case Outcome.DENIED:
                return Park(Reason.DENIED, f"{last.says}{self._before_issue()}")
            case Outcome.BROKEN | Outcome.NO_ROW | Outcome.UNPROVABLE:
                return Park(Reason.SINK_FAILED, f"{last.says}{self._before_issue()}")
            case _:
                return self._again(step, tries)

    def _may_be_blind(self, look: Record) -> bool:
        """Whether a sink that shows no key is good enough: where the old key lives on, or a person says so."""
        return self.plan.overlap or self._issued() or (look.outcome is Outcome.UNPROVABLE and self.facts.trusts_sinks)

    def _old(self, step: Planned) -> Decision | None:
        """Whether the old key works; dead is no obstacle, since a new one is then wanted all the more."""
        if not self.facts.probe or self._issued():
            return None
        tries = self._now(step)
        if not tries:
            return Do(step)
        return None if tries[-1].outcome in TELLING else self._again(step, tries)

    # ── the new key ───────────────────────────────────────────────────────────────────────────────────────────────

    def _issue(self, step: Planned) -> Decision | None:
        tries = self._of(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        match last.outcome:
            case Outcome.OK:
                return None
            case Outcome.RETRY | Outcome.NOT_SENT:
                return self._again(step, tries)
            case Outcome.LOST:
                return self._resolve(step, tries)
            case Outcome.BROKEN if not self.plan.overlap:
                return self._ask_broken(last)
            case _:
                return self._not_issued(last, NOT_TOUCHED)

    def _not_issued(self, last: Record, old: str) -> Decision:
        refused = self._refused(last)
        return Park(refused.reason, f"no new key was issued: {last.says}; {old}")

    def _ask_broken(self, last: Record) -> Decision:
        """An answer that the rule does not know, where there is one key only: ask whether the old one still works."""
        ask = self._one(Purpose.ASK) if self.facts.probe else None
        if ask is None:
            return self._not_issued(last, "whether the old key still works, nothing can tell")
        answers = [record for record in self._of(ask) if record.at >= last.at]
        if not answers:
            return Do(ask)
        match answers[-1].outcome:
            case Outcome.ALIVE:
                return self._not_issued(last, "the old key still works")
            case Outcome.DEAD:
                says = f"the old key is dead, and the new one was lost: {last.says}"
                return Park(Reason.OUTCOME_UNKNOWN, f"{says}; retry issues another one at once")
            case Outcome.UNPROVABLE | Outcome.DISABLED:
                return self._not_issued(last, answers[-1].says)
            case _:
                return self._again(ask, answers)

    def _resolve(self, step: Planned, tries: Sequence[Record]) -> Decision:
        """The answer to the issuing was lost, and a new key with it, if one was made: ask the provider."""
        find = self._one(Purpose.FIND)
        found = self._find(find, tries[-1].at) if find is not None else None
        if found is not None:
            return found
        if tries[-1].earlier:
            return Do(step)  # A person looked at the provider meanwhile, and drove the job again.
        if find is not None:
            return self._again(step, tries)
        if not step.repeatable:
            says = f"the answer to {step.name!r} was lost, and the provider punishes a repetition"
            return Park(Reason.OUTCOME_UNKNOWN, f"{says}; look whether the old key still works, and issue by hand")
        if self.plan.intent is Intent.ISSUE:
            return self._again(step, tries)  # There is no old key that somebody is known to use.
        return self._ask_old(step, tries)

    def _find(self, find: Planned, since: int) -> Decision | None:
        """List again: exactly one new row that nobody holds is deleted, and seen to be gone. None: nothing is left."""
        looks = [look for look in self._now(find) if look.at >= since]
        if not looks:
            return Do(find)
        last = looks[-1]
        match last.outcome:
            case Outcome.NO_ROW:
                if in_a_row(looks, {Outcome.NO_ROW}) < LOOKED_FOR:
                    return self._look_again(find, last, "a key may yet appear")
                return None
            case Outcome.OK:
                return self._discard(find, looks)
            case Outcome.AMBIGUOUS:
                says = f"an answer was lost, and which of the new keys nobody holds cannot be told: {last.says}"
                return Park(Reason.OUTCOME_UNKNOWN, says)
            case Outcome.RETRY | Outcome.NOT_SENT | Outcome.LOST | Outcome.INCONCLUSIVE:
                return self._again(find, looks)
            case _:
                return self._refused(last)

    def _discard(self, find: Planned, looks: Sequence[Record]) -> Decision:
        """Delete the key that nobody holds. Whether it is gone, the list tells; so a lost answer is no obstacle.

        A list may go on showing it for a while, so it is not asked again at once for ever.
        """
        found = looks[-1]
        step = self._one(Purpose.DISCARD)
        if step is None:
            return Park(Reason.OUTCOME_UNKNOWN, f"a key that nobody holds was made: {found.says}; delete it by hand")
        tries = [record for record in self._of(step) if record.at >= found.at]
        if not tries:
            return Do(step)
        last = tries[-1]
        if last.outcome in AGAIN:
            return self._again(step, tries)
        if last.outcome in {Outcome.OK, Outcome.ALREADY_GONE, Outcome.LOST}:
            return self._again(find, looks) if len(looks) > 1 else Do(find)
        refused = self._refused(last)
        return Park(refused.reason, f"a key that nobody holds lives on: {last.says}; delete it by hand, then retry")

    def _ask_old(self, step: Planned, tries: Sequence[Record]) -> Decision:
        """Where there is one key only: the old one alive means that nothing was done; dead, that a new one is lost."""
        ask = self._one(Purpose.ASK) if self.facts.probe else None
        if ask is None:
            says = f"the answer to {step.name!r} was lost, and nothing can tell whether the old key still works"
            return Park(Reason.OUTCOME_UNKNOWN, f"{says}; look at the provider, then retry")
        answers = [record for record in self._of(ask) if record.at >= tries[-1].at]
        if not answers:
            return Do(ask)
        last = answers[-1]
        if last.outcome is Outcome.DEAD:
            return Do(step)
        if last.outcome is Outcome.ALIVE:
            return self._again(step, tries)
        if last.outcome in {Outcome.UNPROVABLE, Outcome.DISABLED}:
            return Park(Reason.OUTCOME_UNKNOWN, f"the answer to {step.name!r} was lost; {last.says}")
        return self._again(ask, answers)

    def _grant(self, step: Planned) -> Decision | None:
        """What the old key may do, the new one is given; a lost answer is sent again only where that is sound."""
        tries = self._of(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        match last.outcome:
            case Outcome.OK | Outcome.ALREADY_GONE:
                return None
            case Outcome.RETRY | Outcome.NOT_SENT:
                return self._again(step, tries)
            case Outcome.LOST if step.repeatable:
                return self._again(step, tries)
            case Outcome.LOST:
                return Park(Reason.OUTCOME_UNKNOWN, f"the answer to {step.name!r} was lost: {last.says}")
            case _:
                refused = self._refused(last)
                return Park(refused.reason, f"the new key is sealed and not delivered: {last.says}; {NOT_TOUCHED}")

    def _test(self, step: Planned) -> Decision | None:
        """The new key has to work, on the path that its consumer uses, before anybody is told of it."""
        issued = self._last_issue()
        looks = [look for look in self._now(step) if issued is None or look.at >= issued.at]
        if not looks:
            return Do(step)
        if any(look.outcome is Outcome.ALIVE for look in looks):
            return None
        last = looks[-1]
        match last.outcome:
            case Outcome.DEAD | Outcome.UNPROVABLE | Outcome.DISABLED:
                began = looks[0].at if issued is None else max(issued.at, looks[0].at)
                if self._settling(began):
                    return self._look_again(step, last, "the new key may be settling")
                return Park(Reason.PROVIDER_BROKEN, f"the new key does not work: {last.says}; {self._still_sealed()}")
            case _:
                return self._again(step, looks)

    # ── the sinks ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _deliver(self, step: Planned) -> Decision | None:
        tries = self._now(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        match last.outcome:
            case Outcome.OK:
                return None
            case Outcome.LOST:
                return self._delivered(step, tries)
            case Outcome.DENIED:
                return Park(Reason.DENIED, f"{last.says}; {self._still_sealed()}")
            case Outcome.BROKEN:
                return Park(Reason.SINK_FAILED, f"{last.says}; {self._still_sealed()}")
            case _:
                return self._again(step, tries)

    def _delivered(self, step: Planned, tries: Sequence[Record]) -> Decision | None:
        """The answer to a delivery was lost: what the sink holds tells. Delivering twice the same is once."""
        back = next((s for s in self.plan.steps if s.purpose is Purpose.READ_BACK and s.sink == step.sink), None)
        looks = [] if back is None else [look for look in self._now(back) if look.at >= tries[-1].at]
        if back is not None and not looks:
            return Do(back)
        if looks and looks[-1].outcome is Outcome.OK:
            return None
        return self._again(step, tries)

    def _read_back(self, step: Planned) -> Decision | None:
        delivered = [r for r in self.records if r.purpose is Purpose.DELIVER and r.name == f"deliver to {step.sink}"]
        looks = [look for look in self._now(step) if not delivered or look.at >= delivered[-1].at]
        if not looks:
            return Do(step)
        last = looks[-1]
        match last.outcome:
            case Outcome.OK | Outcome.UNPROVABLE:
                return None
            case Outcome.NO_ROW | Outcome.BROKEN if not self._settling(looks[0].at):
                return Park(Reason.SINK_FAILED, f"{last.says}; {self._still_sealed()}")
            case Outcome.DENIED:
                return Park(Reason.DENIED, f"{last.says}; {self._still_sealed()}")
            case _:
                return self._again(step, looks)

    def _reload(self, step: Planned) -> Decision | None:
        """The consumer is told. A hook may be called twice, so a lost answer is asked for again."""
        tries = self._of(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        match last.outcome:
            case Outcome.OK:
                return None
            case Outcome.DENIED | Outcome.BROKEN:
                says = "the new key is delivered, and its consumer may not have taken it up"
                return Park(Reason.SINK_FAILED, f"{says}: {last.says}")
            case _:
                return self._again(step, tries)

    # ── the old key ───────────────────────────────────────────────────────────────────────────────────────────────

    def _mark(self, step: Planned) -> Decision | None:
        """What only the ledger has to know, or what is made here; it was done where it was written down."""
        return None if any(record.outcome is Outcome.OK for record in self._of(step)) else Do(step)

    def _grace(self, step: Planned) -> Decision | None:
        reached = self._of(step)
        if not reached:
            return Do(step)
        due = reached[0].at + int((step.pause or 0.0) * SECOND)
        return Wait(due, "grace period: both keys work") if self.now < due else None

    def _used(self, step: Planned) -> Decision | None:
        """Nobody may have used the old key since the new one took its place, or since a person last looked."""
        if self._unconfirmed():
            return None
        tries = self._now(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        if last.outcome is not Outcome.OK:
            gone = last.outcome in {Outcome.NO_ROW, Outcome.ALREADY_GONE}
            return None if gone else self._refused_or_again(step, tries)
        promoted = next((r.at for r in reversed(self.records) if r.purpose is Purpose.PROMOTE), 0)
        since = max([promoted, *(r.at for r in self._of(step) if r.earlier)])
        if self.facts.used_at is not None and self.facts.used_at > since:
            return Park(Reason.STILL_IN_USE, f"{last.says}: the old key was used after the new one took its place")
        return None

    def _retire(self, step: Planned) -> Decision | None:
        if self._unconfirmed():
            return None
        tries = self._of(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        match last.outcome:
            case Outcome.OK | Outcome.ALREADY_GONE:
                return None
            case Outcome.RETRY | Outcome.NOT_SENT:
                return self._again(step, tries)
            case Outcome.LOST:
                return self._ask_retired(step, tries)
            case _:
                refused = self._refused(last)
                return Park(refused.reason, f"the new key is in place, and the old one lives on: {last.says}")

    def _ask_retired(self, step: Planned, tries: Sequence[Record]) -> Decision | None:
        ask = self._one(Purpose.ASK) if self.facts.probe else None
        answers = [] if ask is None else [record for record in self._of(ask) if record.at >= tries[-1].at]
        if ask is not None and not answers:
            return Do(ask)
        if ask is not None and answers[-1].outcome not in TELLING:
            return self._again(ask, answers)
        # A key that was only disabled before is as dead as one that is deleted.
        disabled = any(
            s.disables and s is not step and self._of(s) for s in self.plan.steps if s.purpose is Purpose.ACT
        )
        if answers and answers[-1].outcome is Outcome.DEAD and not disabled:
            return None
        if step.repeatable:
            return self._again(step, tries)
        return Park(Reason.OUTCOME_UNKNOWN, f"the new key is in place, and the answer to {step.name!r} was lost")

    def _prove(self, step: Planned) -> Decision | None:
        """The old key has to be dead: by the retiring, or where there is no overlap, by the issuing."""
        ended = self._ended()
        if ended is None or not self.facts.probe or self._unconfirmed():
            return None
        looks = [look for look in self._now(step) if look.at >= ended.at]
        if not looks:
            return Do(step)
        last = looks[-1]
        match last.outcome:
            case Outcome.DEAD:
                if in_a_row(looks, {Outcome.DEAD}) < self.plan.samples:
                    return self._look_again(step, last)
                return None
            case Outcome.ALIVE | Outcome.DISABLED if self._settling(ended.at):
                return self._look_again(step, last, SETTLING)
            case Outcome.ALIVE | Outcome.DISABLED:
                return Park(Reason.STILL_ALIVE, f"the new key is in place, and the old one still works: {last.says}")
            case Outcome.UNPROVABLE:
                return None
            case _:
                return self._again(step, looks)

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _left_behind(self) -> Decision | None:
        """Where an answer was lost, a late request may have made one more key: look again, and try ours again."""
        lost = [r for r in self.records if r.purpose is Purpose.ISSUE and r.outcome is Outcome.LOST]
        issued = self._last_issue()
        if not lost or issued is None:
            return None
        find, test = self._one(Purpose.FIND), self._one(Purpose.TEST)
        if find is not None:
            decision = self._find(find, issued.at)
            if decision is not None:
                return decision
        if test is None:
            return None
        # The last test must come after everything else that was done: a late request may kill what is in place.
        after = {Purpose.PROMOTE, Purpose.ACT, Purpose.FIND}
        ended = max((record.at for record in self.records if record.purpose in after), default=0)
        looks = [look for look in self._now(test) if look.at >= ended]
        if not looks:
            return Do(test)
        if looks[-1].outcome is Outcome.ALIVE:
            return None
        if looks[-1].outcome is Outcome.DEAD:
            return Park(Reason.OUTCOME_UNKNOWN, f"the key that was delivered does not work any more: {looks[-1].says}")
        return self._again(test, looks)

    def _finish(self) -> Decision:
        if self._unconfirmed():
            sinks = ", ".join(sorted(self._silent()))
            kept = "" if self.plan.intent is Intent.ISSUE else "; so the old key was not retired"
            return Finish(Verdict.DELIVERED_UNCONFIRMED, f"{sinks} cannot be read back{kept}")
        if self.plan.intent is Intent.ISSUE:
            return Finish(Verdict.ISSUED, "the new key works, and every sink was read back")
        return Finish(Verdict.ROTATED, f"the new key works, and every sink was read back; {self._of_the_old()}")

    def _of_the_old(self) -> str:
        looks = [r for r in self.records if r.purpose is Purpose.AFTER]
        if looks and looks[-1].outcome is Outcome.DEAD:
            return f"the old one is dead: {looks[-1].says}"
        acts = [r for r in self.records if r.purpose is Purpose.ACT]
        if acts:
            return f"the old one: {acts[-1].says}, and nothing can tell whether it is dead"
        return "nothing here retires the old one" if self._ended() is None else "the old one was replaced"

    # ── pieces ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _now(self, step: Planned) -> list[Record]:
        """What came of a step in this drive alone: a look is not remembered."""
        return [record for record in self._of(step) if not record.earlier]

    def _one(self, purpose: Purpose) -> Planned | None:
        return next((s for s in self.plan.steps if s.purpose is purpose and s.runs(self.names)), None)

    def _issued(self) -> bool:
        return any(record.purpose is Purpose.ISSUE for record in self.records)

    def _last_issue(self) -> Record | None:
        made = [r for r in self.records if r.purpose in {Purpose.ISSUE, Purpose.GENERATE} and r.outcome is Outcome.OK]
        return made[-1] if made else None

    def _ended(self) -> Record | None:
        """What should have ended the old key: the retiring, or without overlap the issuing."""
        acts = [r for r in self.records if r.purpose is Purpose.ACT]
        if acts:
            return acts[-1]
        return None if self.plan.overlap else self._last_issue()

    def _silent(self) -> Iterator[str]:
        for step in self.plan.steps:
            if step.purpose is Purpose.READ_BACK and step.sink is not None:
                looks = self._now(step)
                if looks and looks[-1].outcome is Outcome.UNPROVABLE:
                    yield step.sink

    def _unconfirmed(self) -> bool:
        return not self.facts.trusts_sinks and any(self._silent())

    def _before_issue(self) -> str:
        if self._last_issue() is not None:
            return f"; {self._still_sealed()}"
        if self._issued():
            return "; a new key was asked for, and it is not known whether one was made"
        return f"; nothing was issued, and {NOT_TOUCHED}"

    def _still_sealed(self) -> str:
        if self.plan.overlap:
            return f"the new key is sealed here, and {NOT_TOUCHED}; mend it, and retry goes on from there"
        return "the new key is sealed here and the old one is dead: mend it at once, and retry goes on from there"

    def _refused_or_again(self, step: Planned, tries: Sequence[Record]) -> Decision:
        if tries[-1].outcome in AGAIN | {Outcome.LOST, Outcome.INCONCLUSIVE}:
            return self._again(step, tries)
        return self._refused(tries[-1])
