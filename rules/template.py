"""Filling Liquid templates, strictly: an unknown name is an error, and every value is escaped for where it goes.

How a value is escaped is `escape`'s, what the filters do `filters`'. python-liquid parses; what it prints is ours.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from functools import lru_cache
from io import StringIO
from typing import TextIO
from urllib.parse import unquote

from liquid import BoundTemplate, Environment, Node, RenderContext, StrictDefaultUndefined
from liquid.builtin.content import ContentNode, Literal
from liquid.builtin.expressions import FilteredExpression, KeywordArgument, Path
from liquid.builtin.illegal import Illegal
from liquid.builtin.output import Output, OutputNode
from liquid.builtin.tags.assign_tag import AssignNode
from liquid.builtin.tags.capture_tag import CaptureNode, CaptureTag
from liquid.builtin.tags.comment_tag import CommentNode
from liquid.exceptions import LiquidError, UndefinedError
from liquid.expression import Expression
from liquid.utils import ReadOnlyChainMap

from rules.errors import TemplateError
from rules.escape import BaseUrl, Encoded, Place, write
from rules.filters import Random, accepts, guarded_filters, to_text
from rules.secret import MASK, Secret

__all__ = ["Origin", "Place", "Template", "compile_template", "split_origin"]

MOST_SOURCE = 1 << 18
MOST_OUTPUT = 1 << 22
PSEUDO = {Literal.name, Output.name, Illegal.name}
TAGS = frozenset({"assign", "capture", "if", "unless", "case", "for", "break", "continue", "comment", "#"}) | PSEUDO
"""The tags that templates may use. The others print past our escaping, load other templates, or keep counts."""

HOST = re.compile(r"(https?)://([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(?=[/?]|\s*\Z)")


# ── what python-liquid prints, and where ──────────────────────────────────────────────────────────────────────────


class _Paper(StringIO):
    """What is printed so far: where values stand in it, and whether a JSON string is open at its end."""

    def __init__(self, *, captured: bool = False) -> None:
        super().__init__()
        self.length = 0
        self.spans: list[tuple[int, int]] = []
        # A captured part is printed somewhere else; nearly always inside quotes, and the whole body is checked after.
        self.in_string, self._escaped, self._captured = captured, False, captured

    def write(self, text: str, /) -> int:
        self.length += len(text)
        if self.length > MOST_OUTPUT:
            raise TemplateError(f"the filled template would be longer than {MOST_OUTPUT} characters")
        if not self._captured:
            self._follow_quotes(text)
        return super().write(text)

    def write_value(self, text: str, value: str) -> int:
        """Print a value, and remember its place, so that it can be seen whether it makes up a path segment."""
        if not isinstance(value, BaseUrl):
            self.spans.append((self.length, self.length + len(text)))
        return self.write(text)

    def _follow_quotes(self, text: str) -> None:
        for character in text:
            if self._escaped:
                self._escaped = False
            elif character == "\\" and self.in_string:
                self._escaped = True
            elif character == '"':
                self.in_string = not self.in_string


class _Render(RenderContext):
    """One render: its place, and the time and randomness that were passed in. It knows no clock of its own."""

    def __init__(
        self,
        template: BoundTemplate,
        values: Mapping[str, object],
        place: Place,
        *,
        now: datetime | None,
        random: Random | None,
    ) -> None:
        super().__init__(template, globals=values)
        # python-liquid would also look for `now` and `today`, which read the clock.
        self.scope = ReadOnlyChainMap(self.locals, self.globals)
        self.place, self.now, self.random = place, now, random

    def get_buffer(self, buf: TextIO | None = None) -> StringIO:  # noqa: ARG002 - python-liquid's signature
        return _Paper(captured=True)


class _Output(OutputNode):
    """`{{ … }}`: the value, escaped for the place."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        assert isinstance(context, _Render)  # noqa: S101 - tells the type checker what `Template.fill` passes
        value = self.expression.evaluate(context)
        text = to_text(value)
        in_string = buffer.in_string if isinstance(buffer, _Paper) else True
        written = text if _masks(context) and MASK in text else write(text, context.place, in_string=in_string)
        return buffer.write_value(written, text) if isinstance(buffer, _Paper) else buffer.write(written)


class _OutputTag(Output):
    node_class = _Output


class _Capture(CaptureNode):
    """`{% capture %}`: what it holds was escaped when it was captured, and is not escaped again."""

    def _assign(self, context: RenderContext, buf: StringIO) -> None:
        assert isinstance(context, _Render)  # noqa: S101 - tells the type checker what `Template.fill` passes
        context.assign(self.name, Encoded(buf.getvalue(), context.place))


class _CaptureTag(CaptureTag):
    node_class = _Capture


class _Environment(Environment):
    loop_iteration_limit = 1000
    local_namespace_limit = 1 << 20

    def __init__(self, *, masked: bool) -> None:
        super().__init__(undefined=StrictDefaultUndefined)
        self.masked = masked
        self.tags = {name: tag for name, tag in self.tags.items() if name in TAGS}
        self.add_tag(_OutputTag)
        self.add_tag(_CaptureTag)
        self.filters = guarded_filters(masked=masked)


def _masks(context: RenderContext) -> bool:
    return isinstance(context.env, _Environment) and context.env.masked


ENVIRONMENTS = {masked: _Environment(masked=masked) for masked in (False, True)}


# ── templates ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Template:
    """A template that has been read: `names` are all that it asks for, `required` those without a `default`."""

    source: str
    names: frozenset[str]
    required: frozenset[str]
    _bound: Mapping[bool, BoundTemplate] = field(repr=False, compare=False)

    def fill(
        self,
        values: Mapping[str, str | Secret],
        place: Place,
        *,
        masked: bool = False,
        now: datetime | None = None,
        random: Random | None = None,
    ) -> str:
        """Fill the names in; with `masked`, print the mask for every secret and for all that a secret went into."""
        known = {name: _open(value, masked=masked) for name, value in values.items()}
        paper = _Paper()
        context = _Render(self._bound[masked], known, place, now=now, random=random)
        problem = _try_render(self._bound[masked], context, paper)
        if problem and masked:
            return MASK
        if problem:
            # Raised out here, so that no cause hangs on it whose text or frames hold a value.
            raise TemplateError(_explain(problem, self))
        return _finish(paper, place, masked=masked)


def _open(value: str | Secret, *, masked: bool) -> str:
    if isinstance(value, Secret):
        return MASK if masked else value.reveal()
    return value


def _try_render(bound: BoundTemplate, context: _Render, paper: _Paper) -> Exception | None:
    try:
        bound.render_with_context(context, paper)
    except TemplateError as error:
        return TemplateError(*error.args)
    except UndefinedError as error:
        return UndefinedError(error.token.value if error.token else "", token=None)
    except LiquidError as error:
        return type(error)("", token=None)
    except Exception as error:  # noqa: BLE001 - whatever a value does to a filter, it may not escape with a traceback
        return RuntimeError(type(error).__name__)
    return None


def _explain(problem: Exception, template: Template) -> str:
    if isinstance(problem, TemplateError):
        return f"{problem} (in the template {_shorten(template.source)})"
    if isinstance(problem, UndefinedError):
        asked = str(problem.message)
        name = asked if asked in template.names else "a name"
        return f"{name} is not defined, in the template {_shorten(template.source)}; add it, or give it a default"
    kind = type(problem).__name__ if isinstance(problem, LiquidError) else str(problem)
    return f"the template {_shorten(template.source)} cannot be filled ({kind})"


def _shorten(source: str) -> str:
    line = " ".join(source.split())
    return repr(line if len(line) <= 80 else line[:79] + "…")


def _finish(paper: _Paper, place: Place, *, masked: bool) -> str:
    text = paper.getvalue()
    if place is Place.HEADER:
        text = text.strip()
        return text if masked else write(text, place)
    if place is not Place.URL:
        return text
    if not masked:
        _check_segments(text, paper.spans)
        _check_url(text.strip())
    return text.strip()


def _check_segments(url: str, spans: Iterable[tuple[int, int]]) -> None:
    path_end = url.find("?") if "?" in url else len(url)
    for start, end in spans:
        if start > path_end:
            continue
        left = url.rfind("/", 0, start) + 1
        right = url.find("/", end, path_end) if "/" in url[end:path_end] else path_end
        if any(_climbs(segment) for segment in url[left : max(right, end)].split("/")):
            raise TemplateError("a value would make an empty, `.` or `..` segment of the path; it was refused")


def _climbs(segment: str) -> bool:
    """Whether a segment is none, or would climb at a server that decodes `%2F` before it looks at the path."""
    text = unquote(segment)
    return not text.strip() or any(part.strip() in {".", ".."} for part in re.split(r"[/\\]", text))


def _check_url(url: str) -> None:
    if re.search(r"[^!-~]", url):
        raise TemplateError("the URL's own text holds a space or a character outside ASCII: percent-encode it")
    if "#" in url or "\\" in url:
        raise TemplateError("the URL's own text holds `#` or a backslash, which have no place in a request")


@lru_cache(maxsize=4096)
def compile_template(source: str) -> Template:
    """Read a template; a mistake in it is a TemplateError that says what is wrong."""
    if len(source) > MOST_SOURCE:
        raise TemplateError(f"the template is longer than {MOST_SOURCE} characters")
    problem = ""
    try:
        bound = {masked: environment.from_string(source) for masked, environment in ENVIRONMENTS.items()}
        nodes = list(_walk(bound[False].nodes))
        local = {str(name) for node in nodes for name in (*node.template_scope(), *node.block_scope())}
        for node in nodes:
            _check_filters(node.expressions())
        asked = [(name, guarded) for node in nodes for name, guarded in _names_of(node.expressions())]
    except TemplateError as error:
        problem = str(error)
    except (LiquidError, RecursionError, ValueError, TypeError) as error:
        problem = str(error.message) if isinstance(error, LiquidError) else type(error).__name__
    if problem:
        raise TemplateError(f"the template {_shorten(source)} cannot be read: {problem}")
    return Template(
        source,
        frozenset(name for name, _ in asked if name not in local),
        frozenset(name for name, guarded in asked if not guarded and name not in local),
        bound,
    )


NO_RENDER = RenderContext(ENVIRONMENTS[False].from_string(""))


def _walk(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _walk(node.children(NO_RENDER, include_partials=False))


def _check_filters(expressions: Iterable[Expression]) -> None:
    for expression in expressions:
        _check_filters(expression.children())
        for used in (expression.filters or []) if isinstance(expression, FilteredExpression) else []:
            function = ENVIRONMENTS[False].filters.get(used.name)
            if function is None:
                raise TemplateError(f"there is no filter {used.name}{_nearest(used.name)}")
            named = [argument.name for argument in used.args if isinstance(argument, KeywordArgument)]
            if not accepts(function, len(used.args) - len(named), named):
                raise TemplateError(f"the filter {used.name} was given arguments that it does not take")


def _nearest(name: str) -> str:
    near = get_close_matches(name, ENVIRONMENTS[False].filters, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _names_of(expressions: Iterable[Expression]) -> Iterator[tuple[str, bool]]:
    """Each name that the expressions ask for, and whether a `default` stands behind it."""
    for expression in expressions:
        guarded = _is_guarded(expression)
        for child in expression.children():
            if guarded and child is getattr(expression, "left", None):
                yield from ((name, True) for name, _ in _names_of([child]))
            else:
                yield from _names_of([child])
        if isinstance(expression, Path):
            yield str(expression.head()), False


def _is_guarded(expression: Expression) -> bool:
    filters = expression.filters if isinstance(expression, FilteredExpression) else None
    return bool(filters) and filters is not None and filters[0].name == "default"


# ── where a URL goes ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Origin:
    """How a URL template begins: with the name of a base URL, or with a literal `https://host:port`."""

    base: str | None
    literal: str | None


def split_origin(source: str, hosts: Collection[str]) -> Origin:
    """Tell where a URL template goes, or refuse: a host never comes from a credential."""
    template = compile_template(source)
    every = list(_walk(template._bound[False].nodes))  # noqa: SLF001 - one thing, in one file
    local = {str(name) for node in every for name in (*node.template_scope(), *node.block_scope())}
    loud = [node for node in template._bound[False].nodes if not _is_silent(node)]  # noqa: SLF001
    first, rest = (loud[0], loud[1:]) if loud else (None, [])
    if isinstance(first, ContentNode):
        found = HOST.match(first.text.lstrip())
        whole = found is not None and (found.end() < len(first.text.strip()) or not rest)
        if found is not None and whole:
            return Origin(None, f"{found[1]}://{found[2]}{found[3] or ''}".lower())
    if isinstance(first, OutputNode):
        name = _bare_name(first.expression)
        if name in hosts and name not in local and _goes_on_with_path(rest):
            return Origin(name, None)
    expected = "https://host/…" + "".join(f" or {{{{ {name} }}}}/…" for name in sorted(hosts))
    raise TemplateError(f"a URL begins with {expected}, got {_shorten(source)}: a host never comes from a credential")


def _is_silent(node: Node) -> bool:
    return isinstance(node, AssignNode | CaptureNode | CommentNode) or (
        isinstance(node, ContentNode) and not node.text.strip()
    )


def _bare_name(expression: Expression) -> str | None:
    if isinstance(expression, FilteredExpression) and not expression.filters and isinstance(expression.left, Path):
        path = expression.left.path
        return path[0] if len(path) == 1 and isinstance(path[0], str) else None
    return None


def _goes_on_with_path(rest: list[Node]) -> bool:
    return not rest or (isinstance(rest[0], ContentNode) and rest[0].text.startswith(("/", "?")))
