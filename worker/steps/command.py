"""A step that is a program: which may run at all, and what it is given; running it is `worker.process`'s."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from rules.errors import TemplateError
from rules.lifecycle import Outcome
from rules.message import Answer
from rules.request import parse_base
from rules.schema import Action, Command
from rules.secret import Secret
from rules.template import Place, compile_template
from worker.choosing import conclude_whole
from worker.errors import ExchangeError
from worker.process import run
from worker.reading import unanswered, unreadable
from worker.settings import Settings
from worker.step import Filling, Result, Tools, Values

ACTION = Command

SHORTEST = 4
"""A shorter secret would be found in every other word."""


def refuse(action: Action, settings: Settings) -> str | None:
    """Only programs that the settings name may run; at first that is none."""
    assert isinstance(action, Command)  # noqa: S101 - this kind is chosen by it
    program = action.run[0]
    if program in settings.commands_allowed:
        return None
    return f"the settings do not allow to run {program}; add it to commands_allowed, if its rule is to be trusted"


def ready(filling: Filling) -> CommandStep:
    """Fill in arguments, environment and input. A secret never becomes an argument: everybody can read those."""
    command = filling.part.action
    assert isinstance(command, Command)  # noqa: S101 - this kind is chosen by it
    values = {**filling.values, **{name: parse_base(url) for name, url in filling.bases.items()}}
    return CommandStep(
        filling,
        command,
        arguments=tuple(_argument(source, values) for source in command.run),
        environment={name: _hidden(source, values) for name, source in command.env.items()},
        stdin=_hidden(command.stdin, values) if command.stdin is not None else None,
    )


@dataclass(frozen=True, slots=True)
class CommandStep:
    """One program that is ready to be started."""

    filling: Filling
    command: Command
    arguments: tuple[str, ...]
    environment: Mapping[str, Secret] = field(repr=False)
    stdin: Secret | None = None

    @property
    def label(self) -> dict[str, str]:
        """The arguments, among which there is no secret."""
        return {"method": "RUN", "url": shlex.join(self.arguments)}

    def perform(self, tools: Tools) -> Result:
        """Run it, where that is allowed, and read its exit code and its output."""
        shown = f"RUN {shlex.join(self.arguments)}"
        try:
            why = refuse(self.command, tools.settings)
            if why is not None:
                return Result(Outcome.DENIED, f"nothing was started: {why}")
            ended = run(
                self.arguments,
                environment=self.environment,
                stdin=self.stdin,
                timeout=tools.settings.request_timeout,
                limit=tools.settings.body_limit,
            )
            return conclude_whole(self.filling, Answer(ended.code, {}, ended.output), tools.safe, shown)
        except ExchangeError as error:
            return unanswered(self.filling, error, shown)
        except TemplateError as error:
            return unreadable(self.filling, error, shown)


def _argument(source: str, values: Values) -> str:
    template = compile_template(source)
    secret = sorted(name for name in template.names if isinstance(values.get(name), Secret))
    if secret:
        raise TemplateError(f"{' and '.join(secret)} is secret, and everybody on a machine can read arguments")
    text = template.fill(values, Place.PLAIN)
    if any(_holds(text, value) for value in values.values() if isinstance(value, Secret)):
        raise TemplateError("a secret got into an argument, and everybody on a machine can read arguments")
    if "\0" in text:
        raise TemplateError(f"the argument {source!r} holds a NUL byte; no program can be given that")
    if text.startswith("-") and not source.startswith("-"):
        raise TemplateError(f"the argument {source!r} begins with a value that would be read as an option")
    return text


def _holds(text: str, secret: Secret) -> bool:
    return len(secret.reveal()) >= SHORTEST and secret.reveal() in text


def _hidden(source: str, values: Values) -> Secret:
    text = compile_template(source).fill(values, Place.PLAIN)
    if "\0" in text:
        raise TemplateError("a value for the environment or the input holds a NUL byte")
    return Secret(text)
