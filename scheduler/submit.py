"""The one corridor by which a job begins: match, seal, open, commit, ring; the door for other Python producers.

    from scheduler.submit import Order, submit
    receipt = submit(runtime(), Order(rule="sendgrid.api_key", secret=Secret(text), requester="me", cause="leak"))

It returns as soon as the row is committed. One job is open for each credential, connection and intent: a second
submission joins it. Everything that is wrong with an order is said before anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import structlog

from rules.budget import estimate
from rules.errors import BadInput
from rules.inputs import check_inputs, is_secret
from rules.lifecycle import Intent
from rules.loader import LoadedRule
from rules.plan import ACTOR, TOKEN, Plan
from rules.planning import plan
from rules.secret import Secret
from scheduler.bell import BrokerDown, ring
from worker import rehearsal, steps
from worker.app import URGENT
from worker.connections import NOBODY, Account
from worker.dossier import Terms
from worker.envelopes import TOKEN_KIND, VARIABLE, owner_of, seal_row
from worker.ledger import moves
from worker.ledger.rows import NewJob, Ring, SealedSecret
from worker.rehearsal import Rehearsal, Script
from worker.runtime import Runtime

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a producer asks for. `variables` are those of the rule; `probe=False` never tries the credential.

    A `finding` came from a scanner: it is acted on only where it is shown to be ours. `sinks` are where a rotation or
    an issue delivers, in this order; `grace` is how long both keys live, in seconds, where the rule's own is not meant.
    `moved` says what is not as it was approved: such a job is parked before anything.
    """

    rule: str
    requester: str
    intent: Intent = Intent.REVOKE
    secret: Secret | None = None
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    connection: str = NOBODY
    cause: str | None = None
    ticket: str | None = None
    owner: str | None = None
    probe: bool = True
    finding: bool = False
    sinks: Sequence[str] = ()
    grace: float | None = None
    queue: str = URGENT
    moved: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The job that stands for the order: a new one, or the open one that it `joined`.

    `rung` is False where the broker did not answer; the job is safe in the ledger and is rung later.
    """

    job_id: str
    joined: bool
    rung: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """An order that was found to be sound, with the rule, the account and the plan that it means."""

    order: Order
    loaded: LoadedRule
    account: Account
    plan: Plan


def submit(runtime: Runtime, order: Order) -> Receipt:
    """Check, seal, commit, ring. Raises BadInput and its like with nothing written."""
    checked = check(runtime, order)
    share = runtime.settings.incident_share
    submitted, bells = moves.submit_and_ring(runtime.database, new_job(runtime, checked), runtime.limits, share)
    log.info("submitted", job=submitted.job_id, rule=checked.loaded.rule.id, joined=submitted.joined)
    return Receipt(submitted.job_id, joined=submitted.joined, rung=_send(bells))


def ring_jobs(runtime: Runtime, job_ids: list[str]) -> bool:
    """Ring committed jobs as well as can be; the sweep does it again where the broker is down."""
    return _send(moves.ring(runtime.database, job_ids, runtime.limits, runtime.settings.incident_share))


def _send(bells: list[Ring]) -> bool:
    try:
        if bells:
            ring(bells)
    except BrokerDown as error:
        log.warning("not_rung", jobs=len(bells), why=str(error))
        return False
    return True


Plans = dict[Hashable, Plan]
"""Plans by what they were made from, for who checks many orders that are alike."""


def check(runtime: Runtime, order: Order, plans: Plans | None = None) -> Checked:
    """Find everything that is wrong with an order, in sentences, before anything is written."""
    loaded = runtime.catalogue.get(order.rule)
    check_inputs(loaded, order.secret, order.variables, order.intent)
    account = runtime.connections.account(order.connection, loaded)
    account.bases(loaded, order.variables)
    given = frozenset(order.variables) | ({TOKEN} if order.secret is not None else set())
    plans = plans if plans is not None else {}
    alike = (loaded.rule.id, order.connection, order.intent, given, tuple(order.sinks), order.grace)
    if alike not in plans:
        plans[alike] = _planned(runtime, loaded, account, order, given)
    return Checked(order, loaded, account, plans[alike])


def _planned(runtime: Runtime, loaded: LoadedRule, account: Account, order: Order, given: frozenset[str]) -> Plan:
    if account.signs:
        account.check()
    sinks = {name: runtime.settings.sink(name).reload is not None for name in order.sinks}
    made = plan(loaded, order.intent, given | {ACTOR} if account.signs else given, sinks, order.grace)
    why = steps.refuse(made, loaded.rule, runtime.settings)
    if why is not None:
        raise BadInput(why)
    return made


def rehearse(runtime: Runtime, checked: Checked) -> Rehearsal:
    """Do all that can be done without changing or writing down anything, and say what a job would do."""
    order, rule = checked.order, checked.loaded.rule
    hidden = {name for name in order.variables if is_secret(rule, name)}
    secrets = {name: Secret(order.variables[name]) for name in hidden}
    script = Script(
        loaded=checked.loaded,
        plan=checked.plan,
        connection=order.connection,
        fingerprint=fingerprint_of(runtime, order),
        inputs={name: value for name, value in order.variables.items() if name not in hidden},
        secrets={**secrets, **({TOKEN: order.secret} if order.secret is not None else {})},
        terms=Terms(probe=order.probe, finding=order.finding),
    )
    return rehearsal.rehearse(runtime, script)


def fingerprint_of(runtime: Runtime, order: Order) -> str:
    """What tells the order's credential from every other: of its secret, or of what names it.

    What is rotated is its target, whoever hands its key in and whatever else is said of it: two rotations of one target
    at once would be one too many.
    """
    if order.intent is not Intent.ROTATE or not order.variables:
        return runtime.safe.fingerprint(order.secret or _named(order.variables))
    variables = runtime.catalogue.get(order.rule).rule.variables
    naming = {
        name: value for name, value in order.variables.items() if name in variables and variables[name].identifies
    }
    return runtime.safe.fingerprint(_named(naming or order.variables))


def new_job(runtime: Runtime, checked: Checked) -> NewJob:
    """The row that an order becomes, with its secrets sealed."""
    order, rule = checked.order, checked.loaded.rule
    fingerprint = fingerprint_of(runtime, order)
    frozen, plan_hash = _freeze(checked.plan)
    hidden = {name for name in order.variables if is_secret(rule, name)}
    options: dict[str, Any] = {"probe": order.probe, "finding": order.finding}
    options |= {"moved": order.moved} if order.moved else {}
    return NewJob(
        fingerprint=fingerprint,
        fingerprint_key=runtime.safe.fingerprint_key,
        rule=rule.id,
        connection=order.connection,
        intent=order.intent,
        rule_digest=checked.loaded.digest,
        plan=frozen,
        plan_hash=plan_hash,
        inputs={name: value for name, value in order.variables.items() if name not in hidden},
        options=options,
        account=checked.account.budget(checked.loaded, order.variables),
        cost=_cost(checked.plan),
        queue=order.queue,
        requester=order.requester,
        cause=order.cause,
        ticket=order.ticket,
        owner=order.owner,
        secrets=_seal(runtime, order, owner_of(rule.id, order.connection, fingerprint), hidden),
    )


@lru_cache(maxsize=64)
def _freeze(made: Plan) -> tuple[Mapping[str, Any], str]:
    """A plan as the ledger keeps it, and its hash: in a long file there are few plans."""
    return made.as_json(), made.hash


_cost = lru_cache(maxsize=64)(estimate)


def _seal(runtime: Runtime, order: Order, owner: str, hidden: set[str]) -> list[SealedSecret]:
    now = runtime.database.now()
    found = [(TOKEN_KIND, order.secret)] if order.secret is not None else []
    found += [(f"{VARIABLE}:{name}", Secret(order.variables[name])) for name in sorted(hidden)]
    return [
        seal_row(runtime.safe, secret, owner=owner, kind=kind, now=now, shred_after=runtime.settings.shred_after)
        for kind, secret in found
    ]


def _named(variables: Mapping[str, str]) -> Secret:
    """What stands for a credential that was named and not handed in: its names, in one fixed order."""
    return Secret("named:" + json.dumps(dict(sorted(variables.items())), separators=(",", ":")))
