"""One claimed job, opened: a dossier whose secrets come out of the safe, and whose every result goes into the ledger.

It records what a step came to; which step comes next is not its affair.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from rules.decision import Record
from rules.errors import RevoqError
from rules.lifecycle import Outcome, Reason, Stage
from rules.loader import LoadedRule
from rules.plan import MAKES_KEYS, TOKEN, Plan, Planned, Purpose
from rules.recheck import DONE
from rules.schema import Rotation
from rules.schema.rotation import JOB
from rules.secret import Secret
from worker.dossier import Dossier, NotReady, Terms
from worker.envelopes import EXTRACTED, TOKEN_KIND, open_row, owner_of, seal_row
from worker.errors import SafeError
from worker.ledger import moves, rechecks
from worker.ledger.rows import Claim, Job, SealedSecret, Staged, Step
from worker.runtime import Runtime
from worker.step import Result

LASTING = frozenset(
    {
        Purpose.READ,
        Purpose.LIST,
        Purpose.GENERATE,
        Purpose.ISSUE,
        Purpose.GRANT,
        Purpose.PROMOTE,
        Purpose.RELOAD,
        Purpose.PAUSE,
        Purpose.USED,
        Purpose.ACT,
    }
)
"""What an earlier drive of a rotation did once and for all."""


class Case(Dossier):
    """One claim of one job."""

    def __init__(self, runtime: Runtime, claim: Claim) -> None:
        """Take the tools; `open` does the work."""
        self._claim, self.job = claim, claim.job
        self.acted_by: set[str] = set()
        super().__init__(runtime, Plan.from_json(self.job.plan), self.job.connection, terms_of(self.job))
        self._found = claim.found
        self._known = asdict(self._found.credential)
        self.expires_at = self._found.credential.expires_at
        self._owner = owner_of(self.job.rule, self.job.connection, self._found.credential.fingerprint)

    def open(self) -> None:
        """Fetch rule, connection, secrets and history.

        Raises NotReady with what is to be done where one of them cannot be had, ExchangeError where the provider cannot
        be asked who we are.
        """
        loaded = self._fetch_rule()
        inputs = {name: str(value) for name, value in self.job.inputs.items()}
        self.begin(loaded, {**inputs, JOB: self.job.id}, self._open_secrets())
        self._read_history()

    def record(self, planned: Planned, number: int, result: Result) -> None:
        """Write down what a step came to, its secrets sealed in the same transaction, and go on knowing it.

        Where a key may have come or gone to a stage, that is at once; every other step shares the transaction of what
        is decided next, which is written before anything is sent.
        """
        database = self.runtime.database
        now = database.now()
        sealed = [
            seal_row(
                self.runtime.safe,
                secret,
                owner=self._owner,
                kind=f"{EXTRACTED}:{name}",
                now=now,
                shred_after=self.runtime.settings.shred_after,
            )
            for name, secret in result.secrets.items()
        ]
        self.learn(planned, result, now)
        self.expires_at = self.expiry() or self.expires_at
        told: dict[str, Any] = {
            "outcome": result.outcome,
            "says": result.says,
            "taken": {**dict(result.taken), **dict.fromkeys(result.secrets)},
            "evidence": result.evidence,
            "retry_after": result.retry_after,
            "credential": self._taught(result.outcome, now),
        }
        staged = self._staged(planned, result)
        if sealed or staged or self.plan.intent in MAKES_KEYS:
            moves.record(database, self._claim, number, **told, secrets=sealed, staged=staged)
        else:
            moves.note(database, self._claim, number, **told)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _fetch_rule(self) -> LoadedRule:
        try:
            loaded = self.runtime.catalogue.get(self.job.rule)
        except RevoqError as error:
            raise NotReady(Reason.PLAN_CHANGED, f"{error}; were the rules changed since the submission?") from None
        if loaded.digest != self.job.rule_digest:
            raise NotReady(Reason.PLAN_CHANGED, f"{loaded.file} was changed since the submission")
        return loaded

    def _open_secrets(self) -> dict[str, Secret]:
        """The job's secrets by the names that templates know them by."""
        now = self.runtime.database.now()
        found = {}
        try:
            for row in self._sealed():
                kind, _, name = row.kind.partition(":")
                secret = open_row(self.runtime.safe, row, owner=self._owner, now=now)
                found[TOKEN if kind == TOKEN_KIND else name] = secret
        except SafeError as error:
            raise NotReady(Reason.DENIED, str(error)) from None
        return found

    def _sealed(self) -> list[SealedSecret]:
        """What was sealed for this job; one that follows another opens what is kept of the credential."""
        if self.job.options.get("kept"):
            return rechecks.kept_secrets(self.runtime.database, self.job.credential)
        return self._found.secrets

    @property
    def first_seen(self) -> int:
        """When the ledger first heard of the credential."""
        return self._found.credential.first_seen

    def _read_history(self) -> None:
        job, credential = self.job, self._found.credential
        self.known = credential.was_alive_at(self.where)
        for step in self._found.steps:
            if step.outcome is None or step.ended_at is None:
                continue
            if step.drive == job.drive:
                self._recall(step, record_of(step))
                self.candidates = (step.evidence or {}).get("candidates", self.candidates)
            elif self.plan.intent in MAKES_KEYS:
                self._go_on(step)
            else:
                self._remember(step)

    def _recall(self, step: Step, record: Record) -> None:
        self.records.append(record)
        self._know(step)

    def _know(self, step: Step) -> None:
        self.values.update({name: value for name, value in (step.taken or {}).items() if value is not None})

    def _go_on(self, step: Step) -> None:
        """A rotation goes on where it stood: what was done counts, while looks, tests and sinks are asked again."""
        if step.purpose in LASTING and step.outcome in {Outcome.OK, Outcome.ALREADY_GONE, Outcome.LOST}:
            self._recall(step, replace(record_of(step), earlier=True))
        elif step.purpose == Purpose.PREFLIGHT and step.outcome is Outcome.OK:
            # Which key a sink held then is known, though what it holds now is asked again.
            self._know(step)

    def _remember(self, step: Step) -> None:
        """Of an earlier drive, only what is evidence still counts: that it was alive, and that we acted."""
        self.known |= step.outcome is Outcome.ALIVE
        awaited = self.job.options.get("watched") == self.job.drive
        self.returned |= awaited and step.outcome is Outcome.ALIVE
        if step.purpose == Purpose.ACT and step.outcome in DONE:
            self.acted_by.add(step.name)
        self.acted |= step.purpose == Purpose.ACT and step.outcome not in {Outcome.NOT_SENT, Outcome.RETRY}

    def _told(self, outcome: Outcome, now: int) -> dict[str, Any]:
        """What a step tells about the credential itself; in a rotation that is the target, and no look is at it."""
        who = self.who()
        told: dict[str, Any] = {"provider_id": who.id, "subject": who.subject, "expires_at": self.expiry()}
        if self.plan.intent in MAKES_KEYS:
            return {name: value for name, value in told.items() if value is not None}
        if outcome is Outcome.ALIVE:
            told |= {"alive_at": now, "alive_where": self.where}
        told["dead_at"] = now if outcome is Outcome.DEAD else None
        return {name: value for name, value in told.items() if value is not None}

    def _taught(self, outcome: Outcome, now: int) -> dict[str, Any]:
        """The same, without what the ledger has by now."""
        told = self._told(outcome, now)
        new = {name: value for name, value in told.items() if self._known.get(name) != value}
        self._known |= new
        return new

    def _staged(self, planned: Planned, result: Result) -> list[Staged]:
        """The keys of the target that come to a stage by this step."""
        rotation = self.rule.rotation
        if rotation is None or self.plan.intent not in MAKES_KEYS:
            return []
        new, old = self.values.get(rotation.key), self.values.get(rotation.old)
        stages: list[tuple[str | Secret | None, Stage]] = []
        match planned.purpose, result.outcome:
            case ((Purpose.ISSUE | Purpose.GENERATE), Outcome.OK):
                stages = [(new, Stage.PENDING)]
            case Purpose.PREFLIGHT, Outcome.OK if rotation.old in result.secrets:
                stages = [(old, Stage.CURRENT)]
            case Purpose.PROMOTE, Outcome.OK:
                stages = [(old, Stage.PREVIOUS), (new, Stage.CURRENT)]
            case Purpose.DEMOTE, Outcome.OK:
                stages = [(new, Stage.PREVIOUS), (old, Stage.CURRENT)]
            case Purpose.GONE, Outcome.DEAD:
                stages = [(new, Stage.RETIRED)]
            case Purpose.AFTER, Outcome.DEAD:
                stages = [(old, Stage.RETIRED)]
            case Purpose.AFTER, Outcome.ALIVE:
                stages = [(old, Stage.PREVIOUS)]
        return [self._key(key, stage, rotation) for key, stage in stages if isinstance(key, Secret)]

    def _key(self, key: Secret, stage: Stage, rotation: Rotation) -> Staged:
        safe = self.runtime.safe
        identifier = self._text(rotation.id) if key is self.values.get(rotation.key) else self.who().id
        return Staged(safe.fingerprint(key), safe.fingerprint_key, stage, identifier, self.who().subject)


def terms_of(job: Job) -> Terms:
    """The options of a job, as they were kept."""
    options = job.options
    return Terms(
        probe=bool(options.get("probe", True)),
        finding=bool(options.get("finding")),
        picked=options.get("picked"),
        forgotten=str(options.get("forgotten", "")),
        goes_back=bool(options.get(moves.BACK)),
        moved=str(options.get("moved", "")),
        forced=Reason(options["forced"]) if "forced" in options else None,
    )


def record_of(step: Step) -> Record:
    """A step's row as `decide` wants it; the row has an outcome and an end."""
    if step.outcome is None or step.ended_at is None:
        raise ValueError(f"step {step.number} has not ended")
    return Record(
        name=step.name,
        purpose=Purpose(step.purpose),
        outcome=step.outcome,
        at=step.ended_at,
        retry_after=step.retry_after,
        says=step.says or "",
        taken=frozenset(step.taken or {}),
    )
