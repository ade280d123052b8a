"""Calls to AWS: boto3 writes the request, signs it and reads the answer, and our own client sends it.

So a call to AWS has the same deadline, the same pinned host, the same proxy and the same errors as every other request.
boto3 is an optional extra. Nothing is taken from this machine: no variable, no file of settings, no metadata service,
and no request is repeated.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from rules.errors import BadInput, TemplateError
from rules.message import Answer, Prepared
from rules.request import origin_of
from rules.secret import Secret
from worker.errors import ExchangeError, Trouble
from worker.extras import find_missing

MISSING = find_missing("boto3")

Send = Callable[[Prepared], Answer]
OWN = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu")
"""Where AWS's own endpoints are; another one is said by a connection's base URL."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What a call is signed with."""

    id: str
    secret: Secret
    session: Secret | None = None


@dataclass(frozen=True, slots=True)
class Amazon:
    """One account as one call sees it. `endpoint` is a connection's base URL; without one, AWS's own by region."""

    keys: Keys
    region: str
    endpoint: str | None
    send: Send

    def call(self, service: str, operation: str, **parameters: object) -> Answer:
        """Make one call. What AWS says comes back as an answer in JSON, an error under `Error`; else ExchangeError."""
        boto, client = _boto(), self._client(service)
        try:
            said = getattr(client, operation)(**parameters)
        except boto.ClientError as error:
            said = error.response
        except boto.ResponseParserError:
            raise ExchangeError(Trouble.PROTOCOL, sent=True, says="the answer is not one of AWS's") from None
        except boto.BotoCoreError as error:
            # Its own text may repeat the parameters.
            raise TemplateError(f"boto3 does not send this: {type(error).__name__}") from None
        return _as_answer(said)

    def _client(self, service: str) -> Any:
        session = self.keys.session.reveal() if self.keys.session else None
        with _lock:  # boto3's sessions must not be used by two threads at once.
            try:
                client = _session().client(
                    service,
                    region_name=self.region,
                    endpoint_url=self.endpoint,
                    aws_access_key_id=self.keys.id,
                    aws_secret_access_key=self.keys.secret.reveal(),
                    aws_session_token=session,
                    config=_config(),
                )
            except (_boto().BotoCoreError, ValueError) as error:
                raise TemplateError(f"boto3 knows no such region or endpoint: {type(error).__name__}") from None
        client.meta.events.register_first("before-send", self._carry)
        return client

    def _carry(self, request: Any, **_: Any) -> Any:
        """Send what boto3 has written by our own client; boto3's own is never reached."""
        answer = self.send(_prepare(request, self.endpoint))
        return _boto().AWSResponse(request.url, answer.status, dict(answer.headers), _Body(answer.body))


class _Body:
    """The part of urllib3's answers that boto3 reads."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


def _prepare(request: Any, endpoint: str | None) -> Prepared:
    origin = origin_of(request.url)
    host = origin.partition("://")[2].partition(":")[0]
    own = origin.startswith("https://") and host.endswith(OWN)
    if origin != (origin_of(endpoint) if endpoint is not None else origin) or (endpoint is None and not own):
        raise ExchangeError(Trouble.HOST, sent=False, says=f"{origin} is not an endpoint of AWS")
    body = request.body.decode() if isinstance(request.body, bytes) else request.body
    return Prepared(
        method=request.method,
        url=Secret(request.url),
        shown=f"{origin}/",
        origin=origin,
        headers={name: Secret(_text(value)) for name, value in request.headers.items()},
        body=Secret(body) if body else None,
    )


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _as_answer(said: Mapping[str, Any]) -> Answer:
    """What boto3 has read, as an answer whose body is JSON."""
    about = said.get("ResponseMetadata", {})
    headers = {name.lower(): str(value) for name, value in about.get("HTTPHeaders", {}).items()}
    kept = {name: value for name, value in said.items() if name != "ResponseMetadata"}
    return Answer(about.get("HTTPStatusCode", 0), headers, json.dumps(kept, default=str, sort_keys=True).encode())


# ── boto3, deaf to this machine ───────────────────────────────────────────────────────────────────────────────────

_lock = threading.Lock()


def _boto() -> Any:
    """`worker.boto`, or the sentence that says what is missing."""
    if MISSING is not None:
        raise BadInput(MISSING)
    return import_module("worker.boto")


@lru_cache(maxsize=1)
def _session() -> Any:
    """A session in which every setting has the value that boto3 is delivered with."""
    boto = _boto()
    deaf = boto.CoreSession()
    deaf.register_component("data_loader", _loader())
    store = deaf.get_component("config_store")
    for name, (_, _, default, _) in boto.VARIABLES.items():
        store.set_config_provider(name, boto.ConstantProvider(default))
    for name in ("config_file", "credentials_file"):
        store.set_config_provider(name, boto.ConstantProvider("/dev/null"))
    return boto.Session(botocore_session=deaf)


def _loader() -> Any:
    loader = _boto().Loader
    return loader(extra_search_paths=[loader.BUILTIN_DATA_PATH], include_default_search_paths=False)


def _config() -> Any:
    """No repetition, no proxy, no endpoint from elsewhere: what is not said here is not looked for."""
    return _boto().Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        proxies={},
        ignore_configured_endpoint_urls=True,
        parameter_validation=True,
    )
