"""The log: one pipeline for our lines and every library's, in which known secrets are struck out before writing.

Who logs what is not decided here. A secret is struck out only while somebody holds it with `redacting`; that nothing
logs one in the first place is the job of `rules.secret.Secret`, which prints as dots.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import quote, quote_plus

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from rules.errors import RevoqError
from rules.secret import MASK, Secret
from worker.settings import Settings

NOISY = ("boto3", "botocore", "httpcore", "httpx", "urllib3")
"""Libraries that log whole URLs and headers below WARNING, whatever level was asked for."""

SILENT = ("apprise",)
"""Libraries that put addresses with passwords into whatever they say; who uses them tells how it went."""

TICKING = ("celery.app.trace", "celery.beat", "celery.worker.strategy")
"""Celery's own lines about each message: the clock's ticks would bury what happens; shown at debug level only."""

SHORTEST = 4
"""A shorter text would be struck out of every other word."""

# ── what is struck out ────────────────────────────────────────────────────────────────────────────────────────────


class Redactor:
    """The texts that must not be written at the moment, each counted by how many jobs hold it."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._held: Counter[str] = Counter()
        self._beginnings: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def redacting(self, *secrets: Secret) -> Iterator[None]:
        """Strike these out of every line that this process writes, in the forms that they travel in."""
        forms = {form for secret in secrets for form in _forms(secret.reveal())}
        self._count(forms, 1)
        try:
            yield
        finally:
            self._count(forms, -1)

    def _count(self, forms: set[str], change: int) -> None:
        with self._lock:
            for counter, texts in ((self._held, forms), (self._beginnings, [form[:SHORTEST] for form in forms])):
                for text in texts:
                    counter[text] += change
                    if not counter[text]:
                        del counter[text]

    def clean(self, text: str) -> str:
        """The text with everything that is held struck out."""
        if not self._may_hold(text):
            return text
        with self._lock:
            # The longest first: what is left of one form by another must not stay readable.
            longest_first = sorted(self._held, key=len, reverse=True)
        for form in longest_first:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def _may_hold(self, text: str) -> bool:
        """Whether a form begins anywhere in the text: nearly no line holds one, and there may be thousands of them."""
        beginnings = list(self._beginnings)
        if len(beginnings) <= len(text):
            return any(beginning in text for beginning in beginnings)
        return any(text[place : place + SHORTEST] in self._beginnings for place in range(len(text) - SHORTEST + 1))


def _forms(text: str) -> set[str]:
    """The text as it is, in URLs, in JSON, in Python's own notation, in base64, and each longer line of it."""
    forms = {
        text,
        quote(text, errors="surrogatepass"),
        quote(text, safe="", errors="surrogatepass"),
        quote_plus(text, errors="surrogatepass"),
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        repr(text.encode("utf-8", "surrogatepass"))[2:-1],
        *(line.strip() for line in text.splitlines()),
        *_base64_forms(text.encode("utf-8", "surrogatepass")),
    }
    return {form for form in forms if len(form) >= SHORTEST}


def _base64_forms(data: bytes) -> Iterator[str]:
    """What base64 makes of the bytes wherever they stand in what is encoded: `user:SECRET` shifts them.

    Of each of the three alignments only the characters are taken that depend on nothing but these bytes.
    """
    for shift, first in ((0, 0), (1, 2), (2, 3)):
        text = base64.b64encode(bytes(shift) + data).decode().rstrip("=")
        core = text[first : len(text) - ((shift + len(data)) % 3 != 0)]
        yield core
        yield core.replace("+", "-").replace("/", "_")


_redactor = Redactor()
redacting = _redactor.redacting
clean = _redactor.clean

# ── the pipeline ──────────────────────────────────────────────────────────────────────────────────────────────────


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send everything that this process logs to `stream` (standard error), in one form.

    Celery sets up logging of its own unless something listens to its signal `setup_logging`: the worker's app calls
    this from there.
    """
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    handler.setFormatter(_Formatter(_renderer(settings.log_format, target)))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in TICKING:
        logging.getLogger(name).setLevel(logging.DEBUG if settings.log_level == "debug" else logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _renderer(form: str, target: TextIO) -> Processor:
    if form == "console" or (form == "auto" and target.isatty()):
        return structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
    return structlog.processors.JSONRenderer(ensure_ascii=False)


def _describe_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put an exception into words here: every renderer's own way may show local variables."""
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found if isinstance(found, BaseException) else found[1] if isinstance(found, tuple) else None
    if error is not None:
        event["exception"] = describe(error)
    return event


def describe(error: BaseException, *, whole: bool = True) -> str:
    """Type and message of an error and of what led to it, the places it came through, and no variable's value.

    Unless it is to be told `whole`, an error that is not ours has no message: it may quote what nobody has taken for a
    secret yet, such as a provider's answer.
    """
    lines: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        ours = isinstance(current, RevoqError)
        says = f": {current}" if whole or ours else ""
        lines.append(f"{'because of ' if lines else ''}{type(current).__name__}{says}")
        if not ours:
            lines += _places(current.__traceback__)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n".join(lines)


def _places(start: TracebackType | None) -> Iterator[str]:
    for frame, line in traceback.walk_tb(start):
        yield f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"


def _mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Strike secrets out of the values before they are rendered: JSON's escapes would hide them from a later look."""
    return {str(name): _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {clean(str(name)): _masked(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(item) for item in value]
    return clean(value if isinstance(value, str) else repr(value))


SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
"""What every line gets, ours and the libraries'."""


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """The last stop before a line is written."""

    def __init__(self, renderer: Processor) -> None:
        super().__init__(
            foreign_pre_chain=SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _describe_exception,
                _mask,
                renderer,
            ],
        )

    def format(self, record: logging.LogRecord) -> str:
        """Look once more at the line as it is: what a renderer adds has passed no mask."""
        return clean(super().format(record))
