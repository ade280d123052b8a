"""A secret is told by its rule's pattern, whole; what does not fit is refused without being repeated."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import BadInput, RevoqError, RuleError
from rules.pattern import compile_pattern, find_secret, fits, match_secret
from rules.schema import Rule


def rule(pattern: str) -> Rule:
    """A rule with this pattern."""
    return Rule(id="example.token", name="example token", pattern=pattern)


@pytest.mark.parametrize(
    ("pattern", "text", "groups"),
    [
        (r"\bSG\.(?P<key_id>\w{3})\.\w{4}\b", "SG.abc.defg", {"KEY_ID": "abc", "TOKEN": "SG.abc.defg"}),
        (r"\b(SG\.(?P<KEY_ID>\w{3})\.\w{4})\b", "SG.abc.defg", {"KEY_ID": "abc", "TOKEN": "SG.abc.defg"}),
        (r"(?P<A>a)?(?P<TOKEN>b(c))", "bc", {"TOKEN": "bc"}),
        ("(?xi)\n \\b ( ex_ [[:alnum:]]{3} ) \\b  # a token (of ours)\n", "EX_ab1", {"TOKEN": "EX_ab1"}),
    ],
)
def test_groups(pattern: str, text: str, groups: dict[str, str]) -> None:
    """TOKEN is the group of that name, else the first unnamed one, else the whole; named groups come in upper case."""
    assert match_secret(rule(pattern), text) == groups


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(?xi)\n linode (?:.|[\\n\\r]){0,32}? \\b ( [A-F0-9]{4} ) \\b", "ab12"),
        (r"key\s*=\s*[\"'(]?([)(]{1}a[[:alnum:]\]]{2})", "(a]2"),
        ("(?x) foo # (no group\n =(\\w+)", "bar"),
    ],
)
def test_bare(pattern: str, text: str) -> None:
    """A pattern that asks for what stands before a secret in a file takes the secret alone as well."""
    assert match_secret(rule(pattern), text)["TOKEN"] == text


@pytest.mark.parametrize(
    "text", ["ex_abc\n", " ex_abc", "ex_abcd", "ex_ab", "", "TOKEN=ex_abc", "ex_abc ex_abd", "ex_aßc"]
)
def test_refused(text: str) -> None:
    """What is not the secret and nothing else is refused, and the message does not repeat it."""
    with pytest.raises(BadInput, match="expects: one whole example token") as caught:
        match_secret(rule(r"\b(ex_[a-z]{3})\b"), text)
    assert all(part not in str(caught.value) for part in text.split() if len(part) > 3)


def test_hints() -> None:
    """The message tells what is most likely wrong."""
    with pytest.raises(BadInput, match="white space"):
        match_secret(rule("ex_[a-z]{3}"), "ex_abc\n")
    with pytest.raises(BadInput, match="without what stands around it"):
        match_secret(rule("ex_[a-z]{3}"), "TOKEN=ex_abc")


def test_endless() -> None:
    """A pattern that does not come to an end is cut off, and so is a text that is no secret."""
    with pytest.raises(BadInput, match="did not come to an end"):
        match_secret(rule(r"^(?:(?:a+)+)+[bc]?\z|((?:a|a)+)+b"), "a" * 80 + "!")
    with pytest.raises(BadInput, match="characters: that is no secret"):
        match_secret(rule("a"), "a" * 100_000)


def test_find() -> None:
    """In an example a secret is found among other text."""
    assert find_secret(rule(r"ex_([a-z]{3})"), "TOKEN=ex_abc;") == {"TOKEN": "abc"}
    assert find_secret(rule(r"ex_([a-z]{3})"), "nothing") is None


def test_fits() -> None:
    """A variable's pattern has to fit the whole value."""
    assert fits("[a-f0-9]+", "c0ffee")
    assert not fits("[a-f0-9]+", "c0ffee\n")


@pytest.mark.parametrize("pattern", ["(", "[", "a{2,1}", r"\Q", "(?P<a>x)(?P<a", "*"])
def test_bad_patterns(pattern: str) -> None:
    """A pattern that cannot be read is a mistake of the rule, told with the position."""
    with pytest.raises(RuleError, match=r"the pattern cannot be read: .* at position"):
        compile_pattern(pattern)


@given(
    pattern=st.text(alphabet="ab()[]{}|*+?\\dw^$.:<P>x#i ", min_size=1, max_size=15),
    text=st.text(alphabet="ab)(#x", max_size=12),
)
def test_any(pattern: str, text: str) -> None:
    """No pattern and no text raises anything but our own errors; what is found is what was given."""
    with suppress(RevoqError):
        assert match_secret(rule(pattern), text)["TOKEN"] == text


@given(text=st.text(min_size=12, max_size=40))
def test_never_repeated(text: str) -> None:
    """A refusal repeats no part of what was handed in."""
    with pytest.raises(BadInput) as caught:
        match_secret(rule(r"\bex_[a-z]{300}\b"), text)
    if len(set(text)) == len(text):
        assert not any(a + b in str(caught.value) for a, b in pairwise(text) if not (a + b).isascii())
    assert text not in str(caught.value)
