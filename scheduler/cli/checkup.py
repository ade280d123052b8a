"""What can be wrong with a revoq and how to mend it, one check after the other; showing them is `doctor`'s."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rules.errors import RevoqError, RuleErrors
from rules.lifecycle import INCIDENTS
from rules.loader import builtin, read
from rules.units import SECOND
from scheduler import pulse
from scheduler.app import CLOCK
from scheduler.cli.accounts import tell_trouble
from scheduler.cli.answering import ask_workers
from scheduler.cli.connections import check_identities
from scheduler.cli.desk import adopt, open_ledger, sqlite_file
from scheduler.cli.present import ago
from scheduler.keeper import begun
from scheduler.processes import broker_dir, run_dir
from scheduler.schedules import unusable_rules
from worker import restored
from worker.app import BULK, ROTATION, URGENT
from worker.errors import ConnectionUnusable, SchemaMismatch, SettingsError, SettingsErrors
from worker.ledger import heads, reads, slots
from worker.ledger.accounts import standings
from worker.ledger.database import Database
from worker.safe import Ring, Safe
from worker.settings import CONFIG, CONFIG_NAME, Settings, check_private, load_settings, private_files, read_address
from worker.signing import read_signers
from worker.sinks import find_unusable

QUEUES = (URGENT, BULK, ROTATION, CLOCK)
ANSWER_WITHIN = 2.0
LOOK_AGAIN = 0.5
STARTING = 45.0
"""Seconds that all workers of a `revoq up` have to begin in, before it is wrong that one does not answer."""
UNAUTHORISED = 401
LATE = 120 * SECOND
"""A job that is due for longer than this has nobody who rings for it, or nobody who listens."""


TICKS_MISSED = 6
"""Times that the clock's shortest period may pass, and never less than half a minute, until it counts as stopped."""


class Role(StrEnum):
    """What one container or process is for; its health is whether it does that."""

    WORKER = "worker"
    CLOCK = "clock"
    BEAT = "beat"
    FLOWER = "flower"


class Health(StrEnum):
    """How one thing is."""

    OK = "ok"
    WARN = "warn"  # worth knowing; revoq works all the same
    FAIL = "fail"  # wrong, and has to be mended


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what is so, and the command that mends it."""

    name: str
    state: Health
    says: str
    mend: str = ""


def examine(role: Role | None = None) -> list[Check]:
    """Look at everything, or at what one role needs; whatever one check raises is that check's own failure."""
    try:
        settings = adopt(load_settings())
    except SettingsErrors as errors:
        return [Check("settings", Health.FAIL, str(mistake), "mend the settings") for mistake in errors.mistakes]
    except SettingsError as error:
        return [Check("settings", Health.FAIL, str(error), "mend the settings")]
    checks = CHECKS if role is None else ROLES[role]
    return [found for check in checks for found in attempt(check, settings)]


def attempt(check: Callable[[Settings], Iterable[Check]], settings: Settings) -> Iterator[Check]:
    name = check.__name__.removeprefix("look_at_").replace("_", " ")
    try:
        yield from check(settings)
    except RevoqError as error:
        yield Check(name, Health.FAIL, str(error))


def look_at_settings(settings: Settings) -> Iterator[Check]:
    file = config_file(settings)
    came = f"from {file}" if file is not None else "by default and from variables"
    kind = "SQLite" if sqlite_file(settings) is not None else "PostgreSQL"
    broker = "the embedded broker" if settings.embedded_broker else "a broker of its own"
    yield Check("settings", Health.OK, f"{came}: {kind}, {broker}, {len(settings.connections)} connections")


def look_at_keys(settings: Settings) -> Iterator[Check]:
    if settings.seal_keys is None:
        yield Check("keys", Health.FAIL, f"there are none at {settings.keys_file}", "revoq keys generate")
        return
    safe = Safe(Ring.parse(settings.seal_keys))
    how = f"{safe.seal_key} seals" if safe.opens else f"seals to the public key {safe.seal_key}, and cannot open"
    yield Check("keys", Health.OK, f"{how}; {safe.fingerprint_key} makes fingerprints")


def look_at_files(settings: Settings) -> Iterator[Check]:
    """Keys, settings and state that others can read, and the folders that they are in."""
    wrong = [says for path in kept_files(settings) if (says := check_private(path))]
    folders = [settings.data_dir, run_dir(settings), broker_dir(settings)]
    for says in wrong:
        sentence, _, mend = says.rpartition(": ")
        yield Check("files", Health.FAIL, sentence, mend)
    for folder in folders:
        mode = stat.S_IMODE(folder.stat().st_mode) if folder.is_dir() else 0
        if mode & 0o077:
            says = f"{folder} has mode {mode:04o}, so others than its owner can look into it"
            yield Check("files", Health.FAIL, says, f"chmod 700 {folder}")
            wrong.append(says)
    if not wrong:
        yield Check("files", Health.OK, "keys, settings and state are readable by their owner alone")


def look_at_git(settings: Settings) -> Iterator[Check]:
    """A secret inside a git tree is one `git add .` away from everybody."""
    caught = [(path, tree) for path in private_files(settings) if (tree := git_tree(path)) is not None]
    for path, tree in caught:
        says = f"{path} is inside the git tree {tree}, one `git add` away from everybody"
        yield Check("git", Health.FAIL, says, f"move it out of {tree}")
    if not caught:
        yield Check("git", Health.OK, "no secret is inside a git tree")


def look_at_rules(settings: Settings) -> Iterator[Check]:
    folders = [builtin(), *settings.rules_path]
    for path in writable(folders):
        says = f"{path} can be written by others, who could send requests with our identities"
        yield Check("rules", Health.FAIL, says, f"chmod go-w {path}")
    catalogue, mistakes = read(folders)
    for mistake in RuleErrors(mistakes).mistakes:
        yield Check("rules", Health.FAIL, str(mistake), "revoq rules check")
    yield Check("rules", Health.OK, f"{len(catalogue)} rules can be used")


def look_at_connections(settings: Settings) -> Iterator[Check]:
    catalogue, _ = read([builtin(), *settings.rules_path])
    wrong = check_identities(settings, catalogue)
    for name, says in wrong.items():
        yield Check("connections", Health.FAIL, says, f"revoq connections test {name}")
    if not wrong:
        count = len(settings.connections)
        says = f"the secrets of all {count} can be read" if count else "there are none in the settings"
        yield Check("connections", Health.OK, says)


def look_at_sinks(settings: Settings) -> Iterator[Check]:
    wrong = find_unusable(settings)
    for name in settings.sinks:
        if name in wrong:
            yield Check("sinks", Health.FAIL, wrong[name], "mend the settings")
        else:
            yield Check("sinks", Health.OK, f"{name} can be used, as far as that can be told without asking anybody")


def look_at_notices(settings: Settings) -> Iterator[Check]:
    """Whether who is to be told has an address; nothing is sent."""
    # Apprise knows more than a hundred services, and takes its time to load them.
    from worker.telling import check  # noqa: PLC0415

    for to in sorted({route.to for route in settings.notices}):
        try:
            wrong = check(read_address(to))
        except ConnectionUnusable as error:
            yield Check("notices", Health.FAIL, str(error), "mend the settings")
            continue
        if wrong is None:
            yield Check("notices", Health.OK, f"{to} is an address, as far as that can be told without a message")
        else:
            yield Check("notices", Health.FAIL, f"{to}: {wrong}", "see github.com/caronc/apprise for how it is written")


def look_at_database(settings: Settings) -> Iterator[Check]:
    try:
        db = open_ledger(settings)
    except SchemaMismatch as error:
        yield Check("database", Health.FAIL, str(error), "revoq db upgrade")
        return
    yield Check("database", Health.OK, "it answers, and its tables are of this version")
    for hold in reads.holds(db):
        restores = hold.why.startswith(restored.WHY)
        mend = "revoq db reconcile --reason TEXT" if restores else "revoq hold off --reason TEXT"
        yield Check("hold", Health.WARN, hold.says, mend)
    yield from look_at_trail(db, settings)
    yield from look_at_accounts(db)
    yield from look_at_clock(db, settings)
    yield from look_at_schedules(db, settings)


def look_at_trail(db: Database, settings: Settings) -> Iterator[Check]:
    """Whether the heads of the audit trail are signed and leave this machine, and whether the ledger knows them all."""
    behind = restored.find_behind(settings, db)
    if behind is not None:
        yield Check("audit", Health.FAIL, behind.says, "revoq db reconcile")
    if settings.audit_keys is None:
        yield Check("audit", Health.WARN, "this process has no key that signs the trail", "revoq keys generate --audit")
    else:
        public = read_signers(settings.audit_keys)[0].public
        yield Check("audit", Health.OK, f"the trail is signed with {public}")
    if not settings.audit_sinks:
        says = "heads stay on this machine: whoever is root here can write the trail anew"
        yield Check("audit", Health.WARN, says, "name audit_sinks in revoq.yaml")
    for sink in heads.delivered(db, settings.audit_sinks):
        if sink.failed_at is not None:
            yield Check("audit", Health.FAIL, f"{sink.sink} takes no heads: {sink.says}", "mend that sink")
        elif sink.lag(db.now()) * SECOND > LATE:
            says = f"{sink.sink} lacks heads since {ago(sink.waits_since or 0, db.now())}"
            yield Check("audit", Health.FAIL, says, "revoq up, or start beat and the worker of the queue clock")
        else:
            yield Check("audit", Health.OK, f"{sink.sink} has the heads up to number {sink.number}")


def look_at_accounts(db: Database) -> Iterator[Check]:
    """Provider accounts at which nothing begins now."""
    now, known = db.now(), standings(db)
    resting = {name: says for name, each in known.items() if (says := tell_trouble(each, now)) is not None}
    for name, says in resting.items():
        yield Check("accounts", Health.WARN, f"{name}: {says}", "nothing, if that provider is known to be down")
    if not resting:
        yield Check("accounts", Health.OK, "no provider asked for patience, and none has failed too often")


def look_at_schedules(db: Database, settings: Settings) -> Iterator[Check]:
    """Schedules that cannot be used, and slots that somebody should look at."""
    catalogue, _ = read([builtin(), *settings.rules_path])
    wrong = unusable_rules(settings.schedules, catalogue)
    for mistake in wrong:
        yield Check("schedules", Health.FAIL, str(mistake), "mend the settings")
    last = [slot for name in settings.schedules if (slot := slots.latest(db, name)) is not None]
    incidents = [slot for slot in last if slot.state in INCIDENTS]
    for slot in incidents:
        says = f"the last slot of {slot.schedule} is {slot.state}: {slot.says}"
        yield Check("schedules", Health.WARN, says, f"revoq schedules run {slot.schedule}, once the cause is gone")
    if not wrong and not incidents:
        count = len(settings.schedules)
        says = f"the last slots of all {count} are as they should be" if count else "there are none in the settings"
        yield Check("schedules", Health.OK, says)


def look_at_broker(settings: Settings) -> Iterator[Check]:
    answers = ask_workers(ANSWER_WITHIN)
    while not all(answers.serves(queue) for queue in QUEUES) and _is_starting(settings):
        time.sleep(LOOK_AGAIN)
        answers = ask_workers(ANSWER_WITHIN)
    mend = "revoq up" if settings.embedded_broker else "start it, or look at REVOQ_BROKER_URL"
    if answers.broker:
        yield Check("broker", Health.FAIL, f"it does not answer ({answers.broker}); jobs are kept until it does", mend)
        return
    yield Check("broker", Health.OK, "it answers")
    missing = [queue for queue in QUEUES if not answers.serves(queue)]
    for queue in missing:
        yield Check("workers", Health.FAIL, f"nobody serves the queue {queue}", "revoq up, or start that worker")
    if not missing:
        yield Check("workers", Health.OK, f"{', '.join(sorted(answers.queues))} serve all queues")


def _is_starting(settings: Settings) -> bool:
    """Whether a `revoq up` is so young that its workers may not serve yet."""
    age = begun(settings) if settings.embedded_broker else None
    return age is not None and age < STARTING


def look_at_clock(db: Database, settings: Settings) -> Iterator[Check]:
    """Whether somebody rings: told from what should have happened by now."""
    vitals = reads.vitals(db)
    late = int(settings.ring_after * SECOND) + LATE
    mend = "revoq up, or start beat and the worker of the queue clock"
    wrong = False
    # Of many that are due, some wait for a budget or for room in their batch's window: what counts is whether it rings.
    rings = vitals.last_ring is not None and vitals.now - vitals.last_ring <= late
    if vitals.oldest_due is not None and vitals.now - vitals.oldest_due > late and not rings:
        wrong = True
        says = f"{vitals.due} jobs are due, one of them for {ago(vitals.oldest_due, vitals.now)}, and nobody takes them"
        yield Check("clock", Health.FAIL, says, mend)
    if vitals.unshredded:
        wrong = True
        says = f"{vitals.unshredded} sealed secrets are past their date; the clock shreds them within a minute"
        yield Check("clock", Health.WARN, says, mend)
    if vitals.unsealed and (vitals.last_seal is None or vitals.now - vitals.last_seal > late):
        wrong = True
        yield Check("clock", Health.WARN, f"{vitals.unsealed} rows of the audit trail are not sealed yet", mend)
    if not wrong:
        yield Check("clock", Health.OK, "nothing is late")


CHECKS: tuple[Callable[[Settings], Iterable[Check]], ...] = (
    look_at_settings,
    look_at_keys,
    look_at_files,
    look_at_git,
    look_at_rules,
    look_at_connections,
    look_at_sinks,
    look_at_notices,
    look_at_database,
    look_at_broker,
)


# ── one role ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def keys_that_open(settings: Settings) -> Iterator[Check]:
    """The key ring as a worker needs it."""
    if settings.seal_keys is not None and not Safe(Ring.parse(settings.seal_keys)).opens:
        says = "the key ring is one for producers, which seals and cannot open, and this is a worker"
        yield Check("keys", Health.FAIL, says, "give it the ring that revoq keys generate has made")
    else:
        yield from look_at_keys(settings)


def at_head(settings: Settings) -> Iterator[Check]:
    """The ledger as a worker needs it."""
    try:
        open_ledger(settings)
    except SchemaMismatch as error:
        yield Check("database", Health.FAIL, str(error), "revoq db upgrade")
    else:
        yield Check("database", Health.OK, "it answers, and its tables are of this version")


def worker_here(settings: Settings) -> Iterator[Check]:  # noqa: ARG001 - every check is asked the same
    """A worker of this host answers over the broker."""
    answers = ask_workers(ANSWER_WITHIN)
    host = socket.gethostname()
    here = sorted(name for name in answers.queues if name.rpartition("@")[2] == host)
    if answers.broker:
        yield Check("broker", Health.FAIL, f"it does not answer ({answers.broker})", "start it")
    elif not here:
        yield Check("worker", Health.FAIL, f"no worker of this host, {host}, answers over the broker", "restart it")
    else:
        yield Check("worker", Health.OK, f"{', '.join(here)} answers over the broker")


def clock_ticks(settings: Settings) -> Iterator[Check]:
    """The clock's worker of this host has swept the ledger."""
    yield ticked(settings, pulse.CLOCK, "swept the ledger")


def beat_ticks(settings: Settings) -> Iterator[Check]:
    """The beat of this host has rung, and the broker took it."""
    yield ticked(settings, pulse.BEAT, "rung")


def ticked(settings: Settings, name: str, does: str) -> Check:
    ago, most = pulse.since(settings, name), max(TICKS_MISSED * settings.sweep_every, 30.0)
    if ago is None:
        return Check(name, Health.FAIL, f"it has never {does} on this host", f"look at the log of {name}")
    state = Health.OK if ago <= most else Health.FAIL
    mend = "" if state is Health.OK else f"look at the log of {name}, then restart it"
    return Check(name, state, f"it has {does} {ago:.0f} seconds ago", mend)


def flower_serves(settings: Settings) -> Iterator[Check]:
    """Flower answers on this host, and a stranger is told whether there is a password."""
    url = f"http://{'127.0.0.1' if settings.flower_address == '0.0.0.0' else settings.flower_address}"  # noqa: S104 - a name for all
    try:
        with urlopen(Request(f"{url}:{settings.flower_port}/workers"), timeout=ANSWER_WITHIN):  # noqa: S310 - http above
            yield Check("flower", Health.OK, "it answers, to everybody who can reach it")
    except HTTPError as error:
        state = Health.OK if error.code == UNAUTHORISED else Health.FAIL
        yield Check("flower", state, f"it answers {error.code} to whoever has no password")
    except (URLError, OSError) as error:
        yield Check("flower", Health.FAIL, f"it does not answer: {error}", "restart it")


ROLES: dict[Role, tuple[Callable[[Settings], Iterable[Check]], ...]] = {
    Role.WORKER: (keys_that_open, at_head, worker_here),
    Role.CLOCK: (keys_that_open, at_head, worker_here, clock_ticks),
    Role.BEAT: (beat_ticks,),
    Role.FLOWER: (flower_serves,),
}

# ── where things are ──────────────────────────────────────────────────────────────────────────────────────────────────


def config_file(settings: Settings) -> Path | None:
    """The settings' file: the one that is named, the one here, or the one in the data folder."""
    named = os.environ.get(CONFIG)
    places = [Path(named).expanduser()] if named else [Path(CONFIG_NAME), settings.data_dir / CONFIG_NAME]
    return next((path.absolute() for path in places if path.is_file()), None)


def kept_files(settings: Settings) -> list[Path]:
    """Everything that is for its owner's eyes: what the settings know of, the settings' file, the database's parts."""
    found = private_files(settings)
    config, database = config_file(settings), sqlite_file(settings)
    found += [config] if config is not None else []
    found += (
        [database.with_name(database.name + part) for part in ("-wal", "-shm", "-turn")] if database is not None else []
    )
    return list(dict.fromkeys(found))


def git_tree(path: Path) -> Path | None:
    """The git tree that a file is in."""
    return next((folder for folder in path.resolve().parents if (folder / ".git").exists()), None)


def writable(folders: Iterable[Path]) -> Iterator[Path]:
    """Folders and files of rules that others can write."""
    for folder in folders:
        for path in [folder, *(sorted(folder.rglob("*")) if folder.is_dir() else [])]:
            if path.exists() and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                yield path


def row(check: Check) -> dict[str, str]:
    """A check as JSON has it."""
    return {"name": check.name, "state": check.state.value, "says": check.says, "mend": check.mend}
