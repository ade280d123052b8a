"""Cases in which a part of the system itself is hurt: workers, clock, broker, database. They are played one by one."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from tests.acceptance.faults.case import EVERY, Call, Case, Hurt, Statement
from tests.acceptance.faults.rig import CLAIM, Rig
from tests.acceptance.faults.stage import PEOPLE, Stage
from tests.acceptance.test_schedules import wrong_clock
from tests.servers.road import Towards
from worker.app import BULK

POSTGRES = frozenset({"postgresql"})
DISK = frozenset({"disk"})
LONGER = CLAIM + 1.5
"""Seconds; longer than a claim."""
DEED = Call("DELETE", after=True)
SENT = Call("DELETE")
MADE = Call("POST", after=True, path="/v1/keys")
ROLLED = Call("POST", after=True, path="*/roll")
ASKED = Call("GET", path="/v1/whoami")

# ── what can be done ──────────────────────────────────────────────────────────────────────────────────────────────────


def kill_worker(rig: Rig, _: Stage) -> None:
    rig.kill_workers()


def kill_worker_twice(rig: Rig, _: Stage) -> None:
    """The one that takes over dies as well."""
    rig.kill_workers()
    time.sleep(LONGER)
    rig.kill_workers()


def term_worker(rig: Rig, _: Stage) -> None:
    """Warm: it ends what it has begun."""
    rig.signal_workers(signal.SIGTERM)


def quit_worker(rig: Rig, _: Stage) -> None:
    """Cold: it ends at once, as after a soft shutdown that took too long."""
    rig.signal_workers(signal.SIGQUIT)


def term_then_kill(rig: Rig, _: Stage) -> None:
    """As a machine does that has no more patience."""
    rig.signal_workers(signal.SIGTERM)
    time.sleep(0.5)
    rig.kill_workers()


def freeze_worker(rig: Rig, _: Stage) -> None:
    """It stands still in the middle of what it does, while another one is there."""
    rig.signal_workers(signal.SIGSTOP)
    rig.another_worker()


def thaw(rig: Rig, _: Stage) -> None:
    """After its claim was taken over."""
    time.sleep(LONGER)
    rig.signal_workers(signal.SIGCONT)


def settle_then_thaw(rig: Rig, stage: Stage) -> None:
    """After another one has ended its jobs."""
    rig.settle(stage, within=30)
    rig.signal_workers(signal.SIGCONT)


def one_more_worker(rig: Rig, _: Stage) -> None:
    rig.another_worker()


def kill_oldest_worker(rig: Rig, _: Stage) -> None:
    rig.workers[0].kill()


def forking_worker(rig: Rig, _: Stage) -> None:
    """A second worker, whose pool forks."""
    rig.also("fork")


def kill_child(rig: Rig, _: Stage) -> None:
    for child in rig.system.processes["fork"].family()[1:]:
        child.kill()


def kill_parent(rig: Rig, _: Stage) -> None:
    rig.system.processes["fork"].family()[0].kill()


def kill(*names: str) -> Hurt:
    def hurt(rig: Rig, _: Stage) -> None:
        for name in names:
            rig.system.kill(name)

    return hurt


def start(*names: str) -> Hurt:
    def mend(rig: Rig, _: Stage) -> None:
        time.sleep(1.0)
        for name in names:
            if name in rig.system.processes:
                rig.system.kill(name)
            rig.system.start(name, environ=rig.by_road)

    return mend


def term_clock(rig: Rig, _: Stage) -> None:
    rig.system.processes["clock"].send(signal.SIGTERM)


def freeze(name: str) -> Hurt:
    def hurt(rig: Rig, _: Stage) -> None:
        rig.system.freeze(name)
        time.sleep(LONGER)
        for member in rig.system.processes[name].family():
            member.send_signal(signal.SIGCONT)

    return hurt


def two_of_everything(rig: Rig, _: Stage) -> None:
    rig.also("clock-2", "beat-2")
    rig.another_worker()


def wrong(name: str, by: str) -> Hurt:
    """One more of a kind, which believes that it is another time."""

    def hurt(rig: Rig, _: Stage) -> None:
        rig.also(name, environ={**wrong_clock(), "FAKETIME": by})

    return hurt


def leaping(rig: Rig, _: Stage) -> None:
    """The one clock that there is has a time that can be set."""
    rig.system.kill("clock")
    file = rig.directory / "time"
    file.write_text("+0\n")
    told = {key: value for key, value in wrong_clock().items() if key != "FAKETIME"}
    rig.also("clock-2", environ={**told, "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"})


def leap(rig: Rig, _: Stage) -> None:
    """Ahead, and then back behind where it was."""
    for by in ("+2h", "-2h"):
        (rig.directory / "time").write_text(f"{by}\n")
        time.sleep(2.0)


# broker


def kill_redis(rig: Rig, _: Stage) -> None:
    rig.broker.kill()


def stop_redis(rig: Rig, _: Stage) -> None:
    rig.broker.stop()


def start_redis(rig: Rig, _: Stage) -> None:
    time.sleep(1.0)
    rig.broker.start()


def lose_redis(rig: Rig, _: Stage) -> None:
    """It comes back with nothing."""
    rig.broker.kill()
    for file in rig.broker.directory.glob("appendonlydir/*"):
        file.unlink()


def flush(rig: Rig, _: Stage) -> None:
    rig.broker.flushall()


def flush_bells(rig: Rig, stage: Stage) -> None:
    """Every bell is lost that was rung and not heard."""
    rig.signal_workers(signal.SIGSTOP)
    while not all(job.rings for job in rig.jobs(stage).values()):
        time.sleep(0.1)
    time.sleep(0.5)
    rig.broker.flushall()
    rig.signal_workers(signal.SIGCONT)


def flush_often(rig: Rig, _: Stage) -> None:
    for _number in range(20):
        rig.broker.flushall()
        time.sleep(0.15)


def freeze_redis(rig: Rig, _: Stage) -> None:
    rig.broker.process.send(signal.SIGSTOP)
    time.sleep(LONGER)
    rig.broker.process.send(signal.SIGCONT)


def fill_memory(rig: Rig, _: Stage) -> None:
    with rig.broker.connect() as client:
        client.config_set("maxmemory", "1mb")


def free_memory(rig: Rig, _: Stage) -> None:
    time.sleep(4.0)
    with rig.broker.connect() as client:
        client.config_set("maxmemory", "0")


def messages(client: redis.Redis) -> list[bytes | str]:
    return list(client.lrange(BULK, 0, -1)) + list(client.lrange("rotation", 0, -1))


def copy_messages(rig: Rig, stage: Stage) -> None:
    """Every message that is waiting is put there four more times, and once more each second."""
    rig.signal_workers(signal.SIGSTOP)
    time.sleep(2.5)
    with rig.broker.connect() as client:
        kept = messages(client)
        for message in kept * 4:
            client.lpush(BULK, message)
        rig.signal_workers(signal.SIGCONT)
        for _number in range(3):
            time.sleep(1.0)
            for message in kept:
                client.lpush(BULK, message)


def delay_messages(rig: Rig, stage: Stage) -> None:
    """Messages are taken out of the broker, and come when their jobs have ended long ago."""
    rig.signal_workers(signal.SIGSTOP)
    time.sleep(2.5)
    with rig.broker.connect() as client:
        kept = messages(client)
        client.delete(BULK, "rotation")
        rig.signal_workers(signal.SIGCONT)
        rig.settle(stage, within=30)
        for message in kept:
            client.lpush(BULK, message)
    time.sleep(1.0)


def send_nonsense(rig: Rig, _: Stage) -> None:
    """What is no message at all, and bells for jobs that do not exist."""
    with rig.broker.connect() as client:
        for text in ("", "nonsense", "{}", '{"body": "W10=", "headers": {}, "properties": {}}'):
            client.lpush(BULK, text)


def cut(road: str) -> Hurt:
    def hurt(rig: Rig, _: Stage) -> None:
        rig.roads[road].cut()
        time.sleep(2.0)

    return hurt


def reset(road: str) -> Hurt:
    def hurt(rig: Rig, _: Stage) -> None:
        rig.roads[road].reset()

    return hurt


def block(road: str, *directions: Towards) -> Hurt:
    """Longer than a claim; who connects anew gets through, and another worker does."""

    def hurt(rig: Rig, _: Stage) -> None:
        rig.roads[road].block(*directions)
        rig.another_worker()
        time.sleep(LONGER)

    return hurt


def heal(road: str) -> Hurt:
    def mend(rig: Rig, _: Stage) -> None:
        rig.roads[road].heal()

    return mend


# database


def kill_postgres(rig: Rig, _: Stage) -> None:
    rig.server.kill()


def stop_postgres(rig: Rig, _: Stage) -> None:
    rig.server.stop()


def start_postgres(rig: Rig, _: Stage) -> None:
    time.sleep(0.5)
    rig.server.start()


def hang_up_on_all(rig: Rig, _: Stage) -> None:
    rig.hang_up()


def freeze_postgres(rig: Rig, _: Stage) -> None:
    rig.signal_postgres(signal.SIGSTOP)
    time.sleep(LONGER)
    rig.signal_postgres(signal.SIGCONT)


def hold_in_transaction(rig: Rig, stage: Stage) -> None:
    """Its last word does not arrive, and the server does not hear either that it is gone."""
    rig.another_worker()
    found = rig.settle(stage, within=90)
    assert all(job.state in PEOPLE for job in found.values()), "the row was locked for as long as the silence lasted"


def fill_disk(rig: Rig, _: Stage) -> None:
    with rig.full_disk():
        time.sleep(3.0)
    # Without room for its log PostgreSQL stops by itself, and whoever watches over it starts it again.
    if rig.postgres is not None and not rig.postgres.process.alive:
        rig.postgres.start()


def restore_yesterday(rig: Rig, stage: Stage) -> None:
    """A backup is taken while the jobs are queued; they end; then the backup is put in the ledger's place."""
    name = rig.system.database_url.rpartition("/")[2]
    with standing_still(rig):
        rig.server.copy_database(name, f"{name}_yesterday")
    rig.settle(stage)
    with standing_still(rig):
        rig.server.drop_database(f"/{name}")
        rig.server.copy_database(f"{name}_yesterday", name)
    rig.server.drop_database(f"/{name}_yesterday")


@contextmanager
def standing_still(rig: Rig) -> Iterator[None]:
    """Nobody is at the ledger."""
    rig.signal_workers(signal.SIGSTOP)
    rig.system.freeze("clock")
    rig.runtime.database.dispose()
    rig.hang_up()
    yield
    rig.signal_workers(signal.SIGCONT)
    for member in rig.system.processes["clock"].family():
        member.send_signal(signal.SIGCONT)


INTENT = "WITH moved AS (UPDATE jobs SET acted="
"""How the statement begins that writes down what a mutating request is about to do."""
FAKETIME = frozenset({"faketime"})

# ── the cases ─────────────────────────────────────────────────────────────────────────────────────────────────────────

WORKER = [
    Case("worker killed while its delete is on its way", "the provider is asked before it is repeated", kill_worker,
         SENT),
    Case("worker killed after its delete was done", "the next one asks, and finds it dead", kill_worker, DEED),
    Case("worker killed after the step that must not be repeated", "it is not repeated", kill_worker, ROLLED),
    Case("worker killed before the step that must not be repeated", "it is not repeated blindly", kill_worker,
         Call("POST", path="*/roll")),
    Case("worker killed after a new key was made", "no key is left behind", kill_worker, MADE),
    Case("worker killed while it asks for a new key", "one new key, and no other", kill_worker, Call("POST",
         path="/v1/keys")),
    Case("worker killed in its first look", "nothing was done, and it is done once", kill_worker, ASKED),
    Case("worker killed in its last look", "what was done is not done again", kill_worker,
         Call("GET", path="/v1/whoami", skip=4)),
    Case("worker killed while it reads a list", "the list is read anew", kill_worker, Call("GET", path="/v1/keys")),
    Case("worker killed, and the next one too", "a third one asks", kill_worker_twice, DEED),
    Case("worker killed as soon as there is work", "another one does it", kill_worker),
    Case("SIGTERM in the middle of a delete", "what was begun is ended", term_worker, DEED),
    Case("SIGTERM in the middle of making a key", "what was begun is ended", term_worker, MADE),
    Case("SIGQUIT in the middle of a delete", "another one carries on", quit_worker, DEED),
    Case("SIGTERM, and SIGKILL when it takes too long", "another one carries on", term_then_kill, DEED),
    Case("worker frozen after its delete was done, thawed after its claim", "its late word changes nothing",
         freeze_worker, DEED, mend=thaw),
    Case("worker frozen while its delete is on its way", "the late delete finds nothing", freeze_worker, SENT,
         mend=settle_then_thaw, late=True),
    Case("worker frozen in the step that must not be repeated", "it takes effect once", freeze_worker,
         Call("POST", path="*/roll"), mend=settle_then_thaw, late=True, jobs=("roller",)),
    Case("worker frozen after a new key was made", "no key is lost unseen", freeze_worker, MADE, mend=thaw,
         jobs=("rotation", "rotation")),
    Case("two workers", "each job is carried by one", one_more_worker, jobs=EVERY * 2),
    Case("two workers, of which one is killed", "the other one carries on", kill_oldest_worker, DEED,
         before=one_more_worker, jobs=EVERY * 2),
    Case("child of a worker that forks is killed", "its jobs are carried on", kill_child, DEED, before=forking_worker),
    Case("parent of a worker that forks is killed", "its jobs are carried on", kill_parent, DEED,
         before=forking_worker),
]  # fmt: skip

CLOCK = [
    Case("clock killed", "its jobs are rung when it is back", kill("clock"), mend=start("clock")),
    Case("clock killed in the middle of a delete", "its jobs are rung when it is back", kill("clock"), DEED,
         mend=start("clock")),
    Case("SIGTERM to the clock", "its jobs are rung when it is back", term_clock, mend=start("clock")),
    Case("beat killed", "the sweep goes on when it is back", kill("beat"), mend=start("beat")),
    Case("clock frozen for longer than a claim", "nothing is rung twice for two workers", freeze("clock")),
    Case("two of everything", "each job is carried by one", before=two_of_everything, jobs=EVERY * 2),
    Case("a second clock, two hours ahead", "the database says what time it is", before=wrong("clock-2", "+2h"),
         needs=FAKETIME | POSTGRES),
    Case("a second clock, two hours behind", "the database says what time it is", before=wrong("clock-2", "-2h"),
         needs=FAKETIME | POSTGRES),
    Case("the only clock leaps ahead and back", "the database says what is due", leap, DEED, before=leaping,
         needs=FAKETIME | POSTGRES),
]  # fmt: skip

BROKER = [
    Case("Redis killed", "every job is rung again", kill_redis, mend=start_redis),
    Case("Redis killed in the middle of a delete", "the worker goes on without it", kill_redis, DEED, mend=start_redis),
    Case("Redis stopped and started", "every job is rung again", stop_redis, mend=start_redis),
    Case("Redis killed, and what it had on its disk is gone", "the ledger has it all", lose_redis, mend=start_redis),
    Case("FLUSHALL while nobody hears the bells", "every job is rung again", flush_bells),
    Case("FLUSHALL in the middle of a delete", "every job is rung again", flush, DEED),
    Case("FLUSHALL, over and over", "every job is rung again", flush_often, jobs=EVERY * 2),
    Case("Redis out of memory", "jobs are rung when there is room", fill_memory, mend=free_memory),
    Case("Redis frozen", "jobs are rung when it is back", freeze_redis),
    Case("every message many times", "each job is carried once", copy_messages, jobs=EVERY * 2),
    Case("messages that come when their jobs have ended", "nothing is done again", delay_messages),
    Case("what is no message", "it is dropped, and the next one is heard", send_nonsense),
    Case("Redis cut off from worker and clock", "jobs are rung when it is back", cut("broker"), mend=heal("broker")),
    Case("connections to Redis reset, in the middle of a delete", "they are made anew", reset("broker"), DEED),
    Case("Redis does not hear", "jobs are rung again", block("broker", Towards.SERVER), mend=heal("broker")),
    Case("Redis is not heard", "jobs are rung again", block("broker", Towards.CLIENT), mend=heal("broker")),
    Case("the disk of Redis is full", "jobs are rung when there is room", fill_disk, needs=DISK),
]  # fmt: skip

DATABASE = [
    Case("PostgreSQL killed", "what was committed is there", kill_postgres, mend=start_postgres, needs=POSTGRES),
    Case("PostgreSQL killed in the middle of a delete", "the next one asks", kill_postgres, DEED, mend=start_postgres,
         needs=POSTGRES),
    Case("PostgreSQL killed in the middle of making a key", "no key is left behind", kill_postgres, MADE,
         mend=start_postgres, needs=POSTGRES),
    Case("PostgreSQL stopped and started", "the workers find it again", stop_postgres, DEED, mend=start_postgres,
         needs=POSTGRES),
    Case("every connection to PostgreSQL ended by an operator", "they are made anew", hang_up_on_all, DEED,
         needs=POSTGRES),
    Case("PostgreSQL frozen for longer than a claim", "claims are as long as they were", freeze_postgres, DEED,
         needs=POSTGRES),
    Case("PostgreSQL cut off in the middle of a delete", "the next one asks", cut("database"), DEED,
         mend=heal("database"), needs=POSTGRES),
    Case("PostgreSQL cut off in the middle of making a key", "no key is left behind", cut("database"), MADE,
         mend=heal("database"), needs=POSTGRES),
    Case("PostgreSQL does not hear one worker", "another one takes over, and late words change nothing",
         block("database", Towards.SERVER), DEED, mend=heal("database"), needs=POSTGRES),
    Case("PostgreSQL is not heard by one worker", "another one takes over, and late words change nothing",
         block("database", Towards.CLIENT), DEED, mend=heal("database"), needs=POSTGRES),
    Case("worker cut off within a transaction", "the server ends that, and another one takes over", hold_in_transaction,
         Statement(INTENT, after=True), needs=POSTGRES),
    Case("connections to PostgreSQL reset before an intent is committed", "nothing has left", reset("database"),
         Statement(f"COMMIT {INTENT}"), needs=POSTGRES),
    Case("connections to PostgreSQL reset after an intent was committed", "the provider is asked", reset("database"),
         Statement(f"COMMIT {INTENT}", after=True), needs=POSTGRES),
    Case("worker killed before what it wrote is committed", "it was never written", kill_worker,
         Statement(f"COMMIT {INTENT}", skip=2), needs=POSTGRES),
    Case("worker killed after what it wrote was committed", "the next one goes on from there", kill_worker,
         Statement(f"COMMIT {INTENT}", after=True, skip=2), needs=POSTGRES),
    Case("the disk of PostgreSQL is full in the middle of a delete", "the next one asks", fill_disk, DEED,
         needs=POSTGRES | DISK),
    Case("yesterday's ledger in place of today's", "what is dead is not done again", restore_yesterday,
         jobs=("sendgrid", "keyring", "roller"), needs=POSTGRES,
         may=frozenset({"revoked", "already_revoked", "not_recognised"})),
]  # fmt: skip

CASES = [*WORKER, *CLOCK, *BROKER, *DATABASE]
