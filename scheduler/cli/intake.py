"""What comes in and may be secret: standard input, a prompt without echo, variables by reference; never an argument.

Nothing here is kept or checked against a rule's pattern; that is `scheduler.submit`'s.
"""

from __future__ import annotations

import io
import os
import re
import select
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from rules.errors import BadInput
from rules.inputs import is_secret, variables_of
from rules.schema import Rule
from rules.secret import Secret
from scheduler.cli.output import note
from scheduler.errors import SecretInSight

LONGEST = 1 << 20
"""Bytes of a secret: more is a file that was piped in by mistake."""
PATIENCE = 2.0
"""Seconds after which a person is told what we wait for."""
SHORTEST_TOLD = 8
"""A shorter secret would be found in any text."""
HOW = "give it on standard input, such as `pass show NAME | {path}`, or without a pipe at the prompt"
MEANS_SECRET = re.compile("secret|token|key|pass|credential")
REFERENCES = "expected {name}=env:VARIABLE or {name}=file:/path, since arguments can be read by everybody here"


class SecretCommand(click.Command):
    """A command that takes a secret: what was given as an argument is refused, and is not repeated."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            # Looked at first: a missing option would otherwise be all that is said.
            _, rest, _ = self.make_parser(ctx).parse_args(list(args))
        except click.NoSuchOption as error:
            if error.possibilities and not MEANS_SECRET.search(error.option_name):
                raise
            says = f"one of the options does not exist, and is not repeated here. Is it a secret? {_how(ctx)}"
            raise click.UsageError(says, ctx) from None
        if rest and not ctx.resilient_parsing:
            raise click.UsageError(
                f"a secret is never an argument, since everybody on this machine can read arguments: {_how(ctx)}. "
                "If it was a secret, it now stands in your shell's history as well",
                ctx,
            )
        return super().parse_args(ctx, args)


def _how(ctx: click.Context) -> str:
    return HOW.format(path=ctx.command_path)


def read_secret(what: str) -> Secret:
    """The secret from standard input, or from a prompt where that is a terminal; nothing is refused."""
    found = read_optional_secret(what, ask=True)
    if found is None:
        raise BadInput("the secret is empty: nothing came on standard input")
    return found


def read_optional_secret(what: str, *, ask: bool) -> Secret | None:
    """The same where it may be missing: an empty pipe means that there is none, and a terminal is asked if `ask`."""
    if sys.stdin is None or (sys.stdin.isatty() and not ask):
        return None
    if sys.stdin.isatty():
        found = Secret.normalised(click.prompt(what, hide_input=True, default="", show_default=False, err=True))
    else:
        found = _read_pipe()
    return found or None


def _read_pipe() -> Secret:
    stream = sys.stdin.buffer
    _announce(stream)
    data = stream.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise BadInput(f"standard input holds more than {LONGEST >> 20} MiB: expected one secret")
    try:
        return Secret.normalised(data.decode("utf-8"))
    except UnicodeDecodeError:
        pass
    # Raised out here, so that no context carries the bytes.
    raise BadInput("standard input is not UTF-8 text: expected one secret")


def _announce(stream: Any) -> None:
    """A pipe that nobody writes to would look like a hang."""
    try:
        ready, _, _ = select.select([stream.fileno()], [], [], PATIENCE)
    except (OSError, ValueError, AttributeError, io.UnsupportedOperation):
        return
    if not ready:
        note("waiting for the secret on standard input; where there is none, say </dev/null")


def secret_variables(rule: Rule) -> frozenset[str]:
    """The variables whose values are secret: those that the rule calls so, and what another rule would find."""
    return frozenset(name for name in variables_of(rule) if is_secret(rule, name))


def split_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE` texts as names and values; what is wrong is named by its name alone."""
    found: dict[str, str] = {}
    mistakes = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            mistakes.append("--var: expected NAME=VALUE, got something else, which is not repeated here")
        elif name in found:
            mistakes.append(f"--var {name} was given twice")
        else:
            found[name] = value
    if mistakes:
        raise BadInput("\n".join(mistakes))
    return found


def read_variables(given: Mapping[str, str], rule: Rule) -> dict[str, str]:
    """The values, with the secret ones read from where they were said to be."""
    hidden = secret_variables(rule)
    found: dict[str, str] = {}
    mistakes = []
    for name, value in given.items():
        try:
            found[name] = _resolve(name, value) if name in hidden else value
        except BadInput as error:
            mistakes.append(error)
    if len(mistakes) == 1:
        raise mistakes[0]
    if mistakes:
        raise BadInput("\n".join(map(str, mistakes)))
    return found


def _resolve(name: str, reference: str) -> str:
    kind, colon, place = reference.partition(":")
    if not colon or kind not in {"env", "file"} or not place:
        says = REFERENCES.format(name=f"--var {name}")
        raise SecretInSight(f"{name} is a secret: {says}")
    if kind == "env":
        if not os.environ.get(place):
            raise BadInput(f"--var {name}: the environment variable {place} is not set")
        return Secret.normalised(os.environ[place]).reveal()
    try:
        return Secret.normalised(Path(place).read_text("utf-8")).reveal()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadInput(f"--var {name}: cannot read {place}: {reason}") from None


def refuse_in_sight(secret: Secret | None, texts: Mapping[str, str | None]) -> None:
    """Refuse an order whose secret also stands in a text that is kept and shown."""
    if secret is None or len(secret.reveal()) < SHORTEST_TOLD:
        return
    for name, text in texts.items():
        if text is not None and secret.reveal() in text:
            raise SecretInSight(f"{name} holds the secret itself; it would be kept and shown: say it without")
