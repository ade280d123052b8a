"""The kinds of sinks: one file each, found by walking this folder and chosen by `kind` in the settings.

A file holds its kind as `SINK`: which settings describe it (`PLACE`), what speaks against it here (`refuse`), and the
three verbs. What the kinds have in common, and what they are given, is `worker.sink`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from rules.errors import RevoqError
from worker.errors import SinkBroken
from worker.safe import Safe
from worker.settings import Place, Settings
from worker.sink import Held, Record, Sink, Target

__all__ = ["KINDS", "Held", "Record", "Sink", "Target", "find_refusal", "find_unusable", "open_sink"]


def _find() -> Mapping[type[Place], type[Sink]]:
    found: list[type[Sink]] = [import_module(f"{__name__}.{module.name}").SINK for module in iter_modules(__path__)]
    return {kind.PLACE: kind for kind in found}


KINDS = _find()
"""Each kind by the settings that describe it."""


def open_sink(name: str, settings: Settings, safe: Safe) -> Sink:
    """The sink of this name; raises UnknownSink, or SinkBroken where it cannot be used on this machine."""
    place = settings.sink(name)
    kind = KINDS[type(place)]
    if (why := kind.refuse(place, settings)) is not None:
        raise SinkBroken(name, "", why)
    return kind(place, settings, safe)


def find_refusal(name: str, settings: Settings) -> str | None:
    """Why this sink cannot be used on this machine, or None; raises UnknownSink. Nobody is asked."""
    place = settings.sink(name)
    return KINDS[type(place)].refuse(place, settings)


def find_unusable(settings: Settings) -> dict[str, str]:
    """What is wrong with each sink as far as that can be told without asking anybody; empty where nothing is."""
    wrong = {}
    for name, place in settings.sinks.items():
        try:
            why = KINDS[type(place)].refuse(place, settings)
            for reference in place.references:
                place.resolve(reference)
        except RevoqError as error:
            wrong[name] = str(error)
        else:
            wrong |= {name: f"sink {name}: {why}"} if why is not None else {}
    return wrong
