"""From rule, intent and inputs to steps: the order, the conditions, and what is tied to the credential."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from rules.errors import BadInput, RuleErrors
from rules.lifecycle import Intent
from rules.loader import LoadedRule, builtin, load
from rules.plan import Plan, Planned, Purpose
from rules.planning import plan

CATALOGUE = load([builtin()])

FIRST_OF_A_LIST = """
rules:
  - id: example.first
    name: Example
    pattern: '\\b(ex_[a-z]{8})\\b'
    examples: [ex_abcdefgh]
    revocation:
      type: HttpMultiStep
      content:
        steps:
          - name: lookup
            request:
              method: GET
              url: https://api.example.com/keys
              headers: {Authorization: "Bearer {{ TOKEN }}"}
              response_matcher: [{type: StatusMatch, status: [200]}]
            extract:
              KEY_ID: {type: JsonPath, path: "$.keys[0].id"}
          - name: delete
            request:
              method: DELETE
              url: "https://api.example.com/keys/{{ KEY_ID }}"
              headers: {Authorization: "Bearer {{ TOKEN }}"}
              response_matcher: [{type: StatusMatch, status: [204]}]
"""


def steps_of(rule: str | LoadedRule, *given: str, intent: Intent = Intent.REVOKE) -> list[tuple[str, str]]:
    """Purpose and name of each step."""
    loaded = CATALOGUE.get(rule) if isinstance(rule, str) else rule
    return [(step.purpose.value, step.name) for step in plan(loaded, intent, given).steps]


def load_text(tmp_path: Path, text: str) -> LoadedRule:
    """The one rule of a file."""
    path = tmp_path / "example.yaml"
    path.write_text(text)
    (loaded,) = load([path])
    return loaded


def test_a_key_that_names_itself_needs_no_list() -> None:
    """SendGrid with a connection: read the very key, delete it, look twice."""
    assert steps_of("sendgrid.api_key", "TOKEN", "ACTOR") == [
        ("before", "probe"),
        ("recognise", "recognise"),
        ("read", "read"),
        ("act", "delete"),
        ("ask", "probe"),
        ("after", "probe"),
    ]


def test_without_a_connection_the_key_signs_for_itself() -> None:
    """The alternatives of a rule are chosen by what is known, before anything is sent."""
    assert steps_of("sendgrid.api_key", "TOKEN") == [
        ("before", "probe"),
        ("act", "delete_itself"),
        ("ask", "probe"),
        ("after", "probe"),
    ]


def test_proof_by_another_identity_is_preferred_where_it_can_be_asked() -> None:
    """Tailscale: with a connection the key's own row is read, without one the key is tried."""
    assert ("after", "verify") in steps_of("tailscale.api_key", "TOKEN", "ACTOR")
    assert ("after", "probe") in steps_of("tailscale.api_key", "TOKEN")


def test_a_token_that_is_found_later_is_probed_when_it_is_found() -> None:
    """Pangolin by user and id: the first probe comes after the list, and both endings stay open."""
    assert steps_of("pangolin.token", "USER_ID", "TOKEN_ID", "ACTOR") == [
        ("read", "find"),
        ("before", "probe"),
        ("act", "revoke_itself"),
        ("act", "revoke_by_id"),
        ("ask", "probe"),
        ("after", "probe"),
    ]


def test_a_token_in_hand_never_goes_by_its_id() -> None:
    """Self-revocation lasts until the expiry, by id it lapses after a day."""
    assert ("act", "revoke_by_id") not in steps_of("pangolin.token", "TOKEN", "ACTOR")


def test_by_its_id_alone_there_is_nothing_to_probe() -> None:
    """Named by its id, a token is tied to nothing else and can be acted on, without proof."""
    made = plan(CATALOGUE.get("pangolin.token"), Intent.REVOKE, {"TOKEN_ID", "ACTOR"})

    assert [(step.purpose, step.name, step.tied) for step in made.steps] == [(Purpose.ACT, "revoke_by_id", True)]
    assert made.steps[0].lapses == 86400


def test_the_first_of_a_list_is_tied_to_nothing(tmp_path: Path) -> None:
    """An index into a list does not single a credential out, however the request was signed."""
    made = plan(load_text(tmp_path, FIRST_OF_A_LIST), Intent.REVOKE, {"TOKEN"})

    (act,) = [step for step in made.steps if step.purpose is Purpose.ACT]
    assert not act.tied


def test_the_answer_about_oneself_is_tied(tmp_path: Path) -> None:
    """A definite path in an answer to the credential's own request is the provider's "who am I"."""
    text = FIRST_OF_A_LIST.replace("$.keys[0].id", "$.current.id")

    made = plan(load_text(tmp_path, text), Intent.REVOKE, {"TOKEN"})

    assert all(step.tied for step in made.steps)


@pytest.mark.parametrize(
    ("rule", "given", "says"),
    [
        ("sendgrid.api_key", {"ACTOR"}, "standard input"),
        ("jupyterhub.token", {"TOKEN"}, "--connection"),
        ("pangolin.token", {"ACTOR"}, "TOKEN_ID"),
        ("pangolin.token", {"TOKEN_ID"}, "--connection"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_sent(rule: str, given: Collection[str], says: str) -> None:
    """A missing secret, variable or connection gets a sentence that says how to give it."""
    with pytest.raises(BadInput, match=says):
        plan(CATALOGUE.get(rule), Intent.REVOKE, given)


def test_what_is_only_named_needs_no_secret() -> None:
    """A lease is tied by its id, as the requester names it; without the id nothing is planned."""
    made = plan(CATALOGUE.get("vault.lease"), Intent.REVOKE, {"ACTOR", "LEASE_ID"})
    assert [(step.purpose.value, step.name, step.tied) for step in made.steps][:3] == [
        ("before", "probe", True),
        ("read", "read", True),
        ("act", "revoke", True),
    ]
    assert made.tied == ("LEASE_ID",)
    with pytest.raises(BadInput, match="LEASE_ID"):
        plan(CATALOGUE.get("vault.lease"), Intent.REVOKE, {"ACTOR"})


def test_our_own_identity_is_known_where_a_connection_signs() -> None:
    """It needs no variable and ties nothing: that a token is our app's does not say which token it is."""
    made = plan(CATALOGUE.get("github.app_token"), Intent.REVOKE, {"ACTOR", "TOKEN"})
    (delete,) = [step for step in made.steps if step.purpose is Purpose.ACT]
    assert "ACTOR_CLIENT_ID" in delete.uses
    assert "ACTOR_CLIENT_ID" not in made.tied
    with pytest.raises(BadInput, match="--connection"):
        plan(CATALOGUE.get("github.app_token"), Intent.REVOKE, {"TOKEN"})


def test_the_plan_survives_the_ledger() -> None:
    """What is stored is read back as the same plan with the same hash."""
    made = plan(CATALOGUE.get("pangolin.token"), Intent.REVOKE, {"USER_ID", "TOKEN_ID", "ACTOR"})

    assert Plan.from_json(made.as_json()) == made
    assert Plan.from_json(made.as_json()).hash == made.hash


def test_other_inputs_make_another_plan() -> None:
    """The hash tells plans apart that would do different things."""
    loaded = CATALOGUE.get("pangolin.token")

    assert (
        plan(loaded, Intent.REVOKE, {"TOKEN", "ACTOR"}).hash != plan(loaded, Intent.REVOKE, {"TOKEN_ID", "ACTOR"}).hash
    )


def test_an_intent_without_a_plan_is_refused() -> None:
    """What this version cannot do is said, not half done."""
    with pytest.raises(BadInput, match="rotate"):
        plan(CATALOGUE.get("sendgrid.api_key"), Intent.ROTATE, {"TOKEN"})


def test_an_aws_key_is_looked_up_looked_at_and_only_then_disabled() -> None:
    """By a connection: whose it is, whether it is disabled already, and both kinds of proof afterwards."""
    assert steps_of("aws.access_key", "TOKEN", "AKID", "ACTOR") == [
        ("before", "probe"),
        ("recognise", "recognise"),
        ("read", "owner"),
        ("before", "disabled"),
        ("act", "deactivate"),
        ("ask", "disabled"),
        ("after", "disabled"),
        ("ask", "probe"),
        ("after", "probe"),
        ("ours", "probe"),
        ("undo", "activate"),
    ]
    assert ("act", "delete") in steps_of("aws.access_key", "TOKEN", "AKID", "ACTOR", "DELETE")
    assert ("act", "deactivate_itself") in steps_of("aws.access_key", "TOKEN", "AKID")


def test_a_program_is_a_step_and_its_arguments_hold_no_secret(tmp_path: Path) -> None:
    """What it is given ties it as a request's values do; a secret among the arguments is refused when it is loaded."""
    program = """
          - name: end
            command: {run: [/usr/bin/end, "{{ KEY_ID }}"], stdin: "{{ TOKEN }}"}
"""
    text = FIRST_OF_A_LIST.partition("          - name: delete")[0].replace("keys[0]", "current") + program

    made = plan(load_text(tmp_path, text), Intent.REVOKE, {"TOKEN"})

    assert [(step.purpose, step.repeatable, step.tied) for step in made.steps][-1] == (Purpose.ACT, False, True)
    with pytest.raises(RuleErrors, match="TOKEN is secret, and everybody on a machine can read arguments"):
        load_text(tmp_path, text.replace('"{{ KEY_ID }}"', '"{{ TOKEN | b64enc }}"'))
    with pytest.raises(RuleErrors, match="exactly one of request, command, aws, alike, pause"):
        load_text(tmp_path, text.replace("            command:", "            pause: 5s\n            command:"))
    with pytest.raises(RuleErrors, match="absolute path"):
        load_text(tmp_path, text.replace("/usr/bin/end", "end"))
    with pytest.raises(RuleErrors, match="LD_PRELOAD would change which code runs"):
        load_text(tmp_path, text.replace('stdin: "{{ TOKEN }}"', 'env: {LD_PRELOAD: "{{ TOKEN }}"}'))


def test_a_restoration_is_a_plan_of_its_own() -> None:
    """Whose it is, enable it, and every look that can tell how it is; a rule without one says so."""
    assert steps_of("aws.access_key", "TOKEN", "AKID", "ACTOR", intent=Intent.RESTORE) == [
        ("read", "find_owner"),
        ("act", "activate"),
        ("ask", "disabled"),
        ("after", "disabled"),
        ("ask", "probe"),
        ("after", "probe"),
    ]
    with pytest.raises(BadInput, match="no restoration"):
        plan(CATALOGUE.get("sendgrid.api_key"), Intent.RESTORE, {"TOKEN"})


def test_what_cannot_be_tried_is_read_before_and_after() -> None:
    """A service user without its key: the rule's own look says whether it is there, and that it is gone."""
    named = ("SERVICE_USER_ID", "SERVICE_USER_NAME", "ACTOR")

    assert steps_of("pangolin.service_user", *named) == [
        ("before", "disabled"),
        ("read", "read"),
        ("act", "disable"),
        ("act", "delete"),
        *[("ask", "disabled"), ("after", "disabled")] * 2,
        ("undo", "enable"),
    ]
    proofs = [step for step in _planned(named) if step.purpose is Purpose.AFTER]
    assert [step.disables for step in proofs] == [True, False]


def test_what_can_be_tried_is_proved_by_trying() -> None:
    """With its key, that somebody reads it as gone is not what proves the end."""
    given = ("SERVICE_USER_ID", "SERVICE_USER_NAME", "ACTOR", "TOKEN")
    proofs = [step for step in _planned(given) if step.purpose is Purpose.AFTER]

    assert [(step.name, step.disables) for step in proofs] == [("disabled", True), ("probe", False)]


def _planned(given: Collection[str]) -> Collection[Planned]:
    return plan(CATALOGUE.get("pangolin.service_user"), Intent.REVOKE, given).steps
