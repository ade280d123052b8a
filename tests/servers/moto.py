"""A real moto server, which speaks AWS's own protocols; its users and keys are made through its own API."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx

from tests.servers.ports import find_free_port
from tests.servers.process import Process

ROOT_ID, ROOT_SECRET = "AKIAROOTROOTROOTROOT", "rootrootrootrootrootrootrootrootrootroot"
ALLOWED = '["iam:*", "sts:*", "secretsmanager:*"]'
POLICY = f'{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Action": {ALLOWED}, "Resource": "*"}}]}}'


@dataclass(frozen=True)
class Key:
    """An access key of a user."""

    user: str
    id: str
    secret: str


@dataclass(frozen=True)
class Moto:
    """One moto server. While authentication is off, which it is at first, it takes every signature for the root's."""

    url: str
    process: Process

    def reset(self) -> None:
        """Forget every user and key, and ask nobody for a signature."""
        httpx.post(f"{self.url}/moto-api/reset").raise_for_status()
        self.trust_everybody()

    def trust_everybody(self) -> None:
        """From the next request on, check no signature."""
        httpx.post(f"{self.url}/moto-api/reset-auth", content=b"Infinity").raise_for_status()

    def demand_signatures(self) -> None:
        """From the next request on, check signatures; an inactive key still passes, unlike at AWS."""
        httpx.post(f"{self.url}/moto-api/reset-auth", content=b"0").raise_for_status()

    def add_user(self, name: str) -> None:
        """A user who may do everything that tests do."""
        self.iam().create_user(UserName=name)
        self.iam().put_user_policy(UserName=name, PolicyName="all", PolicyDocument=POLICY)

    def add_key(self, user: str) -> Key:
        """A key of the user's; a user has two at most."""
        made = self.iam().create_access_key(UserName=user)["AccessKey"]
        return Key(user, made["AccessKeyId"], made["SecretAccessKey"])

    def status_of(self, key: Key, signer: Key | None = None) -> str | None:
        """How the key is listed; None where it is not."""
        rows = self.iam(signer).list_access_keys(UserName=key.user)["AccessKeyMetadata"]
        return next((str(row["Status"]) for row in rows if row["AccessKeyId"] == key.id), None)

    def iam(self, signer: Key | None = None) -> Any:
        """A client of its own, which takes nothing of what is tested."""
        return self.client("iam", signer)

    def client(self, service: str, signer: Key | None = None) -> Any:
        """A client for another service."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=signer.id if signer else ROOT_ID,
            aws_secret_access_key=signer.secret if signer else ROOT_SECRET,
        )


@contextmanager
def running_moto(directory: Path) -> Iterator[Moto]:
    """A server on a port of its own."""
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    with Process.start(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        log=directory / "moto.log",
        cwd=directory,
        env={name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ},
    ) as process:
        process.wait_until(lambda: answers(url))
        yield Moto(url, process)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/moto-api/", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
