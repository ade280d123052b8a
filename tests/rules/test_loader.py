"""Rule files are read strictly: every mistake at once, each with file and line, and a broken rule breaks no other."""

from itertools import pairwise
from pathlib import Path
from textwrap import dedent, indent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import RuleErrors, UnknownRule
from rules.loader import Catalogue, builtin, hosts_of, load, read, read_text
from rules.schema import Provider

RULE = """\
- id: example.token
  name: Example token
  pattern: '\\b(ex_[a-z]{3})\\b'
  examples: [ex_abc]
  validation:
    type: Http
    content:
      request:
        url: "{{ BASE_URL }}/me"
        headers: {Authorization: "Bearer {{ TOKEN }}", X-Api-Version: 2026-03-10}
        response_matcher:
          - {type: StatusMatch, status: [200]}
      dead:
        - {type: StatusMatch, status: [401]}
  revocation:
    type: HttpMultiStep
    content:
      steps:
        - name: find
          request: {url: "{{ BASE_URL }}/token"}
          extract:
            token_id: {type: JsonPath, path: $.id}
        - name: delete
          request:
            method: DELETE
            url: "{{ BASE_URL }}/tokens/{{ TOKEN_ID }}"
            response_matcher: [{type: StatusMatch, status: [204]}]
"""
PROVIDER = """\
provider:
  name: example
  title: Example
  hosts: {BASE_URL: ["https://api.example.com"]}
"""
FILE = f"{PROVIDER}rules:\n{RULE}"


def mistakes(text: str) -> list[str]:
    """Every mistake of a file."""
    found, wrong = read_text(dedent(text), "x.yaml")
    assert bool(found) != bool(wrong) or wrong
    return [str(mistake) for mistake in wrong]


def changed(old: str, new: str) -> list[str]:
    """The mistakes of the good file with one thing changed."""
    assert old in FILE
    return mistakes(FILE.replace(old, new, 1))


def test_what_the_probe_takes_is_not_known_to_the_steps() -> None:
    """A plan cannot count on it, since a job may run without a probe, and so a file may not either."""
    text = FILE.replace("      dead:\n", "      extract: {WHO: {type: JsonPath, path: $.id}}\n      dead:\n")
    assert mistakes(text) == []

    (wrong,) = mistakes(text.replace('/token"}', '/users/{{ WHO }}"}'))

    assert "WHO is defined nowhere before" in wrong


def test_good() -> None:
    """A good file loads; a date in a header stays text, and names that are extracted are known in upper case."""
    found, wrong = read_text(FILE, "x.yaml")
    assert wrong == []
    (loaded,) = found
    assert loaded.line == 6
    assert hosts_of(loaded) == {"BASE_URL": ["https://api.example.com"]}
    assert loaded.rule.validation is not None
    assert loaded.rule.validation.content.request is not None
    assert loaded.rule.validation.content.request.headers["X-Api-Version"] == "2026-03-10"
    assert list(loaded.rule.steps[0].extract) == ["TOKEN_ID"]


def test_digest() -> None:
    """The digest tells a changed rule, and what its provider's rules share is part of it."""
    one = read_text(FILE, "x.yaml")[0][0].digest
    assert one == read_text(f"# moved\n{FILE}", "y.yaml")[0][0].digest
    assert one != read_text(FILE.replace("[204]", "[200]"), "x.yaml")[0][0].digest
    assert one != read_text(FILE.replace("api.example.com", "eu.example.com"), "x.yaml")[0][0].digest


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("  validation:", "  validaton:", "x.yaml:10: unknown key 'validaton'; did you mean 'validation'?"),
        ("        headers:", "        header:", "x.yaml:15: unknown key 'header'; did you mean 'headers'?"),
        ("rules:", "rule:", "x.yaml:5: unknown key 'rule'; did you mean 'rules'?"),
        ("  name: Example token\n", "", "x.yaml:6: expected the key 'name' here"),
        ("status: [200]", 'status: ["200"]', "x.yaml:17: expected a whole number, got '200'"),
        ("examples: [ex_abc]", "examples: ex_abc", "x.yaml:9: examples: expected a list, got 'ex_abc'"),
        ("examples: [ex_abc]", "examples: [12]", "x.yaml:9: expected text, got the number 12: put it in quotes"),
        (
            "id: example.token",
            "id: an example",
            "x.yaml:6: id: expected an id such as provider.token, got 'an example'",
        ),
        (
            "id: example.token",
            "id: other.token",
            "x.yaml:6: expected an id that begins with the provider's name, example., got 'other.token'",
        ),
        ("type: Http\n", "type: GCP\n", "x.yaml:10: validation: expected a type, one of Http, AWS; got 'GCP'"),
        (
            "HttpMultiStep",
            "HttpSteps",
            "x.yaml:20: revocation: expected a type, one of Http, HttpMultiStep, AWS; got 'HttpSteps'",
        ),
        (
            "type: JsonPath, path: $.id",
            "type: Json, path: $.id",
            "x.yaml:27: TOKEN_ID: expected a type, one of JsonPath, Regex, Header, Body, StatusCode; got 'Json'",
        ),
        (
            "method: DELETE",
            "method: REMOVE",
            "x.yaml:29: request: expected GET, HEAD, POST, PUT, PATCH or DELETE, got 'REMOVE'",
        ),
        ("path: $.id", "path: '$['", "x.yaml:27: the JSONPath '$[' cannot be read"),
        ("(ex_[a-z]{3})", "(ex_[a-z]{3}", "x.yaml:8: the pattern cannot be read"),
        ("examples: [ex_abc]", "examples: [ex_abc, ex_1]", "x.yaml:9: example 2 does not match the pattern"),
        (
            "examples: [ex_abc]",
            "negative_examples: [ex_abc]",
            "x.yaml:9: example 1 matches the pattern, and should not",
        ),
        (
            "{{ TOKEN_ID }}",
            "{{ KEY_ID }}",
            "x.yaml:31: KEY_ID is defined nowhere before; known here: BASE_URL, TOKEN, TOKEN_ID",
        ),
        ("{{ TOKEN_ID }}", "{{ TOKEN_ID | b64encc }}", "there is no filter b64encc; did you mean b64enc?"),
        ('{{ BASE_URL }}/token"', 'https://{{ TOKEN }}.example.com/"', "a host never comes from a credential"),
        ('{{ BASE_URL }}/token"', '{{ TOKEN }}/"', "a host never comes from a credential"),
        (
            '"https://api.example.com"',
            '"http://api.example.com"',
            "x.yaml:4: expected https, got 'http://api.example.com'; http is for this machine only",
        ),
        ('"https://api.example.com"', '"https://u:p@api.example.com"', "x.yaml:4: a base URL holds no user name"),
        ("name: delete", "name: find", "the step's name 'find' is taken"),
        ("name: find", "name: probe", "the step's name 'probe' is taken"),
        (
            "  pattern:",
            "  credential: {id: KEY_ID}\n  pattern:",
            "x.yaml:8: KEY_ID is defined nowhere; known here: TOKEN, TOKEN_ID",
        ),
        ("  pattern:", "  lapses: 5\n  pattern:", "x.yaml:8: unknown key 'lapses'"),
        (
            "  pattern:",
            "  limits: {requests: 0, per: 5}\n  pattern:",
            "x.yaml:8: per: expected a duration such as 90s, 15m, 24h or 7d, got 5",
        ),
        ("  pattern:", "  variables: {a-b: {about: x}}\n  pattern:", "expected a name of letters, digits and _"),
        ("  pattern:", "  variables: {A: {about: x, pattern: '('}}\n  pattern:", "the pattern cannot be read"),
        (
            "  pattern:",
            "  recorded: [{name: n, step: find, answers: [{status: 200}], gives: fine}]\n  pattern:",
            "gives: expected one of",
        ),
        (
            "  pattern:",
            "  recorded: [{name: n, step: look, answers: [{status: 200}], gives: ok}]\n  pattern:",
            "there is no step 'look' here; there are: delete, find, probe",
        ),
        ("{type: StatusMatch, status: [401]}", "{status: [401]}", "expected a type, one of StatusMatch, WordMatch"),
        (
            "{type: StatusMatch, status: [401]}",
            "{type: JsonMatch, path: $.a, equals: [1]}",
            "x.yaml:19: equals: expected text or a whole number or true or false, got a list",
        ),
        (
            "{type: StatusMatch, status: [401]}",
            "{type: JsonMatch, path: $.a}",
            "expected exactly one of equals, is_null, exists",
        ),
        (
            "{type: StatusMatch, status: [401]}",
            "{type: JsonMatch, path: $.a, equals: '{{ X }}'}",
            "X is defined nowhere before",
        ),
        ("Authorization:", "x-api-version: 1x, Authorization:", "the header x-api-version is there twice"),
        ("          extract:", "          given: [NONE]\n          extract:", "NONE is defined nowhere"),
        (
            "          extract:",
            "          select: {rows: '$[', id: id}\n          extract:",
            "the JSONPath '$[' cannot be read",
        ),
    ],
)
def test_mistake(old: str, new: str, says: str) -> None:
    """A mistake is told with its line and what to do instead."""
    assert any(says in mistake for mistake in changed(old, new)), changed(old, new)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "x.yaml:1: expected a mapping with the key 'rules', got nothing"),
        ("- a", "expected a mapping"),
        ("rules: []", "x.yaml:1: rules: expected a list of rules, got nothing"),
        ("rules: [5]", "x.yaml:1: expected a mapping, got the number 5"),
        ("rules:\n- id: a.b\n  id: a.c", "x.yaml:3: the key 'id' stands on line 2 already"),
        ("rules: [", "not YAML"),
        ("rules: !!python/object:os.system [x]", "x.yaml:1: "),
        (
            "a: &a [1,1,1,1,1,1,1,1]\n"
            + "\n".join(f"{k}: &{k} [{','.join([f'*{j}'] * 9)}]" for j, k in pairwise("abcdefg")),
            "more than",
        ),
    ],
)
def test_no_rules(text: str, says: str) -> None:
    """A file that holds no rules at all is told shortly."""
    assert any(says in mistake for mistake in mistakes(text)), mistakes(text)


def test_all_at_once() -> None:
    """Every mistake of a file is told at once, from the top."""
    text = (
        FILE.replace("status: [200]", "status: x")
        .replace("  name: Example token\n", "")
        .replace("examples: [ex_abc]", "exmples: []")
    )
    lines = [int(mistake.split(":")[1]) for mistake in mistakes(text)]
    assert len(lines) == 3
    assert mistakes(text) != []
    with pytest.raises(RuleErrors) as caught:
        raise RuleErrors(read_text(text, "x.yaml")[1])
    assert [mistake.line for mistake in caught.value.mistakes] == sorted(lines)


def test_others_work(tmp_path: Path) -> None:
    """A rule with a mistake is left out and named; the other rules of its file, and other files, work."""
    other = RULE.replace("example.token", "example.other")
    (tmp_path / "a.yaml").write_text(f"{PROVIDER}rules:\n{RULE.replace('[204]', 'x')}{other}", encoding="utf-8")
    (tmp_path / "b.yml").write_text(f"{PROVIDER}rules: [", encoding="utf-8")
    (tmp_path / "c.yaml").write_text(FILE.replace("example.token", "example.third"), encoding="utf-8")
    (tmp_path / "d.txt").write_text("no rules", encoding="utf-8")
    catalogue, wrong = read([tmp_path])
    assert [loaded.rule.id for loaded in catalogue] == ["example.other", "example.third"]
    assert [(Path(mistake.file).name, mistake.line > 0) for mistake in wrong] == [("a.yaml", True), ("b.yml", True)]
    with pytest.raises(RuleErrors, match=r"a\.yaml:.*\n.*b\.yml:"):
        load([tmp_path])


def test_broken_provider() -> None:
    """Where what the rules share is broken, they are left out, and only the real mistake is told."""
    found, wrong = read_text(FILE.replace("title: Example", "titel: Example"), "x.yaml")
    assert found == []
    assert [str(mistake) for mistake in wrong] == [
        "x.yaml:1: expected the key 'title' here",
        "x.yaml:3: unknown key 'titel'; did you mean 'title'?",
    ]


def test_provider_identity() -> None:
    """How a connection signs is checked as well: its names, its session, its hosts."""
    identity = """\
      identity:
        needs: [username, password]
        secrets: [password, pin]
        sign: {Authorization: "Bearer {{ SESSION }} {{ PIN }}"}
        sign_in:
          request: {method: POST, url: "{{ BASE_URL }}/login", form: {user: "{{ USERNAME }}", key: "{{ PASSWORD }}"}}
          extract: {TICKET: {type: JsonPath, path: $.token}}
        own: {id: OWN_ID}
    """
    text = FILE.replace("rules:\n", indent(dedent(identity), "  ") + "rules:\n", 1)
    says = "\n".join(mistakes(text))
    for part in (
        "pin is defined nowhere",
        "SESSION is defined nowhere;",
        "SESSION is defined nowhere before",
        "PIN is",
        "OWN_ID is",
    ):
        assert part in says
    assert "PASSWORD" not in says.replace("known here: PASSWORD", "").replace(", PASSWORD", "")


NAMED = """\
    rules:
    - id: example.lease
      name: Example lease
      secret: none
      variables: {LEASE_ID: {about: the lease, required: true, identifies: true}}
      revocation:
        type: Http
        content:
          request:
            method: DELETE
            url: "https://api.example.com/leases/{{ LEASE_ID }}"
            response_matcher: [{type: StatusMatch, status: [204]}]
    """


def test_a_credential_that_is_only_named() -> None:
    """What nobody holds has no pattern and no TOKEN, and has to be named; everything else needs its pattern."""
    assert mistakes(NAMED) == []
    for old, new, says in (
        ("secret: none", "secret: none\n      pattern: x", "nothing to find"),
        ("secret: none", "secret: none\n      examples: [x]", "nothing to find"),
        ("      secret: none\n", "", "expected the key 'pattern' here"),
        (", identifies: true", "", "a variable with identifies: true"),
        ("{{ LEASE_ID }}", "{{ TOKEN }}", "TOKEN is defined nowhere before; known here: LEASE_ID"),
    ):
        assert old in NAMED
        assert any(says in mistake for mistake in mistakes(NAMED.replace(old, new, 1))), says


ACTOR = """\
    provider:
      name: example
      title: Example
      identity:
        needs: [client_id, client_secret]
        optional: [team]
        secrets: [client_secret]
        sign: {X-Client: "{{ CLIENT_ID }}"}
    rules:
    - id: example.token
      name: Example token
      pattern: ex_[a-z]{3}
      examples: [ex_abc]
      revocation:
        type: Http
        content:
          request:
            method: DELETE
            url: "https://api.example.com/apps/{{ ACTOR_CLIENT_ID }}/{{ TOKEN }}"
            response_matcher: [{type: JsonMatch, path: $.app, equals: "{{ ACTOR_CLIENT_ID }}"}]
    """


@pytest.mark.parametrize("name", ["ACTOR_CLIENT_SECRET", "ACTOR_TEAM", "CLIENT_ID"])
def test_the_identity_of_the_connection_that_signs(name: str) -> None:
    """A rule may use the fields that are no secrets and always there; of no other does anything define a name."""
    assert mistakes(ACTOR) == []
    wrong = mistakes(ACTOR.replace("ACTOR_CLIENT_ID", name))
    assert len(wrong) == 2
    assert all(f"{name} is defined nowhere before; known here: ACTOR_CLIENT_ID" in mistake for mistake in wrong)


def test_nothing_else_bears_the_name_of_the_identity() -> None:
    """A value from a requester must never stand for what our own connection is."""
    variables = "variables: {ACTOR_CLIENT_ID: {about: x}}\n      examples:"
    (wrong,) = mistakes(ACTOR.replace("examples:", variables))
    assert "ACTOR_CLIENT_ID stands for the identity of the connection that signs" in wrong


def test_missing_file(tmp_path: Path) -> None:
    """A path that is not there, a file that is too large and one that is no text are told, not raised."""
    (tmp_path / "large.yaml").write_bytes(b"#" * (5 << 20))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    catalogue, wrong = read([tmp_path / "none.yaml", tmp_path])
    assert len(catalogue) == 0
    assert sorted(mistake.message for mistake in wrong) == [
        "the file is larger than 4 MiB",
        "this file cannot be read: No such file or directory",
        "this file cannot be read: it is not UTF-8 text",
    ]


def test_ids(tmp_path: Path) -> None:
    """An id that is defined twice is a mistake, an id wins over an alias, and the first counts."""
    text = FILE.replace("example.token\n", "example.token\n  aliases: [example.other, old.name]\n")
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(
        FILE + RULE.replace("example.token\n", "example.other\n  aliases: [old.name]\n"), encoding="utf-8"
    )
    catalogue, wrong = read([tmp_path])
    assert catalogue.get("example.other").rule.id == "example.other"
    assert catalogue.get("old.name").rule.id == "example.other"
    assert Path(catalogue.get("example.token").file).name == "a.yaml"
    says = "\n".join(str(mistake) for mistake in wrong)
    assert "the id example.token is taken by" in says
    assert "the alias example.other of example.token leads to example.other" in says
    assert "the alias old.name of" in says


def test_unknown() -> None:
    """A rule that does not exist is told with those that are near."""
    catalogue = Catalogue(read_text(FILE, "x.yaml")[0])
    assert "example.token" in catalogue
    with pytest.raises(UnknownRule, match=r"there is no rule 'exmple\.token'; did you mean example\.token\?"):
        catalogue.get("exmple.token")
    with pytest.raises(UnknownRule, match="revoq rules list"):
        catalogue.get("zzz")


def test_kingfisher() -> None:
    """A file in Kingfisher's format loads as it stands: dependencies, groups in upper case, a URL of several lines."""
    text = """\
    rules:
      - name: Cloud access key secret
        id: custom.cloud.secret-key
        pattern: |
          (?x)
          \\b
          (?i:cloud)
          (?:.|[\\n\\r]){0,80}?
          (
            [A-Za-z0-9]{30}
          )
          \\b
        min_entropy: 4.2
        confidence: medium
        visible: false
        pattern_requirements: {min_digits: 2, ignore_if_contains: [test]}
        examples:
          - cloud_secret = 7jkWdTjKLnSlGddwPR5gBn65PHcZG6
        references: [https://example.com]
        depends_on_rule:
          - rule_id: custom.cloud.id
            variable: AKID
        validation:
          type: Http
          content:
            request:
              method: GET
              url: >
                {%- assign nonce = "" | uuid | upcase -%}
                {%- capture params -%}
                Key={{ AKID | url_encode }}&Nonce={{ nonce }}
                {%- endcapture -%}
                {%- assign amp = TOKEN | append: "&" -%}
                {%- assign signature = params | url_encode | hmac_sha1: amp | url_encode -%}

                https://sts.example.com/?{{ params }}&Signature={{ signature }}
              headers: {Accept: application/json, X-Env: "{{ NEXT_PUBLIC_ID | default: AKID }}"}
              response_matcher:
                - report_response: true
                - type: StatusMatch
                  status: [200]
                - {type: WordMatch, words: ['"Arn"']}
        revocation:
          type: Http
          content:
            request:
              method: POST
              url: https://sts.example.com/revoke
              body: '{"token":"{{ TOKEN }}"}'
              response_matcher:
                - report_response: true
                - type: StatusMatch
                  status: [200, 202]
    """
    found, wrong = read_text(dedent(text), "k.yml")
    assert wrong == []
    assert [step.name for step in found[0].rule.steps] == ["revoke"]


def test_builtin() -> None:
    """The rules that come with revoq load."""
    assert len(load([builtin()])) > 0


@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=5)
        | st.sampled_from(["Http", "{{ TOKEN }}", "$.a", "(a)", "a.b", "JsonPath"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "rules",
                        "id",
                        "name",
                        "pattern",
                        "validation",
                        "content",
                        "request",
                        "type",
                        "url",
                        "steps",
                        "extract",
                        "A",
                        "path",
                        "revocation",
                        "hosts",
                        "provider",
                        "when",
                        "is",
                        "select",
                    ]
                ),
                inner,
            )
        ),
        max_leaves=20,
    )
)
def test_any_file(value: object) -> None:
    """Whatever a file says, the loader reads it or tells its mistakes, each with a line."""
    _, wrong = read_text(yaml.safe_dump({"rules": [value]}), "x.yaml")
    assert all(mistake.line >= 1 and mistake.file == "x.yaml" for mistake in wrong)


@given(text=st.text(alphabet="rules: -[]{}&*!|>'\"\n#%@a1?,\t\x00é", max_size=40))
def test_any_text(text: str) -> None:
    """Whatever a file holds, nothing else is raised."""
    assert read_text(text, "x.yaml")[0] == []


def test_clean_up() -> None:
    """What a look left is known to the request that takes it away, and to nothing else."""
    probe = """\
      validation:
        type: Http
        content:
          request: {method: POST, url: "{{ BASE_URL }}/session"}
          clean_up:
            extract: {LEFT: {type: JsonPath, path: $.session}}
            request: {method: POST, url: "{{ BASE_URL }}/out", headers: {X-A: "{{ LEFT }}", X-B: "{{ RIGHT }}"}}
    """
    start, end = FILE.index("  validation:"), FILE.index("  revocation:")
    text = FILE[:start] + indent(dedent(probe), "  ") + FILE[end:].replace("{{ TOKEN_ID }}", "{{ LEFT }}")
    says = "\n".join(mistakes(text))
    assert "RIGHT is defined nowhere" in says
    assert "LEFT is defined nowhere before; known here: BASE_URL, TOKEN" in says


def test_other_identities() -> None:
    """Each way to sign in is checked as the usual one is, and the fields that are given tell which one is meant."""
    other = 'other_identities: [{needs: [key], sign: {X-Key: "{{ PIN }}"}}]\n'
    assert any("PIN is defined nowhere" in says for says in mistakes(FILE.replace("rules:\n", f"  {other}rules:\n", 1)))

    provider = builtin_provider("pangolin.token")
    usual, machine = provider.identity, provider.other_identities[0]
    assert provider.identity_by(["username", "password"]) is usual
    assert provider.identity_by(["service_user_id", "key", "tenant"]) is machine
    assert provider.identity_by(["key"]) is usual


def builtin_provider(rule: str) -> Provider:
    """The provider of a rule that revoq brings along."""
    provider = load([builtin()]).get(rule).provider
    assert provider is not None
    return provider
