"""What Prometheus is told, all of it read from the ledger; the queries are `worker.ledger.figures`'.

Also what workers do at providers is read from the ledger, where every step has its times and its status: so one small
process tells it for all workers in all containers, nothing is lost with a worker that is killed, and no folder has to
be shared. Gauges are counted at each scrape from an index that holds open jobs alone. What has ended is added up: once
from the beginning, when the process starts, and from then on by what ended since the last scrape, over an index of
the times. So a counter is the ledger's own count, whoever asks and however often this process was started.

No label holds a secret, a subject or a batch's name: only rules, providers, schedules, accounts and our own words.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from rules.lifecycle import State, Verdict
from rules.units import SECOND
from scheduler.schedules import list_overdue, listed_keys
from worker.ledger import accounts, counters, figures, notices, reads
from worker.ledger.database import Database
from worker.ledger.figures import ANSWERED_WITHIN, ENDED_WITHIN, Rows
from worker.settings import Settings

LAG = 5.0
"""Seconds that what has ended is left alone before it is counted: a transaction may commit a little after its time."""


@dataclass(slots=True)
class Spread:
    """A histogram of one label: how many were within each limit, and how long they took together."""

    counts: Counter[int] = field(default_factory=Counter)
    micros: int = 0

    def add(self, bucket: int, count: int, micros: int) -> None:
        self.counts[bucket] += count
        self.micros += micros

    def buckets(self, within: Sequence[float]) -> list[tuple[str, float]]:
        """As Prometheus has them: each holds those before it."""
        limits = [*(f"{float(limit):g}" for limit in within), "+Inf"]
        return list(zip(limits, accumulate(self.counts[number] for number in range(len(limits))), strict=True))


class LedgerCollector(Collector):
    """Everything that is told of one ledger."""

    def __init__(self, database: Database, settings: Settings, lag: float = LAG) -> None:
        """Nothing is read before it is asked for."""
        self._database, self._settings, self._lag = database, settings, int(lag * SECOND)
        self._turn = threading.Lock()
        self._counted_to = 0
        self._ended: Counter[tuple[str, ...]] = Counter()
        self._asked: Counter[tuple[str, ...]] = Counter()
        self._looked: Counter[tuple[str, ...]] = Counter()
        self._deaths: defaultdict[str, Spread] = defaultdict(Spread)
        self._answers: defaultdict[str, Spread] = defaultdict(Spread)

    def collect(self) -> Iterable[Metric]:
        """Read the ledger; where it does not answer, say that and nothing else."""
        try:
            with self._turn:
                told = list(self._read())
        except DBAPIError:
            told = []
        yield GaugeMetricFamily("revoq_ledger_up", "Whether the ledger's database answers.", float(bool(told)))
        yield from told

    def catch_up(self) -> None:
        """Count what has ended since the last time."""
        until = self._database.now() - self._lag
        if until <= self._counted_to:
            return
        with self._database.read() as conn:
            ended = figures.ended(conn, self._counted_to, until)
            asked = figures.asked(conn, self._counted_to, until)
            looked = figures.looked(conn, self._counted_to, until)
        self._add_ended(ended)
        self._add_asked(asked)
        self._looked.update({(row.rule, row.found or ""): row.times for row in looked})
        self._counted_to = until

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _add_ended(self, rows: Rows) -> None:
        for row in rows:
            self._ended[row.state, row.verdict or "", row.rule, row.intent] += row.times
            if row.verdict == Verdict.REVOKED:
                self._deaths[row.rule].add(row.bucket, row.times, int(row.micros))

    def _add_asked(self, rows: Rows) -> None:
        for row in rows:
            provider = row.rule.partition(".")[0]
            self._asked[provider, str(row.status or row.trouble or "none")] += row.times
            self._answers[provider].add(row.bucket, row.times, int(row.micros))

    def _read(self) -> Iterator[Metric]:
        self.catch_up()
        with self._database.read() as conn:
            yield from self._standing(conn)
            yield from self._rescues(conn)
            yield from self._late(conn)
        yield from self._counted()
        yield from self._accounts()
        yield from self._schedules()

    def _standing(self, conn: Connection) -> Iterator[Metric]:
        stand: Counter[tuple[str, ...]] = Counter()
        parked: Counter[tuple[str, ...]] = Counter()
        for row in figures.standing(conn):
            stand[row.state, row.rule, row.intent] += row.times
            if row.state == State.PARKED:
                parked[row.reason or "", row.rule] += row.times
        yield _gauge("revoq_jobs", "Jobs that have not ended.", ("state", "rule", "intent"), stand)
        yield _gauge("revoq_jobs_parked", "Jobs that wait for a person, by cause.", ("reason", "rule"), parked)

    def _counted(self) -> Iterator[Metric]:
        labels = ("state", "verdict", "rule", "intent")
        yield _counter("revoq_jobs_ended", "Jobs that have ended.", labels, self._ended)
        says = "Looks at dead credentials that have ended, by what they found."
        yield _counter("revoq_rechecks", says, ("rule", "found"), self._looked)
        says = "Steps at providers, by the status of the answer or what was wrong where none came."
        yield _counter("revoq_provider_steps", says, ("provider", "answer"), self._asked)
        says = "From a job's submission to its credential's proved death."
        yield _histogram("revoq_time_to_proved_death_seconds", says, "rule", self._deaths, ENDED_WITHIN)
        says = "What a step at a provider takes, signing in and writing down included."
        yield _histogram("revoq_provider_step_seconds", says, "provider", self._answers, ANSWERED_WITHIN)

    def _rescues(self, conn: Connection) -> Iterator[Metric]:
        rescues = {(counter.value,): count for counter, count in counters.values(conn).items()}
        says = "Jobs that were rung again or taken over, since a bell or a worker was lost."
        yield _counter("revoq_sweep_rescues", says, ("cause",), rescues)

    def _late(self, conn: Connection) -> Iterator[Metric]:
        now = self._database.now()
        unsealed = figures.oldest_unsealed(conn)
        says = "For how long the oldest row of the audit trail has waited for its seal; 0 where none waits."
        yield GaugeMetricFamily(
            "revoq_audit_unsealed_age_seconds", says, _age(unsealed.at if unsealed is not None else None, now)
        )
        says = "Messages of notices that are not sent yet."
        yield GaugeMetricFamily("revoq_notices_unsent", says, notices.count_unsent(conn))

    def _accounts(self) -> Iterator[Metric]:
        now, known = self._database.now(), accounts.standings(self._database)
        broken = {(name,): int((each.broken_until or 0) > now) for name, each in known.items()}
        yield _gauge(
            "revoq_breaker_open", "Whether a provider account is left alone after failures.", ("account",), broken
        )
        failures = {(name,): each.failures for name, each in known.items()}
        yield _gauge("revoq_account_failures", "Failures in a row at a provider account.", ("account",), failures)
        held = {(hold.connection,): 1 for hold in reads.holds(self._database)}
        yield _gauge("revoq_hold", "Holds that are on; * holds everything.", ("account",), held)

    def _schedules(self) -> Iterator[Metric]:
        now = self._database.now()
        ages, overdue = {}, {}
        for name, schedule in self._settings.schedules.items():
            rows = listed_keys(self._database, schedule)
            ages[(name,)] = _age(min((row.born for row in rows if row.born is not None), default=None), now)
            overdue[(name,)] = len(list_overdue(schedule, rows, {}, now))
        yield _gauge("revoq_schedule_oldest_key_age_seconds", "Age of the oldest key.", ("schedule",), ages)
        says = "Keys that are older than their schedule allows."
        yield _gauge("revoq_schedule_overdue_keys", says, ("schedule",), overdue)


def _age(since: int | None, now: int) -> float:
    return 0.0 if since is None else max(now - since, 0) / SECOND


def _gauge(name: str, says: str, labels: Sequence[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, says, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _counter(name: str, says: str, labels: Sequence[str], values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(name, says, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _histogram(name: str, says: str, label: str, values: dict[str, Spread], within: Sequence[float]) -> Metric:
    family = HistogramMetricFamily(name, says, labels=[label])
    for key, spread in sorted(values.items()):
        family.add_metric([key], spread.buckets(within), spread.micros / SECOND)
    return family
