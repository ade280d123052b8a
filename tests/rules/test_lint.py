"""What is unwise is told for each rule, and a wise rule is left alone."""

from textwrap import dedent

import pytest

from rules.lint import lint
from rules.loader import builtin, read_text

FILE = """\
rules:
- id: example.token
  name: Example token
  pattern: '\\b(ex_[a-z]{3})\\b'
  examples: [ex_abc]
  variables: {ACCOUNT: {about: the account}}
  validation:
    type: Http
    content:
      request:
        url: https://api.example.com/me
        headers: {Authorization: "Bearer {{ TOKEN }}"}
        response_matcher: [{type: StatusMatch, status: [200]}]
      dead: [{type: StatusMatch, status: [401]}]
  revocation:
    type: HttpMultiStep
    content:
      steps:
        - name: find
          request: {url: https://api.example.com/tokens, headers: {Authorization: "Bearer {{ TOKEN }}"}}
          extract:
            ID: {type: JsonPath, path: $.id}
        - name: delete
          request:
            method: DELETE
            url: https://api.example.com/tokens/{{ ID }}
            response_matcher: [{type: StatusMatch, status: [204]}]
"""
PAGED = """\
          select:
            rows: $.rows
            where: [{field: id, equals: x}]
            page: {kind: page, parameter: page}
            id: id
"""


def warnings(text: str, file: str = "x.yaml") -> list[str]:
    """The warnings about the one rule of a text."""
    found, wrong = read_text(dedent(text), file)
    assert wrong == []
    return [str(warning) for warning in lint(found[0])]


def test_wise() -> None:
    """A wise rule has no warnings."""
    assert warnings(FILE) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("path: $.id", "path: '$.tokens[0].id'", "ID is one of a list by its position"),
        ("path: $.id", "path: '$.tokens[-1:].id'", "ID is one of a list by its position"),
        ("/tokens/{{ ID }}", "/tokens/{{ ID }}/{{ TOKEN }}", "the step delete puts TOKEN into the URL"),
        ("/me", "/me?token={{ TOKEN }}", "the probe puts TOKEN into the URL"),
        ("  examples: [ex_abc]\n", "", "has no examples"),
        (
            "            response_matcher: [{type: StatusMatch, status: [204]}]\n",
            "",
            "the step delete changes something and has no matcher",
        ),
        (
            "{type: StatusMatch, status: [204]}",
            "{report_response: true}",
            "the step delete changes something and has no matcher",
        ),
        ("        response_matcher: [{type: StatusMatch, status: [200]}]\n", "", "probe has no matcher"),
        ("      dead: [{type: StatusMatch, status: [401]}]\n", "", "probe has no `dead` matchers"),
        ("https://api.example.com/tokens, h", "http://api.example.com/tokens, h", "the step find goes over http"),
        ("/tokens/{{ ID }}", "/{{ ACCOUNT }}/{{ ID }}", "the step delete needs ACCOUNT, which may be missing"),
        ("path: $.id}", "path: $.id, optional: true}", "the step delete needs ID, which may be missing"),
        ("          extract:", "          select: {rows: $.rows, id: id}\n          extract:", "has no condition"),
        (
            "          extract:",
            f"{PAGED}          extract:",
            "ends at an empty page",
        ),
        ("(ex_[a-z]{3})", "(?P<key>ex_[a-z]{3})", "known in upper case"),
        ("examples: [ex_abc]", "examples: ['TOKEN=ex_abc']\n  min_entropy: 1", ""),
    ],
)
def test_unwise(old: str, new: str, says: str) -> None:
    """Each kind of unwisdom is told with the rule, the file and the line."""
    assert old in FILE
    found = warnings(FILE.replace(old, new, 1))
    assert (
        found == []
        if not says
        else any("x.yaml:2: example.token: " in warning and says in warning for warning in found)
    )


def test_no_probe() -> None:
    """A revocation without a probe is told, since its 2xx proves nothing; unless the rule says so itself."""
    start, end = FILE.index("  validation:"), FILE.index("  revocation:")
    without = FILE[:start] + FILE[end:]
    assert any("has no probe" in warning for warning in warnings(without))
    assert warnings(f'{without}  cannot: ["prove anything, since nobody\'s sessions are listed"]\n') == []


def test_ours() -> None:
    """The rules that come with revoq show how they read their provider."""
    assert any("no recorded answers" in warning for warning in warnings(FILE, str(builtin() / "x.yaml")))


def test_parts_of_a_secret_in_a_url() -> None:
    """A part of the credential is secret unless the rule says that it is an id; what another rule finds is secret."""
    split = FILE.replace("(ex_[a-z]{3})", "(?P<HEAD>ex_)[a-z]{3}").replace("/me", "/me/{{ HEAD }}")
    paired = FILE.replace("  validation:", "  depends_on_rule: [{rule_id: a.b, variable: OTHER}]\n  validation:")

    assert any("the probe puts HEAD into the URL" in warning for warning in warnings(split))
    assert warnings(split.replace("  validation:", "  credential: {id: HEAD}\n  validation:")) == []
    assert any("puts OTHER into the URL" in w for w in warnings(paired.replace("/me", "/me/{{ OTHER }}")))


def test_what_a_look_leaves_behind_is_a_secret() -> None:
    """It is somebody's session: the request that takes it away does not write it into its URL."""
    leaving = FILE.replace(
        "      dead: [",
        "      clean_up:\n"
        "        extract: {LEFT: {type: JsonPath, path: $.session}}\n"
        "        request: {method: DELETE, url: 'https://api.example.com/x', headers: {Authorization: '{{ LEFT }}'}}\n"
        "      dead: [",
    )

    assert warnings(leaving) == []
    assert any(
        "what cleans up after the probe puts LEFT" in w for w in warnings(leaving.replace("/x'", "/{{ LEFT }}'"))
    )
