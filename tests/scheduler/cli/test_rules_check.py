"""`rules check` over a folder with one file for each kind of mistake: all are named, and the good rules work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scheduler.cli.conftest import Home

PROBE = """\
    validation:
      type: Http
      content:
        request:
          url: "https://api.example.com/me"
          headers: {Authorization: "Bearer {{ TOKEN }}"}
          response_matcher: [{type: StatusMatch, status: [200]}]
        dead: [{type: StatusMatch, status: [401]}]
"""
ENDING = """\
    revocation:
      type: Http
      content:
        request:
          method: DELETE
          url: "https://api.example.com/me"
          headers: {Authorization: "Bearer {{ TOKEN }}"}
          response_matcher: [{type: StatusMatch, status: [204]}]
"""
LOOKED_UP = """\
    revocation:
      type: HttpMultiStep
      content:
        steps:
          - name: lookup
            request: {url: https://api.example.com/keys, response_matcher: [{type: StatusMatch, status: [200]}]}
            extract: {KEY_ID: {type: JsonPath, path: "$.keys[0].id"}}
          - name: delete
            request:
              method: DELETE
              url: https://api.example.com/keys/{{ KEY_ID }}
              response_matcher: [{type: StatusMatch, status: [204]}]
"""
GOOD = f"""\
rules:
  - id: good.one
    name: A key
    pattern: '\\b(ex_[a-z]{{8}})\\b'
    examples: [ex_abcdefgh]
{PROBE}{ENDING}"""
EXAMPLES = "examples: [ex_abcdefgh]"
ALIVE = "response_matcher: [{type: StatusMatch, status: [200]}]"
ENDED = "response_matcher: [{type: StatusMatch, status: [204]}]"
RECORDED = """\
recorded:
      - name: throttled
        step: probe
        answers: [{status: 429}]
        gives: dead
"""

MISTAKES = {
    "broken_yaml": ("name: A key", "name: [A key", 4, "expected"),
    "duplicate_key": ("    name: A key\n", "    name: A key\n    name: Another\n", 4, "name"),
    "unknown_key": ("    name: A key\n", "    name: A key\n    colour: red\n", 4, "unknown key 'colour'"),
    "wrong_type": ("name: A key", "name: [A key]", 3, "expected text, got a list"),
    "unknown_matcher": (ALIVE, "response_matcher: [{type: Status, status: [200]}]", 12, "expected a type, one of"),
    "bad_pattern": ("ex_[a-z]{8}", "ex_[a-z]{8}(", 4, "the pattern cannot be read"),
    "bad_jsonpath": (ALIVE, "response_matcher: [{type: JsonMatch, path: '$.[', exists: true}]", 12, "JSONPath '$.['"),
    "undefined_name": ("{{ TOKEN }}", "{{ TOKNE }}", 11, "TOKNE is defined nowhere before; known here: TOKEN"),
    "undeclared_host": ("https://api.example.com/me", "{{ HOST }}/me", 10, "HOST"),
    "host_from_the_credential": ("https://api.example.com/me", "https://{{ TOKEN }}/me", 10, "host"),
    "example_that_does_not_match": (EXAMPLES, "examples: [ex_abc]", 5, "example 1 does not match the pattern"),
    "recorded_otherwise": ("    validation:", f"    {RECORDED}    validation:", 2, "expected dead, read inconclusive"),
    "no_duration": ("    validation:", "    verification: {window: 30}\n    validation:", 6, "expected a duration"),
    "no_such_step": ("    validation:", f"    {RECORDED.replace('probe', 'prob')}    validation:", 8, "no step 'prob'"),
    "provider_of_another_name": ("rules:", "provider: {name: other, title: Other}\nrules:", 3, "other."),
    "taken_id": ("id: mistake.taken_id", "id: good.one", 2, "the id good.one is taken by"),
    "clashing_alias": ("    name: A key\n", "    name: A key\n    aliases: [good.two]\n", 2, "the alias good.two"),
}
"""What is put in place of what, the line of the mistake, and words of the sentence."""
FORGIVEN = {"example_that_does_not_match"}
"""Said as a notice: the rule is no worse for it, and files that were written for other tools have such examples."""
WORKING = {"recorded_otherwise", "clashing_alias", *FORGIVEN}
"""Wrong, and usable all the same: what is wrong is beside the rule and not in it."""

UNWISE = {
    "no_matcher": (ENDED, "response_matcher: []", "the step revoke changes something and has no matcher"),
    "report_alone": (ENDED, "response_matcher: [{report_response: true}]", "changes something and has no matcher"),
    "secret_in_the_url": ('com/me"\n', 'com/me?key={{ TOKEN }}"\n', "puts TOKEN into the URL"),
    "no_examples": (f"    {EXAMPLES}\n", "", "has no examples"),
    "no_probe": (PROBE, "", "has no probe: a 2xx proves nothing"),
    "first_of_a_list": (ENDING, LOOKED_UP, "KEY_ID is one of a list by its position ($.keys[0].id)"),
}
"""What is put in place of what, and words of the warning."""


def good(rule_id: str) -> str:
    """A rule without a fault."""
    return GOOD.replace("good.one", rule_id, 1)


def broken(name: str) -> str:
    """The same with one mistake in it."""
    old, new, _, _ = MISTAKES[name]
    text = good(f"mistake.{name}")
    assert old in text, name
    return text.replace(old, new, 1)


def unwise(name: str) -> str:
    """The same with one thing that can be used and should not be done."""
    old, new, _ = UNWISE[name]
    text = good(f"unwise.{name}")
    assert old in text, name
    return text.replace(old, new, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good files, and one for each kind of mistake and of unwisdom."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "a_good.yaml").write_text(good("good.one"))
    (rules / "z_good.yaml").write_text(good("good.two"))
    for name in MISTAKES:
        (rules / f"mistake_{name}.yaml").write_text(broken(name))
    for name in UNWISE:
        (rules / f"unwise_{name}.yaml").write_text(unwise(name))
    return rules


def test_every_mistake_is_named_with_its_line(home: Home, folder: Path) -> None:
    """One sentence at least for each file, at the line where it stands, and none for a file without a mistake."""
    result = home.run("rules", "check", str(folder))
    found = home.ask("rules", "check", str(folder))

    assert result.exit_code == 2
    told = [*found["mistakes"], *found["notices"]]
    said = {(Path(mistake["file"]).stem, mistake["line"], mistake["says"]) for mistake in told}
    for name, (_, _, line, words) in MISTAKES.items():
        own = [(at, says) for stem, at, says in said if stem == f"mistake_{name}"]
        assert any(at == line and words in says for at, says in own), (name, own)
        assert f"mistake_{name}.yaml:{line}: {'notice: ' if name in FORGIVEN else ''}" in result.stdout
    assert {stem for stem, _, _ in said} == {f"mistake_{name}" for name in MISTAKES}


def test_what_is_unwise_is_a_warning(home: Home, folder: Path) -> None:
    """Each is told with its file and line, the rule is usable, and warnings alone are no failure."""
    found = home.ask("rules", "check", str(folder))

    for name, (_, _, words) in UNWISE.items():
        file = folder / f"unwise_{name}.yaml"
        own = [warning for warning in found["warnings"] if warning["file"] == str(file)]
        assert any(words in warning["says"] and warning["line"] == 2 for warning in own), (name, own)
        assert home.run("rules", "check", str(file)).exit_code == 0


def test_the_good_ones_work(home: Home, folder: Path) -> None:
    """What is sound in a folder is listed and can be used; what is left out is named beside it."""
    home.write_config(rules_path=[str(folder)])

    listed = home.run("rules", "list", "--format", "json")
    ids = {row["id"] for row in home.ask("rules", "list")}

    ours = {each for each in ids if each.startswith(("good.", "unwise.", "mistake."))}
    sound = {"good.one", "good.two", *(f"unwise.{name}" for name in UNWISE)}
    assert ours == sound | {f"mistake.{name}" for name in WORKING}
    assert "mistake_bad_pattern.yaml:4: " in listed.stderr
    assert home.ask("rules", "show", "good.one")["file"] == str(folder / "a_good.yaml")


def test_a_clean_folder(home: Home, folder: Path) -> None:
    """Nothing wrong is exit code 0."""
    assert home.run("rules", "check", str(folder / "a_good.yaml")).exit_code == 0
