"""The kinds of steps: one file each, found by walking this folder and chosen by the action that a rule asks for.

A file says which `ACTION` of the rule language it carries out, fills one in (`ready`) and says what speaks against it
here (`refuse`); what they have in common is `worker.step`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import cast

from rules.parts import part_of
from rules.plan import Plan
from rules.schema import Action, Rule
from worker.settings import Settings
from worker.step import Filling, Kind, Ready


def _find() -> Mapping[type[Action], Kind]:
    found = [cast(Kind, import_module(f"{__name__}.{module.name}")) for module in iter_modules(__path__)]
    return {kind.ACTION: kind for kind in found}


KINDS = _find()
"""Each kind by the action that it carries out."""


def ready(filling: Filling) -> Ready:
    """Fill a step in, whichever kind it is; raises the rules' own errors where that cannot be done."""
    return KINDS[type(filling.part.action)].ready(filling)


def refuse(plan: Plan, rule: Rule, settings: Settings) -> str | None:
    """Say why a plan cannot be carried out on this installation, before any of it is."""
    for planned in plan.steps:
        action = part_of(planned, rule).action
        why = KINDS[type(action)].refuse(action, settings)
        if why is not None:
            return f"the step {planned.name!r} of {rule.id} cannot be taken here: {why}"
    return None
