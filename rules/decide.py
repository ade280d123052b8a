"""(plan, what happened so far, now) → the next thing to do; doing it is `worker.engine`'s.

The whole policy of a job is here: what is asked first, what a lost answer means, how long something is tried, what
counts as proof, and when a person is needed. It keeps no state: the records come from the ledger, so a worker that
takes a job over decides exactly as the one before it would have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rules.course import SETTLING, Course
from rules.decide_rollback import decide_rollback
from rules.decide_rotation import decide_rotation
from rules.decision import (
    AGAIN,
    TELLING,
    Decision,
    Do,
    Expire,
    Facts,
    Finish,
    Park,
    Record,
    Wait,
    in_a_row,
)
from rules.lifecycle import Intent, Outcome, Reason, Verdict
from rules.plan import Plan, Planned, Purpose
from rules.units import SECOND

NO_WORD = "the rule's probe did not say alive, and has no word for dead"
ORDERED = frozenset({Purpose.BEFORE, Purpose.READ, Purpose.PAUSE, Purpose.ACT})
"""The steps that are taken in the order of the plan; the others are asked for when something calls for them."""
PROBE_TRIES = 3
"""How often a job of the intent `probe` asks before it ends as inconclusive."""


def decide(plan: Plan, records: Sequence[Record], facts: Facts, now: int) -> Decision:
    """Say what comes next. `records` are those of this drive, oldest first; `now` is in microseconds."""
    case = _Case(plan, records, facts, now)
    match plan.intent:
        case Intent.PROBE:
            return case.probe_only()
        case Intent.RESTORE:
            return case.restore()
        case Intent.ROTATE | Intent.ISSUE:
            return (decide_rollback if facts.goes_back else decide_rotation)(plan, records, facts, now)
        case Intent.RECHECK:
            return case.recheck()
        case _:
            return case.revoke()


class _Case(Course):
    """One look at a job that ends a credential, looks at it, or enables it again."""

    # ── the two plans ─────────────────────────────────────────────────────────────────────────────────────────────

    def probe_only(self) -> Decision:
        """Ask, and say what came."""
        step = self.plan.steps[0]
        tries = self._of(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        match last.outcome:
            case Outcome.DEAD if in_a_row(tries, {Outcome.DEAD}) < self.plan.samples:
                return self._look_again(step, last)
            case Outcome.ALIVE | Outcome.DEAD | Outcome.DISABLED:
                return Finish(Verdict(last.outcome.value), last.says)
            case Outcome.UNPROVABLE:
                return Finish(Verdict.UNPROVABLE, f"{last.says}; {NO_WORD}")
            case Outcome.NOT_OURS:
                return Park(Reason.NOT_OURS, last.says)
            case _ if len(tries) < PROBE_TRIES:
                return self._again(step, tries)
            case _:
                return Finish(Verdict.INCONCLUSIVE, last.says)

    def recheck(self) -> Decision:
        """Look whether what was ended has come back. A look that fails is repeated, and never read as dead."""
        if self.facts.expires_at is not None and self.facts.expires_at <= self.now:
            return Expire("the credential's own expiry has passed")
        if self.facts.forgotten:
            return Park(
                Reason.CAME_BACK,
                f"the provider has forgotten the revocation by now, and it was not repeated: {self.facts.forgotten}",
            )
        if not self.plan.steps or not self.facts.probe:
            return Finish(Verdict.UNPROVABLE, "nothing can ask whether it works, or nothing may")
        step = self.plan.steps[0]
        tries = self._of(step)
        return self._looked_at(step, tries) if tries else Do(step)

    def _looked_at(self, step: Planned, tries: Sequence[Record]) -> Decision:
        last = tries[-1]
        refused = {Outcome.DEAD, Outcome.DISABLED}
        match last.outcome:
            case Outcome.ALIVE:
                return Park(Reason.CAME_BACK, f"it works again: {last.says}")
            case Outcome.DEAD | Outcome.DISABLED if in_a_row(tries, refused) < self.plan.samples:
                return self._look_again(step, last)
            case Outcome.DEAD | Outcome.DISABLED if self.facts.returned:
                return Park(Reason.CAME_BACK, f"it does not work now, but it did in between: {last.says}")
            case Outcome.DEAD | Outcome.DISABLED:
                return Finish(Verdict(last.outcome.value), last.says)
            case Outcome.UNPROVABLE:
                return Finish(Verdict.UNPROVABLE, f"{last.says}; {NO_WORD}")
            case _:
                return self._again(step, tries)

    def revoke(self) -> Decision:
        """Probe, look up, act, prove: the first of them that is not settled decides."""
        if self.facts.refused is not None and not self._acts():
            return Park(*self.facts.refused)
        if self.facts.expires_at is not None and self.facts.expires_at <= self.now and not self._acts():
            return Expire("the credential's own expiry has passed")
        for step in self._running():
            settled = self._settle(step)
            if settled is not None:
                return settled
        return self._prove()

    def restore(self) -> Decision:
        """Look up, enable again, and prove that it works."""
        if self.facts.refused is not None and not self._acts():
            return Park(*self.facts.refused)
        for step in self._running():
            settled = self._settle(step)
            if settled is not None:
                return settled
        return self._prove_works()

    def _running(self) -> Iterator[Planned]:
        for step in self.plan.steps:
            if step.purpose in ORDERED and step.runs(self.names):
                yield step

    def _settle(self, step: Planned) -> Decision | None:
        if step.purpose is Purpose.BEFORE:
            return self._look_first(step)
        if step.purpose is Purpose.READ:
            return self._look_up(step)
        if step.purpose is Purpose.PAUSE:
            return self._pause(step)
        return self._act(step)

    def _pause(self, step: Planned) -> Decision | None:
        """Wait from when it was first reached, which the ledger knows: a worker that takes over waits no longer."""
        reached = self._of(step)
        if not reached:
            return Do(step)
        due = reached[0].at + int((step.pause or 0.0) * SECOND)
        return Wait(due, f"the rule waits here: {step.name}") if self.now < due else None

    # ── before ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _look_first(self, step: Planned) -> Decision | None:
        if not self.facts.probe:
            return None
        tries = self._of(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        match last.outcome:
            case Outcome.DISABLED:
                return self._found_disabled(last)
            case Outcome.DEAD:
                return self._found_dead(step, tries)
            case outcome if outcome is Outcome.ALIVE or step.disables:
                # Whether it is disabled already is good to know, and nothing hangs on it.
                return None
            case Outcome.UNPROVABLE:
                return self._found_silent(last)
            case Outcome.NOT_OURS:
                return Park(Reason.NOT_OURS, last.says)
            case _:
                return self._again(step, tries)

    def _found_disabled(self, look: Record) -> Decision | None:
        """Disabled before we did anything: that is the end where no step goes further."""
        if any(step.purpose is Purpose.ACT and not step.disables for step in self.plan.steps):
            return None
        return Finish(Verdict.DISABLED, f"it is disabled already; {look.says}")

    def _found_dead(self, step: Planned, looks: Sequence[Record]) -> Decision | None:
        """Dead at the first probe, or only disabled: where that can be seen, it is looked at."""
        if in_a_row(looks, {Outcome.DEAD}) < self.plan.samples:
            return self._look_again(step, looks[-1])
        look = self._look_step(Purpose.BEFORE, disables=True)
        seen = self._of(look) if look is not None and look.disables else []
        if look is not None and look.disables and not seen:
            return Do(look)
        if seen and seen[-1].outcome is Outcome.DISABLED:
            return self._found_disabled(seen[-1])
        return self._found_gone(looks[-1])

    def _found_gone(self, probe: Record) -> Decision:
        """Dead before we did anything is an ending only with evidence: the wrong region says 401 too."""
        if self.facts.acted:
            return Finish(Verdict.REVOKED, "dead, after a request of ours that was sent earlier in this job")
        if self.facts.known:
            return Finish(Verdict.ALREADY_REVOKED, "dead; our own ledger knew it before")
        step = next((s for s in self.plan.steps if s.purpose is Purpose.RECOGNISE and s.runs(self.names)), None)
        if step is None:
            return Park(Reason.NOT_RECOGNISED, f"{probe.says}; nothing here shows that this account ever knew it")
        tries = self._of(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        if last.outcome is Outcome.KNOWN:
            return Finish(Verdict.ALREADY_REVOKED, f"dead; {last.says}")
        if last.outcome in AGAIN | {Outcome.LOST}:
            return self._again(step, tries)
        return Park(Reason.NOT_RECOGNISED, f"{probe.says}; {last.says}")

    def _found_silent(self, probe: Record) -> Decision:
        """Neither alive nor provably dead at the first probe: nothing is sent on such an answer."""
        if self.facts.acted:
            says = "a request of ours was sent earlier in this job"
            return Finish(Verdict.ACKNOWLEDGED, f"{probe.says}; {NO_WORD}; {says}")
        return Park(
            Reason.NOT_RECOGNISED, f"{probe.says}; {NO_WORD}; nothing here shows that this account ever knew it"
        )

    # ── look up ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _look_up(self, step: Planned) -> Decision | None:
        tries = self._of(step)
        if not tries:
            return Do(step)
        last = tries[-1]
        match last.outcome:
            case Outcome.OK:
                return None
            case Outcome.NO_ROW | Outcome.AMBIGUOUS:
                return Park(Reason.NEEDS_SELECTION, last.says)
            case Outcome.ALREADY_GONE:
                return Park(Reason.NOT_RECOGNISED, last.says)
            case Outcome.RETRY | Outcome.NOT_SENT | Outcome.LOST:
                return self._again(step, tries)
            case _:
                return self._refused(last)

    # ── act ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _act(self, step: Planned) -> Decision | None:
        tries = self._of(step)
        if self.facts.unshown is not None and not self._acts():
            return Park(*self.facts.unshown)
        if not tries:
            return self._first_act(step)
        last = tries[-1]
        match last.outcome:
            case Outcome.OK | Outcome.ALREADY_GONE:
                return None
            case Outcome.LOST:
                return self._ask(step, tries)
            case Outcome.RETRY | Outcome.NOT_SENT:
                return self._again(step, tries)
            case _:
                return self._refused(last)

    def _first_act(self, step: Planned) -> Decision:
        # A person's pick is carried to the act by the step that selects; without one it would go unheard.
        picked = self.facts.picked and any(read.selects for read in self.plan.steps)
        if picked and not step.disables and self._disabled_at() is not None:
            return self._doubt_the_pick() or Do(step)
        if step.tied or self.facts.trusted or picked:
            return Do(step)
        return Park(
            Reason.NEEDS_SELECTION,
            f"the rule would act on what it finds first: nothing ties the step {step.name!r} to this credential",
        )

    def _ask(self, step: Planned, tries: Sequence[Record]) -> Decision | None:
        """An answer was lost: ask the provider what happened before deciding anything."""
        ask = self._look_step(Purpose.ASK, disables=step.disables) if self.facts.probe else None
        if ask is None:
            if step.repeatable:
                return self._again(step, tries)
            return Park(Reason.OUTCOME_UNKNOWN, f"the answer to {step.name!r} was lost, and nothing can be asked")
        answers = [record for record in self._of(ask) if record.at >= tries[-1].at]
        if not answers:
            return Do(ask)
        last = answers[-1]
        return self._answered(step, tries, last) if last.outcome in TELLING else self._again(ask, answers)

    def _answered(self, step: Planned, tries: Sequence[Record], last: Record) -> Decision | None:
        """The provider was asked after a lost answer, and says how the credential is."""
        if self.plan.intent is Intent.RESTORE and last.outcome is Outcome.ALIVE:
            return None
        if self.plan.intent is Intent.RESTORE:
            unknown = Park(Reason.OUTCOME_UNKNOWN, f"the answer to {step.name!r} was lost; {last.says}")
            return self._again(step, tries) if step.repeatable else unknown
        match last.outcome:
            case Outcome.DEAD if step.disables or not self._is_disabled():
                return None
            case Outcome.DISABLED if step.disables:
                return None
            case Outcome.ALIVE | Outcome.UNPROVABLE | Outcome.DEAD | Outcome.DISABLED if step.repeatable:
                return self._again(step, tries)
            case Outcome.DEAD | Outcome.DISABLED:
                return Park(
                    Reason.OUTCOME_UNKNOWN,
                    f"the answer to {step.name!r} was lost; it does not work, since it was disabled before",
                )
            case Outcome.UNPROVABLE:
                return Park(Reason.OUTCOME_UNKNOWN, f"the answer to {step.name!r} was lost; {last.says}; {NO_WORD}")
            case _:
                return Park(
                    Reason.OUTCOME_UNKNOWN,
                    f"the answer to {step.name!r} was lost, it still works, and the step must not be repeated blindly",
                )

    # ── prove ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _prove(self) -> Decision:
        acts = self._acts()
        if not acts:
            return Park(Reason.NEEDS_SELECTION, "nothing that was found is enough to act on")
        look = self._look_step(Purpose.AFTER, disables=self._ends_disabled())
        if look is None or not self.facts.probe:
            return Finish(Verdict.ACKNOWLEDGED, f"{acts[-1].says}; nothing can tell whether it is dead{self._lapse()}")
        looks = [record for record in self._of(look) if record.at >= acts[-1].at]
        if not looks:
            return Do(look)
        match looks[-1].outcome:
            case Outcome.DEAD:
                return self._dead_enough(look, looks)
            case Outcome.DISABLED if self._ends_disabled():
                return self._dead_enough(look, looks)
            case Outcome.ALIVE | Outcome.DISABLED:
                return self._still_alive(look, looks, acts[-1])
            case Outcome.UNPROVABLE:
                return self._still_silent(look, looks, acts[-1])
            case _:
                return self._again(look, looks)

    def _dead_enough(self, look: Planned, looks: Sequence[Record]) -> Decision:
        disabled = self._ends_disabled()
        if in_a_row(looks, {Outcome.DEAD, Outcome.DISABLED} if disabled else {Outcome.DEAD}) < self.plan.samples:
            return self._look_again(look, looks[-1])
        return Finish(Verdict.DISABLED if disabled else Verdict.REVOKED, looks[-1].says)

    def _still_alive(self, look: Planned, looks: Sequence[Record], act: Record) -> Decision:
        if self._settling(act.at):
            return self._look_again(look, looks[-1], SETTLING)
        if self.facts.picked and self._ends_disabled():
            return self._undo(f"the picked candidate was disabled, and ours still works: {looks[-1].says}")
        reason = Reason.WRONG_ONE if self.facts.picked else Reason.STILL_ALIVE
        return Park(reason, f"{act.name!r} was answered with yes, and the credential still works: {looks[-1].says}")

    def _still_silent(self, look: Planned, looks: Sequence[Record], act: Record) -> Decision:
        """The probe does not say alive any more and cannot say dead: while the provider may be settling, ask again."""
        if self._settling(act.at):
            return self._look_again(look, looks[-1], SETTLING)
        return Finish(Verdict.ACKNOWLEDGED, f"{act.says}; {looks[-1].says}; {NO_WORD}{self._lapse()}")

    def _prove_works(self) -> Decision:
        acts = self._acts()
        looks = [step for step in self.plan.steps if step.purpose is Purpose.AFTER and step.runs(self.names)]
        if not acts:
            return Park(Reason.NEEDS_SELECTION, "nothing that was found is enough to enable it again")
        if not looks or not self.facts.probe:
            return Finish(Verdict.ACKNOWLEDGED, f"{acts[-1].says}; nothing can tell whether it works again")
        # Whether it works is said best by what tries it; that it is listed as enabled is the second best.
        look = next((step for step in looks if not step.disables), looks[0])
        seen = [record for record in self._of(look) if record.at >= acts[-1].at]
        if not seen:
            return Do(look)
        last = seen[-1]
        if last.outcome is Outcome.ALIVE:
            return Finish(Verdict.RESTORED, last.says)
        if last.outcome not in TELLING:
            return self._again(look, seen)
        if self._settling(acts[-1].at):
            return self._look_again(look, last, SETTLING)
        return Park(
            Reason.PROVIDER_BROKEN, f"{acts[-1].name!r} was answered with yes, and it does not work: {last.says}"
        )

    # ── a picked candidate ────────────────────────────────────────────────────────────────────────────────────────

    def _doubt_the_pick(self) -> Decision | None:
        """What a person picked is disabled: only where ours is dead by now was it ours, and the next step is taken."""
        disabled_at = self._disabled_at() or 0
        look = self._look_step(Purpose.OURS)
        if look is None or not self.facts.probe:
            return self._undo("the picked candidate was disabled, and nothing can tell whether it was ours")
        looks = [record for record in self._of(look) if record.at >= disabled_at]
        if not looks:
            return Do(look)
        last = looks[-1]
        match last.outcome:
            case Outcome.DEAD | Outcome.DISABLED:
                if in_a_row(looks, {last.outcome}) >= self.plan.samples:
                    return None
                return self._look_again(look, last)
            case Outcome.ALIVE | Outcome.UNPROVABLE if self._settling(disabled_at):
                return self._look_again(look, last, SETTLING)
            case Outcome.ALIVE | Outcome.UNPROVABLE:
                return self._undo(f"the picked candidate was disabled, and ours is not dead: {last.says}")
            case _:
                return self._again(look, looks)

    def _undo(self, says: str) -> Decision:
        """It was not ours: enable it again, and leave the rest to a person."""
        steps = [step for step in self.plan.steps if step.purpose is Purpose.UNDO and step.runs(self.names)]
        for step in steps:
            tries = self._of(step)
            if not tries:
                return Do(step)
            last = tries[-1]
            if last.outcome in AGAIN or (last.outcome is Outcome.LOST and step.repeatable):
                return self._again(step, tries)
            if last.outcome is not Outcome.OK:
                return Park(Reason.WRONG_ONE, f"{says}; it may still be disabled: {last.says}")
        done = "it was enabled again" if steps else "the rule cannot enable it again, so it is still disabled"
        return Park(Reason.WRONG_ONE, f"{says}; {done}")

    def _disabled_at(self) -> int | None:
        """When the last step that only disables was taken."""
        return max((record.at for record in self._acts() if record.name in self._disabling()), default=None)

    # ── pieces ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _acts(self) -> list[Record]:
        return [r for r in self.records if r.purpose is Purpose.ACT]

    def _lapse(self) -> str:
        acted = {record.name for record in self._acts()}
        lapses = [s.lapses for s in self.plan.steps if s.name in acted and s.lapses is not None]
        return f"; the provider forgets it after {min(lapses) / 3600:g} hours" if lapses else ""

    def _look_step(self, purpose: Purpose, *, disables: bool = False) -> Planned | None:
        """The look that shows what is wanted; whether it works at all is asked where nothing shows "disabled"."""
        looks = [step for step in self.plan.steps if step.purpose is purpose and step.runs(self.names)]
        fitting = [step for step in looks if step.disables] if disables else []
        return next(iter([*fitting, *(step for step in looks if not step.disables)]), None)

    def _disabling(self) -> set[str]:
        return {step.name for step in self.plan.steps if step.purpose is Purpose.ACT and step.disables}

    def _is_disabled(self) -> bool:
        """Whether a step of ours disabled it, so that it does not work and yet is not gone."""
        return any(record.name in self._disabling() and record.outcome is Outcome.OK for record in self._acts())

    def _ends_disabled(self) -> bool:
        """Whether the last thing that was done to it can be undone."""
        acts = self._acts()
        return bool(acts) and acts[-1].name in self._disabling()

    def _at_once(self, step: Planned, tries: Sequence[Record]) -> bool:
        """A read whose answer was lost is sent again at once, for once."""
        return tries[-1].outcome is Outcome.LOST and step.purpose is not Purpose.ACT and len(tries) == 1
