"""Making a request ready to leave: its URL, headers and body filled in; sending it is `worker.client`'s."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import count
from urllib.parse import SplitResult, quote, quote_plus, unquote_plus, urljoin, urlsplit

from rules.errors import ExtractError, TemplateError
from rules.escape import BaseUrl, write
from rules.filters import Random
from rules.message import Prepared
from rules.schema import Multipart, Part, Request
from rules.secret import MASK, Secret
from rules.template import Origin, Place, compile_template, split_origin

Values = Mapping[str, str | Secret]

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9.])?|[0-9A-Fa-f:.]+")
PORTS = {"http": 80, "https": 443}
DATE, MILLIS = "REQUEST_RFC1123_DATE", "REQUEST_UNIX_MILLIS"
OF_REQUEST = frozenset({DATE, MILLIS})
"""Names that every request knows of itself."""
FRAMING = frozenset({"host", "content-length", "transfer-encoding", "connection"})
"""Headers that say where a request goes or where it ends: no value may have a part in them."""


@dataclass(frozen=True, slots=True)
class _Fill:
    """What every template of one request is filled with."""

    values: Values
    now: datetime | None
    random: Random | None

    def __call__(self, source: str, place: Place, *, masked: bool = False) -> str:
        """Fill one template."""
        template = compile_template(source)
        return template.fill(self.values, place, masked=masked, now=self.now, random=self.random)


def prepare(
    request: Request,
    values: Values,
    bases: Mapping[str, str],
    *,
    now: datetime | None = None,
    random: Random | None = None,
) -> Prepared:
    """Fill a request in; whatever cannot be filled safely is a TemplateError, and nothing is sent."""
    origin = split_origin(request.url, bases)
    base = parse_base(_base_of(origin, bases))
    fill = _Fill({**values, **_request_names(now)} | _known_bases(origin, bases), now, random)
    headers = _fill_headers(request.headers, fill)
    body = _fill_body(request, headers, fill)
    if request.multipart is not None:
        headers = _with_boundary(headers, body or "")
    if request.form is not None:
        headers = _with_form_type(headers)
    return Prepared(
        method=request.method.upper(),
        url=Secret(_with_slash(_fill_url(request.url, fill, base), base)),
        shown=_show_url(request.url, fill, base),
        origin=origin_of(base),
        headers=headers,
        body=None if body is None else Secret(body),
        digest=_fill_digest(request, fill),
    )


def add_headers(prepared: Prepared, headers: Mapping[str, str], values: Values) -> Prepared:
    """Add headers from templates, such as those by which a connection's identity signs; none may be there already."""
    more = _fill_headers(headers, _Fill(values, None, None))
    return replace(prepared, headers=_merge(prepared.headers, more))


@dataclass(frozen=True, slots=True)
class Shown:
    """A request as a person may see it: every secret, and all that a secret went into, is masked."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str | None


def show(
    request: Request,
    values: Values,
    bases: Mapping[str, str],
    *,
    now: datetime | None = None,
    random: Random | None = None,
) -> Shown:
    """Fill a request in for a person's eyes; raises what `prepare` raises, so that only what can leave is shown."""
    prepared = prepare(request, values, bases, now=now, random=random)
    origin = split_origin(request.url, bases)
    fill = _Fill({**values, **_request_names(now)} | _known_bases(origin, bases), now, random)
    headers = {name: fill(source, Place.HEADER, masked=True) for name, source in request.headers.items()}
    body = None
    if request.form is not None:
        body = "&".join(f"{name}={fill(source, Place.PLAIN, masked=True)}" for name, source in request.form.items())
    elif request.multipart is not None:
        body = _fill_parts(request.multipart, fill, masked=True)
    elif request.body is not None:
        body = fill(request.body, place_of_body(request.body, _type_of(prepared.headers)), masked=True)
    return Shown(prepared.method, prepared.shown, headers, body)


# ── base URLs and origins ─────────────────────────────────────────────────────────────────────────────────────────


def parse_base(url: str) -> str:
    """Check a base URL, and give it back without a slash at its end."""
    parts = _split(url)
    if parts is None or parts.scheme not in PORTS or not parts.hostname or not HOST_NAME.fullmatch(parts.hostname):
        raise TemplateError(f"expected a base URL such as https://host/path, got {_shown(url)}")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise TemplateError("a base URL holds no user name and no password; give them to the connection's identity")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise TemplateError(f"a base URL has no query and no fragment, got {_shown(url)}")
    if any(segment in {".", ".."} for segment in parts.path.split("/")):
        raise TemplateError(f"a base URL has no `.` or `..` in its path, got {_shown(url)}")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def origin_of(url: str) -> str:
    """`scheme://host[:port]` of a URL, in lower case and without the port that the scheme has anyway."""
    parts = _split(url)
    if parts is None or parts.scheme not in PORTS or not parts.hostname:
        raise TemplateError("expected a URL that begins with https://host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in {None, PORTS[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{host.lower()}{port}"


def _split(url: str) -> SplitResult | None:
    if re.search(r"[^!-~]|\\", url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # It is read late, and raises where it is no number.
    except ValueError:
        return None
    return parts


def _shown(url: str) -> str:
    """Show a URL without what may be secret in it."""
    parts = _split(url)
    return repr(f"{parts.scheme}://{parts.hostname}/…") if parts is not None and parts.hostname else "something else"


def _base_of(origin: Origin, bases: Mapping[str, str]) -> str:
    return origin.literal if origin.literal is not None else bases[origin.base or ""]


def _known_bases(origin: Origin, bases: Mapping[str, str]) -> dict[str, str]:
    """Give the base that the URL begins with unencoded; any other base is a value as every other."""
    plain = {name: parse_base(url) for name, url in bases.items()}
    return plain | ({origin.base: BaseUrl(plain[origin.base])} if origin.base else {})


def _request_names(now: datetime | None) -> dict[str, str]:
    """Kingfisher's two values that stay the same throughout one request."""
    if now is None:
        return {}
    moment = now.astimezone(UTC)
    return {
        DATE: format_datetime(moment, usegmt=True),
        MILLIS: str(int(moment.timestamp() * 1000)),
    }


# ── the parts of a request ────────────────────────────────────────────────────────────────────────────────────────


def _fill_url(source: str, fill: _Fill, base: str) -> str:
    url = fill(source, Place.URL)
    kept = url[: len(base)].lower() == base.lower() and url[len(base) : len(base) + 1] in {"", "/", "?"}
    if not kept or origin_of(url) != origin_of(base):
        raise TemplateError("the filled URL does not begin with its base: a host never comes from a credential")
    return url


def _show_url(source: str, fill: _Fill, base: str) -> str:
    shown = fill(source, Place.URL, masked=True)
    # A template that cannot be filled with masks is masked whole.
    return f"{origin_of(base)}/{MASK}" if shown == MASK else _with_slash(shown, base)


def _with_slash(url: str, base: str) -> str:
    """Put the slash in that a bare host needs before its query."""
    rest = url[len(base) :]
    return url if rest.startswith("/") or base.count("/") > 2 else f"{url[: len(base)]}/{rest}"


def _fill_headers(templates: Mapping[str, str], fill: _Fill) -> dict[str, Secret]:
    filled: dict[str, Secret] = {}
    for name, source in templates.items():
        if not HEADER_NAME.fullmatch(name):
            raise TemplateError(f"expected the name of a header, got {name!r}")
        if name.lower() in FRAMING and compile_template(source).names:
            raise TemplateError(f"the header {name} says where a request goes or ends; no value may be filled into it")
        filled = _merge(filled, {name: Secret(fill(source, Place.HEADER))})
    return filled


def _merge(headers: Mapping[str, Secret], more: Mapping[str, Secret]) -> dict[str, Secret]:
    taken = {name.lower() for name in headers}
    for name in more:
        if name.lower() in taken:
            raise TemplateError(f"the header {name} is there twice; names of headers differ by more than upper case")
    return {**headers, **more}


def _type_of(headers: Mapping[str, Secret]) -> str:
    return next((value.reveal() for name, value in headers.items() if name.lower() == "content-type"), "").lower()


def _with_form_type(headers: Mapping[str, Secret]) -> dict[str, Secret]:
    written = _type_of(headers)
    if written and FORM not in written:
        raise TemplateError(f"a form is sent as {FORM}; take the other content-type header out")
    return dict(headers) if written else _merge(headers, {"Content-Type": Secret(FORM)})


def _with_boundary(headers: Mapping[str, Secret], body: str) -> dict[str, Secret]:
    written = _type_of(headers)
    if written and written != MULTIPART:
        raise TemplateError(f"parts are sent as {MULTIPART}; take the other content-type header out")
    kept = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    boundary = body.partition("\r\n")[0].removeprefix("--")
    return {**kept, "Content-Type": Secret(f"{MULTIPART}; boundary={boundary}")}


def _fill_parts(multipart: Multipart, fill: _Fill, *, masked: bool = False) -> str:
    """Write the parts one below the other. The boundary is made of them, and is in none of them."""
    parts = [(_head_of(part), fill(part.content, Place.PLAIN, masked=masked)) for part in multipart.parts]
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
    boundary = next(mark for mark in _marks(digest) if not any(mark in content for _, content in parts))
    lines = [f"--{boundary}\r\n{head}\r\n\r\n{content}\r\n" for head, content in parts]
    return "".join(lines) + f"--{boundary}--\r\n"


def _marks(digest: str) -> Iterator[str]:
    return (f"revoq-{digest}-{number}" for number in count())


def _head_of(part: Part) -> str:
    """The headers of one part; its name and type are the rule's own words, and are checked all the same."""
    kind = part.content_type or ("application/octet-stream" if part.type == "file" else "")
    if any(sign in part.name + kind for sign in '\r\n"\0'):
        raise TemplateError(f"the name or type of the part {part.name!r} holds a quote or a line break")
    file = f'; filename="{part.name}"' if part.type == "file" else ""
    head = f'Content-Disposition: form-data; name="{part.name}"{file}'
    return f"{head}\r\nContent-Type: {kind}" if kind else head


def _fill_body(request: Request, headers: Mapping[str, Secret], fill: _Fill) -> str | None:
    if request.multipart is not None:
        return _fill_parts(request.multipart, fill)
    if request.form is not None:
        return "&".join(
            f"{quote_plus(name)}={quote_plus(fill(source, Place.PLAIN))}" for name, source in request.form.items()
        )
    if request.body is None:
        return None
    written = _type_of(headers)
    body = fill(request.body, place_of_body(request.body, written))
    media_type = written.partition(";")[0].strip()
    if media_type == "application/json" or media_type.endswith("+json"):
        _check_json(body)
    return body


def place_of_body(source: str, content_type: str) -> Place:
    """How a body's values are escaped: by the content type, or by how the template begins where there is none."""
    if "json" in content_type:
        return Place.BODY_JSON
    if FORM in content_type:
        return Place.BODY_FORM
    start = source.lstrip()
    looks_json = start.startswith(("{", "[")) and not start.startswith(("{{", "{%"))
    return Place.BODY_JSON if looks_json and not content_type else Place.BODY_TEXT


def _check_json(body: str) -> None:
    try:
        json.loads(body)
        good = True
    except (ValueError, RecursionError):
        good = False
    if not good:
        raise TemplateError("the filled body is not JSON, though the content type says so; look at its quotes")


def _fill_digest(request: Request, fill: _Fill) -> tuple[Secret, Secret] | None:
    if request.digest is None:
        return None
    if isinstance(request.digest, str):
        return _split_digest(fill(request.digest, Place.PLAIN))
    # The name is sent in a header; the password is only hashed.
    name = fill(request.digest.username, Place.HEADER)
    return Secret(name), Secret(fill(request.digest.password, Place.PLAIN))


def _split_digest(pair: str) -> tuple[Secret, Secret]:
    """Kingfisher's files write user and password as one text; a user's name holds no colon (RFC 7616)."""
    name, colon, password = pair.partition(":")
    if not colon or not name:
        raise TemplateError("digest: expected user:password, and the filled text is something else")
    return Secret(write(name, Place.HEADER)), Secret(password)


# ── the next page of a list ───────────────────────────────────────────────────────────────────────────────────────


def set_parameter(prepared: Prepared, name: str, value: str) -> Prepared:
    """Set one parameter of the query, in place of any that has its name."""
    return replace(
        prepared,
        url=Secret(_put_parameter(prepared.url.reveal(), name, value)),
        shown=_put_parameter(prepared.shown, name, value),
    )


def _put_parameter(url: str, name: str, value: str) -> str:
    path, _, query = url.partition("?")
    kept = [part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) != name]
    try:
        return path + "?" + "&".join([*kept, f"{quote(name, safe='')}={quote(value, safe='')}"])
    except UnicodeEncodeError:
        pass
    raise ExtractError(f"the next page's {name} holds half a character (a lone surrogate)")


def follow(prepared: Prepared, url: str) -> Prepared:
    """Go on at a link that the answer gave, absolute or relative, as long as it stays on the same origin."""
    try:
        joined = urljoin(prepared.url.reveal(), url.strip()).partition("#")[0]
        origin = origin_of(joined)
    except (ValueError, TemplateError):
        joined = origin = ""
    if not origin or "@" in joined.split("/", 3)[2]:
        raise ExtractError("the next page's link is not a URL; the list could not be read to its end")
    if origin != prepared.origin:
        raise ExtractError(f"the next page's link leads away from {prepared.origin}; it is not followed")
    return replace(prepared, url=Secret(joined), shown=_show_link(joined, prepared))


def _show_link(url: str, prepared: Prepared) -> str:
    """Show a link of the provider's with its values masked: it may repeat a secret that the first URL held."""
    path, _, query = url.partition("?")
    shown = f"{prepared.origin}/{MASK}" if MASK in prepared.shown.partition("?")[0] else path
    names = [f"{part.partition('=')[0]}={MASK}" for part in query.split("&") if part]
    return shown + ("?" + "&".join(names) if names else "")
