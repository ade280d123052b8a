"""The action that runs a program (ours), and which variables it never gets."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import Field, model_validator

from rules.model import Name
from rules.schema.action import Action

UNSAFE_ENVIRONMENT = re.compile(
    r"(PATH|IFS|ENV|BASH_.*|LD_.*|DYLD_.*|GCONV_PATH|LOCPATH|NODE_.*|NPM_CONFIG_(NODE|SCRIPT).*|PYTHON.*|PERL.*|RUBY.*"
    r"|JAVA_TOOL_OPTIONS|JDK_JAVA_OPTIONS|_JAVA_OPTIONS|GIT_.*|EDITOR|VISUAL|PAGER|SHELL)$",
    re.IGNORECASE,
)
"""Variables by which a program is made to load or start other code than its own."""

ExitCode = Annotated[int, Field(ge=0, le=255)]


class Command(Action):
    """Ours: a program, by its absolute path and an argument list; never a shell.

    Each argument is a template that holds no secret, since everybody on a machine can read arguments: a secret goes by
    `env` or `stdin`. The exit code is read as the answer's status, and what it printed as its body. A base URL is
    known to it by its name.
    """

    run: list[str] = Field(min_length=1)
    env: dict[Name, str] = {}
    stdin: str | None = None
    ok: list[ExitCode] = Field(default=[0], min_length=1)
    already_gone: list[ExitCode] = []
    retry: list[ExitCode] = []

    @property
    def templates(self) -> list[str]:
        """Arguments, environment and input."""
        return [*self.run, *self.env.values(), self.stdin or ""]

    @property
    def changes(self) -> bool:
        """A program may do anything; `mutating: false` on the step says that it only looks."""
        return True

    @property
    def idempotent(self) -> bool:
        """Nobody knows; `repeatable` on the step says so."""
        return False

    @property
    def title(self) -> str:
        """The arguments."""
        return " ".join(self.run)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.run[0].startswith("/") or "{" in self.run[0]:
            raise ValueError(f"run: expected the program's absolute path as the first word, got {self.run[0]!r}")
        twice = set(self.ok) & set(self.already_gone) | set(self.retry) & {*self.ok, *self.already_gone}
        if twice:
            raise ValueError(f"the exit code {min(twice)} cannot mean two things")
        unsafe = sorted(name for name in self.env if UNSAFE_ENVIRONMENT.match(name))
        if unsafe:
            raise ValueError(f"env: {', '.join(unsafe)} would change which code runs; it is never passed on")
        return self
