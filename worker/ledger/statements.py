"""The statements of the moves, built once, since to build one costs more than to run it; `moves` says when they run.

Names of parameters that are no columns: `this` (a row's id), `my_fence` and `my_head` (what a claim remembers),
`my_connection`, `moment` (now). Every other parameter is a column that is set.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Executable,
    Select,
    String,
    Table,
    and_,
    bindparam,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from rules.lifecycle import CLOSED, OPEN, State, StepState
from worker.ledger.rows import EVERYTHING, SealedSecret
from worker.ledger.tables import accounts, batches, credentials, jobs, secrets, steps

THIS = bindparam("this", type_=String)
MOMENT = bindparam("moment", type_=BigInteger)
MY_CONNECTION = bindparam("my_connection", type_=String)


def among(words: Iterable[StrEnum]) -> list[BindParameter[str]]:
    """The members of an IN that are always the same; a plain list would be spelled out anew at each execution."""
    return [literal(word.value) for word in sorted(words)]


def is_due(at: int | BindParameter[int]) -> ColumnElement[bool]:
    """Whether a worker may claim: due, or left under a lease that ran out; and its batch and its account let it."""
    return and_(is_due_by_itself(at), ~is_resting(at))


def is_due_by_itself(at: int | BindParameter[int]) -> ColumnElement[bool]:
    """The same, whatever its account says: for the one job with which an account is tried again."""
    waits = and_(or_(jobs.c.state == State.QUEUED, jobs.c.state == State.WAITING), jobs.c.not_before <= at)
    left = and_(jobs.c.state == State.RUNNING, jobs.c.lease_until <= at)
    gate = ~exists().where(batches.c.id == jobs.c.batch, batches.c.state.in_(among(CLOSED)))
    return and_(or_(waits, left), or_(jobs.c.batch.is_(None), gate))


def is_resting(at: int | BindParameter[int]) -> ColumnElement[bool]:
    """Whether nothing may begin at a job's account: the provider asked for patience, or does not answer."""
    until = or_(accounts.c.retry_at > at, accounts.c.broken_until > at)
    return exists().where(accounts.c.connection == jobs.c.account, until)


def is_held(connection: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a hold is on for a connection, or for everything."""
    concerned = or_(accounts.c.connection == connection, accounts.c.connection == EVERYTHING)
    return exists().where(concerned, accounts.c.held_at.is_not(None))


def locking(query: Select[Any]) -> Select[Any]:
    """Hold the rows until the end of the transaction; on SQLite the whole transaction is alone already."""
    return query.with_for_update(key_share=True)


@cache
def insert_missing(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Insert the rows that no unique index knows yet; many at once go over the wire together."""
    into = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    return into.on_conflict_do_nothing()


@cache
def insert_unless_there(dialect: str, table: Table) -> Executable:
    """Insert a row and give its id, or nothing where a unique index says that it is there."""
    return insert_missing(dialect, table).returning(table.c.id)


@cache
def put_hold(dialect: str) -> Executable:
    """Insert an account's hold, or write it over the row that is there."""
    into = postgresql.insert(accounts) if dialect == "postgresql" else sqlite.insert(accounts)
    new = {name: into.excluded[name] for name in ("held_at", "held_by", "held_why")}
    return into.on_conflict_do_update(index_elements=[accounts.c.connection], set_=new)


# ── jobs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

ITS = jobs.c.id == THIS
IS_OPEN = jobs.c.state.in_(among(OPEN))
LOCK_JOB = locking(select(jobs).where(ITS))
BROKEN = exists().where(accounts.c.connection == jobs.c.account, accounts.c.broken_until.is_not(None))
"""Whether a job's account is left alone, or has to be tried before anything goes on there."""
TROUBLED = exists().where(accounts.c.connection == jobs.c.account, accounts.c.failures > 0).label("troubled")
MINE = and_(ITS, jobs.c.fence == bindparam("my_fence"), jobs.c.state == State.RUNNING)
"""Whether the job is still the claim's: a lease that ran out harms nothing until somebody took the job over."""
HEAD_IS_MINE = jobs.c.audit_number == bindparam("my_head")
"""Whether nothing has happened to the job since it was read: everything that does adds to its chain."""
SEALED = tuple(secrets.c[name] for name in SealedSecret.__slots__)
"""What of a secret's row belongs to the envelope, in its order."""
WHAT_IT_NEEDS = (
    select(jobs, credentials, TROUBLED, *SEALED)
    .join(credentials, credentials.c.id == jobs.c.credential)
    .outerjoin(secrets, secrets.c.job == jobs.c.id)
    .order_by(secrets.c.created_at, secrets.c.id)
)
BEGINS = and_(ITS, is_due(MOMENT), ~BROKEN)
BEGINS_TRIAL = and_(ITS, is_due_by_itself(MOMENT))
DUE_JOB, TRIAL_JOB = WHAT_IT_NEEDS.where(BEGINS), WHAT_IT_NEEDS.where(BEGINS_TRIAL)
"""What is to be claimed, with its credential and whether its account has failed lately: a row for each secret."""
TAKE, TAKE_TRIAL = update(jobs).where(BEGINS, HEAD_IS_MINE), update(jobs).where(BEGINS_TRIAL, HEAD_IS_MINE)
TRY_ACCOUNT = (
    update(accounts)
    .where(
        accounts.c.connection == select(jobs.c.account).where(ITS).scalar_subquery(),
        accounts.c.broken_until <= MOMENT,
        func.coalesce(accounts.c.retry_at, 0) <= MOMENT,
    )
    .values(broken_until=bindparam("trial_until", type_=BigInteger))
    .returning(accounts.c.connection)
)
"""Take the one trial that an account gets when its rest is over: nobody else begins there until it has shown more."""
GIVE_TRIAL_BACK = update(accounts).where(accounts.c.connection == THIS).values(broken_until=MOMENT)
LOCK_OPEN_JOB = locking(
    select(jobs).where(
        jobs.c.credential == THIS,
        jobs.c.connection == MY_CONNECTION,
        jobs.c.intent == bindparam("my_intent"),
        IS_OPEN,
    )
)
HEAD = select(jobs.c.audit_number, jobs.c.audit_hash).where(MINE)
CHANGE_JOB = update(jobs).where(ITS)
CHANGE_MINE = update(jobs).where(MINE)
CHANGE_MINE_UNLESS_HELD = update(jobs).where(MINE, ~is_held(MY_CONNECTION))
ADVANCE = update(jobs).where(MINE, HEAD_IS_MINE)
ADVANCE_UNLESS_HELD = ADVANCE.where(~is_held(MY_CONNECTION))

# ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

ADD_STEP = insert(steps)
INTENDED = and_(steps.c.job == THIS, steps.c.number == bindparam("my_number"), steps.c.state == StepState.INTENDED)
END_STEP = update(steps).where(INTENDED)
IS_INTENDED = select(exists().where(INTENDED))
ADVANCE_STEP = ADVANCE.where(exists().where(INTENDED))
ADVANCE_STEP_UNLESS_HELD = ADVANCE_UNLESS_HELD.where(exists().where(INTENDED))
LOSE_STEPS = update(steps).where(steps.c.job == THIS, steps.c.state == StepState.INTENDED)
STEPS_OF_JOB = select(steps).where(steps.c.job == THIS).order_by(steps.c.number)

# ── credentials and secrets ───────────────────────────────────────────────────────────────────────────────────────────

FIND_CREDENTIAL = select(credentials.c.id).where(
    credentials.c.fingerprint == bindparam("its_fingerprint"),
    credentials.c.rule == bindparam("its_rule"),
    credentials.c.connection == MY_CONNECTION,
)
LEARN = update(credentials).where(credentials.c.id == THIS)
FILL_GAPS = LEARN.values(
    provider_id=func.coalesce(credentials.c.provider_id, bindparam("its_provider_id", type_=String)),
    subject=func.coalesce(credentials.c.subject, bindparam("its_subject", type_=String)),
)
LOCK_CREDENTIAL = locking(select(credentials.c.id).where(credentials.c.id == THIS))
CREDENTIAL = select(credentials).where(credentials.c.id == THIS)
SECRETS_OF_JOB = select(*SEALED).where(secrets.c.job == THIS).order_by(secrets.c.created_at, secrets.c.id)
KEEP = insert(secrets)
HAS_SECRETS = select(exists().where(secrets.c.job == THIS, secrets.c.ciphertext.is_not(None)))
HASTEN = update(secrets).where(
    secrets.c.job == THIS, secrets.c.shred_by > bindparam("sooner"), secrets.c.ciphertext.is_not(None)
)
"""Bring the end of a job's secrets forward; never put it off."""
