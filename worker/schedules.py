"""The `schedules:` of the settings: what is done when and to whom, checked; doing it is `scheduler.schedules`'."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator, model_validator

from rules.calendar import Blackout, Calendar, check_cron
from rules.lifecycle import Intent
from rules.model import Duration, Model
from rules.units import SECOND
from worker import sources

Span = Annotated[Duration, Field(gt=0)]
Place = tuple[str, ...]


class Targets(Model):
    """Which of the rows that the rule's listing shows are meant: globs of names, ids and roles, and ages."""

    names: list[str] = Field(default=["*"], min_length=1)
    exclude: list[str] = Field(default_factory=list, alias="except")
    ids: list[str] = Field(default_factory=list)
    roles: list[str] = Field(default_factory=list)
    subjects: list[str] = Field(default_factory=list)  # whose, where the rule lists one person's
    max_age: Span | None = None
    unused_for: Span | None = None

    @property
    def narrows(self) -> bool:
        """Whether it says anything at all of whom it means."""
        return self.names != ["*"] or bool(self.ids or self.roles or self.max_age or self.unused_for)


class Schedule(Model):
    """One clock and what it is for."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$")
    intent: Literal["rotate", "revoke", "probe"]
    rule: str
    connection: str
    cron: str = ""
    every: Annotated[Duration, Field(ge=1)] | None = None
    timezone: str = "UTC"
    targets: Targets = Targets()
    variables: dict[str, str] = Field(default_factory=dict)  # of the rule, for all targets; secret ones as references
    window: Span | None = None
    jitter: Duration = 0.0
    catch_up: Literal["none", "once"] = "none"
    blackout: list[str] = Field(default_factory=list)
    concurrency: int = Field(default=1, ge=1, le=1000)
    canary: str | None = None
    stop_after_failures: int | None = Field(default=None, ge=1)
    sinks: list[str] | dict[str, list[str]] = Field(default_factory=list)

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        check_cron(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        if value not in (known := available_timezones()):
            raise ValueError(f"there is no time zone {value!r}{sources.nearest(value, known)}")
        return value

    @field_validator("blackout")
    @classmethod
    def _are_days(cls, value: list[str]) -> list[str]:
        Blackout.parse(value)
        return value

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        wrong = []
        if bool(self.cron) == (self.every is not None):
            wrong.append("expected either cron or every")
        if self.intent == "revoke" and not self.targets.narrows:
            wrong.append(
                "it would revoke all there is: say which with targets, by names, ids, roles, max_age, unused_for"
            )
        if self.sinks and self.intent != "rotate":
            wrong.append(f"only a rotation delivers something: take sinks out, or rotate instead of {self.intent}")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @cached_property
    def calendar(self) -> Calendar:
        """When it is due."""
        return Calendar(
            zone=ZoneInfo(self.timezone),
            cron=self.cron,
            every=None if self.every is None else timedelta(seconds=self.every),
            window=None if self.window is None else timedelta(seconds=self.window),
            catch_up=self.catch_up == "once",
            blackout=Blackout.parse(self.blackout),
        )

    @property
    def digest(self) -> str:
        """What tells its times from those of another calendar."""
        return hashlib.sha256(f"{self.cron}|{self.every}|{self.timezone}".encode()).hexdigest()

    @property
    def does(self) -> Intent:
        """What its jobs are asked to do."""
        return Intent(self.intent)

    @property
    def secret_files(self) -> list[Path]:
        """The files that its variables refer to."""
        return sources.files_of(self.variables.values())

    @property
    def when(self) -> str:
        """Its times in a few words."""
        return f"{self.cron} ({self.timezone})" if self.cron else f"every {self.every:g}s"

    def sinks_for(self, target: str) -> tuple[str, ...]:
        """Where this target's new secret goes: to all of them, or to those of the first glob that fits its name."""
        if isinstance(self.sinks, list):
            return tuple(self.sinks)
        return next((tuple(sinks) for glob, sinks in self.sinks.items() if fnmatchcase(target, glob)), ())


def micros(seconds: float | None) -> int | None:
    """A span as the ledger counts it."""
    return None if seconds is None else int(seconds * SECOND)


# ── names that have to exist ──────────────────────────────────────────────────────────────────────────────────────────


def unknown_connections(given: Mapping[str, Any], known: Collection[str]) -> Iterator[tuple[Place, str]]:
    """The place and a sentence for every connection that a schedule names and that does not exist."""
    for name, fields in given.items():
        wanted = fields.get("connection") if isinstance(fields, dict) else None
        if isinstance(wanted, str) and wanted not in known:
            yield (name, "connection"), f"no connection is called {wanted!r}{sources.nearest(wanted, known)}"


def unknown_sinks(given: Mapping[str, Any], known: Collection[str]) -> Iterator[tuple[Place, str]]:
    """The same for sinks, in either of the two ways in which they can be given."""
    for name, fields in given.items():
        sinks = fields.get("sinks") if isinstance(fields, dict) else None
        groups = {"": sinks} if isinstance(sinks, list) else sinks if isinstance(sinks, dict) else {}
        for glob, names in groups.items():
            for wanted in names if isinstance(names, list) else []:
                if isinstance(wanted, str) and wanted not in known:
                    place = (name, "sinks", *([str(glob)] if glob else []))
                    yield place, f"no sink is called {wanted!r}{sources.nearest(wanted, known)}"
