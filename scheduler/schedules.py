"""Schedules become slots, slots targets, and targets jobs: one step for each tick, told by the ledger alone.

Whatever rings, how often and how late changes nothing: what is due is decided by the ledger's clock, and every step is
a move that only one can make. A tick that was cut short is finished by the next one, on whatever machine that is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from rules.calendar import (
    MICROSECOND,
    Slot,
    count_microseconds,
    due_slots,
    is_blackout,
    next_due,
    read_moment,
    spread,
    window_from,
)
from rules.errors import BadInput, RevoqError, UnknownRule
from rules.inputs import is_secret, variables_of
from rules.lifecycle import Intent, SlotState, TargetState
from rules.loader import Catalogue, LoadedRule
from rules.naming import name_credential, naming_variable
from rules.schema import Rule
from rules.slots import Chosen, Finished, Member, Row, Stop, Wanted, choose, is_meant, is_overdue, next_move, read_rows
from rules.units import SECOND
from scheduler.submit import Order, check, new_job, ring_jobs
from worker.app import BULK, ROTATION
from worker.errors import SettingsError
from worker.ledger import slots
from worker.ledger.database import Database
from worker.ledger.rows import NewSlot, SlotKey, SlotRow, TargetRow
from worker.listing import list_credentials
from worker.runtime import Runtime
from worker.schedules import Schedule, micros
from worker.settings import follow, is_reference
from worker.sources import nearest

log = structlog.get_logger(__name__)

CLOCK = "clock"
"""Who asks where no person does."""
LIST_AGAIN = 15 * SECOND
"""After this a listing that failed, or whose clock died over it, is tried again by whoever comes next."""


def tick(runtime: Runtime, names: Collection[str] | None = None) -> None:
    """Take every schedule, or those of these names, a step further; one that fails holds up no other."""
    for name, schedule in runtime.settings.schedules.items():
        if names is None or name in names:
            try:
                begun = advance(runtime, schedule)
            except RevoqError as error:
                log.error("schedule_stuck", schedule=name, why=str(error))
                continue
            if begun:
                ring_jobs(runtime, begun)


def advance(runtime: Runtime, schedule: Schedule) -> list[str]:
    """Open what is due, list what is open, and see how what runs stands; the jobs that were begun."""
    open_due(runtime, schedule)
    slots.settle(runtime.database, schedule.name)
    begun: list[str] = []
    for slot in slots.unfinished(runtime.database, schedule.name):
        if (slot.intent, slot.rule, slot.connection) != (schedule.does, schedule.rule, schedule.connection):
            after = SlotState.FAILED if slot.state is SlotState.OPEN else SlotState.STOPPED
            give_up(runtime, slot, after, "the settings have changed since: this schedule is for something else now")
        elif slot.state is SlotState.OPEN:
            begun += begin(runtime, schedule, slot)
        else:
            begun += go_on(runtime, schedule, slot)
    return begun


# ── slots ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def open_due(runtime: Runtime, schedule: Schedule) -> None:
    """Open the slots that became due since somebody last did so."""
    database = runtime.database
    after = slots.watch(database, schedule.name, schedule.digest)
    now = database.now()
    found = due_slots(schedule.calendar, read_moment(after), read_moment(now))
    if not found.slots and not found.missed:
        return
    last = found.last_missed
    opened = slots.open_due(
        database,
        schedule.name,
        [new_slot(schedule, slot, CLOCK) for slot in found.slots],
        after=after,
        until=now,
        missed=None if last is None else new_slot(schedule, Slot(last, last), CLOCK),
        missed_count=found.missed,
    )
    log.info("slots", schedule=schedule.name, opened=opened, missed=found.missed)


def open_now(runtime: Runtime, schedule: Schedule, requester: str) -> tuple[SlotKey, bool]:
    """Open a slot because a person wants one now; the slot, and whether it is new."""
    new = new_slot(schedule, window_from(schedule.calendar, read_moment(runtime.database.now())), requester)
    return SlotKey(schedule.name, new.due), slots.open_now(runtime.database, schedule.name, new)


def new_slot(schedule: Schedule, slot: Slot, requester: str) -> NewSlot:
    return NewSlot(
        due=count_microseconds(slot.due),
        closes=count_microseconds(slot.closes),
        intent=schedule.does,
        rule=schedule.rule,
        connection=schedule.connection,
        requester=requester,
    )


def begin(runtime: Runtime, schedule: Schedule, slot: SlotRow) -> list[str]:
    """List an open slot's targets, once, within its window; a listing that fails is tried again until that ends."""
    database = runtime.database
    now = database.now()
    if now > slot.closes:
        after = SlotState.MISSED if slot.says is None else SlotState.FAILED
        give_up(runtime, slot, after, slot.says or "nobody listed its targets within its window")
        return []
    if slot.requester == CLOCK and is_blackout(schedule.calendar, read_moment(now)):
        return []
    if not slots.take_listing(database, slot.key, now + LIST_AGAIN):
        return []
    try:
        chosen = find_targets(runtime, schedule, slot.due)
    except RevoqError as error:
        log.warning("not_listed", schedule=slot.schedule, due=slot.due, why=str(error))
        slots.note_trouble(database, slot.key, str(error))
        return []
    if not slots.list_targets(database, slot.key, target_rows(schedule, slot.key, chosen, database.now())):
        return []
    return go_on(runtime, schedule, replace(slot, state=SlotState.RUNNING))


def go_on(runtime: Runtime, schedule: Schedule, slot: SlotRow) -> list[str]:
    """See how a running slot stands: begin with the next targets, or end it."""
    database = runtime.database
    busy = slots.busy(database, schedule.name)
    rows = slots.targets(database, slot.key)
    members = [Member(row.target, row.state, row.canary, row.not_before, row.target in busy) for row in rows]
    places = schedule.concurrency - len(busy)
    move = next_move(members, now=database.now(), places=places, stop_after=schedule.stop_after_failures)
    if isinstance(move, Stop):
        give_up(runtime, slot, SlotState.STOPPED, move.why)
    elif isinstance(move, Finished):
        slots.end(database, slot.key, SlotState.RUNNING, SlotState.DONE)
    else:
        return [job for row in rows if row.target in move.targets and (job := start(runtime, schedule, slot, row))]
    return []


def give_up(runtime: Runtime, slot: SlotRow, after: SlotState, says: str) -> None:
    """End a slot as an incident."""
    if slots.end(runtime.database, slot.key, slot.state, after, says):
        log.error("slot_ended", state=after.value, schedule=slot.schedule, due=slot.due, why=says)


# ── targets ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def find_targets(runtime: Runtime, schedule: Schedule, due: int) -> list[Chosen]:
    """Everything that the provider lists, and which of it the schedule means; raises where not all could be read."""
    loaded = runtime.catalogue.get(schedule.rule)
    naming_variable(loaded.rule)
    subjects: Sequence[str | None] = schedule.targets.subjects or [None]
    rows = [row for subject in subjects for row in list_rows(runtime, schedule, loaded, subject)]
    twice = len(rows) - len({row.target for row in rows})
    if twice or not all(row.id for row in rows):
        raise BadInput(f"of the rows that {schedule.connection} lists, {twice or 'some'} have no id of their own")
    rotated = slots.last_rotated(runtime.database, loaded.rule.id, schedule.connection)
    aged = [replace(row, born=born_at(row, rotated)) for row in rows]
    return choose(aged, wanted(schedule, due), schedule.does, runtime.database.now())


def list_rows(runtime: Runtime, schedule: Schedule, loaded: LoadedRule, subject: str | None) -> list[Row]:
    """The rows of one listing, to its end."""
    account = runtime.connections.account(schedule.connection, loaded)
    plain = {name: value for name, value in schedule.variables.items() if not is_secret(loaded.rule, name)}
    listed = list_credentials(account, loaded, subject, plain)
    if listed.cut_off:
        raise BadInput(f"the list could not be read to its end: {listed.cut_off}")
    return read_rows(loaded.rule, listed.rows, subject)


def rehearse(runtime: Runtime, schedule: Schedule, requester: str) -> list[tuple[TargetRow, str]]:
    """Every row of a slot now, each with why nothing would come of it, or an empty text; nothing is written down."""
    now = runtime.database.now()
    rule = runtime.catalogue.get(schedule.rule).rule
    rows = target_rows(schedule, SlotKey(schedule.name, now), find_targets(runtime, schedule, now), now)
    found = []
    for row in rows:
        why = row.says or ""
        if row.state is TargetState.WAITING:
            try:
                check(runtime, order_for(rule, schedule, row, requester=requester, due=now))
            except RevoqError as error:
                why = str(error)
        found.append((row, why))
    return found


def list_overdue(
    schedule: Schedule, rows: Iterable[TargetRow], rotated: Mapping[str, int], now: int
) -> list[TargetRow]:
    """The targets of a slot that are meant, and older by now than they should ever be."""
    means = wanted(schedule, now)
    return [row for row in rows if is_overdue(replace(row_of(row), born=born_at(row, rotated)), means, now)]


def listed_keys(database: Database, schedule: Schedule) -> list[TargetRow]:
    """What the schedule's last listing showed and it means, each with its age as it is by now."""
    listed = slots.latest(database, schedule.name, listed=True)
    if listed is None:
        return []
    means = wanted(schedule, database.now())
    rotated = slots.last_rotated(database, schedule.rule, schedule.connection)
    rows = [row for row in slots.targets(database, listed.key) if is_meant(row_of(row), means)]
    return [replace(row, born=born_at(row, rotated)) for row in rows]


def row_of(row: TargetRow) -> Row:
    """A slot's row as a listing's."""
    return Row(row.id, row.name, row.subject, row.role, row.born, row.used, row.variables)


def born_at(row: Row | TargetRow, rotated: Mapping[str, int]) -> int | None:
    """When it was made or, by our own ledger, last rotated."""
    return max(row.born or 0, rotated.get(row.id, 0)) or None


def wanted(schedule: Schedule, due: int) -> Wanted:
    """Whom the schedule means in the slot of this time."""
    targets, moment = schedule.targets, read_moment(due)
    following = next_due(schedule.calendar, moment)
    return Wanted(
        names=targets.names,
        exclude=targets.exclude,
        ids=targets.ids,
        roles=targets.roles,
        max_age=micros(targets.max_age),
        unused_for=micros(targets.unused_for),
        canary=schedule.canary,
        until_next=0 if following is None else micros((following - moment).total_seconds()) or 0,
    )


def target_rows(schedule: Schedule, key: SlotKey, chosen: Sequence[Chosen], now: int) -> list[TargetRow]:
    """The rows of a slot that is about to run; the canary waits for nobody."""
    due, jitter = read_moment(key.due), timedelta(seconds=schedule.jitter)
    return [
        TargetRow(
            target=each.row.target,
            number=number,
            id=each.row.id,
            subject=each.row.subject,
            name=each.row.name,
            role=each.row.role,
            canary=each.canary,
            state=TargetState.SKIPPED if each.why else TargetState.WAITING,
            born=each.row.born,
            used=each.row.used,
            variables=dict(each.row.variables),
            not_before=now + (0 if each.canary else spread(key.schedule, due, each.row.target, jitter) // MICROSECOND),
            says=each.why or None,
        )
        for number, each in enumerate(chosen, 1)
    ]


def start(runtime: Runtime, schedule: Schedule, slot: SlotRow, row: TargetRow) -> str | None:
    """Commit a target's job; its id, or None where there is nothing to ring for."""
    try:
        rule = runtime.catalogue.get(slot.rule).rule
        checked = check(runtime, order_for(rule, schedule, row, requester=slot.requester, due=slot.due))
    except RevoqError as error:
        slots.refuse(runtime.database, slot.key, row.target, str(error))
        return None
    new = replace(new_job(runtime, checked), provider_id=row.id, subject=row.subject)
    submitted = slots.start(runtime.database, slot.key, row.target, new, most=schedule.concurrency)
    if submitted is None:
        return None
    log.info("submitted", job=submitted.job_id, schedule=slot.schedule, target=row.target, joined=submitted.joined)
    return submitted.job_id


def given(rule: Rule, schedule: Schedule) -> dict[str, str]:
    """The variables that the schedule gives to all its targets; raises ConnectionUnusable where one cannot be read."""
    where = f"schedule {schedule.name}: variables"
    return {
        name: follow(value, f"{where}.{name}").reveal() if is_secret(rule, name) else value
        for name, value in schedule.variables.items()
    }


def order_for(rule: Rule, schedule: Schedule, row: TargetRow, *, requester: str, due: int) -> Order:
    """What is asked for one target: the schedule's intent, for the credential of this id."""
    return Order(
        rule=schedule.rule,
        requester=requester,
        intent=schedule.does,
        variables={**given(rule, schedule), **name_credential(rule, row.id, row.subject, row.variables)},
        connection=schedule.connection,
        cause=f"schedule {schedule.name}, slot {read_moment(due).isoformat()}",
        queue=ROTATION if schedule.does is Intent.ROTATE else BULK,
        sinks=schedule.sinks_for(row.name),
    )


# ── what the rules say of it ──────────────────────────────────────────────────────────────────────────────────────────


def unusable_rules(schedules: Mapping[str, Schedule], catalogue: Catalogue) -> list[SettingsError]:
    """A sentence for every schedule whose rule does not exist, or cannot say what there is."""
    mistakes = []
    for name, schedule in schedules.items():
        try:
            rule = catalogue.get(schedule.rule).rule
        except UnknownRule as error:
            mistakes.append(SettingsError(f"schedules.{name}.rule", str(error)))
            continue
        if rule.listing is None:
            says = f"{schedule.rule} has no listing, so nothing tells what there is: a schedule needs one"
            mistakes.append(SettingsError(f"schedules.{name}.rule", says))
        for variable, value in schedule.variables.items():
            if says := _find_mistake(rule, variable, value):
                mistakes.append(SettingsError(f"schedules.{name}.variables.{variable}", says))
    return mistakes


def _find_mistake(rule: Rule, name: str, value: str) -> str:
    """What is wrong with a variable for all targets; its pattern is looked at with each of them."""
    if name not in variables_of(rule):
        return f"{rule.id} has no such variable{nearest(name, variables_of(rule))}"
    if name in rule.variables and rule.variables[name].identifies:
        return "it says which one is meant, and that is the listing's to say"
    if is_secret(rule, name) and not is_reference(value):
        return "it is secret: expected a reference to it, such as file:/run/secrets/NAME or env:NAME"
    return ""
