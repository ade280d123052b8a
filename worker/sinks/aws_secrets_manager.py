"""A sink that is AWS Secrets Manager: a new version waits as AWSPENDING, is read back, and then becomes AWSCURRENT.

The version that was current stays as AWSPREVIOUS. Moving the label names the version that it is taken from, which is
the check-and-set; the new version's id is told from what is written over what, so that writing again is no new version.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rules.errors import TemplateError
from rules.message import Answer, Prepared
from worker.amazon import MISSING, Amazon, Keys
from worker.errors import ExchangeError, SinkBroken, SinkConflict, SinkDenied, SinkError, SinkUnavailable
from worker.settings import AwsPlace, Settings
from worker.sink import Held, Record, Sink, Visit, is_same, parse, write

SERVICE = "secretsmanager"
CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"
ABSENT = "ResourceNotFoundException"
TAKEN = frozenset({"ResourceExistsException", "InvalidParameterException"})
"""What AWS says where a label is not where the call expects it, or where a name is taken."""
DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature"}
    | {"InvalidClientTokenId", "InvalidSignatureException", "NotAuthorized", "OptInRequired", "SignatureDoesNotMatch"}
    | {"UnrecognizedClientException"}
)
LATER = frozenset(
    {"RequestLimitExceeded", "ServiceUnavailable", "ThrottlingException", "Throttling", "TooManyRequests"}
)


class AwsSecretsManager(Sink):
    """One secret for each target."""

    PLACE = AwsPlace
    _place: AwsPlace

    @classmethod
    def refuse(cls, place: Any, settings: Settings) -> str | None:  # noqa: ARG003 - every kind is asked the same
        """Without the optional extra, nothing can speak to it."""
        return MISSING

    def _check(self, visit: Visit) -> None:
        """Ask about the secret, which changes nothing; whether it may be written, only a write can tell."""
        if "DeletedDate" in self._ask(visit, "describe_secret", absent={}):
            raise visit.error(SinkBroken, "it is scheduled for deletion: restore it, or choose another path")

    def _read(self, visit: Visit) -> Held | None:
        said = self._ask(visit, "get_secret_value", VersionStage=CURRENT, absent={})
        return self._held(visit, said) if said else None

    def _put(self, visit: Visit, record: Record, over: Held | None) -> None:
        held = self._read(visit)
        if held is not None and is_same(held.record, record):
            return
        if (held.version if held is not None else None) != (over.version if over is not None else None):
            raise self._conflict(visit)
        token = self._token(visit, record, over)
        if held is None and not self._ask(visit, "describe_secret", absent={}):
            self._create(visit, record, token)
            return
        self._ask(
            visit,
            "put_secret_value",
            ClientRequestToken=token,
            SecretString=write(record),
            VersionStages=[PENDING],
            writes=True,
        )
        waiting = self._held(visit, self._ask(visit, "get_secret_value", VersionId=token))
        if not is_same(waiting.record, record):
            raise visit.error(SinkBroken, "the version that waits as AWSPENDING reads back as another one")
        before = {"RemoveFromVersionId": held.version} if held is not None else {}
        self._move(visit, CURRENT, MoveToVersionId=token, **before)
        with suppress(SinkError):
            self._move(visit, PENDING, RemoveFromVersionId=token)

    def _create(self, visit: Visit, record: Record, token: str) -> None:
        """The first version of a new secret: it is there as a whole, and current, or not at all."""
        key = {"KmsKeyId": self._place.kms_key_id} if self._place.kms_key_id else {}
        name = visit.fill(self._place.path)
        said = self._call(
            visit, "create_secret", Name=name, ClientRequestToken=token, SecretString=write(record), writes=True, **key
        )
        self._settle(visit, said, writes=True, taken=True)

    def _move(self, visit: Visit, stage: str, **versions: str) -> None:
        secret = visit.fill(self._place.path)
        said = self._call(
            visit, "update_secret_version_stage", SecretId=secret, VersionStage=stage, writes=True, **versions
        )
        self._settle(visit, said, writes=True, taken=True)

    # ── one call ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(
        self,
        visit: Visit,
        operation: str,
        *,
        writes: bool = False,
        absent: Mapping[str, Any] | None = None,
        **parameters: object,
    ) -> Mapping[str, Any]:
        """One call about the secret; `absent` is the answer where there is no such secret or version."""
        secret = visit.fill(self._place.path)
        answer = self._call(visit, operation, SecretId=secret, writes=writes, **parameters)
        if absent is not None and _code(answer) == ABSENT:
            return absent
        return self._settle(visit, answer, writes=writes)

    def _call(self, visit: Visit, operation: str, *, writes: bool, **parameters: object) -> Answer:
        place = self._place

        def send(prepared: Prepared) -> Answer:
            return visit.send(prepared, place, place.base_url, limit=self.settings.body_limit, writes=writes)

        keys = Keys(
            place.access_key_id,
            place.resolve("secret_access_key"),
            place.resolve("session_token") if place.session_token is not None else None,
        )
        try:
            return Amazon(keys, place.region, place.base_url, send).call(SERVICE, operation, **parameters)
        except TemplateError as error:
            raise visit.error(SinkBroken, f"{error}: look at region and path") from None
        except ExchangeError as error:
            raise visit.told(error, writes=writes) from None

    def _settle(self, visit: Visit, answer: Answer, *, writes: bool, taken: bool = False) -> Mapping[str, Any]:
        """What AWS said, where it said yes; `taken`: where a no can mean that somebody was faster."""
        code = _code(answer)
        if code is None:
            said = answer.json
            return said if isinstance(said, dict) else {}
        if taken and code in TAKEN:
            raise self._conflict(visit)
        if code in DENIED or answer.status in {401, 403}:
            raise visit.error(SinkDenied, f"AWS says {code}: look at the access key and its policy")
        if code in LATER:
            raise visit.error(SinkUnavailable, f"AWS says {code}")
        if answer.status < 500:
            raise visit.error(SinkBroken, f"AWS says {code}: look at region, path and the state of the secret")
        raise visit.unwelcome(answer.status, "AWS", writes=writes)

    def _held(self, visit: Visit, said: Mapping[str, Any]) -> Held:
        record = parse(said.get("SecretString", ""))
        version = said.get("VersionId")
        if record is None or not isinstance(version, str):
            raise visit.error(SinkBroken, "its secret is not a record in JSON: move it away")
        return Held(record, version)

    def _token(self, visit: Visit, record: Record, over: Held | None) -> str:
        """The id of the version to be: another record, or another version below it, has another id."""
        place = [self.name, visit.fill(self._place.path), over.version if over is not None else ""]
        digest = self.safe.digest("\0".join([*place, write(record)]).encode())
        return str(uuid.UUID(digest.rpartition(":")[2][:32]))

    def _conflict(self, visit: Visit) -> SinkError:
        return visit.error(SinkConflict, "somebody wrote another version since it was read; it stays the current one")


SINK = AwsSecretsManager


def _code(answer: Answer) -> str | None:
    """AWS's word for what went wrong; None where nothing did."""
    said = answer.json
    error = said.get("Error") if isinstance(said, dict) else None
    return str(error.get("Code", "")) if isinstance(error, dict) else None
