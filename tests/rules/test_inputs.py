"""What is handed in is checked before anything is written, and a finding's values come under the rule's own names."""

from __future__ import annotations

import pytest

from rules.errors import BadInput
from rules.inputs import check_inputs, own_names
from rules.loader import builtin, load, read_text
from rules.secret import Secret

CATALOGUE = load([builtin()])
PAIRED = """
rules:
  - id: paired.key
    name: Paired key
    pattern: 'pk_[a-z]{4}'
    examples: [pk_abcd]
    variables: {KEY_ID: {about: its id, aliases: [KEYID, akid]}, REGION: {about: where it is}}
    depends_on_rule: [{rule_id: other.id, variable: OTHER}]
"""


@pytest.mark.parametrize(
    ("rule", "foreign", "own"),
    [
        ("mongodb_atlas.api_key", {"PUBKEY": "abcdefgh", "TOKEN": "x"}, {"PUBLIC_KEY": "abcdefgh"}),
        ("twilio.api_key", {"TWILIOID": "SK1", "CHECKSUM": "1"}, {"KEY_SID": "SK1"}),
        ("aws.access_key", {"akid": "AKIA1"}, {"AKID": "AKIA1"}),
        ("sumologic.access_key", {"ACCESS_ID": "su1"}, {"ACCESS_ID": "su1"}),
        ("sendgrid.api_key", {"TOKEN": "x"}, {}),
    ],
)
def test_a_finding_s_names(rule: str, foreign: dict[str, str], own: dict[str, str]) -> None:
    """Each value that the rule has a use for is found under its own name, whatever the scanner calls it."""
    assert own_names(CATALOGUE.get(rule).rule, foreign) == own


def test_names_of_a_finding_in_doubt() -> None:
    """What another rule finds keeps its name; two values for one variable are refused, and none is repeated."""
    (loaded,), _ = read_text(PAIRED, "x.yaml")
    assert own_names(loaded.rule, {"keyid": "k1", "AKID": "k1", "other": "o"}) == {"KEY_ID": "k1", "OTHER": "o"}
    with pytest.raises(BadInput, match="two values for KEY_ID") as refused:
        own_names(loaded.rule, {"KEY_ID": "k1", "KEYID": "k2"})
    assert "k1" not in str(refused.value)


@pytest.mark.parametrize("alias", ["REGION", "region", "akid"])
def test_a_name_that_could_be_either_s(alias: str) -> None:
    """No two variables of a rule answer to one name."""
    found, (wrong,) = read_text(
        PAIRED.replace("about: where it is", f"about: where it is, aliases: [{alias}]"), "x.yaml"
    )
    assert found == []
    assert f"{alias.upper()} is there twice" in str(wrong)


def test_a_secret_where_none_is_taken() -> None:
    """A rule about what is only named says which variable names it."""
    given = {"LEASE_ID": "database/creds/readonly/EXAMPLEexampleEXAMPLEexa"}
    check_inputs(CATALOGUE.get("vault.lease"), None, given)
    with pytest.raises(BadInput, match=r"vault\.lease takes no secret: LEASE_ID names the credential"):
        check_inputs(CATALOGUE.get("vault.lease"), Secret("s3cr3t"), given)
