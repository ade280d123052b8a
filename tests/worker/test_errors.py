"""The worker's errors: one tree, told from the top of its file, each one a sentence."""

import inspect
import re

import pytest

from rules.errors import RevoqError
from worker import errors
from worker.errors import ExchangeError, KeyMissing, SettingsError, SettingsErrors, Trouble

OWN = [value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == errors.__name__]


def test_the_drawing_shows_every_error() -> None:
    """The tree on top of the file is the tree that there is: names and parents."""
    drawn: dict[str, str] = {}
    parents: dict[int, str] = {-1: "RevoqError"}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"((?:│   )*)[├└]── (\w+) ", line):
            depth = len(found[1]) // 4
            parents[depth] = found[2]
            drawn[found[2]] = parents[depth - 1]
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in OWN if issubclass(kind, Exception)}


@pytest.mark.parametrize("kind", [kind for kind in OWN if issubclass(kind, Exception)])
def test_every_error_is_for_a_person(kind: type[Exception]) -> None:
    """Whatever this house raises on purpose ends up as a sentence, not as a traceback."""
    assert issubclass(kind, RevoqError)


def test_a_settings_error_keeps_its_parts() -> None:
    """Place, setting and sentence can be listed apart; what is not known is left out."""
    mistake = SettingsError("claim", "expected a duration", "revoq.yaml:3")
    assert str(mistake) == "revoq.yaml:3: claim: expected a duration"
    assert (mistake.setting, mistake.says, mistake.where) == ("claim", "expected a duration", "revoq.yaml:3")
    assert str(SettingsErrors([mistake, SettingsError("", "no")])) == "revoq.yaml:3: claim: expected a duration\nno"


def test_an_exchange_error_says_kind_and_whether_it_was_sent() -> None:
    """What happens next hangs on these two; a kind that nobody knows is a bug."""
    error = ExchangeError("timeout", sent=True, says="https://h gave no answer")
    assert (error.kind, error.sent, str(error)) == (Trouble.TIMEOUT, True, "https://h gave no answer")
    with pytest.raises(ValueError, match="odd"):
        ExchangeError("odd", sent=False, says="")


def test_a_missing_key_says_what_to_do() -> None:
    """The id, and where its line goes."""
    assert str(KeyMissing("k1")) == "the key k1 is not on the key ring: put its line back into the file of keys"
