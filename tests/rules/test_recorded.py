"""A rule's recorded answers are read as the worker would read them, and each that is read differently is told."""

import pytest

from rules.loader import LoadedRule, read_text
from rules.recorded import check

FILE = """\
provider: {{name: example, title: Example, hosts: {{BASE_URL: [https://api.example.com]}}}}
rules:
- id: example.token
  name: Example token
  pattern: '(?P<TOKEN>(?P<HEAD>ex_a)[a-z]{{3}})'
  examples: [ex_aabc]
  validation:
    type: Http
    content:
      request:
        url: "{{{{ BASE_URL }}}}/me"
        response_matcher: [{{type: StatusMatch, status: [200]}}]
      dead: [{{type: StatusMatch, status: [401]}}]
      extract: {{OWNER: {{type: JsonPath, path: $.owner}}}}
  recognition:
    request: {{url: "{{{{ BASE_URL }}}}/known"}}
    known: [{{type: StatusMatch, status: [200]}}]
  revocation:
    type: HttpMultiStep
    content:
      steps:
        - name: find
          request: {{url: "{{{{ BASE_URL }}}}/tokens"}}
          select:
            rows: $.rows
            where: [{{field: hint, prefix: "{{{{ HEAD }}}}"}}]
            page: {{kind: link, next: $.next}}
            id: id
          extract: {{ID: {{type: JsonPath, path: $.id}}}}
        - name: delete
          request: {{method: DELETE, url: "{{{{ BASE_URL }}}}/tokens/{{{{ ID }}}}"}}
  recorded:
    - {{name: one, {recorded}}}
"""
ROW = '{"id": "k1", "hint": "ex_a…"}'


def play(recorded: str) -> list[str]:
    """The complaints about one recorded answer."""
    found, wrong = read_text(FILE.format(recorded=recorded), "x.yaml")
    assert wrong == []
    loaded: LoadedRule = found[0]
    return check(loaded)


@pytest.mark.parametrize(
    "recorded",
    [
        """step: probe, answers: [{status: 200, body: '{"owner": "dana"}'}], gives: alive, takes: {OWNER: dana}""",
        "step: probe, answers: [{status: 200}], gives: broken",
        "step: probe, answers: [{status: 401}], gives: dead",
        "step: recognise, answers: [{status: 404}], gives: unknown",
        "step: delete, answers: [{status: 204}], gives: ok",
        "step: delete, answers: [{status: 503}], gives: lost",
        f"step: find, answers: [{{status: 200, body: '{{~rows~: [{ROW}]}}'}}], gives: ok, takes: {{ID: k1}}",
        "step: find, answers: [{status: 200, body: '{}'}], gives: broken",
        "step: find, answers: [{status: 403}], gives: denied",
    ],
)
def test_right(recorded: str) -> None:
    """What is read as recorded is not complained about."""
    assert play(recorded.replace("~", '"')) == []


def test_pages() -> None:
    """The answers of a list are its pages; a list whose last page is not recorded cannot be read to its end."""
    first = f'{{status: 200, body: \'{{"rows": [{ROW}], "next": "https://api.example.com/2"}}\'}}'
    last = "{status: 200, body: '{\"rows\": []}'}"
    assert play(f"step: find, answers: [{first}, {last}], gives: ok, takes: {{ID: k1}}") == []
    assert play(f"step: find, answers: [{first}], gives: ambiguous") == []
    assert play(f"step: find, answers: [{last}], gives: no_row") == []


def test_wrong() -> None:
    """What is read differently is told with both readings."""
    assert play("step: probe, answers: [{status: 429}], gives: dead") == [
        "example.token, recorded 'one': expected dead, read inconclusive"
    ]
    wrong = """step: probe, answers: [{status: 200, body: '{"owner": "dana"}'}], gives: alive, takes: {OWNER: erin}"""
    assert play(wrong) == ["example.token, recorded 'one': expected to take OWNER=erin, took OWNER=dana"]
