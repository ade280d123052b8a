"""A real OAuth server, authlib's: it issues tokens, revokes (RFC 7009), introspects (RFC 7662), and serves an API that
takes bearer tokens; it runs in a thread of the test's own process.

What authlib leaves to whoever uses it is only where tokens are kept, and whom they belong to. Clients have to sign in
with their secrets; a token that was revoked is refused by the API from then on.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import httpx
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    ClientCredentialsGrant,
    ClientMixin,
    OAuth2Error,
    OAuth2Request,
    ResourceProtector,
    TokenMixin,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator, BearerTokenValidator
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

GRANT = "client_credentials"
LIFETIME = 3600
Response = tuple[int, Any, list[tuple[str, str]]]


@dataclass(frozen=True)
class Client(ClientMixin):
    """A client with its secret. One that `audits` may introspect every client's tokens, as an API's own client may."""

    client_id: str
    secret: str
    audits: bool = False

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or "everything"

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(self.secret, client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == GRANT


@dataclass
class Token(TokenMixin):
    """An access token of a client."""

    value: str
    client: Client
    expires_at: float
    revoked: bool = False

    def check_client(self, client: Client) -> bool:
        return self.client.client_id == client.client_id

    def get_scope(self) -> str:
        return ""

    def is_expired(self) -> bool:
        return time.time() >= self.expires_at

    def is_revoked(self) -> bool:
        return self.revoked


@dataclass
class Store:
    """Clients and tokens."""

    clients: dict[str, Client] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)


class Authority(AuthorizationServer):
    """authlib's server on our store; it reads requests and makes responses as `_Handler` has them."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.register_grant(ClientCredentialsGrant)
        self.register_token_generator("default", BearerTokenGenerator(_new_token, expires_generator=_lifetime))
        self.register_endpoint(_Revocation)
        self.register_endpoint(_Introspection)

    def query_client(self, client_id: str) -> Client | None:
        return self.store.clients.get(client_id)

    def save_token(self, token: Mapping[str, Any], request: OAuth2Request) -> None:
        value = str(token["access_token"])
        self.store.tokens[value] = Token(value, request.client, time.time() + float(token["expires_in"]))

    def create_oauth2_request(self, request: OAuth2Request) -> OAuth2Request:
        return request

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Response:
        return status, body, headers

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""


def _new_token(**_: object) -> str:
    return secrets.token_urlsafe(32)


def _lifetime(*_: object) -> int:
    return LIFETIME


class _Revocation(RevocationEndpoint):
    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        store: Store = self.server.store
        return store.tokens.get(token_string)

    def revoke_token(self, token: Token, request: OAuth2Request) -> None:
        token.revoked = True


class _Introspection(IntrospectionEndpoint):
    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        store: Store = self.server.store
        return store.tokens.get(token_string)

    def check_permission(self, token: Token, client: Client, request: OAuth2Request) -> bool:
        return client.audits or token.check_client(client)

    def introspect_token(self, token: Token) -> dict[str, Any]:
        return {"client_id": token.client.client_id, "sub": token.client.client_id, "exp": int(token.expires_at)}


class _Bearer(BearerTokenValidator):
    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store

    def authenticate_token(self, token_string: str) -> Token | None:
        return self.store.tokens.get(token_string)


class _Request(OAuth2Request):
    """A request whose form was read."""

    def __init__(self, method: str, uri: str, headers: Mapping[str, str], form: Mapping[str, str]) -> None:
        super().__init__(method, uri, headers=dict(headers))
        self.payload = BasicOAuth2Payload(dict(form))
        self._form = dict(form)

    @property
    def args(self) -> dict[str, str]:
        return {}

    @property
    def form(self) -> dict[str, str]:
        return self._form


@dataclass
class OAuth:
    """One running server. `seen` are the paths that were asked for; the methods here ask as anybody else would."""

    base_url: str
    store: Store
    seen: list[str] = field(default_factory=list)

    def add_client(self, client_id: str, *, audits: bool = False) -> Client:
        client = Client(client_id, secrets.token_urlsafe(24), audits)
        self.store.clients[client_id] = client
        return client

    def issue(self, client: Client) -> str:
        """A new access token of the client's, from the token endpoint."""
        answer = httpx.post(
            f"{self.base_url}/oauth/token",
            data={"grant_type": GRANT},
            auth=(client.client_id, client.secret),
        )
        return str(answer.raise_for_status().json()["access_token"])

    def works(self, token: str) -> bool:
        """Whether the API takes it, which is what a token is for."""
        status = httpx.get(f"{self.base_url}/api/me", headers={"Authorization": f"Bearer {token}"}).status_code
        assert status in {200, 401}
        return status == 200


@contextmanager
def running_oauth() -> Iterator[OAuth]:
    """A server on a port that the system chooses."""
    store = Store()
    authority, api = Authority(store), ResourceProtector()
    api.register_token_validator(_Bearer(store))
    seen: list[str] = []

    class Handler(_Handler):
        def answer(self, request: _Request) -> Response:
            seen.append(self.path)
            return _answer(self.path, request, authority, api)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield OAuth(f"http://127.0.0.1:{server.server_port}", store, seen)
        finally:
            server.shutdown()
            thread.join()


def _answer(path: str, request: _Request, authority: Authority, api: ResourceProtector) -> Response:
    match path:
        case "/oauth/token":
            response: Response = authority.create_token_response(request)
        case "/oauth/revoke":
            response = authority.create_endpoint_response(_Revocation.ENDPOINT_NAME, request)
        case "/oauth/introspect":
            response = authority.create_endpoint_response(_Introspection.ENDPOINT_NAME, request)
        case "/api/me":
            try:
                response = 200, {"client": api.validate_request(None, request).client.client_id}, []
            except OAuth2Error as error:
                response = error()
        case _:
            response = 404, {"error": "not_found"}, []
    return response


class _Handler(BaseHTTPRequestHandler):
    """HTTP in and out."""

    protocol_version = "HTTP/1.1"

    def answer(self, request: _Request) -> Response:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.respond({})

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        self.respond(dict(parse_qsl(self.rfile.read(length).decode(), keep_blank_values=True)))

    def respond(self, form: Mapping[str, str]) -> None:
        uri = f"http://{self.headers['host']}{self.path}"
        headers = {name.title(): value for name, value in self.headers.items()}
        status, body, more = self.answer(_Request(self.command, uri, headers, form))
        text = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {**dict(more), "Content-Type": "application/json", "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
        """Say nothing."""
