"""The one way out by HTTP: a filled request leaves; its whole answer comes back, or an ExchangeError says why not.

What may be asked is decided by the caller (`allowed`, `local`), what an answer means by `rules`. Held here:

- Each thread of each process has clients of its own. They keep no cookies, follow no redirects, speak HTTP/1.1, check
  certificates, and read nothing from the environment.
- The timeout bounds the whole exchange, from the name's resolution to the last byte of the body: each wait on the
  network is cut to what is left of it.
- The address is checked when the connection is made, and the connection goes to the address that was checked.
- Only GET and HEAD travel on a connection that was used before. Others open one of their own, so that "the server had
  closed it meanwhile" can never be taken for "the provider may have acted". Where a used connection turns out to be
  dead before any byte of the answer, the GET goes out once more on a new one, under the same deadline.
- Through a proxy it is the proxy that resolves names, so only addresses that are written as such can be checked.
"""

from __future__ import annotations

import contextlib
import http.cookiejar
import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import certifi
import httpcore
import httpx

from rules.message import Answer, Prepared
from rules.secret import Secret
from worker.errors import ExchangeError, Trouble

USED_AGAIN = frozenset({"GET", "HEAD"})
IDLE_CONNECTIONS = 2
IDLE_SECONDS = 15.0
WRITTEN_AT_ONCE = 64 * 1024
DEFAULT_PORTS = {"http": 80, "https": 443}

OURS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "proxy-authorization", "proxy-connection"}
)
"""Headers about the transport and not about the request: a rule's are dropped, since the client says its own."""


def send(
    prepared: Prepared,
    *,
    timeout: float,
    body_limit: int,
    allowed: Collection[str],
    local: Collection[str] = (),
    proxy: str | None = None,
    ca_bundle: Path | None = None,
    reuse: bool | None = None,
) -> Answer:
    """Send one request and read its whole answer, whatever its status; raises ExchangeError.

    `allowed` are the origins that may be asked at all, `local` those of them that may be on this machine or link.
    `reuse` False keeps a GET that changes something off a used connection.
    """
    url, origin = _pin(prepared, allowed)
    near = frozenset(map(_settled, local))
    if proxy is not None and origin not in near:
        _refuse_written_address(url.host)
    exchange = Exchange(
        deadline=time.monotonic() + timeout,
        body_limit=body_limit,
        tls=url.scheme == "https",
        shown=origin,
        local=origin in near,
        proxied=proxy is not None,
        fresh=prepared.method.upper() not in USED_AGAIN if reuse is None else not reuse,
    )
    client = _client(proxy, ca_bundle, near, encrypts=exchange.tls or proxy is not None)
    try:
        return _exchange(client, prepared, url, exchange)
    except ExchangeError as error:
        if not exchange.stale or error.kind is not Trouble.RESET:
            raise
    exchange.fresh = True
    return _exchange(client, prepared, url, exchange)


# ── the address ───────────────────────────────────────────────────────────────────────────────────────────────────


def origin_of(url: httpx.URL | str) -> str:
    """`scheme://host[:port]` in one spelling: lower case, IDNA, no default port. Raises ExchangeError."""
    return _origin(_parse(url))


def _parse(url: httpx.URL | str) -> httpx.URL:
    # Raised with none of the address: what is no URL may be a secret that got into the wrong field.
    with contextlib.suppress(httpx.InvalidURL, UnicodeError, ValueError):
        return httpx.URL(url)
    raise ExchangeError(Trouble.HOST, sent=False, says=NO_ADDRESS)


def _origin(url: httpx.URL) -> str:
    try:
        host, port = url.raw_host.decode("ascii"), url.port
    except (httpx.InvalidURL, UnicodeError, ValueError):
        host, port = "", None
    if url.scheme not in DEFAULT_PORTS or not host:
        raise ExchangeError(Trouble.HOST, sent=False, says=NO_ADDRESS)
    name = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{name}" + (f":{port}" if port not in {None, DEFAULT_PORTS[url.scheme]} else "")


NO_ADDRESS = "expected an address with http:// or https:// and a host"
_settled = lru_cache(maxsize=1024)(origin_of)
"""The same for addresses of settings and rules, which are few; a request's own may hold a secret, and is not kept."""


def _pin(prepared: Prepared, allowed: Collection[str]) -> tuple[httpx.URL, str]:
    """Parse the address once, with the parser that the request is sent with, and hold it against what is allowed."""
    url = _parse(prepared.url.reveal())
    origin = _origin(url)
    if origin != _settled(prepared.origin) or origin not in map(_settled, allowed):
        raise ExchangeError(Trouble.HOST, sent=False, says=f"{origin} is not an address that this request may go to")
    if url.userinfo:
        raise ExchangeError(
            Trouble.HOST, sent=False, says=f"an address at {origin} must not carry a user or a password"
        )
    if any(
        name.lower() == "host" and origin_of(f"{url.scheme}://{value.reveal()}") != origin
        for name, value in prepared.headers.items()
    ):
        raise ExchangeError(Trouble.HOST, sent=False, says=f"the Host header names another host than {origin}")
    return url, origin


METADATA = tuple(
    # Where clouds hand credentials to whoever asks; most are link-local, these are not.
    ip_network(text)
    for text in ("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::254/128")
)
NOWHERE = ip_network("0.0.0.0/8")
TRANSLATED = ip_network("64:ff9b::/96")


def is_near(text: str) -> bool:
    """Whether an address is on this machine, on this link, a cloud's metadata service, or no place at all."""
    address = _innermost(ip_address(text.partition("%")[0]))
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or address in NOWHERE
        or any(address in network for network in METADATA)
    )


def _innermost(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, where it does: mapped, translated, or by 6to4."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in TRANSLATED:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


def _refuse_written_address(host: str) -> None:
    if host == "localhost" or (_is_address(host) and is_near(host)):
        raise ExchangeError(Trouble.HOST, sent=False, says=NEAR.format(host))


NEAR = "{} is on this machine or link, and no connection of the settings says that its provider is there"


# ── one exchange ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Exchange:
    """What the network layer knows of the request that is under way, and what it notes."""

    deadline: float
    body_limit: int
    tls: bool
    shown: str
    local: bool
    proxied: bool
    fresh: bool
    connected: bool = False  # a new connection was made for it
    sent: bool = False  # something of the request may have reached the provider
    heard: bool = False  # something of the answer has been read

    def left(self) -> float:
        """Seconds that remain; raises when there are none."""
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise self.error(Trouble.TIMEOUT, "gave no whole answer in the time that it had")
        return seconds

    @property
    def stale(self) -> bool:
        """Whether it broke on a used connection before the server said a word."""
        return not self.fresh and not self.connected and not self.heard

    def error(self, kind: Trouble, says: str) -> ExchangeError:
        """What to raise; the sentence starts with the origin and holds nothing else of the address."""
        return ExchangeError(kind, sent=self.sent, says=f"{self.shown} {says}")


def _exchange(client: Client, prepared: Prepared, url: httpx.URL, exchange: Exchange) -> Answer:
    """One try. Whatever goes wrong leaves as an ExchangeError without context: libraries quote headers and URLs."""
    try:
        with client.carrying(exchange):
            return _read(client, prepared, url, exchange)
    except ExchangeError as error:
        trouble = error.with_traceback(None)
    except Exception as error:  # noqa: BLE001 - no exception of another kind may pass
        kind, says = _classify(error, exchange)
        trouble = ExchangeError(kind, sent=exchange.sent, says=f"{exchange.shown} {says}")
    trouble.__context__ = trouble.__cause__ = None
    raise trouble


def _read(client: Client, prepared: Prepared, url: httpx.URL, exchange: Exchange) -> Answer:
    request = client.http.build_request(
        prepared.method.upper(),
        url,
        headers=_headers(prepared, exchange),
        content=None if prepared.body is None else prepared.body.reveal().encode(),
    )
    with contextlib.closing(client.send(request, prepared.digest)) as response:
        return Answer(response.status_code, dict(response.headers), response.read())


def _headers(prepared: Prepared, exchange: Exchange) -> list[tuple[str, str]]:
    headers = [
        (name, value.reveal()) for name, value in prepared.headers.items() if name.lower() not in OURS | {"host"}
    ]
    for name, value in headers:
        if not _is_header(value):
            raise exchange.error(Trouble.PROTOCOL, f"was not asked: the header {name!r} holds what no header may hold")
    return [*headers, ("accept-encoding", "gzip, deflate"), ("connection", "close" if exchange.fresh else "keep-alive")]


def _is_header(value: str) -> bool:
    return all(" " <= character <= "~" or character == "\t" for character in value) and value == value.strip()


TROUBLES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Trouble, str], ...] = (
    (
        (httpcore.TimeoutException, httpx.TimeoutException),
        Trouble.TIMEOUT,
        "gave no whole answer in the time that it had",
    ),
    ((httpcore.ReadError, httpcore.WriteError), Trouble.RESET, "broke the connection before its answer was whole"),
    (httpcore.ConnectError, Trouble.REFUSED, "cannot be reached"),
)


def _classify(error: Exception, exchange: Exchange) -> tuple[Trouble, str]:
    """Name the trouble by its type alone; the library's own words may quote a header, and stay behind."""
    for types, kind, says in TROUBLES:
        if isinstance(error, types):
            return kind, says
    if isinstance(error, httpcore.ProxyError):
        # Its text is the proxy's status line and nothing of ours.
        return Trouble.PROXY, f"cannot be reached: the proxy answered {str(error)[:3]}"
    if isinstance(error, httpcore.RemoteProtocolError) and not exchange.heard:
        return Trouble.RESET, "closed the connection without an answer"
    if exchange.heard:
        return Trouble.PROTOCOL, f"gave an answer that is cut off or not HTTP ({type(error).__name__})"
    return Trouble.PROTOCOL, f"was not asked properly: the request cannot be written as HTTP ({type(error).__name__})"


# ── the clients ───────────────────────────────────────────────────────────────────────────────────────────────────


class Client:
    """An httpx client over our transport, for one thread; `carrying` says which exchange it serves at the moment."""

    def __init__(self, proxy: str | None, trust: ssl.SSLContext | None) -> None:
        """Open nothing yet. Without `trust` it can ask in the clear only."""
        self._network = Network()
        self._transport = Transport(self._network, proxy, trust)
        self.http = httpx.Client(
            transport=self._transport,
            cookies=http.cookiejar.CookieJar(policy=NoCookies()),
            headers={"user-agent": "revoq"},
            follow_redirects=False,
            timeout=None,  # noqa: S113 - the network layer holds the deadline
            trust_env=False,
        )

    @contextlib.contextmanager
    def carrying(self, exchange: Exchange) -> Iterator[None]:
        """Have the network layer serve this exchange."""
        self._network.exchange = exchange
        try:
            yield
        finally:
            self._network.exchange = None

    def send(self, request: httpx.Request, digest: tuple[Secret, Secret] | None) -> httpx.Response:
        """The answer, its body not read yet. What httpx does around a request only Digest needs: to ask twice."""
        if digest is None:
            return self._transport.handle_request(request)
        auth = httpx.DigestAuth(digest[0].reveal().encode(), digest[1].reveal().encode())
        return self.http.send(request, auth=auth, follow_redirects=False)


class NoCookies(http.cookiejar.DefaultCookiePolicy):
    """One job's session must not travel with another job's token: a dead token can look alive that way."""

    def set_ok(self, cookie: object, request: object) -> bool:  # noqa: ARG002 - the base class's signature
        return False

    def return_ok(self, cookie: object, request: object) -> bool:  # noqa: ARG002 - the base class's signature
        return False


Key = tuple[int, str | None, Path | None, frozenset[str], bool]


class Clients(threading.local):
    """The clients of one thread. A fork starts anew, since a socket must not be shared between two processes.

    Whom to believe costs 30 ms and most of a megabyte to read, so the thread's clients share it; threads do not, since
    OpenSSL does not allow httpcore's change to it while another thread opens a connection.
    """

    def __init__(self) -> None:
        self.made: dict[Key, Client] = {}
        self.trusts: dict[Path | None, ssl.SSLContext] = {}


_clients = Clients()


def _client(proxy: str | None, ca_bundle: Path | None, local: frozenset[str], *, encrypts: bool) -> Client:
    # What may be local belongs to the key: a connection that was opened under one answer must not serve another.
    key = (os.getpid(), proxy, ca_bundle, local, encrypts)
    if key not in _clients.made:
        if encrypts and ca_bundle not in _clients.trusts:
            _clients.trusts[ca_bundle] = _trust(ca_bundle)
        _clients.made[key] = Client(proxy, _clients.trusts[ca_bundle] if encrypts else None)
    return _clients.made[key]


def hang_up() -> None:
    """Close the connections of this thread; the next request opens new ones and reads the certificates anew."""
    made, _clients.made, _clients.trusts = _clients.made, {}, {}
    for key, client in made.items():
        if key[0] == os.getpid():
            client.http.close()


def _trust(ca_bundle: Path | None) -> ssl.SSLContext:
    """Whom to believe: the bundle of the connection and nobody else, or the well-known authorities.

    Made by hand, since `ssl.create_default_context` writes all keys to a file where SSLKEYLOGFILE says so.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with contextlib.suppress(OSError):
        context.load_verify_locations(cafile=certifi.where() if ca_bundle is None else str(ca_bundle))
        return context
    says = f"the certificates in {ca_bundle} cannot be read: expected a file of PEM certificates"
    raise ExchangeError(Trouble.TLS, sent=False, says=says)


# ── the transport ─────────────────────────────────────────────────────────────────────────────────────────────────


class Transport(httpx.BaseTransport):
    """httpcore's pools under httpx: one whose connections are used again, one whose are not."""

    def __init__(self, network: Network, proxy: str | None, trust: ssl.SSLContext | None) -> None:
        self._network = network
        self._kept = self._pool(proxy, trust, IDLE_CONNECTIONS)
        self._fresh = self._pool(proxy, trust, 0)

    def _pool(self, proxy: str | None, trust: ssl.SSLContext | None, idle: int) -> httpcore.ConnectionPool:
        return httpcore.ConnectionPool(
            ssl_context=trust,
            proxy=None if proxy is None else httpcore.Proxy(proxy),
            max_keepalive_connections=idle,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=self._network,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        exchange = self._network.under_way
        pool = self._fresh if exchange.fresh else self._kept
        answer = pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.read(),
            )
        )
        headers = httpx.Headers(answer.headers)
        coding = headers.pop("content-encoding", "")
        body = Body(answer, exchange, coding)
        # The length is that of the coded body, and httpx must not decode once more.
        return httpx.Response(answer.status, headers=headers, stream=body)

    def close(self) -> None:
        self._kept.close()
        self._fresh.close()


class Body(httpx.SyncByteStream):
    """The answer's body, decoded, and cut off with an error at the limit: before decoding and after."""

    def __init__(self, answer: httpcore.Response, exchange: Exchange, coding: str) -> None:
        self._answer, self._exchange, self._coding = answer, exchange, coding

    def __iter__(self) -> Iterator[bytes]:
        total = 0
        for chunk in _decode(self._raw(), self._coding, self._exchange):
            total += len(chunk)
            self._check(total)
            yield chunk

    def _raw(self) -> Iterator[bytes]:
        total = 0
        for chunk in self._answer.iter_stream():
            total += len(chunk)
            self._check(total)
            yield chunk

    def _check(self, total: int) -> None:
        if total > self._exchange.body_limit:
            raise self._exchange.error(Trouble.TOO_LARGE, f"answered with more than {self._exchange.body_limit} bytes")

    def close(self) -> None:
        self._answer.close()


DECODED_AT_ONCE = 64 * 1024


def _decode(chunks: Iterable[bytes], coding: str, exchange: Exchange) -> Iterator[bytes]:
    """Undo gzip and deflate a little at a time, so that a bomb is stopped where it goes over the limit."""
    names = [name for name in (part.strip().lower() for part in coding.split(",")) if name and name != "identity"]
    if not names:
        yield from chunks
        return
    if names not in (["gzip"], ["x-gzip"], ["deflate"]):
        raise exchange.error(Trouble.PROTOCOL, "answered in an encoding that was not asked for")
    try:
        yield from _inflate(chunks)
    except zlib.error:
        raise exchange.error(Trouble.PROTOCOL, "answered with a body that cannot be decompressed") from None


def _inflate(chunks: Iterable[bytes]) -> Iterator[bytes]:
    machine = None
    for chunk in chunks:
        data = chunk
        while data:
            if machine is None or machine.eof:
                machine = zlib.decompressobj(_window(data))
            yield machine.decompress(data, DECODED_AT_ONCE)
            data = machine.unconsumed_tail or machine.unused_data
    while machine is not None and not machine.eof:
        rest = machine.decompress(machine.unconsumed_tail, DECODED_AT_ONCE)
        if not rest and not machine.eof:
            raise zlib.error("the body ends too early")
        yield rest


def _window(start: bytes) -> int:
    """Gzip and zlib say what they are in their first byte; what says neither is deflate without a frame."""
    if start[:1] == b"\x1f":
        return zlib.MAX_WBITS | 16
    return zlib.MAX_WBITS if start[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS


# ── the network ───────────────────────────────────────────────────────────────────────────────────────────────────


class Network(httpcore.NetworkBackend):
    """httpcore's sockets, with the deadline of the exchange on each wait and a check on each address."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None

    @property
    def under_way(self) -> Exchange:
        """The exchange that is carried at the moment."""
        if self.exchange is None:
            raise RuntimeError("nothing is under way on this client")
        return self.exchange

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline takes its place
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve, check and connect, to one address after the other; each gets its share of the time that is left."""
        exchange = self.under_way
        addresses = _resolve(host, port, exchange)
        if not exchange.proxied and not exchange.local:
            addresses = _far(addresses, exchange)
        late = False
        for number, address in enumerate(addresses):
            share = exchange.left() / (len(addresses) - number)
            try:
                inner = httpcore.SyncBackend().connect_tcp(address, port, share, local_address, socket_options)
            except httpcore.ConnectTimeout:
                late = True
            except httpcore.ConnectError:
                late = False
            else:
                exchange.connected = True
                return Stream(self, inner, tls=False)
        if exchange.proxied:
            raise exchange.error(Trouble.PROXY, "cannot be reached: the proxy cannot be connected to")
        raise exchange.error(Trouble.TIMEOUT if late else Trouble.REFUSED, "cannot be connected to")


def _far(addresses: list[str], exchange: Exchange) -> list[str]:
    far = [address for address in addresses if not is_near(address)]
    if not far:
        raise exchange.error(Trouble.HOST, f"was not asked: {NEAR.format(addresses[0])}")
    return far


class Stream(httpcore.NetworkStream):
    """One connection; serves whichever exchange its network carries at the moment."""

    def __init__(self, network: Network, inner: httpcore.NetworkStream, *, tls: bool) -> None:
        self._network, self._inner, self._tls = network, inner, tls

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline takes its place
        exchange = self._network.under_way
        data = self._inner.read(max_bytes, exchange.left())
        exchange.heard = exchange.heard or (bool(data) and self._carries(exchange))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline takes its place
        exchange = self._network.under_way
        view = memoryview(buffer)
        while view:
            seconds = exchange.left()
            # From here on it may have arrived, even where the write fails.
            exchange.sent = exchange.sent or self._carries(exchange)
            view = view[_write_some(self._inner, view[:WRITTEN_AT_ONCE], seconds) :]

    def _carries(self, exchange: Exchange) -> bool:
        """Whether what passes here is the request and not the CONNECT that asks a proxy for a tunnel."""
        return self._tls or not exchange.tls

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline takes its place
    ) -> httpcore.NetworkStream:
        """The handshake; OpenSSL's own timeout holds for all of it."""
        exchange = self._network.under_way
        try:
            inner = self._inner.start_tls(ssl_context, server_hostname, exchange.left())
        except httpcore.ConnectError as error:
            says = _explain_tls(error)
        else:
            return Stream(self._network, inner, tls=True)
        raise exchange.error(Trouble.TLS, says)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _write_some(inner: httpcore.NetworkStream, data: memoryview, seconds: float) -> int:
    """One send on the socket: httpcore's own loop would grant the whole time to each piece."""
    connected: socket.socket = inner.get_extra_info("socket")
    connected.settimeout(seconds)
    try:
        return connected.send(data)
    except TimeoutError:
        raise httpcore.WriteTimeout from None
    except OSError:
        raise httpcore.WriteError from None


def _explain_tls(error: httpcore.ConnectError) -> str:
    """OpenSSL's reason, which names certificates and hosts and nothing of the request."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"has a certificate that is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"failed the TLS handshake: {cause.reason or 'no reason given'}"
    return "broke off the TLS handshake"


def _resolve(host: str, port: int, exchange: Exchange) -> list[str]:
    """The addresses of a name, in the system's order. The resolver knows no deadline, so it works in a thread."""
    if _is_address(host):
        return [host]
    found: list[str] = []
    thread = threading.Thread(target=_look_up, args=(host, port, found.extend), daemon=True)
    thread.start()
    thread.join(exchange.left())
    if thread.is_alive():
        raise exchange.error(Trouble.DNS, "has a name that could not be resolved in time")
    if not found and exchange.proxied:
        raise exchange.error(Trouble.PROXY, "cannot be reached: the proxy's name has no address")
    if not found:
        raise exchange.error(Trouble.DNS, "cannot be reached: its name has no address")
    return list(dict.fromkeys(found))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _look_up(host: str, port: int, found: Callable[[list[str]], object]) -> None:
    with contextlib.suppress(OSError, UnicodeError):
        found([str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
