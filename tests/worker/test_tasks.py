"""The Celery doors: a bell rings the door that has the intent's name, so every intent that can be planned needs one."""

from __future__ import annotations

import pytest

from rules.lifecycle import Intent
from worker import tasks


@pytest.mark.parametrize("intent", [Intent.REVOKE, Intent.PROBE, Intent.RESTORE, Intent.RECHECK])
def test_every_intent_has_its_door(intent: Intent) -> None:
    """A message to a door that is not there would be dropped, and rung again for ever."""
    assert getattr(tasks, intent.value).name == intent.value
