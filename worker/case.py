"""One claimed job, opened: its rule, its connection, its secrets and what happened so far, as `rules.decide` wants it.

It records what a step came to; which step comes next is not its affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from rules.decide import Decision, Facts, Park, Record
from rules.errors import BadInput, RevoqError
from rules.guard import Guards, Who, refuse
from rules.lifecycle import Outcome, Reason
from rules.loader import LoadedRule
from rules.pattern import match_secret
from rules.plan import ACTOR, TOKEN, Plan, Planned, Purpose
from rules.schema import Rule
from rules.secret import Secret
from worker.connections import Account
from worker.envelopes import EXTRACTED, TOKEN_KIND, open_row, owner_of, seal_row
from worker.errors import ConnectionUnusable, SafeError, UnknownConnection
from worker.ledger import moves, reads
from worker.ledger.rows import Claim, Step
from worker.log import redacting
from worker.runtime import Runtime
from worker.steps.http import Choosing
from worker.steps.result import Result


class NotReady(RevoqError):
    """The job cannot be worked on here; `decision` says what is to be done with it instead."""

    def __init__(self, reason: Reason, says: str) -> None:
        """Make the decision out of the reason."""
        self.decision: Decision = Park(reason, says)
        super().__init__(says)


class Case:
    """One claim of one job. `values` are the names that templates may use; it holds secrets until `forget`."""

    def __init__(self, runtime: Runtime, claim: Claim) -> None:
        """Take the tools; `open` does the work."""
        self._runtime, self._claim, self._job = runtime, claim, claim.job
        self._redactions = ExitStack()
        self.plan = Plan.from_json(self._job.plan)
        self.values: dict[str, str | Secret] = {}
        self.bases: dict[str, str] = {}
        self.records: list[Record] = []
        self.candidates: Sequence[Mapping[str, Any]] | None = None
        self._acted_before = False
        self._known_before = False
        self._guards = Guards()
        self._credential = reads.credential(runtime.database, self._job.credential)
        self._owner = owner_of(self._job.rule, self._job.connection, self._credential.fingerprint)

    def open(self) -> None:
        """Fetch rule, connection, secrets and history.

        Raises NotReady with what is to be done where one of them cannot be had, ExchangeError where the provider cannot
        be asked who we are.
        """
        self._loaded = self._fetch_rule()
        try:
            self.account: Account = self._runtime.connections.account(self._job.connection, self._loaded)
            inputs = {name: str(value) for name, value in self._job.inputs.items()}
            self.bases = self.account.bases(self._loaded, inputs)
            self.values.update({name: value for name, value in inputs.items() if name not in self.bases})
            self._open_secrets()
            self._guards = self.account.guards()
        except (UnknownConnection, ConnectionUnusable, SafeError) as error:
            raise NotReady(Reason.DENIED, str(error)) from None
        self._read_history()

    def forget(self) -> None:
        """Let go of every secret; the logs need not look for them any more."""
        self.values.clear()
        self._redactions.close()

    @property
    def rule(self) -> Rule:
        """The rule that the plan was made from."""
        return self._loaded.rule

    @property
    def choosing(self) -> Choosing:
        """How this job may single a row out."""
        return Choosing(frozenset(self.plan.tied), self._job.options.get("picked"), self._trusted)

    def facts(self, chance: float) -> Facts:
        """Everything beside the records that a decision needs."""
        signs = {ACTOR} if self.account.signs else set[str]()
        return Facts(
            given=frozenset(self.values) | frozenset(self.bases) | signs,
            retry_for=self._runtime.settings.retry_for,
            chance=chance,
            refused=self._refusal(),
            known=self._known_before,
            acted=self._acted_before,
            picked=self._job.options.get("picked") is not None,
            trusted=self._trusted,
            probe=bool(self._job.options.get("probe", True)) and not self.account.never_probe,
            expires_at=self._credential.expires_at,
        )

    def record(self, planned: Planned, number: int, result: Result) -> None:
        """Write down what a step came to, its secrets sealed in the same transaction, and go on knowing it."""
        database = self._runtime.database
        now = database.now()
        sealed = [
            seal_row(
                self._runtime.safe,
                secret,
                owner=self._owner,
                kind=f"{EXTRACTED}:{name}",
                now=now,
                shred_after=self._runtime.settings.shred_after,
            )
            for name, secret in result.secrets.items()
        ]
        self._learn(result)
        taken = {**dict(result.taken), **dict.fromkeys(result.secrets)}
        moves.record(
            database,
            self._claim,
            number,
            outcome=result.outcome,
            says=result.says,
            taken=taken,
            evidence=result.evidence,
            retry_after=result.retry_after,
            credential=self._told(result.outcome, now),
            secrets=sealed,
        )
        self.records.append(
            Record(
                planned.name, planned.purpose, result.outcome, now, result.retry_after, result.says, frozenset(taken)
            )
        )

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _fetch_rule(self) -> LoadedRule:
        try:
            loaded = self._runtime.catalogue.get(self._job.rule)
        except RevoqError as error:
            raise NotReady(Reason.PLAN_CHANGED, f"{error}; were the rules changed since the submission?") from None
        if loaded.digest != self._job.rule_digest:
            raise NotReady(Reason.PLAN_CHANGED, f"{loaded.file} was changed since the submission")
        return loaded

    def _open_secrets(self) -> None:
        now = self._runtime.database.now()
        for row in reads.secrets_of(self._runtime.database, self._job.id):
            kind, _, name = row.kind.partition(":")
            secret = open_row(self._runtime.safe, row, owner=self._owner, now=now)
            self._know(TOKEN if kind == TOKEN_KIND else name, secret)

    def _know(self, name: str, secret: Secret) -> None:
        """Keep a secret for templates and out of the logs; the credential also tells the groups of its pattern."""
        self._redactions.enter_context(redacting(secret))
        self.values[name] = secret
        if name == TOKEN:
            # One that came out of a row may look unlike those that people hand in; it is used as it is.
            with suppress(BadInput):
                self.values.update(token_values(self._loaded.rule, secret))

    def _learn(self, result: Result) -> None:
        self.values.update(result.taken)
        for name, secret in result.secrets.items():
            self._know(name, secret)
        self.candidates = result.evidence.get("candidates", self.candidates)

    def _read_history(self) -> None:
        database, job = self._runtime.database, self._job
        self._known_before = reads.known(database, job.credential, self._where)
        for step in reads.steps(database, job.id):
            if step.outcome is None or step.ended_at is None:
                continue
            if step.drive != job.drive:
                self._remember(step)
                continue
            self.records.append(record_of(step))
            self.values.update({name: value for name, value in (step.taken or {}).items() if value is not None})
            self.candidates = (step.evidence or {}).get("candidates", self.candidates)

    def _remember(self, step: Step) -> None:
        """Of an earlier drive, only what is evidence still counts: that it was alive, and that we acted."""
        self._known_before |= step.outcome is Outcome.ALIVE
        self._acted_before |= step.purpose == Purpose.ACT and step.outcome not in {Outcome.NOT_SENT, Outcome.RETRY}

    @property
    def _where(self) -> str:
        """The base URLs that this job asks at: what was alive in another region says nothing of this one."""
        return " ".join(sorted(self.bases.values()))

    @property
    def _trusted(self) -> bool:
        return self._job.rule in self._runtime.settings.trust_single_row

    def _refusal(self) -> tuple[Reason, str] | None:
        """Promise 8, asked of what is known of the credential so far."""
        token = self.values.get(TOKEN)
        if isinstance(token, Secret) and self.account.is_own(token):
            return Reason.PROTECTED, "it is the secret that the connection itself signs in with"
        return refuse(self._who(), self._guards, finding=bool(self._job.options.get("finding")))

    def _who(self) -> Who:
        names = self.rule.credential
        return Who(self._text(names.id), self._text(names.subject), self._text(names.tenant))

    def _text(self, name: str | None) -> str | None:
        value = self.values.get(name) if name is not None else None
        return value if isinstance(value, str) else None

    def _told(self, outcome: Outcome, now: int) -> dict[str, Any]:
        """What a step tells about the credential itself."""
        who = self._who()
        told: dict[str, Any] = {"provider_id": who.id, "subject": who.subject}
        if outcome is Outcome.ALIVE:
            told |= {"alive_at": now, "alive_where": self._where}
        told["dead_at"] = now if outcome is Outcome.DEAD else None
        return {name: value for name, value in told.items() if value is not None}


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


def token_values(rule: Rule, secret: Secret) -> dict[str, str | Secret]:
    """TOKEN and the named groups of its pattern; a group is public only where the rule says that it is an id."""
    names = rule.credential
    public = {names.id, names.subject, names.tenant}
    groups = match_secret(rule, secret.reveal())
    return {name: value if name in public else Secret(value) for name, value in groups.items()}
