"""Secrets by reference, with the submitter's rights: Secrets Manager by a real moto, Vault by a pretend one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from rules.errors import BadInput
from scheduler.offboard import references
from scheduler.offboard.references import Resolver
from tests.servers.moto import Moto
from tests.servers.recorder import Recorder, Said, running_recorder


@pytest.fixture
def resolver(tmp_path: Path) -> Resolver:
    """What looks for files in the test's folder."""
    return Resolver(tmp_path, environ={"LEAVER": "value\n", "revoq_key": "x"})


@pytest.fixture
def manager(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two secrets in Secrets Manager, and the variables that boto3 looks for."""
    for name, value in {
        "AWS_ENDPOINT_URL": moto.url,
        "AWS_ACCESS_KEY_ID": "AKIAX5MPQ7RSTUVWYZ2K",
        "AWS_SECRET_ACCESS_KEY": "w" * 40,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("secretsmanager")
    client.create_secret(Name="people/kim", SecretString=json.dumps({"token": "t-kim", "age": 7}))
    client.create_secret(Name="plain", SecretString="t-plain")


def test_aws(manager: None, resolver: Resolver) -> None:
    """A field of a secret in JSON, or all of one that is text."""
    assert resolver.resolve("secret", "aws:people/kim#token").reveal() == "t-kim"
    assert resolver.resolve("secret", "aws:plain").reveal() == "t-plain"


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("aws:nobody#token", "ResourceNotFoundException"),
        ("aws:people/kim#none", "no text under the field"),
        ("aws:people/kim#age", "no text under the field"),
        ("aws:plain#token", "is no JSON"),
        ("aws:plain#", "expected aws:secret-id#field"),
    ],
)
def test_aws_refuses(manager: None, resolver: Resolver, place: str, says: str) -> None:
    """What is not there is told, and no value of what is."""
    with pytest.raises(BadInput, match=says) as refused:
        resolver.resolve("secret", place)

    assert "t-kim" not in str(refused.value)


def test_without_the_extras(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which extra is missing is said, with the command that brings it."""
    monkeypatch.setattr(references, "boto3", None)
    monkeypatch.setattr(references, "hvac", None)
    with pytest.raises(BadInput, match=r"pip install 'revoq\[aws\]'"):
        resolver.resolve("secret", "aws:x#y")
    with pytest.raises(BadInput, match=r"pip install 'revoq\[vault\]'"):
        resolver.resolve("secret", "vault:kv/x#y")


def test_variables(resolver: Resolver) -> None:
    """One line break at the end is not part of it; revoq's own are refused however they are spelt."""
    assert resolver.resolve("secret", "env:LEAVER").reveal() == "value"
    assert resolver.resolve("secret", "no:reference").reveal() == "no:reference"
    with pytest.raises(BadInput, match="revoq's own"):
        resolver.resolve("secret", "env:revoq_key")


@pytest.mark.parametrize("make", ["folder", "pipe", "large", "bytes", "loop"])
def test_files_that_are_none(resolver: Resolver, tmp_path: Path, make: str) -> None:
    """A folder, a pipe, something large, bytes and a circle of links: each has its sentence, and none hangs."""
    path = tmp_path / "x"
    match make:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "large":
            path.write_text("a" * 70_000)
        case "bytes":
            path.write_bytes(b"\xff\xfe")
        case _:
            path.symlink_to(tmp_path / "y")
            (tmp_path / "y").symlink_to(path)

    with pytest.raises(BadInput, match=r"^secret: file: "):
        resolver.resolve("secret", "file:x")


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """A pretend Vault: it answers as the second version of its key-value store does, to one path and one token."""
    answer = {"data": {"data": {"token": "t-kim", "age": 7}, "metadata": {"version": 1}}}
    with running_recorder() as recorder:
        known = {"/v1/kv/data/people/kim": Said(200, answer), "/v1/kv/data/denied": Said(403, {"errors": ["no"]})}
        recorder.script = lambda seen: known.get(seen.path, Said(404, {"errors": []}))
        monkeypatch.setenv("VAULT_ADDR", recorder.url)
        monkeypatch.setenv("VAULT_TOKEN", "submitter's-own")
        references._vault.cache_clear()  # noqa: SLF001 - one client for a process, and here one for a test
        yield recorder
        references._vault.cache_clear()  # noqa: SLF001 - as above


def test_vault(vault: Recorder, resolver: Resolver) -> None:
    """The field at a path, read with the token of whoever submits."""
    assert resolver.resolve("secret", "vault:kv/people/kim#token").reveal() == "t-kim"
    assert vault.seen[-1].headers["x-vault-token"] == "submitter's-own"


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("vault:kv/people/kim#none", "no text under the field"),
        ("vault:kv/nobody#token", "InvalidPath"),
        ("vault:kv/denied#token", "Forbidden"),
        ("vault:kv#token", "expected vault:mount/path#field"),
    ],
)
def test_vault_refuses(vault: Recorder, resolver: Resolver, place: str, says: str) -> None:
    """What is not there, or not for this token, is told in a sentence."""
    with pytest.raises(BadInput, match=says):
        resolver.resolve("secret", place)
