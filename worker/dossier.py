"""All that is known of one credential while it is dealt with: rule, account, secrets, guards, and what steps came to.

There is no ledger here: a claimed job is a dossier that is written down (`worker.case`), a rehearsal one that is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from rules.decision import Decision, Facts, Park, Record
from rules.errors import BadInput, RevoqError
from rules.guard import Guards, Who, refuse
from rules.lifecycle import Outcome, Reason
from rules.loader import LoadedRule
from rules.parts import part_of
from rules.pattern import match_secret
from rules.plan import ACTOR, TOKEN, Plan, Planned, Purpose
from rules.schema import Rule
from rules.schema.rotation import LAST_USED
from rules.secret import Secret
from rules.select import read_time
from rules.units import SECOND
from worker import steps
from worker.connections import Account
from worker.errors import ConnectionUnusable, UnknownConnection
from worker.log import redacting
from worker.runtime import Runtime
from worker.step import Choosing, Filling, Ready, Result, Tools


class NotReady(RevoqError):
    """The credential cannot be dealt with here; `decision` says what is to be done instead."""

    def __init__(self, reason: Reason, says: str) -> None:
        """Make the decision out of the reason."""
        self.decision: Decision = Park(reason, says)
        super().__init__(says)


@dataclass(frozen=True, slots=True)
class Terms:
    """How the person who asked wants it dealt with: may it be tried, did a scanner find it, which row was picked.

    `forgotten` is the clock's: why a revocation that has lapsed is not repeated. `moved` says what is no longer as it
    was when a plan was approved: then nothing is done until a person drives it again. `goes_back`: a rotation is to put
    the old key in place again. `forced` is the guard that a person has lifted for this drive.
    """

    probe: bool = True
    finding: bool = False
    picked: str | None = None
    forgotten: str = ""
    goes_back: bool = False
    moved: str = ""
    forced: Reason | None = None


class Dossier:
    """One credential and its plan. `values` are the names that templates may use; secret ones are held until `forget`.

    `known`: this account once knew the credential · `acted`: an earlier drive sent a mutating request · `returned`: an
    earlier drive found at work what was dead.
    """

    def __init__(self, runtime: Runtime, plan: Plan, connection: str, terms: Terms) -> None:
        """Take the tools and the plan; `begin` does the work."""
        self.runtime, self.plan, self.connection, self.terms = runtime, plan, connection, terms
        self._redactions = ExitStack()
        self.values: dict[str, str | Secret] = {}
        self.bases: dict[str, str] = {}
        self.records: list[Record] = []
        self.candidates: Sequence[Mapping[str, Any]] | None = None
        self.known = self.acted = self.returned = False
        self.expires_at: int | None = None
        self._guards = Guards()
        self._named: list[str] = []

    def begin(self, loaded: LoadedRule, inputs: Mapping[str, str], secrets: Mapping[str, Secret]) -> None:
        """Bind rule, connection and base URLs, take in what was handed in, and learn what is protected.

        Raises NotReady with what is to be done where one of them cannot be had, ExchangeError where the provider cannot
        be asked who we are.
        """
        self.loaded = loaded
        if self.terms.moved:
            raise NotReady(Reason.PLAN_CHANGED, self.terms.moved)
        try:
            self.account: Account = self.runtime.connections.account(self.connection, loaded)
            self.bases = self.account.bases(loaded, inputs)
            self.values.update({name: value for name, value in inputs.items() if name not in self.bases})
            self.values.update(self.account.actor_names())
            for name, secret in secrets.items():
                self.know(name, secret)
            self._named = list(self._name({**inputs, **secrets}))
            self._guards = self.account.guards()
        except (UnknownConnection, ConnectionUnusable) as error:
            raise NotReady(Reason.DENIED, str(error)) from None

    def forget(self) -> None:
        """Let go of every secret; the logs need not look for them any more."""
        self.values.clear()
        self._redactions.close()

    @property
    def rule(self) -> Rule:
        """The rule that the plan was made from."""
        return self.loaded.rule

    @property
    def choosing(self) -> Choosing:
        """How a row may be singled out here."""
        return Choosing(frozenset(self.plan.tied), self.terms.picked, self._trusted)

    @property
    def where(self) -> str:
        """What is asked, and under which names: what lived in another region, or had another id, says nothing here."""
        return " ".join([*sorted(self.bases.values()), *self._named])

    @property
    def was_alive(self) -> bool:
        """Whether this very credential was ever seen to work: by this job, or before it, by what the ledger holds."""
        return self.known or any(record.outcome is Outcome.ALIVE for record in self.records)

    def facts(self, chance: float) -> Facts:
        """Everything beside the records that a decision needs."""
        signs = {ACTOR} if self.account.signs else set[str]()
        return Facts(
            given=frozenset(self.values) | frozenset(self.bases) | signs,
            retry_for=self.runtime.settings.retry_for,
            chance=chance,
            refused=self._refusal(),
            unshown=self._guarded(finding=self.terms.finding),
            known=self.known,
            acted=self.acted,
            picked=self.terms.picked is not None,
            trusted=self._trusted,
            probe=self.terms.probe and not self.account.never_probe,
            expires_at=self.expires_at,
            used_at=self._used_at(),
            trusts_sinks=self._trusts_sinks(),
            forgotten=self.terms.forgotten,
            returned=self.returned,
            goes_back=self.terms.goes_back,
        )

    def ready(self, planned: Planned) -> Ready:
        """Fill one planned step in with what is known by now; raises the rules' own errors where it cannot be."""
        part = part_of(planned, self.rule)
        values = {**self.values, **self._withdrawn(planned)}
        return steps.ready(
            Filling(planned, part, self.rule, values, self.bases, self.choosing, was_alive=self.was_alive)
        )

    def perform(self, step: Ready, keep: Callable[[], None]) -> Result:
        """Carry a step out. Raises ConnectionUnusable where a connection that has to sign cannot."""
        return step.perform(Tools(self.account, self.runtime.safe, self.runtime.settings, keep))

    def know(self, name: str, secret: Secret) -> None:
        """Keep a secret for templates and out of the logs; the credential also tells the groups of its pattern."""
        self._redactions.enter_context(redacting(secret))
        self.values[name] = secret
        if name == TOKEN:
            # One that came out of a row may look unlike those that people hand in; it is used as it is.
            with suppress(BadInput):
                self.values.update(token_values(self.rule, secret))

    def learn(self, planned: Planned, result: Result, at: int) -> None:
        """Go on knowing what a step came to, and what it took out of its answer."""
        self.values.update(result.taken)
        for name, secret in result.secrets.items():
            self.know(name, secret)
        self.candidates = result.evidence.get("candidates", self.candidates)
        taken = frozenset(result.taken) | frozenset(result.secrets)
        self.records.append(
            Record(planned.name, planned.purpose, result.outcome, at, result.retry_after, result.says, taken)
        )

    def who(self) -> Who:
        """The credential as the provider names it, as far as that is known by now."""
        names = self.rule.credential
        return Who(self._text(names.id), self._text(names.subject), self._text(names.tenant))

    def expiry(self) -> int | None:
        """When the credential expires by itself, as far as a step has told."""
        moment = read_time(self._text(self.rule.credential.expires))
        return None if moment is None else int(moment * SECOND)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _withdrawn(self, planned: Planned) -> dict[str, str]:
        """The new key under the name of one that a lost answer left behind: the same step deletes either."""
        rotation = self.rule.rotation
        if planned.purpose is not Purpose.WITHDRAW or rotation is None or rotation.left is None:
            return {}
        new = self._text(rotation.id)
        return {} if new is None else {rotation.left: new}

    @property
    def _trusted(self) -> bool:
        return self.plan.rule in self.runtime.settings.trust_single_row

    def _used_at(self) -> int | None:
        """When the old key of a rotation was last used, in microseconds."""
        seconds = read_time(self._text(LAST_USED))
        return None if seconds is None else int(seconds * SECOND)

    def _trusts_sinks(self) -> bool:
        """Whether the settings let an old key be retired for every sink of this plan, read back or not."""
        places = [self.runtime.settings.sinks.get(step.sink) for step in self.plan.steps if step.sink is not None]
        return all(place is not None and place.unconfirmed == "accept" for place in places)

    def _refusal(self) -> tuple[Reason, str] | None:
        """Promise 8, asked of what is known of the credential so far."""
        token = self.values.get(TOKEN)
        if isinstance(token, Secret) and self.account.is_own(token):
            return Reason.PROTECTED, "it is the secret that the connection itself signs in with"
        who = self.who()
        if who.id is not None and self.account.is_inside_own(who.id):
            return Reason.PROTECTED, "its id is that of the secret that the connection itself signs in with"
        # Whose a finding is may be told by a probe or a lookup: what is only unshown yet keeps from acting, not from
        # looking. Where the connection owns nothing that could be shown, there is no reason to try it either.
        return self._guarded(finding=self.terms.finding and not self._guards.owns)

    def _guarded(self, *, finding: bool) -> tuple[Reason, str] | None:
        return refuse(self.who(), self._guards, finding=finding, forced=self.terms.forced)

    def _name(self, handed_in: Mapping[str, str | Secret]) -> Iterator[str]:
        """What was handed in beside the secret to say whose it is; where that is a secret too, its fingerprint."""
        rule = self.rule
        naming = {name for name, variable in rule.variables.items() if variable.identifies}
        for name in sorted(naming | {depends.variable for depends in rule.depends_on_rule}):
            value = handed_in.get(name)
            if value is not None:
                yield f"{name}={self.runtime.safe.fingerprint(value) if isinstance(value, Secret) else value}"

    def _text(self, name: str | None) -> str | None:
        value = self.values.get(name) if name is not None else None
        return value if isinstance(value, str) else None


def unformed(planned: Planned, says: str) -> tuple[Result, Park]:
    """The request cannot be formed from what is known: nothing is sent, and a person must look."""
    result = Result(Outcome.BROKEN, f"nothing was sent: {says}")
    return result, Park(Reason.PROVIDER_BROKEN, f"the request of {planned.name!r} cannot be formed: {says}")


def token_values(rule: Rule, secret: Secret) -> dict[str, str | Secret]:
    """TOKEN and the named groups of its pattern; a group is public only where the rule says that it is an id."""
    names = rule.credential
    public = {names.id, names.subject, names.tenant}
    groups = match_secret(rule, secret.reveal())
    return {name: value if name in public else Secret(value) for name, value in groups.items()}
