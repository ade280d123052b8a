"""Every rule that comes with revoq, and the sandbox's, proves itself: its examples, its recorded answers, its lint."""

from pathlib import Path

import pytest

from rules.lint import lint
from rules.loader import LoadedRule, builtin, load
from rules.pattern import find_secret, match_secret
from rules.recorded import check

SANDBOX = Path(__file__).parent.parent / "sandbox" / "rules"


@pytest.mark.parametrize("loaded", list(load([builtin(), SANDBOX])), ids=lambda loaded: loaded.rule.id)
def test_rule(loaded: LoadedRule) -> None:
    """A rule finds its examples and nothing else, reads its recorded answers as it says, and is not unwise."""
    rule = loaded.rule
    for example in rule.examples:
        found = find_secret(rule, example)
        assert found is not None
        assert match_secret(rule, found["TOKEN"])["TOKEN"] == found["TOKEN"]
    assert [example for example in rule.negative_examples if find_secret(rule, example)] == []
    assert check(loaded) == []
    assert [str(warning) for warning in lint(loaded)] == []
