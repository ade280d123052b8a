"""Exceptions into sentences and exit codes; loaded only when something has gone wrong."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator

import click
from sqlalchemy.exc import DBAPIError

from rules.errors import BadInput, MoveRefused, RevoqError, RuleError, TemplateError, UnknownRule
from worker.errors import (
    ConnectionUnusable,
    SafeError,
    SchemaMismatch,
    SettingsError,
    UnknownConnection,
    UnknownJob,
    UnknownSink,
)

FAILED = 1
WRONG_USE = 2
WRONG = (
    BadInput,
    ConnectionUnusable,
    MoveRefused,
    RuleError,
    SafeError,
    SchemaMismatch,
    SettingsError,
    TemplateError,
    UnknownConnection,
    UnknownJob,
    UnknownRule,
    UnknownSink,
)
"""What the person who asked can put right by asking otherwise, or by other settings; all else has simply failed."""


def tell(error: Exception) -> int:
    """Say what went wrong on standard error; the exit code that goes with it."""
    sentence, code = explain(error)
    for line in sentence.splitlines():
        click.echo(f"revoq: {line}", err=True)
    if code == FAILED and os.environ.get("REVOQ_LOG_LEVEL", "").lower() == "debug":
        click.echo("\n".join(places(error)), err=True)
    return code


def explain(error: Exception) -> tuple[str, int]:
    """The sentence for an error, and its exit code."""
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, RevoqError):
        return str(error), WRONG_USE if isinstance(error, WRONG) else FAILED
    if isinstance(error, DBAPIError):
        return f"the database does not answer: {first_line(error.orig)}", FAILED
    name = type(error).__name__
    return f"{name}: this is a defect in revoq; with REVOQ_LOG_LEVEL=debug it says where", FAILED


def first_line(error: BaseException | None) -> str:
    """The first line of what a driver says: the others repeat the statement."""
    return next(iter(str(error).strip().splitlines()), "") if error is not None else ""


def places(error: BaseException) -> Iterator[str]:
    """Where an error came from and what led to it; no message and no value, since either may hold a secret."""
    current: BaseException | None = error
    while current is not None:
        yield f"{type(current).__name__}, by way of"
        yield from (line.rstrip() for line in traceback.format_tb(current.__traceback__))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
