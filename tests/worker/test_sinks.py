"""What only one kind of sink does: links and modes of files, versions of Vault, labels of AWS, signatures, programs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import pytest

from rules.secret import Secret
from tests.conformance.stands import (
    TARGET,
    AppRoleStand,
    AwsStand,
    CommandStand,
    DeafHookStand,
    EnvStand,
    FileStand,
    HookStand,
    Remote,
    Stand,
    TextStand,
    VaultStand,
    open_stand,
)
from tests.servers.consumer import KEY, Consumer
from tests.servers.front import Front
from tests.servers.recorder import Said, running_recorder
from worker.client import hang_up
from worker.errors import SinkBroken, SinkConflict, SinkDenied, SinkLost, SinkUnavailable
from worker.settings import Settings
from worker.sinks import Record, Target, find_unusable

ROOT = Path(__file__).parents[2]
RECORD: Record = {"id": "5f3a", "key": Secret("n3w-s3cret")}
NEXT: Record = {"id": "5f3b", "key": Secret("n3xt-s3cret")}


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_link_is_followed(tmp_path: Path) -> None:
    """Neither at the file nor at a folder that a target's name chose: the place it leads to stays as it was."""
    stand = FileStand(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "key").write_text("{}")
    (stand.places / TARGET.name).symlink_to(outside / "key")
    (stand.places / "bob").symlink_to(outside)
    by_folder = stand.open(path=f"{stand.places}/{{name}}/key")

    for sink, target in ((stand.open(), TARGET), (by_folder, Target("bob"))):
        with pytest.raises(SinkBroken, match="no link may lead"):
            sink.check(target)
        with pytest.raises(SinkBroken, match="no link may lead"):
            sink.read(target)
        with pytest.raises(SinkBroken, match="no link may lead"):
            sink.put(target, RECORD, over=None)

    assert (outside / "key").read_text() == "{}"
    assert [path.name for path in outside.iterdir()] == ["key"]


def test_a_folder_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    """Whoever can write there can put a key of their own in its place."""
    stand = FileStand(tmp_path)
    stand.places.chmod(0o1777)

    with pytest.raises(SinkBroken, match="everybody can write"):
        stand.open().put(TARGET, RECORD, over=None)
    with pytest.raises(SinkBroken, match="everybody can write"):
        stand.open().check(TARGET)

    assert stand.stored() is None


def test_a_folder_is_never_made(tmp_path: Path) -> None:
    """A misspelt path is a sentence, not a new folder."""
    sink = FileStand(tmp_path).open(path=f"{tmp_path}/nowhere/{{name}}")

    with pytest.raises(SinkBroken, match="No such file or directory"):
        sink.put(TARGET, RECORD, over=None)

    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_file_and_no_record(tmp_path: Path) -> None:
    """A pipe is not waited for, a folder is not replaced, and a file of another form is nobody's record."""
    stand = FileStand(tmp_path)
    os.mkfifo(stand.places / "pipe")
    (stand.places / "folder").mkdir()
    stand.file.write_text("not json")

    for name in ("pipe", "folder"):
        with pytest.raises(SinkBroken, match="something else than a file"):
            stand.open().put(Target(name), RECORD, over=None)
    with pytest.raises(SinkBroken, match="something else than json"):
        stand.open().read(TARGET)
    with pytest.raises(SinkConflict):
        stand.open().put(TARGET, RECORD, over=None)


def test_the_disk_does_not_say_that_it_kept_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is there, but may be gone after a power cut: lost, so that somebody looks again."""
    stand = FileStand(tmp_path)
    sync = os.fsync

    def fail_for_folders(file: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{file}"):  # noqa: PTH112 - a file descriptor has no path of its own
            raise OSError(5, "Input/output error")
        sync(file)

    monkeypatch.setattr(os, "fsync", fail_for_folders)

    with pytest.raises(SinkLost):
        stand.open().put(TARGET, RECORD, over=None)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes; nothing unfinished stays behind."""
    stand = FileStand(tmp_path)
    stand.open().put(TARGET, RECORD, over=None)
    held = stand.open().read(TARGET)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(SinkUnavailable):
        stand.open().put(TARGET, NEXT, over=held)

    assert stand.stored() == {"id": "5f3a", "key": "n3w-s3cret"}
    assert [path.name for path in stand.places.iterdir()] == [TARGET.name]


def test_a_shell_reads_what_was_written_for_it(tmp_path: Path) -> None:
    """Every quote, dollar and line break is the value's own."""
    stand = EnvStand(tmp_path)
    value = "a'b\"c $HOME `id`\n\\n\tend"
    stand.open().put(TARGET, {"KEY": Secret(value)}, over=None)

    script = f'set -a; . {stand.file}; exec {sys.executable} -c "import os; print(os.environ[chr(75)+chr(69)+chr(89)])"'
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == f"{value}\n"


def test_what_a_format_cannot_keep(tmp_path: Path) -> None:
    """A field that is missing, a name that is no variable's, half a character: a sentence each, and no file."""
    text, env = TextStand(tmp_path / "text"), EnvStand(tmp_path / "env")

    with pytest.raises(SinkBroken, match="keeps the field key, and the record has id"):
        text.open().put(TARGET, {"id": "1"}, over=None)
    with pytest.raises(SinkBroken, match="no variable can be called api-key"):
        env.open().put(TARGET, {"api-key": Secret("x")}, over=None)
    with pytest.raises(SinkBroken, match="UTF-8"):
        text.open().put(TARGET, {"key": Secret("s3cret\ud800")}, over=None)

    assert (text.stored(), env.stored()) == (None, None)


S = TypeVar("S", bound=Stand)

# ── a place behind a door ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VaultStand]:
    """Vault by token."""
    yield from opened(VaultStand, request, tmp_path)


@pytest.fixture
def role(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AppRoleStand]:
    """Vault by app role."""
    yield from opened(AppRoleStand, request, tmp_path)


@pytest.fixture
def aws(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AwsStand]:
    """AWS."""
    yield from opened(AwsStand, request, tmp_path)


@pytest.fixture
def hook(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HookStand]:
    """A service that can be read."""
    yield from opened(HookStand, request, tmp_path)


@pytest.fixture
def deaf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DeafHookStand]:
    """A service that cannot be read."""
    yield from opened(DeafHookStand, request, tmp_path)


def opened(kind: type[S], request: pytest.FixtureRequest, folder: Path) -> Iterator[S]:
    """The stand, for as long as the test lasts."""
    with open_stand(kind, request, folder) as stand:
        assert isinstance(stand, kind)
        yield stand


# ── Vault ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_deleted_version_is_nothing_and_is_written_over(vault: VaultStand) -> None:
    """Its number stays, and the next version is checked against it."""
    sink = vault.open()
    sink.put(TARGET, RECORD, over=None)
    vault.server.delete_newest(f"bots/{TARGET.name}")

    assert sink.read(TARGET) is None
    sink.put(TARGET, NEXT, over=None)

    held = sink.read(TARGET)
    assert held is not None
    assert (held.version, sink.confirms(held, NEXT)) == ("2", True)


@pytest.mark.parametrize("kind", [VaultStand, AwsStand])
def test_the_place_itself_refuses_a_write_over_another_version(
    kind: type[Stand], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Somebody writes between our look and our write: the check-and-set is the place's own."""
    with open_stand(kind, request, tmp_path) as stand:
        assert isinstance(stand, Remote)
        sink = stand.open()
        sink.put(TARGET, RECORD, over=None)
        held = sink.read(TARGET)

        def put() -> None:
            try:
                sink.put(TARGET, NEXT, over=held)
            finally:
                hang_up()

        with ThreadPoolExecutor(1) as pool:
            with stand.front.holding_next_answer("GET" if kind is VaultStand else "POST") as look:
                done = pool.submit(put)
                look.wait_until_done()
                stand.write_behind({"id": "9", "key": "theirs"})
            with pytest.raises(SinkConflict):
                done.result()

        assert stand.stored() == {"id": "9", "key": "theirs"}


def test_an_old_engine_and_a_wrong_mount(vault: VaultStand) -> None:
    """What has no versions cannot be checked and set: a sentence, and nothing is written."""
    with pytest.raises(SinkBroken, match="no KV engine of version 2"):
        vault.open(mount="elsewhere").put(TARGET, RECORD, over=None)
    vault.server.switch(old_engine=True)
    with pytest.raises(SinkBroken, match="version"):
        vault.open().put(TARGET, RECORD, over=None)


def test_a_sealed_server_passes(vault: VaultStand) -> None:
    """Somebody will unseal it; nothing was written."""
    vault.server.switch(sealed=True)

    with pytest.raises(SinkUnavailable, match="503"):
        vault.open().put(TARGET, RECORD, over=None)


def test_the_preflight_asks_what_the_token_may(vault: VaultStand) -> None:
    """A token that may only read is refused before anything is rotated; one that may not ask is believed."""
    with vault.denied() as reader, pytest.raises(SinkDenied, match="lets us read at bots/ann-bot"):
        reader.check(TARGET)
    vault.server.switch(asking_allowed=False)

    vault.open().check(TARGET)


def test_a_namespace_is_said_with_every_call(vault: VaultStand) -> None:
    """A token of one namespace is unknown in another."""
    token = vault.server.add_token(namespace="team-a")
    (vault.folder / "team").write_text(token.token)
    sink = vault.open(namespace="team-a", token=f"file:{vault.folder}/team")

    sink.put(TARGET, RECORD, over=None)

    assert sink.confirms(sink.read(TARGET), RECORD)
    assert vault.stored() is None
    with pytest.raises(SinkDenied):
        vault.open(token=f"file:{vault.folder}/team").read(TARGET)


def test_an_app_role_signs_in_once_and_gives_its_token_back(role: AppRoleStand) -> None:
    """A secret id may be good for one login; a login that is forgotten is a credential too."""
    role.server.roles[0].uses = 1
    sink = role.open()

    sink.put(TARGET, RECORD, over=None)

    assert role.stored() is not None
    assert sum(role.server.state().values()) == 1  # the token of the other stand, which nobody used
    with pytest.raises(SinkDenied, match="app role"):
        sink.put(TARGET, NEXT, over=None)


# ── AWS ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def stages(stand: AwsStand) -> dict[str, str]:
    """Which record each label is on."""
    client = stand.moto.client("secretsmanager")
    versions = client.describe_secret(SecretId=stand.secret)["VersionIdsToStages"]
    return {
        stage: json.loads(client.get_secret_value(SecretId=stand.secret, VersionId=version)["SecretString"])["id"]
        for version, labels in versions.items()
        for stage in labels
    }


def test_the_old_version_stays_as_the_previous_one(aws: AwsStand) -> None:
    """AWSCURRENT moves, AWSPREVIOUS keeps the old one, and nothing waits as AWSPENDING."""
    sink = aws.open()
    sink.put(TARGET, RECORD, over=None)

    sink.put(TARGET, NEXT, over=sink.read(TARGET))

    assert stages(aws) == {"AWSCURRENT": "5f3b", "AWSPREVIOUS": "5f3a"}


@pytest.mark.parametrize("lost", ["PutSecretValue", "GetSecretValue", "UpdateSecretVersionStage"])
def test_broken_off_anywhere_it_is_old_or_new_and_goes_on(aws: AwsStand, lost: str) -> None:
    """The consumer never sees half of it, and the same delivery again makes no further version."""
    sink = aws.open()
    sink.put(TARGET, RECORD, over=None)
    held = sink.read(TARGET)
    aws.front.lose_next_answer("POST", f"secretsmanager.{lost}")

    with pytest.raises(SinkUnavailable if lost == "GetSecretValue" else SinkLost):
        sink.put(TARGET, NEXT, over=held)
    assert aws.stored() == {
        "id": "5f3b" if lost == "UpdateSecretVersionStage" else "5f3a",
        "key": "n3xt-s3cret" if lost == "UpdateSecretVersionStage" else "n3w-s3cret",
    }
    sink.put(TARGET, NEXT, over=held)

    assert stages(aws) | {"AWSPENDING": "5f3b"} == {"AWSCURRENT": "5f3b", "AWSPREVIOUS": "5f3a", "AWSPENDING": "5f3b"}


def test_the_preflight_sees_a_secret_that_is_about_to_go(aws: AwsStand) -> None:
    """Scheduled for deletion, it takes no version; a read and a delivery say so too."""
    sink = aws.open()
    sink.put(TARGET, RECORD, over=None)
    aws.moto.client("secretsmanager").delete_secret(SecretId=aws.secret)

    with pytest.raises(SinkBroken, match="scheduled for deletion"):
        sink.check(TARGET)
    with pytest.raises(SinkBroken):
        sink.put(TARGET, NEXT, over=None)


# ── webhooks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_delivery_is_signed_as_the_specification_says(tmp_path: Path) -> None:
    """Told by hand from the id, the time and the body; the record is in the body alone."""
    with running_recorder() as recorder:
        (tmp_path / "key").write_text(KEY)
        stand = DeafHookStand(tmp_path, Front(urlsplit(recorder.url).port or 0), Consumer())
        stand.open().put(TARGET, RECORD, over=None)
        (seen,) = recorder.seen

    signed = f"{seen.headers['webhook-id']}.{seen.headers['webhook-timestamp']}.".encode() + seen.body
    digest = hmac.digest(base64.b64decode(KEY.removeprefix("whsec_")), signed, hashlib.sha256)
    assert seen.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert json.loads(seen.body)["type"] == "credential.delivered"
    assert json.loads(seen.body)["data"] == {
        "target": {"name": "ann-bot", "id": "5f3a", "connection": "hub"},
        "record": {"id": "5f3a", "key": "n3w-s3cret"},
        "over": None,
    }
    assert "n3w-s3cret" not in f"{seen.target} {seen.headers}"


def test_a_replay_and_a_forgery_are_refused(deaf: DeafHookStand) -> None:
    """Sent again later, with another time or with another body: 401. Sent again at once, it is taken once."""
    with running_recorder() as recorder:
        recorder.script = deaf.consumer.answer
        deaf.open(url=f"{recorder.url}/secrets").put(TARGET, RECORD, over=None)
        (seen,) = recorder.seen
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        headers = {name: seen.headers[name] for name in names}
        deaf.consumer.records.clear()

        def send(body: bytes = seen.body, **changed: str) -> int:
            given = {**headers, **{name.replace("_", "-"): value for name, value in changed.items()}}
            return httpx.post(f"{recorder.url}/secrets", content=body, headers=given).status_code

        late = str(int(headers["webhook-timestamp"]) - 301)
        assert send(webhook_timestamp=late) == 401
        assert send(body=seen.body.replace(b"5f3a", b"5f3c")) == 401
        assert send(webhook_id="msg_another") == 401
        assert send() == 204

    assert deaf.consumer.records == {}


def test_a_repeated_delivery_has_the_same_id(deaf: DeafHookStand) -> None:
    """So that a service that keeps ids takes it once; another record has another id."""
    sink = deaf.open()

    sink.put(TARGET, RECORD, over=None)
    sink.put(TARGET, RECORD, over=None)
    sink.put(TARGET, NEXT, over=None)

    assert len(deaf.consumer.ids) == 2
    assert deaf.front.count("POST") == 3


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (Said(302, "", {"Location": "http://127.0.0.1:9/"}), SinkBroken),
        (Said(409), SinkConflict),
        (Said(200, "<!doctype html>", {"Content-Type": "text/html"}), SinkBroken),
        (Said(429), SinkUnavailable),
        (Said(500), SinkLost),
        (Said(400), SinkBroken),
    ],
)
def test_what_a_service_answers(deaf: DeafHookStand, said: Said, kind: type[Exception]) -> None:
    """No redirect is followed, a web page is no yes, and a 500 to a write says nothing."""
    with running_recorder() as recorder:
        recorder.script = lambda _: said
        with pytest.raises(kind):
            deaf.open(url=recorder.url).put(TARGET, RECORD, over=None)
        assert len(recorder.seen) == 1


def test_a_weak_key_is_refused(hook: HookStand) -> None:
    """When the settings are checked, with the way to make a good one."""
    (hook.folder / "key").write_text("whsec_c2hvcnQ=")

    with pytest.raises(SinkBroken, match="openssl rand -base64 32") as refused:
        hook.open()

    assert str(refused.value).count("sink here") == 1
    assert "c2hvcnQ" not in str(refused.value)


# ── programs ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_program_that_is_not_allowed_is_not_started(tmp_path: Path) -> None:
    """Neither of the two."""
    stand = CommandStand(tmp_path)
    for allowed in ([], stand.programs[:1], stand.programs[1:]):
        stand.commands = allowed
        with pytest.raises(SinkBroken, match="commands_allowed"):
            stand.open()


def test_a_program_that_does_not_end_is_lost(tmp_path: Path) -> None:
    """It is ended with all that it started, and nobody knows what it did."""
    stand = CommandStand(tmp_path)
    program = Path(stand.programs[0])
    program.write_text("#!/bin/sh\nsleep 60\n")

    with pytest.raises(SinkLost, match="read it again"):
        stand.open(patience="1s").put(TARGET, RECORD, over=None)


def test_the_record_is_on_the_input_alone(tmp_path: Path) -> None:
    """Everybody on a machine can read arguments."""
    stand = CommandStand(tmp_path)
    Path(stand.programs[0]).write_text(
        f'#!/bin/sh\necho "$0 $*" > {tmp_path}/seen; env >> {tmp_path}/seen; cat >/dev/null\n'
    )

    stand.open(read=None).put(TARGET, RECORD, over=None)

    seen = (tmp_path / "seen").read_text()
    assert "ann-bot" in seen
    assert "n3w-s3cret" not in seen


# ── what can be told without asking ───────────────────────────────────────────────────────────────────────────────


def test_a_secret_that_went_away_is_a_sentence(vault: VaultStand) -> None:
    """Between the check of the settings and the delivery; the sink is named once."""
    (vault.folder / "token").unlink()

    with pytest.raises(SinkBroken) as refused:
        vault.open().put(TARGET, RECORD, over=None)

    says = f"sink here, ann-bot: token: cannot read {vault.folder}/token: No such file or directory"
    assert str(refused.value) == says


def test_what_cannot_be_used_is_told_with_its_name(tmp_path: Path) -> None:
    """A secret that cannot be read and a program that is not allowed; what is well is not mentioned."""
    vault = {"kind": "vault", "url": "https://v.example.com", "path": "a", "token": f"file:{tmp_path}/gone"}
    sinks = {
        "well": {"kind": "file", "path": "/srv/keys/{name}"},
        "unread": vault,
        "program": {"kind": "command", "run": ["/bin/store"]},
    }
    settings = Settings.model_validate({"data_dir": str(tmp_path), "sinks": sinks})

    assert find_unusable(settings) == {
        "unread": f"sink unread: token: cannot read {tmp_path}/gone: No such file or directory",
        "program": (
            "sink program: the settings do not allow to run /bin/store; add it to commands_allowed, if it is to be"
            " trusted"
        ),
    }


def test_without_the_extras_everything_else_works() -> None:
    """The libraries are optional: whoever has such a sink is told what to install, and nobody else is."""
    script = """
import os, sys
sys.modules["hvac"] = sys.modules["hvac.adapters"] = sys.modules["boto3"] = None
from worker.settings import Settings
from worker.sinks import find_unusable
os.environ["X"] = "x"
key = {"region": "eu-central-1", "access_key_id": "AKIA", "secret_access_key": "env:X"}
sinks = {
    "file": {"kind": "file", "path": "/srv/keys/{name}"},
    "vault": {"kind": "vault", "url": "https://v.example.com", "path": "a", "token": "env:X"},
    "aws": {"kind": "aws_secrets_manager", "path": "a", **key},
}
for says in find_unusable(Settings.model_validate({"sinks": sinks})).values():
    print(says)
"""

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [
        "sink vault: it needs hvac, which is not installed: pip install 'revoq[vault]'",
        "sink aws: it needs boto3, which is not installed: pip install 'revoq[aws]'",
    ]
