"""What one case plays on: a pretend provider of its own, the credentials that are to die there, and what came of them.

Each case has provider accounts of its own, so that what one does to a breaker or a budget reaches no other.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rules.lifecycle import Intent, Reason, State, Verdict
from rules.secret import Secret
from scheduler.submit import Order
from tests.sandbox import Sandbox
from tests.sandbox.faults import Gate
from tests.sandbox.keyring import Key
from worker.app import BULK, ROTATION
from worker.ledger.rows import Job

KINDS = {"sendgrid": "sendgrid", "keyring": "keyring", "roller": "keyring"}
"""Whose rules a connection has → which pretend provider is behind it."""
DEAD = frozenset({Verdict.REVOKED, Verdict.ALREADY_REVOKED})
PEOPLE = frozenset({State.DONE, State.PARKED})
"""States in which revoq does nothing more by itself."""


@dataclass
class Tally:
    """A row of the table."""

    jobs: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    says: list[str] = field(default_factory=list)


@dataclass
class Actor:
    """One job's credential: what is to die, or to be replaced."""

    kind: str
    id: str
    secret: str
    order: Order
    job_id: str = ""


@dataclass
class Stage:
    """The pretend provider of one case. `where` says at which address its connections look for it, if not there."""

    name: str
    folder: Path
    where: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    sandbox: Sandbox = field(default_factory=Sandbox)
    elsewhere: Sandbox = field(default_factory=Sandbox)
    actors: list[Actor] = field(default_factory=list)

    def open(self) -> None:
        """Let both providers listen: ours, and one that nobody has any business with."""
        self.sandbox.start()
        self.elsewhere.start()

    def close(self) -> None:
        self.sandbox.stop()
        self.elsewhere.stop()

    # ── the settings ──────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def admins(self) -> dict[str, str]:
        """What each connection signs in with."""
        return {
            "sendgrid": self.sandbox.sendgrid.add_key(name="revoq").secret,
            "keyring": self.sandbox.keyring.add_key(owner="revoq", admin=True).secret,
            "roller": self.sandbox.keyring.add_key(owner="revoq", admin=True).secret,
        }

    @property
    def connections(self) -> dict[str, Any]:
        """The `connections:` of revoq.yaml, their secrets in files."""
        self.folder.mkdir(exist_ok=True)
        found = {}
        for rules_of, provider in KINDS.items():
            file = self.folder / rules_of
            file.write_text(self.admins[rules_of])
            found[self.account(rules_of)] = {
                "provider": rules_of,
                "base_url": f"{self.where.format(port=self.sandbox.port) or self.sandbox.base_url}/{provider}",
                "identity": {"token": f"file:{file}"},
                **self.more,
            }
        return found

    def account(self, rules_of: str) -> str:
        """The name of this case's connection."""
        return f"{self.name}-{rules_of}"

    # ── who is to die ─────────────────────────────────────────────────────────────────────────────────────────────

    def cast(self, kinds: tuple[str, ...]) -> list[Actor]:
        """Put them on the stage, with an order for each."""
        new = [self._actor(kind, number) for number, kind in enumerate(kinds, len(self.actors))]
        self.actors += new
        return new

    def _actor(self, kind: str, number: int) -> Actor:
        common: dict[str, Any] = {"requester": "tester", "cause": self.name, "queue": BULK}
        match kind:
            case "sendgrid" | "slow":
                linger = 18 if kind == "slow" else 0
                mail = self.sandbox.sendgrid.add_key(name=f"{number}", scopes=["mail.send"], linger=linger)
                order = Order(
                    rule="sendgrid.api_key", secret=Secret(mail.secret), connection=self.account("sendgrid"), **common
                )
                return Actor(kind, mail.id, mail.secret, order)
            case "rotation":
                key = self.sandbox.keyring.add_key(owner="dana", name=f"{self.name}-{number}")
                self._file(key).write_text(json.dumps({"id": key.id, "key": key.secret}))
                self._file(key).chmod(0o600)
                order = Order(
                    rule="keyring.service",
                    intent=Intent.ROTATE,
                    variables={"KEY_ID": key.id},
                    connection=self.account("keyring"),
                    sinks=("file",),
                    **{**common, "queue": ROTATION},
                )
                return Actor(kind, key.id, key.secret, order)
            case _:
                key = self.sandbox.keyring.add_key(name=f"{number}", yes_but_alive=kind == "liar")
                rolled = kind in {"roller", "blind"}
                order = Order(
                    rule="roller.key" if rolled else "keyring.token",
                    secret=Secret(key.secret),
                    connection=self.account("roller" if rolled else "keyring"),
                    probe=kind != "blind",
                    **common,
                )
                return Actor(kind, key.id, key.secret, order)

    def _file(self, key: Key) -> Path:
        return self.folder.parent / "sink" / key.name

    # ── what is to go wrong ───────────────────────────────────────────────────────────────────────────────────────

    def fault(self, kind: str, **options: Any) -> None:
        """At both providers of this case."""
        for provider in ("sendgrid", "keyring"):
            self.sandbox.fault(provider, kind, **options)

    def hold(self, method: str, *, after: bool, path: str = "*", skip: int = 0) -> Gate:
        """Hold the next such call to the keyring: before the provider hears of it, or after it has acted."""
        gate = Gate()
        kind = "hold_after" if after else "hold"
        self.sandbox.fault("keyring", kind, method=method, path=path, after=skip, gate=gate)
        return gate

    # ── what came of it ───────────────────────────────────────────────────────────────────────────────────────────

    def judge(self, jobs: Mapping[str, Job], lost: frozenset[str], may: frozenset[str], tally: Tally) -> None:
        """Hold what revoq says against what is so at the provider; of the `lost`, the answer to a step was lost."""
        effects = Counter(call.path for call in self.sandbox.mutations() if call.handled and (call.status or 0) < 300)
        for actor in self.actors:
            job = jobs[actor.job_id]
            tally.jobs += 1
            told = f"{self.name}, {actor.kind}: {job.state} {job.verdict or job.reason} ({job.says})"
            ending = str(job.verdict or job.reason or job.state)
            if job.state not in PEOPLE and ending not in may:
                tally.lost += 1
                tally.says.append(f"lost: {told}")
            elif not (ending in may or doubted(actor, job, lost)) or not self._true(actor, job):
                tally.wrong += 1
                tally.says.append(f"wrong: {told}")
            if self._twice(actor, job, effects):
                tally.doubled += 1
                tally.says.append(f"twice: {told}")
            if actor.kind == "rotation" and not self._held(actor):
                tally.lost += 1
                tally.says.append(f"the consumer's key is dead, and nobody says so: {told}")
        if not all(key.alive for key in (self.sandbox.sendgrid.first, self.sandbox.sendgrid.last)):
            tally.wrong += 1
            tally.says.append(f"{self.name}: a bystander is dead")
        if self.elsewhere.calls():
            tally.wrong += 1
            tally.says.append(f"{self.name}: somebody was asked whom no connection names")

    def _true(self, actor: Actor, job: Job) -> bool:
        """Whether what is said of a credential is so."""
        if actor.kind == "rotation":
            living = [key.secret for key in self._living(actor)]
            return job.verdict is not Verdict.ROTATED or living == [self._delivered(actor)["key"]]
        if actor.kind in {"sendgrid", "slow"}:
            works = self.sandbox.alive("sendgrid", actor.id)
        else:
            works = self.sandbox.works("keyring", actor.secret)
        if job.verdict in DEAD or job.verdict is Verdict.ACKNOWLEDGED:
            return not works
        return works or job.reason != Reason.STILL_ALIVE

    def _twice(self, actor: Actor, job: Job, effects: Counter[str]) -> bool:
        """Whether a step that must not be repeated took effect more than once, and nobody took it back or told."""
        if actor.kind == "rotation":
            return job.state is State.DONE and len(self._living(actor)) > 1
        return max((count for path, count in effects.items() if actor.id in path), default=0) > 1

    def _held(self, actor: Actor) -> bool:
        """Whether the consumer's key works."""
        return any(key.secret == self._delivered(actor)["key"] for key in self._living(actor))

    def _living(self, actor: Actor) -> list[Key]:
        """The keys of a rotated target that work; new ones have the job's id behind the name."""
        keys = self.sandbox.keyring.keys
        name = keys[actor.id].name
        return [key for key in keys.values() if key.name.partition("~")[0] == name and key.revoked is None]

    def _delivered(self, actor: Actor) -> dict[str, str]:
        delivered: dict[str, str] = json.loads(self._file(self.sandbox.keyring.keys[actor.id]).read_text())
        return delivered


def doubted(actor: Actor, job: Job, lost: frozenset[str]) -> bool:
    """Whether a person is rightly asked: what must not be repeated was lost, or a list changed under its reader."""
    if job.reason == Reason.OUTCOME_UNKNOWN:
        return actor.kind in {"roller", "blind"} and actor.job_id in lost
    return job.reason == Reason.NEEDS_SELECTION and "changed while it was read" in str(job.says)
