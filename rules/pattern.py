"""The patterns by which a secret is told: compiling them, and finding the secret in a text; nothing here sends it.

They run on the `regex` library as version 1, which is nearest to the Rust patterns that Kingfisher's rules are written
in, with ASCII classes and a time limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import regex

from rules.errors import BadInput, RuleError
from rules.schema import Rule

TIME_LIMIT = 1.0
MOST_TEXT = 1 << 16
FLAGS = regex.VERSION1 | regex.ASCII


@lru_cache(maxsize=1024)
def compile_pattern(source: str) -> regex.Pattern[str]:
    """Compile the pattern of a rule; a mistake in it is a RuleError."""
    return compile_filled(source)


def compile_filled(source: str) -> regex.Pattern[str]:
    """Compile a pattern that holds values: kept in no cache, and a mistake says nothing of its text."""
    problem = "it is too deep or too large"
    try:
        return regex.compile(source, FLAGS, cache_pattern=False)
    except regex.error as error:
        # Its own text, without the pattern, which may hold a value.
        problem = f"{getattr(error, 'msg', 'it is no pattern')} at position {getattr(error, 'pos', None) or 0}"
    except Exception:  # noqa: BLE001, S110 - the library raises many kinds for absurd patterns; all mean one thing
        pass
    raise RuleError(f"the pattern cannot be read: {problem}")


def find_secret(rule: Rule, text: str) -> dict[str, str] | None:
    """Find the first secret in a text, such as a rule's example: TOKEN and the named groups, in upper case."""
    for found in _scan(compile_pattern(rule.pattern), rule, text):
        return _groups_of(found)
    return None


def match_secret(rule: Rule, text: str) -> dict[str, str]:
    """TOKEN and the named groups of a secret that was handed in, which must be the secret and nothing else."""
    pattern = compile_pattern(rule.pattern)
    inside = False
    for found in _scan(pattern, rule, text):
        if _span_of_secret(found) == (0, len(text)):
            return _groups_of(found)
        inside = True
    bare = _compile_bare(rule.pattern)
    for found in _scan(bare, rule, text) if bare is not None else ():
        if found.span() == (0, len(text)):
            return _groups_of(found)
    hint = "; a secret is inside of it: hand in that alone, without what stands around it" if inside else ""
    if text != text.strip():
        hint = "; it begins or ends with white space"
    raise BadInput(
        f"what was handed in is not what rule {rule.id} expects: one whole {rule.name}, by the rule's pattern{hint}; "
        f"see it with: revoq rules show {rule.id}"
    )


def fits(source: str, text: str) -> bool:
    """Whether a pattern fits the whole of a text; what takes too long does not fit."""
    try:
        return compile_pattern(source).fullmatch(text, timeout=TIME_LIMIT) is not None
    except TimeoutError:
        return False


def _scan(pattern: regex.Pattern[str], rule: Rule, text: str) -> Iterator[regex.Match[str]]:
    if len(text) > MOST_TEXT:
        raise BadInput(f"expected a secret for the rule {rule.id}, got {len(text)} characters: that is no secret")
    late = False
    try:
        yield from pattern.finditer(text, timeout=TIME_LIMIT, overlapped=True)
    except TimeoutError:
        late = True
    if late:
        raise BadInput(f"the pattern of the rule {rule.id} did not come to an end in {TIME_LIMIT:.0f} s on this text")


def _secret_group(match: regex.Match[str]) -> int:
    """Tell the group that holds the secret: TOKEN, else the first unnamed one that took part, else the whole match."""
    named = match.re.groupindex
    for name, number in named.items():
        if name.upper() == "TOKEN" and match.span(number) != (-1, -1):
            return number
    unnamed = set(range(1, match.re.groups + 1)) - set(named.values())
    return next((number for number in sorted(unnamed) if match.span(number) != (-1, -1)), 0)


def _span_of_secret(match: regex.Match[str]) -> tuple[int, int]:
    start, end = match.span(_secret_group(match))
    return start, end


def _groups_of(match: regex.Match[str]) -> dict[str, str]:
    groups = {name.upper(): text for name, text in match.groupdict().items() if text is not None}
    return groups | {"TOKEN": match[_secret_group(match)]}


# ── a secret without its surroundings ─────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=1024)
def _compile_bare(source: str) -> regex.Pattern[str] | None:
    """Compile the group of the secret alone.

    Kingfisher's patterns often ask for what stands before a secret in a file, such as `linode_token =`; what is handed
    in here is the secret alone, and has to fit the group that would have caught it.
    """
    group = _cut_group(source)
    leading = regex.match(r"\s*(\(\?[a-z]+\))?", source)
    if group is None or leading is None:
        return None
    try:
        return compile_pattern((leading[1] or "") + group)
    except RuleError:
        return None


def _cut_group(source: str) -> str | None:
    """Cut the text of the group TOKEN, or of the first unnamed group, out of a pattern."""
    verbose = bool(regex.match(r"\s*\(\?[a-z]*x[a-z]*\)", source))
    open_groups: list[tuple[int, str]] = []
    first: str | None = None
    for position, sign in _parentheses_of(source, verbose=verbose):
        if sign.startswith("("):
            open_groups.append((position, sign))
        elif sign == ")" and open_groups:
            start, opening = open_groups.pop()
            text = source[start : position + 1]
            if "TOKEN" in opening.upper():
                return text
            if opening == "(" and (first is None or first in text):
                first = text
    return first


def _parentheses_of(source: str, *, verbose: bool) -> Iterator[tuple[int, str]]:
    """The parentheses of a pattern with their places, past escapes, character classes and comments."""
    parts = regex.compile(
        r"\\.|(?P<set>\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\])"
        + (r"|\#[^\n]*" if verbose else "")
        + r"|(?P<open>\((?:\?P?<\w+>|\?)?)|(?P<close>\))",
        regex.VERSION0 | regex.DOTALL,
    )
    for found in parts.finditer(source):
        if found["open"] or found["close"]:
            yield found.start(), found[0]
