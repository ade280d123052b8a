"""The settings: what wins over what, and that every mistake is told at once, with its place and without its secret."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rules.notice import Event
from rules.secret import Secret
from worker.errors import ConnectionUnusable, SettingsErrors, UnknownConnection, UnknownSink
from worker.settings import (
    Connection,
    FilePlace,
    Settings,
    VaultPlace,
    check_private,
    load_settings,
    private_files,
    read_address,
    settings,
    using,
)

Load = Callable[..., Settings]

HUB = """
connections:
  hub:
    provider: jupyterhub
    base_url: https://hub.example.com/
    identity: {token: "env:HUB_TOKEN"}
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load from a `revoq.yaml` with the given text and from the given variables, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def loading(text: str | None = None, **environ: str) -> Settings:
        if text is not None:
            (tmp_path / "revoq.yaml").write_text(text, "utf-8")
        return load_settings({"REVOQ_DATA_DIR": str(tmp_path / "data"), **environ})

    return loading


def mistakes(load: Load, text: str | None = None, **environ: str) -> list[str]:
    """The sentences that loading raises."""
    with pytest.raises(SettingsErrors) as caught:
        load(text, **environ)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_defaults(load: Load, tmp_path: Path) -> None:
    """With nothing given, database, broker and keys are all found from the data folder."""
    found = load()
    assert found.database_url == f"sqlite:///{tmp_path}/data/revoq.db"
    assert found.broker_url == f"redis+socket://{tmp_path}/data/run/broker.sock"
    assert found.embedded_broker
    assert found.broker_socket == tmp_path / "data/run/broker.sock"
    assert found.seal_keys is None
    assert (found.claim, found.request_timeout, found.retry_for) == (120, 30, 7 * 86400)
    assert (found.urgent_threads, found.bulk_threads, found.body_limit) == (8, 32, 4 * 1024 * 1024)
    assert (found.flower_address, found.flower_port) == ("127.0.0.1", 5555)


def test_settings_by_hand_have_the_same_defaults(tmp_path: Path) -> None:
    """What a test makes by hand is checked and completed as what is loaded."""
    assert Settings(data_dir=tmp_path).database_url == f"sqlite:///{tmp_path}/revoq.db"


def test_variables_win_over_the_file(load: Load) -> None:
    """A variable wins over the file, setting by setting."""
    found = load("flower_port: 1\nclaim: 10m\n", REVOQ_FLOWER_PORT="2")
    assert (found.flower_port, found.claim) == (2, 600)


def test_an_empty_variable_is_not_given(load: Load) -> None:
    """Compose files pass on variables that were never set, as nothing."""
    assert load("flower_port: 1\n", REVOQ_FLOWER_PORT="", REVOQ_BROKER_URL="").flower_port == 1


def test_by_hand_nothing_else_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings made by hand have what the hand gave them, whatever the shell and its folder say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REVOQ_FLOWER_PORT", "1")
    (tmp_path / "revoq.yaml").write_text("claim: nonsense\n", "utf-8")
    assert Settings(data_dir=tmp_path).flower_port == 5555


def test_only_the_exact_name_is_ours(load: Load) -> None:
    """Two spellings of one name would leave open which one wins; neither source takes a second one."""
    assert load(REVOQ_FLOWER_PORT="2", revoq_flower_port="3").flower_port == 2
    assert mistakes(load, "Claim: 1m\n", REVOQ_flower_port="3") == [
        "revoq.yaml:1: Claim: there is no such setting; did you mean claim?",
        "environment: REVOQ_flower_port: there is no setting; did you mean REVOQ_FLOWER_PORT?",
    ]


@pytest.mark.parametrize("text", ["true", "8.0", " 8", "1_000", "[8]", "0x8", "-8"])
def test_a_number_is_digits(load: Load, text: str) -> None:
    """What only resembles a number is refused: pydantic-settings by itself takes `true` for 1."""
    assert mistakes(load, REVOQ_BULK_THREADS=text) == [
        f"REVOQ_BULK_THREADS: bulk_threads: expected a valid integer, got {text!r}"
    ]


def test_debugging_pydantic_settings_shows_no_secret(
    load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its debug mode logs what every source says; here it says nothing."""
    monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")
    caplog.set_level("DEBUG")
    load(REVOQ_DATABASE_URL="postgresql://u:hunter2@db/x")
    assert "hunter2" not in caplog.text


def test_a_value_may_come_from_a_file(load: Load, tmp_path: Path) -> None:
    """`REVOQ_X_FILE` and `x_file` name a file whose text is the value; its last line break is not part of it."""
    (tmp_path / "url").write_text("postgresql://revoq:hunter2@db/revoq\n", "utf-8")
    (tmp_path / "broker").write_text("redis://:pass@cache/0\r\n", "utf-8")
    found = load("broker_url_file: broker\n", REVOQ_DATABASE_URL_FILE=str(tmp_path / "url"))
    assert found.database_url == "postgresql+psycopg://revoq:hunter2@db/revoq"
    assert found.broker_url == "redis://:pass@cache/0"
    assert not found.embedded_broker


def test_a_printed_value_shows_no_secret(load: Load) -> None:
    """Settings end up in logs and tracebacks: what may hold a password is not in their repr."""
    found = load(REVOQ_DATABASE_URL="postgresql://u:hunter2@db/x", REVOQ_SEAL_KEYS="seal k hunter2")
    assert "hunter2" not in repr(found)
    assert found.seal_keys == Secret("seal k hunter2")


def test_the_keys_are_in_the_data_folder(load: Load, tmp_path: Path) -> None:
    """Where nothing else is said, the key ring is the file `keys` of the data folder."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/keys").write_text("seal a b\n", "utf-8")
    assert load().seal_keys == Secret("seal a b\n")


def test_the_named_file_wins_over_the_one_in_this_folder(load: Load, tmp_path: Path) -> None:
    """`REVOQ_CONFIG` names the file; paths in it start from its own folder."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/other.yaml").write_text("rules_path: [mine, /abs]\ndatabase_url: sqlite:///x.db\n", "utf-8")
    found = load("flower_port: 1\n", REVOQ_CONFIG="etc/other.yaml")
    assert found.flower_port == 5555
    assert found.rules_path == [tmp_path / "etc/mine", Path("/abs")]
    assert found.database_url == f"sqlite:///{tmp_path}/etc/x.db"


def test_the_data_folder_may_hold_the_file(load: Load, tmp_path: Path) -> None:
    """A `revoq.yaml` in the data folder is read where there is none here."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/revoq.yaml").write_text("flower_port: 7\n", "utf-8")
    assert load().flower_port == 7


def test_a_named_file_has_to_exist(load: Load) -> None:
    """A config that was asked for and is not there is a mistake, not a default."""
    assert mistakes(load, REVOQ_CONFIG="nowhere.yaml") == [
        "nowhere.yaml: REVOQ_CONFIG: cannot read it as text: No such file or directory"
    ]


def test_lists_in_variables(load: Load, tmp_path: Path) -> None:
    """Folders are separated as in PATH, rule ids by commas."""
    found = load(REVOQ_RULES_PATH=f"/a{os.pathsep}b", REVOQ_TRUST_SINGLE_ROW="x.y, z.w")
    assert found.rules_path == [Path("/a"), tmp_path / "b"]
    assert found.trust_single_row == ["x.y", "z.w"]


def test_every_mistake_at_once(load: Load) -> None:
    """All mistakes come together, each with its setting, what was expected, what came, and where."""
    text = """\
flower_prot: 1
claim: 5
flower_port: "1"
bulk_threads: 0
log_format: pretty
data_dir_file: nowhere
connections:
  hub:
    provider: jupyterhub
    base_url: hub.example.com
    identity:
      token: t0p-s3cret
    sings: true
  "bad name":
    provider: x
"""
    found = mistakes(
        load, text, REVOQ_DATABSE_URL="x", REVOQ_URGENT_THREADS="many", REVOQ_DATABASE_URL="mysql://u:pw@h"
    )
    assert found == [
        "revoq.yaml:1: flower_prot: there is no such setting; did you mean flower_port?",
        found[1],
        "environment: REVOQ_DATABSE_URL: there is no setting; did you mean REVOQ_DATABASE_URL?",
        (
            "REVOQ_DATABASE_URL: database_url: expected sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE,"
            " got something else"
        ),
        "revoq.yaml:2: claim: expected a duration such as 90s, 15m, 24h or 7d, got 5",
        "REVOQ_URGENT_THREADS: urgent_threads: expected a valid integer, got 'many'",
        "revoq.yaml:4: bulk_threads: expected greater than or equal to 1, got 0",
        "revoq.yaml:3: flower_port: expected a valid integer, got '1'",
        "revoq.yaml:5: log_format: expected 'auto', 'json' or 'console', got 'pretty'",
        "revoq.yaml:10: connections.hub.base_url: expected an address such as https://host/path, got something else",
        (
            "revoq.yaml:11: connections.hub.identity: token: expected a reference to the secret, such as"
            " file:/run/secrets/NAME or env:NAME, got the value itself"
        ),
        "revoq.yaml:13: connections.hub.sings: there is no such key",
        found[-1],
    ]
    assert found[1].startswith("revoq.yaml:6: data_dir: cannot read ")
    assert found[-1].startswith("revoq.yaml:14: connections.bad name.name: expected a text like ")
    assert not any(secret in "\n".join(found) for secret in ("t0p-s3cret", "u:pw"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("claim: 1m\nclaim: 2m\n", "revoq.yaml:2: the key 'claim' stands on line 1 already"),
        ("never: [\n", "revoq.yaml:2: not YAML"),
        ("- claim\n", "revoq.yaml:1: expected settings as `name: value`"),
        ("holidays: {}\n", "revoq.yaml:1: holidays: there is no such setting"),
        ("connections_file: x\n", "revoq.yaml:1: connections_file: there is no such setting"),
        ("seal_keys: seal a b\n", "revoq.yaml:1: seal_keys: keys may not stand in this file"),
        ("claim: 1m\nclaim_file: x\n", "revoq.yaml:2: claim: given twice"),
        ("broker_url: amqp://u:pw@h\n", "revoq.yaml:1: broker_url: expected redis://"),
        ("broker_url: [1]\n", "revoq.yaml:1: broker_url: expected a valid string, got something else"),
        ("database_url: 'sqlite://'\n", "revoq.yaml:1: database_url: expected sqlite:///FILE"),
        ("database_url: 'sqlite:///:memory:'\n", "revoq.yaml:1: database_url: expected sqlite:///FILE"),
        ("claim: 1m\n", "request_timeout: expected less than half of claim, which is 60s; got 30s"),
        ("claim: 10s\nrequest_timeout: 5s\n", "revoq.yaml:2: request_timeout: expected less than half of claim"),
        ("flower_address: localhost\n", "revoq.yaml:1: flower_address: expected an address such as 127.0.0.1"),
        ("never_probe: no\n", "revoq.yaml:1: never_probe: there is no such setting"),
        ("connections: {a: {provider: x, never_probe: no}}\n", "connections.a.never_probe: expected a valid boolean"),
        ("connections: {a: {provider: x, name: b}}\n", "connections: a: the name is the key it stands under"),
        ("connections: {a: {}}\n", "connections.a.provider: expected a value, got nothing"),
    ],
)
def test_mistakes(load: Load, text: str, says: str) -> None:
    """Each of these gets a sentence with its place."""
    assert says in "\n".join(mistakes(load, text))


def test_given_twice(load: Load, tmp_path: Path) -> None:
    """A value and a file for the same setting is a mistake: nobody knows which one was meant."""
    assert mistakes(load, REVOQ_CLAIM="2m", REVOQ_CLAIM_FILE=str(tmp_path / "x")) == [
        "environment: claim: given twice: as REVOQ_CLAIM and as REVOQ_CLAIM_FILE"
    ]


def test_connections_cannot_come_from_a_variable(load: Load) -> None:
    """Whoever tries is told where connections go."""
    assert mistakes(load, REVOQ_CONNECTIONS="{}") == ["environment: REVOQ_CONNECTIONS: set it in revoq.yaml"]
    assert mistakes(load, REVOQ_SINKS="{}") == ["environment: REVOQ_SINKS: set it in revoq.yaml"]


def test_a_referenced_variable_may_have_our_prefix(load: Load) -> None:
    """A variable that an identity refers to is not a misspelt setting."""
    text = HUB.replace("env:HUB_TOKEN", "env:REVOQ_HUB_TOKEN")
    assert load(text, REVOQ_HUB_TOKEN="x").connection("hub").name == "hub"


SINKS = """
sinks:
  vault-prod:
    kind: vault
    url: https://vault.example.com/
    mount: kv
    path: service-users/{name}
    token: "env:VAULT_TOKEN"
    ca_bundle: ca.pem
  keys: {kind: file, path: "/srv/keys/{connection}/{id}", format: text, field: key}
"""


def test_sinks(load: Load, tmp_path: Path) -> None:
    """A sink knows its name and its kind; relative paths start where the file stands."""
    found = load(SINKS)
    vault = found.sink("vault-prod")
    assert isinstance(vault, VaultPlace)
    assert (vault.name, vault.url, vault.ca_bundle) == ("vault-prod", "https://vault.example.com", tmp_path / "ca.pem")
    assert isinstance(found.sink("keys"), FilePlace)
    with pytest.raises(UnknownSink, match="no sink is called 'vault'; did you mean vault-prod"):
        found.sink("vault")


def test_a_sinks_secret_is_read_late_and_kept_private(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an identity's: from a variable, which may have our prefix, or from a file that the doctor is told of."""
    found = load(SINKS.replace("env:VAULT_TOKEN", "env:REVOQ_VAULT_TOKEN"), REVOQ_VAULT_TOKEN="x")
    with pytest.raises(ConnectionUnusable, match="sink vault-prod: token: the environment variable REVOQ_VAULT_TOKEN"):
        found.sink("vault-prod").resolve("token")
    monkeypatch.setenv("REVOQ_VAULT_TOKEN", "hunter2")
    assert found.sink("vault-prod").resolve("token") == Secret("hunter2")
    (tmp_path / "token").write_text("hunter3\n", "utf-8")
    found = load(SINKS.replace("env:VAULT_TOKEN", f"file:{tmp_path}/token"))
    assert found.sink("vault-prod").resolve("token") == Secret("hunter3")
    assert tmp_path / "token" in private_files(found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{kind: valt}", "revoq.yaml:1: sinks.a: kind: expected one of 'file', 'vault', 'aws_secrets_manager'"),
        ("{path: /a}", "revoq.yaml:1: sinks.a: expected a kind, got nothing"),
        ("{kind: file, path: /a/b, formt: env}", "sinks.a.formt: there is no such key; did you mean format?"),
        ("{kind: file, path: a/b}", "sinks.a: path: expected an absolute path"),
        ("{kind: file, path: '/{name}/x'}", "sinks.a: path: expected an absolute path"),
        ("{kind: file, path: /a/../b}", "sinks.a.path: expected a path without empty parts, `.` or `..`"),
        ("{kind: file, path: '/a/{user}'}", "sinks.a.path: expected a text whose only names in braces are {name}"),
        ("{kind: file, path: /a/b, format: text}", "sinks.a: field: the format `text` keeps a single field"),
        ("{kind: file, path: /a/b, format: yaml}", "sinks.a.format: expected 'json', 'env' or 'text'"),
        ("{kind: vault, url: 'https://v', path: a}", "sinks.a: expected either token, or role_id and secret_id"),
        ("{kind: vault, url: 'https://v', path: a, token: hunter2}", "sinks.a.token: expected a reference"),
        ("{kind: vault, url: 'https://v', path: a, token: [hunter2]}", "sinks.a.token: expected a valid string"),
        ("{kind: vault, url: 'https://u:hunter2@v', path: a, token: 'env:X'}", "sinks.a.url: expected an address"),
        ("{kind: webhook, url: 'https://h/x', secret: 'whsec_hunter2'}", "sinks.a.secret: expected a reference"),
        ("{kind: webhook, url: 'https://{name}.h/x', secret: 'env:X'}", "sinks.a.url: expected names in braces in the"),
        ("{kind: command, run: [store]}", "sinks.a.run: expected the absolute path of a program first"),
        ("{kind: command, run: []}", "sinks.a.run: "),
        ("{kind: file, name: b, path: /a/b}", "sinks: a: the name is the key it stands under"),
    ],
)
def test_mistakes_in_sinks(load: Load, text: str, says: str) -> None:
    """Each of these gets a sentence with its place, and no secret is repeated."""
    found = "\n".join(mistakes(load, f"sinks: {{a: {text}}}\n"))
    assert says in found
    assert "hunter2" not in found


NOTICES = """\
notices:
  - {events: [still_alive, came_back], to: "file:/run/secrets/pager"}
  - severity: warning
    to: "env:CHAT_URL"
"""


def test_notices(load: Load) -> None:
    """Who is told of what: of some events, or of all that are grave enough; the address is a reference, read late."""
    pager, chat = load(NOTICES).notices
    assert pager.wants == {Event.STILL_ALIVE, Event.CAME_BACK}
    assert pager.secret_files == [Path("/run/secrets/pager")]
    assert chat.wants == set(Event) - {Event.BATCH_ENDED}
    with pytest.raises(ConnectionUnusable, match="notices: file:/run/secrets/pager: cannot read"):
        read_address(pager.to)


def test_mistakes_in_notices(load: Load) -> None:
    """Each gets a sentence with its line, and an address that stands there itself is not repeated."""
    text = """\
notices:
  - events: [parked, still_aliv]
    to: json://u:hunter2@h
  - {severity: grave, to: [hunter2], too: x}
  - {events: [], to: "env:X"}
"""
    found = mistakes(load, text)
    assert found[0].startswith("revoq.yaml:2: notices.0.events.1: expected one of still_alive, came_back")
    assert found[0].endswith("got 'still_aliv'; did you mean still_alive?")
    assert found[1:] == [
        (
            "revoq.yaml:3: notices.0.to: expected a reference to the secret, such as file:/run/secrets/NAME or"
            " env:NAME, got the value itself"
        ),
        "revoq.yaml:4: notices.1.severity: expected one of info, warning, critical; got 'grave'",
        "revoq.yaml:4: notices.1.to: expected a valid string, got something else",
        "revoq.yaml:4: notices.1.too: there is no such key; did you mean to?",
        found[-1],
    ]
    assert found[-1].startswith("revoq.yaml:5: notices.2.events: ")


def test_connections(load: Load) -> None:
    """A connection knows its name, and one that is not there is refused with the nearest name."""
    found = load(HUB)
    assert found.connection("hub").base_url == "https://hub.example.com"
    with pytest.raises(UnknownConnection, match="no connection is called 'hubb'; did you mean hub"):
        found.connection("hubb")


@pytest.mark.parametrize(
    "url",
    ["https://u:p@h", "https://h?x=1", "https://h#x", "ftp://h", "https://", "h", "https://h:99999", "https://h/ x"],
)
def test_a_base_url_is_plain(url: str) -> None:
    """A base URL holds neither a secret nor anything that bends what is put behind it."""
    with pytest.raises(ValueError, match="expected an address such as"):
        Connection(name="a", provider="x", base_url=url)


@pytest.mark.parametrize("name", ["password", "token", "api_key", "client_secret", "accesstoken", "private_key_pem"])
def test_a_literal_secret_is_refused(name: str) -> None:
    """A secret in the config is refused with the way to do it, and not repeated."""
    with pytest.raises(ValueError, match=f"{name}: expected a reference to the secret") as caught:
        Settings.model_validate({"connections": {"a": {"provider": "x", "identity": {name: "hunter2"}}}})
    assert "hunter2" not in str(caught.value)


def test_what_only_names_a_secret_may_be_literal() -> None:
    """An id or a name is no secret."""
    identity = {"username": "bot", "token_id": "7", "access_key_id": "AKIA", "tenant": "6f1c"}
    assert Connection(name="a", provider="x", identity=identity).resolve("token_id") == Secret("7")


def test_references_are_resolved_when_they_are_used(tmp_path: Path) -> None:
    """A variable and a file are read late, and their last line break is not part of the secret."""
    (tmp_path / "pw").write_text("hunter2\n", "utf-8")
    found = Connection(name="a", provider="x", identity={"token": "env:T", "password": f"file:{tmp_path / 'pw'}"})
    assert found.resolve("token", environ={"T": "abc"}) == Secret("abc")
    assert found.resolve("password") == Secret("hunter2")


def test_what_cannot_be_resolved_names_connection_and_field(tmp_path: Path) -> None:
    """Whoever reads the error knows what to set, and where."""
    (tmp_path / "empty").write_text("\n", "utf-8")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    identity = {
        "token": "env:HUB_TOKEN",
        "password": f"file:{tmp_path / 'gone'}",
        "secret": f"file:{tmp_path / 'empty'}",
        "key": f"file:{tmp_path / 'bytes'}",
        "login": "me",
    }
    hub = Connection(name="hub", provider="x", identity=identity)
    for name, says in {
        "token": "connection hub: identity.token: the environment variable HUB_TOKEN is not set",
        "password": f"connection hub: identity.password: cannot read {tmp_path / 'gone'}: No such file or directory",
        "secret": f"connection hub: identity.secret: {tmp_path / 'empty'} is empty",
        "key": f"connection hub: identity.key: expected text in {tmp_path / 'bytes'}, got bytes that are not UTF-8",
        "other": "connection hub: identity.other: not given in the settings",
    }.items():
        with pytest.raises(ConnectionUnusable) as caught:
            hub.resolve(name, environ={})
        assert str(caught.value) == says
    with pytest.raises(ConnectionUnusable, match="expected a reference to the secret"):
        hub.resolve("login", secret=True)


def test_a_file_reference_is_absolute() -> None:
    """A daemon's working folder is not the operator's."""
    with pytest.raises(ValueError, match="token: expected an absolute path after file:"):
        Connection(name="a", provider="x", identity={"token": "file:run/t"})


def test_a_test_may_bring_its_own(tmp_path: Path) -> None:
    """`using` answers for `settings()`, and gives way again."""
    inner, outer = Settings(data_dir=tmp_path / "a"), Settings(data_dir=tmp_path / "b")
    with using(outer):
        with using(inner):
            assert settings() is inner
        assert settings() is outer


def test_settings_are_frozen(tmp_path: Path) -> None:
    """Nothing sets a setting after it was checked."""
    with pytest.raises(ValueError, match="frozen"):
        Settings(data_dir=tmp_path).claim = 1.0  # type: ignore[misc]


def test_private_files(load: Load, tmp_path: Path) -> None:
    """The doctor is given every file that holds a secret, and a sentence for each that others can read."""
    (tmp_path / "data").mkdir()
    for name in ("data/keys", "broker", "token"):
        (tmp_path / name).write_text("redis://h/0" if name == "broker" else "x", "utf-8")
        (tmp_path / name).chmod(0o600)
    text = f"broker_url_file: broker\ndatabase_url: postgresql://u:p@h/d\n{HUB}".replace(
        "env:HUB_TOKEN", f"file:{tmp_path / 'token'}"
    )
    found = private_files(load(text))
    assert set(found) == {tmp_path / name for name in ("data/keys", "broker", "token", "revoq.yaml")}
    (tmp_path / "token").chmod(0o640)
    assert check_private(tmp_path / "broker") is None
    assert check_private(tmp_path / "nowhere") is None
    assert check_private(tmp_path / "token") == (
        f"{tmp_path}/token has mode 0640, so others than its owner can use it: chmod 600 {tmp_path}/token"
    )
