"""Secrets by reference (`env:`, `file:`, `vault:`, `aws:`), read with the submitter's own rights; never by a worker.

A file lies below the folder of the input, so that an input from elsewhere cannot ask for this machine's secrets, and
revoq's own variables are nobody's to name.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rules.errors import BadInput
from rules.secret import Secret
from scheduler.offboard.items import LONGEST_FIELD
from worker.extras import ask_for

try:
    import hvac
    from hvac.exceptions import VaultError
except ImportError:
    hvac = None
try:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    boto3 = None

REFERENCE = re.compile(r"(?P<kind>env|file|vault|aws):(?P<place>.+)")
OUR_OWN = "REVOQ_"
TIMEOUT = 10
MOST_FILES = 100
"""Files that are remembered for being told: there may be one for each of many rows."""


@dataclass
class Resolver:
    """Reads what references lead to. `files` are those that were read: they hold secrets still."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    files: set[Path] = field(default_factory=set)

    def resolve(self, name: str, text: str) -> Secret:
        """The secret that a field holds or refers to; raises BadInput with the field's name."""
        found = REFERENCE.fullmatch(text)
        if found is None:
            return Secret(text)
        readers: dict[str, Callable[[str], Secret]] = {
            "env": self._variable,
            "file": self._file,
            "vault": _read_vault,
            "aws": _read_aws,
        }
        try:
            secret = readers[found["kind"]](found["place"])
        except BadInput as error:
            raise BadInput(f"{name}: {error}") from None
        if not secret:
            raise BadInput(f"{name}: what {found['kind']}: leads to is empty")
        return secret

    def _variable(self, variable: str) -> Secret:
        if variable.upper().startswith(OUR_OWN):
            raise BadInput(
                f"variables that begin with {OUR_OWN} are revoq's own and no credential of a file: use another"
            )
        if not self.environ.get(variable):
            raise BadInput(f"the environment variable {variable[:80]} is not set")
        return Secret.normalised(self.environ[variable])

    def _file(self, place: str) -> Secret:
        path = _below(self.folder, place)
        secret = Secret.normalised(_read(path))
        if len(self.files) < MOST_FILES:
            self.files.add(path)
        return secret


def _below(folder: Path, place: str) -> Path:
    """The real file, which has to lie below the real folder, whatever links are on the way."""
    if ".." in Path(place).parts:
        raise BadInput("file: expected a path below the folder of the input, without `..`")
    try:
        base, path = folder.resolve(strict=True), (folder / place).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput(f"file: it cannot be read: {getattr(error, 'strerror', None) or 'it is no path'}") from None
    if not path.is_relative_to(base):
        raise BadInput("file: it leads out of the folder of the input: put the file below it")
    return path


def _read(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BadInput("file: expected a file, got something else")
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(LONGEST_FIELD + 1)
    except OSError as error:
        raise BadInput(f"file: it cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput("file: expected UTF-8 text, got other bytes") from None
    if len(data) > LONGEST_FIELD:
        raise BadInput(f"file: expected one secret, got more than {LONGEST_FIELD} bytes")
    return text


# ── vault:mount/path#field ────────────────────────────────────────────────────────────────────────────────────────────


def _read_vault(place: str) -> Secret:
    address, _, key = place.rpartition("#")
    mount, _, path = address.partition("/")
    if not (mount and path and key):
        raise BadInput("vault: expected vault:mount/path#field")
    if hvac is None:
        raise BadInput(f"vault: {ask_for('hvac')}")
    try:
        # Address and token are the submitter's own: VAULT_ADDR, VAULT_TOKEN, or the file that `vault login` wrote.
        answer = _vault().secrets.kv.v2.read_secret_version(path=path, mount_point=mount, raise_on_deleted_version=True)
        data = answer["data"]["data"]
    except VaultError as error:
        raise BadInput(f"vault: it does not give this secret ({type(error).__name__}): check path and token") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"vault: it does not answer as expected ({type(error).__name__}): check VAULT_ADDR") from None
    return _field_of(data, key, "vault")


@lru_cache(maxsize=1)
def _vault() -> Any:
    return hvac.Client(timeout=TIMEOUT)


# ── aws:secret-id#field ───────────────────────────────────────────────────────────────────────────────────────────────


def _read_aws(place: str) -> Secret:
    name, sign, key = place.rpartition("#")
    if not sign:
        name, key = place, ""
    if not name or (sign and not key):
        raise BadInput("aws: expected aws:secret-id#field, or aws:secret-id where the secret is no JSON")
    if boto3 is None:
        raise BadInput(f"aws: {ask_for('boto3')}")
    try:
        # Region and keys are the submitter's own, from wherever boto3 looks for them.
        text = boto3.client("secretsmanager").get_secret_value(SecretId=name).get("SecretString")
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        raise BadInput(f"aws: Secrets Manager does not give this secret ({code})") from None
    except (BotoCoreError, ValueError) as error:
        raise BadInput(
            f"aws: Secrets Manager cannot be asked ({type(error).__name__}): check region and keys"
        ) from None
    if not isinstance(text, str):
        raise BadInput("aws: the secret is bytes, expected text")
    if not key:
        return Secret.normalised(text)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise BadInput("aws: the secret is no JSON, so it has no fields: leave `#` and what follows out") from None
    return _field_of(data, key, "aws")


def _field_of(data: Any, key: str, kind: str) -> Secret:
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, str):
        raise BadInput(f"{kind}: the secret has no text under the field after `#`")
    return Secret(value)
