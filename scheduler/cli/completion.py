"""`revoq completion`: what makes a shell complete revoq's verbs and options; the completing is click's own."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command(name="completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print what a shell has to read so that the tab key completes verbs and options.

    It goes into the shell's start-up file, or into the folder that the shell keeps for this.
    """
    door = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows all three
    click.echo(kind(door.command, {}, "revoq", "_REVOQ_COMPLETE").source())
