"""A secret in memory shows itself to nobody who does not ask for it by name."""

from __future__ import annotations

import copy
import pickle

import pytest

from rules.secret import MASK, Secret

TEXT = "planted-secret-value"


def test_it_prints_as_dots_everywhere() -> None:
    """repr, str, formatting with any width, inside containers and in exceptions."""
    secret = Secret(TEXT)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>40}", repr([secret]), repr(ValueError(secret))]

    assert all(TEXT not in text for text in shown)
    assert shown[0] == MASK


def test_it_cannot_be_pickled_copied_or_used_as_a_key() -> None:
    """What would carry it out of this process, or tell something about it, is refused."""
    for spread in (pickle.dumps, copy.deepcopy, hash):
        with pytest.raises(TypeError):
            spread(Secret(TEXT))


def test_one_trailing_line_break_is_not_part_of_it() -> None:
    """`echo` and files add one; what is more belongs to the secret."""
    assert Secret.normalised("a\n") == Secret.normalised("a\r\n") == Secret("a")
    assert Secret.normalised("a\n\n") == Secret("a\n")
    assert Secret.normalised(" a ") == Secret(" a ")


def test_a_fingerprint_depends_on_text_and_key() -> None:
    """It tells one secret from another, and nothing without its key."""
    one = Secret(TEXT).fingerprint(b"k1")

    assert one == Secret(TEXT).fingerprint(b"k1")
    assert one != Secret(TEXT).fingerprint(b"k2")
    assert one != Secret(TEXT + "x").fingerprint(b"k1")
    assert len(one) == 64
    assert TEXT not in one
