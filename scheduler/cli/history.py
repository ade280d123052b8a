"""`revoq history`: was this credential handled, and when; the secret comes on standard input and is not kept."""

from __future__ import annotations

import click

from rules.secret import Secret
from scheduler.cli import story
from scheduler.cli.desk import open_ledger, open_settings
from scheduler.cli.intake import SecretCommand, read_secret
from scheduler.cli.output import JSON, formatted, say, write_json, write_table
from scheduler.cli.present import ago, job_line, key_row, standing, told, what
from worker.ledger import reads, rechecks
from worker.safe import Ring, Safe


@click.command(name="history", cls=SecretCommand)
@formatted
def command(form: str) -> None:
    """Tell every job that dealt with a credential, by the credential alone.

    The secret is read from standard input, or asked for without echo. It is compared by its fingerprint under every
    key that there ever was, and is not kept. Of a key that was rotated, old or new, it says how far it is.
    """
    settings = open_settings()
    safe = Safe(Ring.parse(settings.seal_keys or Secret("")))
    db = open_ledger(settings)
    secret = read_secret("The secret to look for")
    fingerprints = list(safe.fingerprints(secret).values())
    lines = reads.history(db, fingerprints)
    keys = {(key.rule, key.connection): key for key in reads.staged_keys(db, fingerprints)}
    if form == JSON:
        staged = [keys.get((line.rule, line.connection)) for line in lines]
        write_json(
            [
                {**job_line(line), "key": None if key is None else key_row(key)}
                for line, key in zip(lines, staged, strict=True)
            ]
        )
    elif not lines:
        say("No job has dealt with this credential.")
    else:
        now = db.now()
        rows = [
            (line.id, what(line), standing(line.state, line.verdict, line.reason), ago(line.first_seen, now))
            for line in lines
        ]
        write_table(["id", "what", "stands", "age"], rows)
        for credential in dict.fromkeys(line.credential for line in lines):
            coming = [row.due for row in rechecks.of_credential(db, credential) if row.ended_at is None]
            if coming:
                say(f"\nLooked at again on {told(min(coming))}, and {len(coming)} times in all.")
        for key in keys.values():
            say(f"{story.describe_key(key)}, a key of {key.subject or key.rule}.")
