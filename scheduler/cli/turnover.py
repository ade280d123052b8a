"""The demo's rotations: five service users whose keys are replaced in a file sink, and what came of each in truth."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rules.lifecycle import Intent
from rules.secret import Secret
from scheduler.cli.desk import requester
from scheduler.cli.output import write_table
from scheduler.cli.present import standing
from scheduler.cli.stage import SINK, Rotation, Stage
from scheduler.submit import Order, submit
from worker.app import ROTATION
from worker.ledger.rows import Job
from worker.runtime import Runtime

Turned = Sequence[tuple[Rotation, Job]]


def order(runtime: Runtime, rotation: Rotation) -> str:
    """Submit one rotation, as `revoq rotate` does it; the job's id."""
    wanted = Order(
        rule=rotation.rule,
        requester=requester(),
        intent=Intent.ROTATE,
        variables=rotation.vars,
        connection=rotation.connection,
        cause="the demo",
        sinks=(SINK,),
        # Nobody waits an hour for a demo: the twin takes over, and the first ends at once.
        grace=0.0,
        queue=ROTATION,
    )
    return submit(runtime, wanted).job_id


def show(stage: Stage, turned: Turned) -> None:
    """What revoq came to, and what the consumer finds in its file in truth."""
    rows = [
        (
            f"{rotation.name}: {rotation.title}",
            standing(job.state, job.verdict, job.reason),
            (job.says or "").replace(stage.sandbox.base_url, ""),
            really(stage, rotation),
        )
        for rotation, job in turned
    ]
    write_table(["service user", "came to", "how it is known", "really"], rows, whole=0)


def really(stage: Stage, rotation: Rotation) -> str:
    """Which key the consumer has, and whether the provider takes it."""
    key = delivered(stage, rotation)
    which = "the old key" if key == rotation.old else "a new key"
    return f"{which} {'works' if stage.sandbox.works(rotation.provider, key) else 'does NOT work'}"


def delivered(stage: Stage, rotation: Rotation) -> Secret:
    """The key in the consumer's file."""
    return Secret(json.loads(stage.file_of(rotation.name).read_text("utf-8"))[rotation.secret_field])


def differences(stage: Stage, turned: Turned) -> Iterator[str]:
    """Every rotation that came to something else than it should, by revoq's word or in truth."""
    for rotation, job in turned:
        if (job.verdict, job.reason) != (rotation.verdict, rotation.reason):
            came = standing(job.state, job.verdict, job.reason)
            yield f"{rotation.name}: expected {rotation.verdict or rotation.reason}, got {came} ({job.says})"
        key = delivered(stage, rotation)
        if not stage.sandbox.works(rotation.provider, key):
            yield f"{rotation.name}: the key that its consumer has does not work"
        if (key != rotation.old) != (rotation.verdict is not None):
            yield f"{rotation.name}: its consumer should have {'a new' if rotation.verdict else 'the old'} key"
        if key != rotation.old and stage.sandbox.works(rotation.provider, rotation.old):
            yield f"{rotation.name}: the old key still works"
