"""A rule is told in sentences that a person can act on: every step, what ties it, what proves it, what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules.describe import Section, describe, find_ways
from rules.loader import LoadedRule, builtin, load, read_text
from rules.parts import named

SANDBOX = Path(__file__).parent.parent / "sandbox" / "rules"
CATALOGUE = load([builtin(), SANDBOX])

RULE = """
rules:
  - id: example.token
    name: Example token
    pattern: '\\b(ex_[a-z]{8})\\b'
    examples: [ex_abcdefgh]
    REST
"""
FIRST_OF_A_LIST = """revocation:
      type: HttpMultiStep
      content:
        steps:
          - name: lookup
            request:
              url: https://api.example.com/keys
              headers: {Authorization: "Bearer {{ TOKEN | prefix: 'x' }}"}
              response_matcher: [{type: StatusMatch, status: [200]}]
            extract: {KEY_ID: {type: JsonPath, path: "$.keys[0].id"}}
          - name: delete
            lapses: 90s
            request:
              method: POST
              url: "https://api.example.com/keys/{{ KEY_ID }}/revoke"
              response_matcher: [{type: StatusMatch, status: [204]}]
    limits: {requests: 1, per: 1s, source: its documentation}
"""


def told(loaded: LoadedRule) -> dict[str, tuple[str, ...]]:
    """The sentences under each heading."""
    return {section.title: section.sentences for section in describe(loaded)}


def read_rule(rest: str) -> LoadedRule:
    """The one rule of a text."""
    (loaded,), wrong = read_text(RULE.replace("REST", rest), "x.yaml")
    assert wrong == []
    return loaded


def prose(sections: list[Section]) -> list[str]:
    """All that has to read as sentences: references and places do not."""
    return [sentence for section in sections if section.title != "See also" for sentence in section.sentences]


@pytest.mark.parametrize("loaded", list(CATALOGUE), ids=lambda loaded: loaded.rule.id)
def test_every_rule_reads_well(loaded: LoadedRule) -> None:
    """Sentences begin large, or with their number or an option, end with a stop and hold no template."""
    sections = describe(loaded)

    assert all(section.sentences for section in sections)
    assert len({section.title for section in sections}) == len(sections)
    for sentence in prose(sections):
        assert "{{" not in sentence
        assert "{%" not in sentence
        assert "  " not in sentence
        assert " ," not in sentence
        assert ",:" not in sentence
        assert sentence[0].isupper() or sentence[0].isdigit() or sentence.startswith((loaded.rule.id, "--var"))
        assert sentence.endswith(".") or sentence.startswith("It has to fit this pattern")


@pytest.mark.parametrize("loaded", list(CATALOGUE), ids=lambda loaded: loaded.rule.id)
def test_every_step_is_named(loaded: LoadedRule) -> None:
    """Each step of the rule is told in one way of using it at least, and each way says what ties it and what proves."""
    text = " ".join(prose(describe(loaded)))

    assert all(f"in the step {name}" in text for name, _ in named(loaded.rule.steps))
    ways = len(find_ways(loaded))
    assert text.count("xact credential is known") >= ways
    assert text.count("he end is proved") + text.count("The end cannot be proved") >= ways


def flow(text: str) -> tuple[str, ...]:
    """Expected sentences, a paragraph each, however they are broken here."""
    return tuple(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def test_a_list_word_for_word() -> None:
    """The rule that has to find one row says which, and what happens where it cannot."""
    sections = told(CATALOGUE.get("keyring.token"))

    assert sections["What it does"] == flow("""
        1. It asks whether the credential works: GET <BASE_URL>/v1/whoami (with the credential itself); a dead one is
        not acted on.

        2. It looks up in the step find: GET <BASE_URL>/v1/keys (signed by the connection); it reads the list page by
        page to its end, finds the one row that fits, and takes KEY_ID out of it.

        3. It acts in the step delete: DELETE <BASE_URL>/v1/keys/<KEY_ID> (signed by the connection).

        The exact credential is known by exactly one row of the list in the step find: its hint begins with <HEAD>,
        its hint ends with <TAIL> and its revoked_at is empty; none or several are left to a person.

        The end is proved by asking again: GET <BASE_URL>/v1/whoami (with the credential itself); the answer has to
        say dead.

        For 4 seconds after the last request, a live answer counts as the provider still settling.

        Where an answer is lost, it asks in the same way what happened before anything is sent again.
    """)
    assert sections["What it cannot do"] == ("Disable a key; deleting is for good.",)


def test_several_ways_word_for_word() -> None:
    """Each way to hand a credential in is told with the plan that it leads to, and its own proof or the lack of one."""
    sections = told(CATALOGUE.get("pangolin.token"))

    assert sections["What it does with the credential itself"][:3] == flow("""
        1. It asks whether the credential works: GET <BASE_URL>/api/v1/users/me/tokens (with the credential itself);
        a dead one is not acted on.

        2. It acts in the step revoke_itself: POST <BASE_URL>/api/v1/auth/revoke (with the credential itself).

        The exact credential is known by itself: it is what is sent.
    """)
    named_alone = "What it does with TOKEN_ID and a connection that signs, and without the credential itself"
    assert sections[named_alone] == flow("""
        1. It acts in the step revoke_by_id: POST <BASE_URL>/api/v1/auth/revoke/<TOKEN_ID> (signed by the connection);
        where the answer is lost, it is not sent again blindly.

        Nobody asks first whether it works.

        The exact credential is known by TOKEN_ID, as the requester names it.

        The end cannot be proved, since the probe needs the credential itself, and it is not there: the job ends as
        acknowledged.
    """)
    both = "What it does with TOKEN_ID, USER_ID and a connection that signs, and without the credential itself"
    assert sections[both][4:6] == flow("""
        For the step revoke_itself, the exact credential is known by exactly one row of the list in the step find: its
        id equals <TOKEN_ID>; none or several are left to a person.

        For the step revoke_by_id, the exact credential is known by TOKEN_ID, as the requester names it.
    """)
    assert sections["What lapses"] == ("The provider forgets what the step revoke_by_id did after 1 day.",)


def test_what_is_only_named_word_for_word() -> None:
    """Where nobody holds a secret, none is asked for and no pattern is shown."""
    needs = told(CATALOGUE.get("vault.lease"))["What it needs"]

    assert needs[0] == "Variables name the credential; no secret is read."
    assert not any("pattern" in sentence or "standard input" in sentence for sentence in needs)


def test_the_identity_of_the_connection_is_told() -> None:
    """A reader learns where a name comes from that no variable gives."""
    needs = told(CATALOGUE.get("vercel.app_token"))["What it needs"]

    assert "ACTOR_CLIENT_ID is the client_id of the connection's own identity." in needs


@pytest.mark.parametrize(
    ("rule", "how"),
    [
        ("sendgrid.api_key", "by KEY_ID, which is written inside the credential"),
        ("jupyterhub.token", "by TOKEN_ID and USER, which the provider itself tells in the step who_am_i"),
        ("pangolin.listed_token", "by TOKEN_ID, as the requester names it"),
    ],
)
def test_how_the_exact_one_is_known(rule: str, how: str) -> None:
    """By an id inside, by the provider's own word, or by the requester's: each is said."""
    assert f"The exact credential is known {how}." in prose(describe(CATALOGUE.get(rule)))


def test_what_can_be_undone_and_what_cannot() -> None:
    """Disabling is proved by the look that shows it, deleting by the credential's own silence, or by nothing."""
    sections = told(CATALOGUE.get("aws.access_key"))
    ways = {title: " ".join(sentences) for title, sentences in sections.items() if title.startswith("What it does")}

    disabling = ways["What it does with a connection that signs, and without the credential itself"]
    assert "It disables it, which can be undone, in the step deactivate: AWS deactivate <AKID>" in disabling
    assert "by AKID, as the requester names it, and by USER_NAME, which the provider itself tells" in disabling
    assert "have to say disabled" in disabling
    deleting = ways["What it does with DELETE and a connection that signs, and without the credential itself"]
    assert "The end cannot be proved" in deleting
    assert any("it is enabled again: AWS activate <AKID>" in sentence for sentence in sections["How it undoes it"])


def test_the_first_of_a_list_is_left_to_a_person() -> None:
    """A rule that would take what it finds first says that it parks, that nothing proves it, and what lapses."""
    text = " ".join(prose(describe(read_rule(FIRST_OF_A_LIST))))

    assert "known by nothing: the job is parked before it acts, and a person picks the right one" in text
    assert "The end cannot be proved, since the rule has no probe: the job ends as acknowledged." in text
    assert "The provider forgets what the step delete did after 90 seconds." in text
    assert "It allows one request in 1 second (its documentation)." in text
    assert "Nobody asks first whether it works." in text


def test_a_rule_that_only_finds() -> None:
    """Without a revocation there is nothing to tell but that."""
    sections = told(read_rule("cannot: [revoke anything]"))

    assert "The rule only finds it: it can neither revoke nor try it." in sections["What it is"]
    assert sections["What it does"] == (
        "It tells how the credential looks, and nothing else: no request is ever sent.",
    )


def test_what_asking_leaves_behind_is_told() -> None:
    """A look that opens a session says how it is closed; one that is only read leaves nothing."""
    sections = told(CATALOGUE.get("pangolin.service_user"))

    with_key = " ".join(sections["What it does with the credential itself and a connection that signs"])
    without = " ".join(sections["What it does with a connection that signs, and without the credential itself"])
    assert "taken away again each time: POST <BASE_URL>/api/v1/auth/revoke." in with_key
    assert "taken away" not in without
    assert "the answer has to say dead" in without


def test_a_key_that_is_replaced_in_place() -> None:
    """What is asked of whom, with which key, and what becomes of an answer that was lost."""
    assert told(CATALOGUE.get("keyring.rolled"))["How its key is replaced"] == flow("""
        1. It looks up in the step target: GET <BASE_URL>/v1/keys (signed by the connection); it reads the list page by
        page to its end, finds the one row that fits, and takes NAME and OWNER out of it.

        2. Every sink has to be ready and to hold the key that is replaced, for <NAME>.

        3. It asks whether the old key works, and goes on either way: GET <BASE_URL>/v1/whoami (with the old key).

        4. It makes the new key in the step roll: POST <BASE_URL>/v1/keys/<KEY_ID>/roll (signed by the connection);
        where the answer is lost, the old key tells: it works, and it is sent again; it is dead, and that at once.

        5. The new key has to work before anybody is told of it: GET <BASE_URL>/v1/whoami (with the new key).

        6. Every sink is given id and key, as one.

        7. Every sink is read, and has to hold id and key as given.

        8. The old key has to be dead: GET <BASE_URL>/v1/whoami (with the old key).

        Whatever fails after the new key was made leaves it sealed, and revoq jobs retry goes on from there.
    """)


def test_a_key_that_is_replaced_by_a_second_one() -> None:
    """Beside the old one, which is retired at the end; a step that only a variable asks for says so."""
    twin = told(CATALOGUE.get("pangolin.service_user"))["How its key is replaced"]

    assert any("finds what nobody holds, deletes it, and makes another one" in sentence for sentence in twin)
    assert any("With --var X_API_KEY, it looks up in the step as_api_key" in sentence for sentence in twin)
    assert any("For 1 hour both keys work." in sentence for sentence in twin)
    ends = [sentence.partition(". ")[2] for sentence in twin if "the old key in the step" in sentence]
    assert [end.partition(":")[0] for end in ends] == [
        "It disables the old key in the step disable_old",
        "It ends the old key in the step delete_old",
    ]
    assert "How its key is replaced" not in told(CATALOGUE.get("pangolin.token"))
