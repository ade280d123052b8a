"""`revoq keys`: make the keys that seal secrets, and put a new one in front; what they do is `worker.safe`'s."""

from __future__ import annotations

import click

from scheduler.cli.desk import open_ledger, open_settings, requester
from scheduler.cli.output import say
from worker.errors import SafeError
from worker.ledger import audit
from worker.safe import Ring, rotate_ring, write_ring
from worker.settings import Settings


@click.group(name="keys")
def command() -> None:
    """Make the keys that seal secrets, and put a new one in front.

    Whoever has the file of keys and the database can read every secret that is not shredded yet; whoever loses the
    file has lost these secrets, and the answer to "was it this one?".
    """


@command.command(name="generate")
def generate() -> None:
    """Write a first file of keys into the data folder, readable by its owner alone."""
    settings = open_settings()
    refuse_others(settings)
    write_ring(settings.keys_file, Ring.generate())
    say(f"The keys are in {settings.keys_file}, mode 0600. Keep a copy where the database's backups are not.")


@command.command(name="rotate")
def rotate() -> None:
    """Put a new seal key in front; the others stay and open what they have sealed."""
    settings = open_settings()
    refuse_others(settings)
    db = open_ledger(settings)
    before = Ring.parse(settings.seal_keys) if settings.seal_keys is not None else None
    after = rotate_ring(settings.keys_file)
    new = after.seals[0].id
    with db.begin() as connection:
        audit.append_global(
            connection,
            at=db.now(),
            event="keys_rotated",
            actor=requester(),
            seals_with=new,
            sealed_with=before.seals[0].id if before is not None else None,
        )
    say(f"{new} seals from now on; {len(after.seals) - 1} older keys stay to open what they sealed.")
    say("Running workers go on with the keys that they know and cannot open what the new one seals: restart them now.")


def refuse_others(settings: Settings) -> None:
    """Refuse where the keys come from elsewhere: a file that nothing reads would only look like a key."""
    if settings.seal_keys is None:
        return
    try:
        ours = settings.keys_file.read_text("utf-8") == settings.seal_keys.reveal()
    except (OSError, UnicodeDecodeError):
        ours = False
    if not ours:
        raise SafeError(
            "the settings take the keys from elsewhere (REVOQ_SEAL_KEYS or a file of their own), and not from "
            f"{settings.keys_file}: put a new key there, in front of the others"
        )
