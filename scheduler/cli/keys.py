"""`revoq keys`: make keys that seal and sign, put new ones in front, give away what only seals; using is others'."""

from __future__ import annotations

from pathlib import Path

import click

from rules.secret import Secret
from scheduler.cli.desk import open_ledger, open_settings, requester
from scheduler.cli.output import say
from worker.errors import SafeError
from worker.ledger import audit
from worker.safe import Ring, rotate_ring, write_ring
from worker.settings import Settings
from worker.signing import rotate_signer, write_signer


@click.group(name="keys")
def command() -> None:
    """Make the keys that seal secrets and the key that signs the audit trail, and put new ones in front.

    Whoever has the file of keys and the database can read every secret that is not shredded yet; whoever loses the
    file has lost these secrets, and the answer to "was it this one?".
    """


@command.command(name="generate")
@click.option("--audit", "trail", is_flag=True, help="Only the key that signs the audit trail.")
def generate(*, trail: bool) -> None:
    """Write first files of keys into the data folder, readable by their owner alone."""
    settings = open_settings()
    if not trail:
        refuse_others(settings)
        write_ring(settings.keys_file, Ring.generate())
        say(f"The keys are in {settings.keys_file}, mode 0600. Keep a copy where the database's backups are not.")
    if trail or settings.audit_keys is None:
        refuse_others_trail(settings)
        public = write_signer(settings.audit_keys_file).public
        say(f"The key that signs the audit trail is in {settings.audit_keys_file}: only the clock needs it.")
        say(f"Whoever verifies needs its public half: {public}")


@command.command(name="producers")
def producers() -> None:
    """Print the key ring for a machine that only submits: it seals for the workers and cannot open anything.

    It goes into REVOQ_SEAL_KEYS or REVOQ_SEAL_KEYS_FILE there. It is to be kept from others all the same: with it and
    the database one can tell whether a secret that one guesses was ever dealt with.
    """
    ring = Ring.parse(open_settings().seal_keys or Secret(""))
    click.echo(ring.for_producers().text.reveal(), nl=False)


@command.command(name="rotate")
@click.option("--audit", "trail", is_flag=True, help="The key that signs the audit trail instead.")
def rotate(*, trail: bool) -> None:
    """Put a new seal key in front; the others stay and open what they have sealed."""
    settings = open_settings()
    if trail:
        rotate_trail(settings)
        return
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


def rotate_trail(settings: Settings) -> None:
    """Put a new key for the trail in front; the sealer has the old one announce it."""
    refuse_others_trail(settings)
    public = rotate_signer(settings.audit_keys_file).public
    say(f"{public} signs the audit trail, once the clock is restarted and the old key has announced it.")
    say("Leave the old key's line in the file until then; whoever verifies by the old public key can go on doing so.")


def refuse_others(settings: Settings) -> None:
    """Refuse where the keys come from elsewhere: a file that nothing reads would only look like a key."""
    _refuse_others(settings.seal_keys, settings.keys_file, "REVOQ_SEAL_KEYS")


def refuse_others_trail(settings: Settings) -> None:
    """The same for the key that signs the trail."""
    _refuse_others(settings.audit_keys, settings.audit_keys_file, "REVOQ_AUDIT_KEYS")


def _refuse_others(keys: Secret | None, file: Path, variable: str) -> None:
    if keys is None:
        return
    try:
        ours = file.read_text("utf-8") == keys.reveal()
    except (OSError, UnicodeDecodeError):
        ours = False
    if not ours:
        raise SafeError(
            f"the settings take the keys from elsewhere ({variable} or a file of their own), and not from "
            f"{file}: put a new key there, in front of the others"
        )
