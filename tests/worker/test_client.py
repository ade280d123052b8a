"""The client against real servers on loopback: what it sends, what it refuses, and what its errors must not say."""

import gzip
import hashlib
import re
import socket
import ssl
import threading
import traceback
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rules.message import Answer, Prepared
from rules.secret import Secret
from worker.client import hang_up, is_near, origin_of, send
from worker.errors import ExchangeError, Trouble

SECRET = "t0p-s3cret"
PATH = f"/keys/{SECRET}?q={SECRET}"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SHORT = 1.0
"""Seconds that an exchange may take where it must run into its deadline."""
MANY = 2000
"""More drops than any exchange waits for."""


@dataclass
class Visit:
    """One connection, seen from the server."""

    socket: socket.socket
    server: "Wire"

    def hear(self) -> bytes:
        """One whole request; empty when the client has hung up."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.socket.recv(65536)
            if not more:
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while length and len(body) < int(length[1]):
            body += self.socket.recv(65536)
        self.server.requests.append(head + b"\r\n\r\n" + body)
        return head

    def say(self, data: bytes) -> None:
        """Send it all, and count."""
        self.socket.sendall(data)
        self.server.said += 1

    def drip(self, data: bytes) -> None:
        """One drop at a time, with a pause that no read timeout would notice."""
        for _ in range(MANY):
            self.say(data)
            if self.server.over.wait(0.02):
                return


@dataclass
class Wire:
    """A server that says exactly what the test tells it to, to each connection in a thread of its own."""

    serve: Callable[[Visit], None]
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    said: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    listener: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self.listener.getsockname()[1]
        return port

    @property
    def origin(self) -> str:
        """What a request is addressed to."""
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self.listener.accept()
                self.connections += 1
                self.threads.append(threading.Thread(target=self._visit, args=(accepted,), daemon=True))
                self.threads[-1].start()

    def _visit(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            if self.tls is None:
                self.serve(Visit(accepted, self))
            else:
                with self.tls.wrap_socket(accepted, server_side=True) as wrapped:
                    self.serve(Visit(wrapped, self))

    def close(self) -> None:
        """End every conversation, and wait until all threads are gone."""
        self.over.set()
        # A blocked accept does not notice that its socket was closed.
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        hang_up()
        for thread in self.threads:
            thread.join()


def answer(*parts: bytes) -> Callable[[Visit], None]:
    """Answer every request of a connection, the last answer again and again."""

    def serve(visit: Visit) -> None:
        said = list(parts)
        while visit.hear():
            visit.say(said.pop(0) if len(said) > 1 else said[0])

    return serve


def whole(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An answer with a body and its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


Serve = Callable[..., Wire]


@pytest.fixture
def wire() -> Iterator[Serve]:
    """Start servers, and end them with the test."""
    servers: list[Wire] = []

    def start(serve: Callable[[Visit], None] | bytes = OK, tls: ssl.SSLContext | None = None) -> Wire:
        servers.append(Wire(answer(serve) if isinstance(serve, bytes) else serve, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def prepare(origin: str, path: str = "/", method: str = "GET", **more: Any) -> Prepared:
    """A request as a template would have filled it."""
    headers = {name: Secret(value) for name, value in more.pop("headers", {}).items()}
    body = more.pop("body", None)
    return Prepared(
        method,
        Secret(more.pop("url", origin + path)),
        origin,
        origin,
        headers=headers,
        body=None if body is None else Secret(body),
        **more,
    )


def ask(server: Wire | str, path: str = "/", method: str = "GET", **more: Any) -> Answer:
    """Send to a server that may be local, unless the test says otherwise."""
    origin = server if isinstance(server, str) else server.origin
    options: dict[str, Any] = {"timeout": 30, "body_limit": 1_000_000, "allowed": [origin], "local": [origin]}
    for name in ("timeout", "body_limit", "allowed", "local", "proxy", "ca_bundle", "reuse"):
        if name in more:
            options[name] = more.pop(name)
    return send(prepare(origin, path, method, **more), **options)


@contextmanager
def refused(kind: Trouble, *, sent: bool) -> Iterator[list[str]]:
    """Expect an ExchangeError that holds neither a secret nor anything of the path, nor any error behind it."""
    sentences: list[str] = []
    with pytest.raises(ExchangeError) as caught:
        yield sentences
    error = caught.value
    assert (error.kind, error.sent) == (kind, sent), error
    assert error.__context__ is None
    assert error.__cause__ is None
    for shown in (str(error), repr(error), "".join(traceback.format_exception(error))):
        assert SECRET not in shown
        assert "/keys" not in shown
    sentences.append(str(error))


# ── what is sent, and what comes back ─────────────────────────────────────────────────────────────────────────────


def test_a_request_and_its_answer(wire: Serve) -> None:
    """Method, path, headers and body arrive as they were prepared; status, headers and body come back."""
    server = wire(whole(b'{"a": 1}', "X-Request-Id: 7", "Date: now", status="201 Created"))
    got = ask(server, PATH, "POST", headers={"Authorization": f"Bearer {SECRET}"}, body="x=ä")
    assert (got.status, got.json, got.headers["x-request-id"], got.headers["date"]) == (201, {"a": 1}, "7", "now")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(f"POST {PATH} HTTP/1.1\r\n".encode())
    assert f"authorization: bearer {SECRET}".encode() in head.lower()
    assert f"host: 127.0.0.1:{server.port}".encode() in head.lower()
    assert body == "x=ä".encode()


def test_the_transport_is_the_clients_own(wire: Serve) -> None:
    """A rule's headers about length, coding and connection would bend the exchange: they are not sent."""
    server = wire()
    ask(server, method="POST", body="x", headers={"Content-Length": "9", "Transfer-Encoding": "chunked", "TE": "x"})
    head = server.requests[0].lower()
    assert b"content-length: 1\r\n" in head
    assert b"transfer-encoding" not in head
    assert b"\r\nte:" not in head


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(b"hello", mtime=0)),
        ("gzip", gzip.compress(b"hel", mtime=0) + gzip.compress(b"lo", mtime=0)),
        ("deflate", zlib.compress(b"hello")),
        ("deflate", zlib.compress(b"hello", wbits=-15)),
        ("identity", b"hello"),
    ],
    ids=["gzip", "gzip in two parts", "zlib", "bare deflate", "as it is"],
)
def test_a_compressed_body_is_decompressed(wire: Serve, coding: str, body: bytes) -> None:
    """Whatever coding was asked for is undone."""
    assert ask(wire(whole(body, f"Content-Encoding: {coding}"))).body == b"hello"


@pytest.mark.parametrize(
    ("coding", "body"),
    [("gzip", gzip.compress(b"hello" * 99, mtime=0)[:-9]), ("gzip", b"hello"), ("br", b"hello"), ("gzip, gzip", b"x")],
    ids=["cut off", "not gzip", "not asked for", "twice"],
)
def test_a_body_that_cannot_be_decompressed(wire: Serve, coding: str, body: bytes) -> None:
    """Half a body is no body, and a coding that was not asked for is not guessed at."""
    server = wire(whole(body, f"Content-Encoding: {coding}"))
    with refused(Trouble.PROTOCOL, sent=True):
        ask(server)


def test_a_big_compressed_body_is_whole(wire: Serve) -> None:
    """Decompressing a little at a time loses nothing."""
    body = bytes(range(256)) * 4096
    server = wire(whole(gzip.compress(body), "Content-Encoding: gzip"))
    assert ask(server, body_limit=len(body)).body == body


def test_no_cookie_travels_on(wire: Serve) -> None:
    """A cookie of one answer is not sent with the next request: it would be another job's session."""
    server = wire(whole(b"", "Set-Cookie: session=abc; Path=/"))
    assert ask(server).headers["set-cookie"] == "session=abc; Path=/"
    ask(server)
    assert len(server.requests) == 2
    assert not any(b"cookie" in request.lower() for request in server.requests)


def test_a_redirect_is_not_followed(wire: Serve) -> None:
    """The answer is the redirect itself; the other server hears nothing."""
    other = wire()
    server = wire(whole(b"", f"Location: {other.origin}/", status="302 Found"))
    assert ask(server, allowed=[server.origin, other.origin]).status == 302
    assert other.requests == []


def test_the_environment_is_not_read(wire: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, no .netrc and no key log from the environment."""
    server = wire()
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b", "utf-8")
    for name, value in {
        "HTTP_PROXY": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
        "NETRC": str(tmp_path / "netrc"),
        "SSLKEYLOGFILE": str(tmp_path / "keylog"),
    }.items():
        monkeypatch.setenv(name, value)
    hang_up()
    assert ask(server).status == 200
    assert b"authorization" not in server.requests[0].lower()
    assert not (tmp_path / "keylog").exists()


# ── connections ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_get_uses_a_connection_again(wire: Serve) -> None:
    """Reading page after page costs one handshake."""
    server = wire()
    for _ in range(3):
        ask(server)
    assert (server.connections, len(server.requests)) == (1, 3)


@pytest.mark.parametrize(("method", "reuse"), [("POST", None), ("DELETE", None), ("PUT", None), ("GET", False)])
def test_what_changes_something_gets_its_own_connection(wire: Serve, *, method: str, reuse: bool | None) -> None:
    """A connection that was used before may be dead already, and nobody could tell whether the request arrived."""
    server = wire()
    ask(server)
    for _ in range(2):
        ask(server, method=method, reuse=reuse)
    assert server.connections == 3
    assert b"connection: close" in server.requests[-1].lower()


def test_a_get_on_a_dead_connection_is_sent_once_more(wire: Serve) -> None:
    """The server hung up when the second request came: that one goes out on a new connection, and only once."""

    def serve(visit: Visit) -> None:
        visit.hear()
        visit.say(OK)
        visit.hear()

    server = wire(serve)
    assert [ask(server).status, ask(server).status] == [200, 200]
    assert (server.connections, len(server.requests)) == (2, 3)


def test_each_thread_has_connections_of_its_own(wire: Serve) -> None:
    """Threads share no client."""
    server = wire()

    def work() -> None:
        ask(server)
        hang_up()

    ask(server)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert server.connections == 2


# ── lost answers ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_hung_up_before_the_answer(wire: Serve, method: str) -> None:
    """The request arrived and no answer came: it was sent, and it was sent once."""
    server = wire(lambda visit: visit.hear() and None)
    with refused(Trouble.RESET, sent=True) as says:
        ask(server, PATH, method, headers={"X-Token": SECRET})
    assert says == [f"{server.origin} closed the connection without an answer"]
    assert len(server.requests) == 1


def test_reset_before_the_answer(wire: Serve) -> None:
    """A reset after the request is a lost answer too."""

    def serve(visit: Visit) -> None:
        visit.hear()
        visit.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with refused(Trouble.RESET, sent=True):
        ask(wire(serve), PATH, "DELETE")


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"HTTP/1.1 200 OK\r\nX-Half", b"SSH-2.0\r\n\r\n"]
)
def test_half_an_answer(wire: Serve, start: bytes) -> None:
    """What is cut off, or is no HTTP, is no answer."""

    def serve(visit: Visit) -> None:
        visit.hear()
        visit.say(start)

    with refused(Trouble.PROTOCOL, sent=True):
        ask(wire(serve), PATH, "POST")


def drip_headers(visit: Visit) -> None:
    """Header after header."""
    visit.hear()
    visit.say(b"HTTP/1.1 200 OK\r\n")
    visit.drip(b"X-Drip: 1\r\n")


def drip_interim_answers(visit: Visit) -> None:
    """Announcement after announcement, and never the answer."""
    visit.hear()
    visit.drip(b"HTTP/1.1 103 Early Hints\r\n\r\n")


def drip_body(visit: Visit) -> None:
    """Byte after byte."""
    visit.hear()
    visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    visit.drip(b"x")


@pytest.mark.parametrize("serve", [drip_headers, drip_interim_answers, drip_body])
def test_drops_do_not_hold_the_deadline(wire: Serve, serve: Callable[[Visit], None]) -> None:
    """The timeout holds for the whole exchange: a server that says a little all the time is cut off all the same."""
    server = wire(serve)
    with refused(Trouble.TIMEOUT, sent=True):
        ask(server, PATH, "POST", timeout=SHORT)
    assert 0 < server.said < MANY


def test_a_server_that_does_not_read(wire: Serve) -> None:
    """A request that the server does not take in runs into the deadline, and may have arrived."""
    server = wire(lambda visit: visit.server.over.wait() and None)
    with refused(Trouble.TIMEOUT, sent=True):
        ask(server, PATH, "POST", body="x" * 50_000_000, timeout=SHORT)


@pytest.mark.parametrize("head", [b"", b"Transfer-Encoding: chunked\r\n"])
def test_an_endless_body_is_cut_off(wire: Serve, head: bytes) -> None:
    """At the limit reading stops, and the connection with it."""
    piece = b"x" * 65536

    def serve(visit: Visit) -> None:
        visit.hear()
        visit.say(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        for _ in range(MANY):
            visit.say(b"10000\r\n" + piece + b"\r\n" if head else piece)

    server = wire(serve)
    with refused(Trouble.TOO_LARGE, sent=True) as says:
        ask(server, PATH, "POST", body_limit=100_000)
    assert says == [f"{server.origin} answered with more than 100000 bytes"]
    server.close()
    assert server.said < MANY


def test_a_body_of_just_the_limit_is_read(wire: Serve) -> None:
    """The limit is the last length that is allowed."""
    server = wire(whole(b"x" * 1000))
    assert len(ask(server, body_limit=1000).body) == 1000
    with refused(Trouble.TOO_LARGE, sent=True):
        ask(server, body_limit=999)


def test_a_gzip_bomb_is_cut_off(wire: Serve) -> None:
    """The limit holds for what comes out of the compression too."""
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    server = wire(whole(bomb, "Content-Encoding: gzip"))
    with refused(Trouble.TOO_LARGE, sent=True):
        ask(server, PATH, body_limit=100_000)


# ── nothing sent ──────────────────────────────────────────────────────────────────────────────────────────────────


def free_port() -> int:
    """A port at which nobody listens, as far as one can know."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_nobody_listens() -> None:
    """A refused connection has sent nothing."""
    with refused(Trouble.REFUSED, sent=False):
        ask(f"http://127.0.0.1:{free_port()}", PATH, "POST", headers={"X-Token": SECRET})


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """Names of the test's own: each look-up takes the next list of addresses; a name without any is not known."""
    known: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *args: Any, **options: Any) -> Any:
        if host.replace(".", "").isdigit() or ":" in host:
            return real(host, port, *args, **options)
        addresses = known[host].pop(0) if known.get(host) else []
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def test_a_name_without_address(names: dict[str, list[list[str]]]) -> None:
    """A name that is not known has sent nothing."""
    with refused(Trouble.DNS, sent=False) as says:
        ask("https://api.example", PATH, "POST")
    assert says == ["https://api.example cannot be reached: its name has no address"]


def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver knows no deadline; the exchange has one all the same."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait() and [])
    with refused(Trouble.DNS, sent=False):
        ask("https://api.example", PATH, "POST", timeout=SHORT)
    over.set()


def test_the_next_address_is_tried(wire: Serve, names: dict[str, list[list[str]]]) -> None:
    """Where the first address of a name does not answer, the second does."""
    server = wire()
    names["api.example"] = [["127.0.0.2", "127.0.0.1"]]
    assert ask(f"http://api.example:{server.port}").status == 200
    assert f"host: api.example:{server.port}".encode() in server.requests[0].lower()


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "0.1.2.3", "::", "169.254.169.254", "fe80::1%eth0", "224.0.0.1"),
        *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
        *("100.100.100.200", "168.63.129.16", "fd00:ec2::254"),
    ],
)
def test_near_addresses(address: str) -> None:
    """Our own machine, its link, a cloud's metadata, or no place at all; whichever way it is written."""
    assert is_near(address)


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "192.168.1.1", "8.8.8.8", "2606:4700::1111", "fd12::1", "::ffff:8.8.8.8"]
)
def test_far_addresses(address: str) -> None:
    """Others may be asked: a provider of our own lives in a private network."""
    assert not is_near(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1"]
)
def test_this_machine_is_not_asked_unless_it_may_be(wire: Serve, host: str) -> None:
    """A loopback address is refused, however it is written, where no connection says that its provider is there."""
    server = wire()
    origin = f"http://{host}:{server.port}"
    with refused(Trouble.HOST, sent=False):
        ask(origin, PATH, "POST", local=[])
    assert server.connections == 0


def test_the_address_is_checked_that_is_connected_to(wire: Serve, names: dict[str, list[list[str]]]) -> None:
    """A name that turns to loopback once it was checked leads nowhere: it is looked up once, and that is used."""
    server = wire()
    names["api.example"] = [["192.0.2.1", "127.0.0.1"], ["127.0.0.1"]]
    with pytest.raises(ExchangeError) as caught:
        ask(f"http://api.example:{server.port}", timeout=SHORT, local=[])
    assert caught.value.sent is False
    assert names["api.example"] == [["127.0.0.1"]]
    assert server.connections == 0


@pytest.mark.parametrize("near", ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "100.100.100.200", "0.0.0.0"])
def test_a_name_that_moves_here_between_two_requests(wire: Serve, names: dict[str, list[list[str]]], near: str) -> None:
    """Far away at the first request, here at the second: each connection's own address is what counts."""
    server = wire()
    origin = f"http://api.example:{server.port}"
    names["api.example"] = [["192.0.2.1"], [near]]
    with pytest.raises(ExchangeError) as first:
        ask(origin, timeout=SHORT, local=[])
    with refused(Trouble.HOST, sent=False) as says:
        ask(origin, PATH, "POST", local=[])
    assert first.value.kind is not Trouble.HOST
    assert "on this machine or link" in says[0]
    assert names["api.example"] == []
    assert server.connections == 0


def test_a_connection_of_one_permission_does_not_serve_another(wire: Serve) -> None:
    """A kept connection to this machine is not used where this machine may not be asked."""
    server = wire()
    assert ask(server).status == 200
    with refused(Trouble.HOST, sent=False):
        ask(server, PATH, local=[])
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"allowed": ["https://api.example"]},
        {"allowed": []},
        {"url": f"http://elsewhere.example{PATH}"},
        {"url": f"https://127.0.0.1{PATH}"},
        {"url": f"http://user:{SECRET}@127.0.0.1:PORT{PATH}"},
        {"url": f"http://127.0.0.1:PORT@elsewhere.example{PATH}"},
        {"url": f"{SECRET}/keys"},
        {"url": f"http://127.0.0.1:{SECRET}/keys"},
        {"headers": {"Host": "elsewhere.example"}},
    ],
)
def test_only_allowed_hosts_are_asked(wire: Serve, change: dict[str, Any]) -> None:
    """Whatever leads elsewhere than the rule's own text or the connection is refused before anything leaves."""
    server = wire()
    if "url" in change:
        change = {"url": change["url"].replace("PORT", str(server.port))}
    with refused(Trouble.HOST, sent=False):
        ask(server, PATH, "POST", **change)
    assert server.connections == 0


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("HTTPS://API.example:443/x", "https://api.example"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_origins_have_one_spelling(url: str, origin: str) -> None:
    """Case, default port and alphabet make no difference."""
    assert origin_of(url) == origin


@pytest.mark.parametrize("value", [f"{SECRET}\r\nX-Evil: 1", f"{SECRET}ä", f" {SECRET}", f"{SECRET}\0"])
def test_a_header_that_cannot_be_sent(wire: Serve, value: str) -> None:
    """A value that would break out of its line is refused, by the header's name and not by its value."""
    server = wire()
    with refused(Trouble.PROTOCOL, sent=False) as says:
        ask(server, PATH, "POST", headers={"X-Token": value})
    assert "'X-Token'" in says[0]
    assert server.connections == 0


# ── TLS ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Certificate:
    """A certificate that nobody but its own file vouches for."""

    file: Path
    context: ssl.SSLContext


def certify(folder: Path, *names: x509.GeneralName) -> Certificate:
    """Make one for these names."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "revoq test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file, key_file = folder / "cert.pem", folder / "key.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key_file)
    return Certificate(file, context)


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """For localhost, by name and by address."""
    return certify(tmp_path, x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))


def test_an_unknown_certificate_is_refused(wire: Serve, certificate: Certificate) -> None:
    """Nothing is sent to a server that nobody vouches for."""
    server = wire(tls=certificate.context)
    with refused(Trouble.TLS, sent=False) as says:
        ask(server, PATH, "POST")
    assert says == [f"{server.origin} has a certificate that is not trusted: self-signed certificate"]
    assert server.requests == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_bundle_vouches(wire: Serve, certificate: Certificate, host: str) -> None:
    """The connection's own bundle is believed, by name and by address."""
    server = wire(tls=certificate.context)
    assert ask(f"https://{host}:{server.port}", ca_bundle=certificate.file).body == b"ok"


def test_a_certificate_for_another_name_is_refused(wire: Serve, tmp_path: Path) -> None:
    """The name is checked, and is the one that was asked for, whatever address it led to."""
    other = certify(tmp_path, x509.DNSName("elsewhere.example"))
    with refused(Trouble.TLS, sent=False):
        ask(wire(tls=other.context), PATH, ca_bundle=other.file)


def test_a_bundle_that_cannot_be_read(wire: Serve, certificate: Certificate, tmp_path: Path) -> None:
    """A missing bundle, or one that holds no certificates, gets a sentence."""
    (tmp_path / "bad.pem").write_text("nothing", "utf-8")
    for name in ("gone.pem", "bad.pem"):
        with refused(Trouble.TLS, sent=False) as says:
            ask(wire(tls=certificate.context), PATH, ca_bundle=tmp_path / name)
        assert f"the certificates in {tmp_path / name} cannot be read" in says[0]


def test_no_tls_on_the_other_side(wire: Serve) -> None:
    """A server that speaks something else has been sent nothing."""

    def serve(visit: Visit) -> None:
        visit.socket.recv(1)
        visit.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with refused(Trouble.TLS, sent=False):
        ask(wire(serve).origin.replace("http", "https"), PATH, "POST")


def test_a_handshake_that_hangs(wire: Serve) -> None:
    """The deadline holds for the handshake, too, and nothing was sent."""
    server = wire(lambda visit: visit.server.over.wait() and None)
    with refused(Trouble.TIMEOUT, sent=False):
        ask(server.origin.replace("http", "https"), PATH, "POST", timeout=SHORT)


# ── proxies ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_proxy_forwards(wire: Serve) -> None:
    """Plain HTTP goes to the proxy whole; the name is the proxy's to resolve."""
    proxy = wire()
    assert ask("http://api.example", "/x", proxy=proxy.origin, local=[]).status == 200
    assert proxy.requests[0].startswith(b"GET http://api.example/x HTTP/1.1\r\n")


def tunnel(port: int) -> Callable[[Visit], None]:
    """A proxy that leads every tunnel to one port of this machine."""

    def serve(visit: Visit) -> None:
        visit.hear()
        with socket.create_connection(("127.0.0.1", port)) as inner:
            visit.say(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=pump, args=(inner, visit.socket), daemon=True)
            back.start()
            pump(visit.socket, inner)
            back.join()

    return serve


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes, in one direction."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def test_a_proxy_tunnels(wire: Serve, certificate: Certificate) -> None:
    """HTTPS goes through a tunnel, and the certificate is that of the far end."""
    server = wire(tls=certificate.context)
    proxy = wire(tunnel(server.port))
    origin = f"https://localhost:{server.port}"
    got = ask(origin, PATH, "POST", proxy=proxy.origin, ca_bundle=certificate.file, headers={"X-Token": SECRET})
    assert got.status == 200
    assert SECRET.encode() not in proxy.requests[0]
    assert SECRET.encode() in server.requests[0]


def test_a_proxy_that_refuses(wire: Serve) -> None:
    """A refused tunnel has sent the provider nothing."""
    proxy = wire(whole(b"", status=f"407 {SECRET}"))
    with refused(Trouble.PROXY, sent=False) as says:
        ask("https://api.example", PATH, "POST", proxy=proxy.origin, local=[])
    assert says == ["https://api.example cannot be reached: the proxy answered 407"]


def test_a_proxy_that_is_gone() -> None:
    """So has a proxy that is not there."""
    with refused(Trouble.PROXY, sent=False):
        ask("https://api.example", PATH, "POST", proxy=f"http://127.0.0.1:{free_port()}", local=[])


def test_a_proxy_does_not_lead_to_this_machine(wire: Serve) -> None:
    """An address that is written in the request is checked even where a proxy would connect to it."""
    proxy = wire()
    for host in ("169.254.169.254", "localhost", "[::1]"):
        with refused(Trouble.HOST, sent=False):
            ask(f"http://{host}", PATH, proxy=proxy.origin, local=[])
    assert proxy.connections == 0


# ── Digest ────────────────────────────────────────────────────────────────────────────────────────────────────────

CHALLENGE = 'WWW-Authenticate: Digest realm="r", qop="auth", nonce="n1", algorithm=SHA-256'


def test_digest(wire: Serve) -> None:
    """The challenge is answered as RFC 7616 has it, and the password stays here."""
    server = wire(lambda visit: answer(whole(b"", CHALLENGE, status="401 No") if first(visit) else OK)(visit))
    got = ask(server, "/x", "DELETE", digest=(Secret("me"), Secret(SECRET)))
    assert got.status == 200
    bare, signed = (request.decode() for request in server.requests)
    assert "authorization" not in bare.lower()
    parts = dict(re.findall(r'(\w+)="?([^",\r]+)', signed.partition("Digest ")[2].partition("\r\n")[0]))

    def digest(*texts: str) -> str:
        return hashlib.sha256(":".join(texts).encode()).hexdigest()

    expected = digest(digest("me", "r", SECRET), "n1", parts["nc"], parts["cnonce"], "auth", digest("DELETE", "/x"))
    assert parts["response"] == expected
    assert SECRET not in signed


def first(visit: Visit) -> bool:
    """Whether this is the server's first connection: what changes something comes on one of its own each time."""
    return visit.server.connections == 1


def test_a_challenge_that_cannot_be_answered(wire: Serve) -> None:
    """A challenge of a kind that nobody knows is not an answer, and says nothing of what was sent."""
    server = wire(whole(b"", 'WWW-Authenticate: Digest realm="r", nonce="n", algorithm=XYZ', status="401 No"))
    with refused(Trouble.PROTOCOL, sent=True):
        ask(server, PATH, "POST", digest=(Secret("me"), Secret(SECRET)))


def test_the_limit_holds_for_a_challenge(wire: Serve) -> None:
    """The body of a challenge is read under the same limit."""
    bomb = gzip.compress(bytes(5_000_000))
    server = wire(whole(bomb, "Content-Encoding: gzip", CHALLENGE, status="401 No"))
    with refused(Trouble.TOO_LARGE, sent=True):
        ask(server, PATH, digest=(Secret("me"), Secret(SECRET)))


def test_allowed_origins_may_be_any_collection(wire: Serve) -> None:
    """Sets, tuples and lists of origins all do, in any spelling."""
    server = wire()
    several: list[Collection[str]] = [{server.origin}, (server.origin.upper(),), [f"{server.origin}/"]]
    for allowed in several:
        assert ask(server, allowed=allowed).status == 200
