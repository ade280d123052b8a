"""The Liquid filters of Kingfisher's rules, and those of plain Liquid that are pure; where values go is `escape`'s.

Every filter is a pure function; those that tell the time or make something random use what the render was given.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import wraps
from inspect import signature
from typing import Any, Protocol
from urllib.parse import quote

from liquid.builtin.filters import array, math, misc, string
from liquid.filter import with_context

from rules.errors import TemplateError
from rules.escape import PERCENT_ENCODED, Encoded, Place
from rules.secret import MASK

Filter = Callable[..., Any]
Random = Callable[[int], bytes]

MOST_TEXT = 1 << 20
MOST_DIGITS = 64
MOST_BITS = 4096
ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Moment(Protocol):
    """What a render knows beyond its values: the time and a source of random bytes, where they were passed in."""

    now: datetime | None
    random: Random | None


def to_text(value: object) -> str:
    """Text as Liquid prints it; an undefined value raises by itself when it is turned into text."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "".join(to_text(item) for item in value)
    return str(value)


def _to_bytes(value: object) -> bytes:
    return to_text(value).encode("utf-8", "surrogatepass")


def _to_number(value: object, *, most: int | None = None) -> int:
    try:
        number = int(to_text(value)[:MOST_DIGITS])
    except ValueError:
        raise TemplateError("a filter expected a whole number, and got something else") from None
    number = max(number, 0)
    return number if most is None else min(number, most)


# ── encodings ─────────────────────────────────────────────────────────────────────────────────────────────────────


def b64enc(value: object) -> str:
    return base64.b64encode(_to_bytes(value)).decode()


def b64url_enc(value: object) -> str:
    return base64.urlsafe_b64encode(_to_bytes(value)).decode().rstrip("=")


def b64dec(value: object) -> str:
    return _decode_base64(to_text(value), "b64dec").decode("utf-8", "replace")


def b64url_dec(value: object) -> str:
    text = to_text(value).rstrip("=").replace("-", "+").replace("_", "/")
    return _decode_base64(text + "=" * (-len(text) % 4), "b64url_dec").decode("utf-8", "replace")


def _decode_base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise TemplateError(f"{name}: the value is not Base64") from None


def url_encode(value: object) -> Encoded:
    """Percent-encode everything but letters and digits, as Kingfisher does: `-`, `_`, `.` and `~` too."""
    encoded = quote(_to_bytes(value), safe="")
    for character in "-_.~":
        encoded = encoded.replace(character, f"%{ord(character):02X}")
    return Encoded(encoded, Place.URL, Place.BODY_FORM)


def json_escape(value: object) -> Encoded:
    """A whole JSON string, its quotes included, as Kingfisher returns it."""
    return Encoded(json.dumps(to_text(value)), Place.BODY_JSON)


def as_json(value: object) -> Encoded:
    """A value that was kept as JSON, whatever it is: it is read and written anew, so that it stays one value."""
    try:
        return Encoded(json.dumps(json.loads(to_text(value))), Place.BODY_JSON)
    except (ValueError, RecursionError):
        raise TemplateError("json: the value is not JSON; it is taken by a JsonPath with json: true") from None


def jwt_header(value: object) -> str:
    return b64url_enc(json.dumps({"typ": "JWT", "alg": to_text(value)}, separators=(",", ":")))


# ── digests ───────────────────────────────────────────────────────────────────────────────────────────────────────


def sha256(value: object) -> str:
    return hashlib.sha256(_to_bytes(value)).hexdigest()


def sha256_b32(value: object, length: object = None) -> str:
    digest = base64.b32encode(hashlib.sha256(_to_bytes(value)).digest()).decode()
    return digest if length is None else digest.ljust(_to_number(length, most=1024), "=")[: _to_number(length)]


def _sign(value: object, key: bytes, algorithm: str) -> bytes:
    return hmac.new(key, _to_bytes(value), algorithm).digest()


def hmac_sha1(value: object, key: object) -> str:
    return base64.b64encode(_sign(value, _to_bytes(key), "sha1")).decode()


def hmac_sha256(value: object, key: object) -> str:
    return base64.b64encode(_sign(value, _to_bytes(key), "sha256")).decode()


def hmac_sha384(value: object, key: object) -> str:
    return base64.b64encode(_sign(value, _to_bytes(key), "sha384")).decode()


def hmac_sha384_hex(value: object, key: object) -> str:
    return _sign(value, _to_bytes(key), "sha384").hex()


def hmac_sha256_b64key(value: object, key: object) -> str:
    raw = _decode_base64(to_text(key), "hmac_sha256_b64key")
    return base64.b64encode(_sign(value, raw, "sha256")).decode()


def crc32(value: object) -> int:
    return zlib.crc32(_to_bytes(value))


def crc32_dec(value: object, digits: object = 0) -> str:
    wanted = _to_number(digits, most=38)
    return str(crc32(value) % 10**wanted).zfill(wanted) if wanted else str(crc32(value))


def crc32_hex(value: object, digits: object = 0) -> str:
    wanted = _to_number(digits, most=32)
    whole = f"{crc32(value):08x}"
    return whole.zfill(wanted)[-wanted:] if wanted else whole


def crc32_le_b64(value: object, length: object = None) -> str:
    whole = base64.b64encode(crc32(value).to_bytes(4, "little")).decode()
    return whole if length is None else whole[: _to_number(length)]


def base62(value: object, width: object = 0) -> str:
    return _in_base(_to_number(value), ALPHANUMERIC).rjust(_to_number(width, most=1024), "0")


def base36(value: object, width: object = 0) -> str:
    return _in_base(_to_number(value), ALPHANUMERIC[:36].lower()).rjust(_to_number(width, most=1024), "0")


def _in_base(number: int, digits: str) -> str:
    written = ""
    while number:
        number, rest = divmod(number, len(digits))
        written = digits[rest] + written
    return written or "0"


# ── texts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def prefix(value: object, length: object = None) -> str:
    text = to_text(value)
    return str(text) if length is None else text[: _to_number(length)]


def suffix(value: object, length: object = None) -> str:
    text = to_text(value)
    return str(text) if length is None else text[max(len(text) - _to_number(length), 0) :]


def lstrip_chars(value: object, characters: object) -> str:
    return to_text(value).lstrip(to_text(characters))


def newline(_value: object) -> str:
    return "\n"


def replace(value: object, old: object, new: object = "") -> str:
    """Replace every occurrence. Who replaces by `%XX` encodes by hand: such a result is not encoded again."""
    text, before, after = to_text(value), to_text(old), to_text(new)
    if len(text) + text.count(before) * len(after) > MOST_TEXT:
        raise TemplateError(f"replace: the result would be longer than {MOST_TEXT} characters")
    changed = text.replace(before, after)
    by_hand = (isinstance(text, Encoded) and Place.URL in text.places) or "%" in after
    if by_hand and PERCENT_ENCODED.fullmatch(changed):
        return Encoded(changed, Place.URL, Place.BODY_FORM)
    return changed


def strip(value: object) -> str:
    """Strip white space; what was encoded stays so."""
    text = to_text(value)
    return Encoded(text.strip(), *text.places) if isinstance(text, Encoded) else text.strip()


# ── time and chance ───────────────────────────────────────────────────────────────────────────────────────────────


def _moment_of(context: Moment) -> datetime:
    if context.now is None:
        raise TemplateError("a filter needs the time, and none was passed in")
    return context.now.astimezone(UTC)


def _draw(context: Moment, count: int) -> bytes:
    if context.random is None:
        raise TemplateError("a filter needs randomness, and none was passed in")
    return context.random(count)


@with_context
def unix_timestamp(_value: object, *, context: Moment) -> int:
    return int(_moment_of(context).timestamp())


@with_context
def unix_timestamp_ms(_value: object, *, context: Moment) -> int:
    return int(_moment_of(context).timestamp() * 1000)


@with_context
def iso_timestamp(_value: object, *, context: Moment) -> str:
    return _moment_of(context).isoformat(timespec="microseconds").replace("+00:00", "000Z")


@with_context
def iso_timestamp_no_frac(_value: object, *, context: Moment) -> str:
    return _moment_of(context).isoformat(timespec="seconds").replace("+00:00", "Z")


@with_context
def date_in_days(value: object, *, context: Moment) -> str:
    """The date that is so many days from now, as YYYY-MM-DD: when what is made now is to expire."""
    return (_moment_of(context) + timedelta(days=_to_number(value, most=36_500))).date().isoformat()


@with_context
def rfc1123_date(_value: object, *, context: Moment) -> str:
    return format_datetime(_moment_of(context), usegmt=True)


def _read_time(value: object) -> datetime:
    try:
        read: datetime | None = datetime.fromisoformat(to_text(value))
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise TemplateError("a filter expected a time such as 2026-11-22T03:00:00Z, and got something else")
    return read.astimezone(UTC)


def plus_days(value: object, days: object) -> str:
    """The time that is so many days later; earlier, where they are less than none."""
    try:
        return (_read_time(value) + timedelta(days=int(to_text(days)))).isoformat()
    except (ValueError, OverflowError):
        raise TemplateError("plus_days expected a whole number of days, and got something else") from None


@with_context
def days_until(value: object, *, context: Moment) -> int:
    """How many days from now a time is away, to the nearest, and at least one. One that has passed is refused."""
    left = _read_time(value) - _moment_of(context)
    if left <= timedelta(0):
        raise TemplateError("days_until was given a time that has passed")
    return max(round(left / timedelta(days=1)), 1)


@with_context
def random_string(value: object, length: object = None, *, context: Moment) -> str:
    asked = length if length is not None else (to_text(value) or "32")
    wanted = _to_number(asked, most=1024)
    # Two bytes for each character: what 65,536 is off a multiple of 62 does not matter for a nonce.
    drawn = _draw(context, 2 * wanted)
    return "".join(ALPHANUMERIC[int.from_bytes(drawn[2 * i : 2 * i + 2]) % 62] for i in range(wanted))


@with_context
def make_uuid(_value: object, *, context: Moment) -> str:
    """Version 4, formatted by hand: the standard module brings its own randomness."""
    drawn = bytearray(_draw(context, 16))
    drawn[6] = drawn[6] & 0x0F | 0x40
    drawn[8] = drawn[8] & 0x3F | 0x80
    digits = drawn.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────────

OURS: dict[str, Filter] = {
    function.__name__: function
    for function in (
        *(b64enc, b64url_enc, b64dec, b64url_dec, url_encode, json_escape, jwt_header, sha256, sha256_b32),
        *(hmac_sha1, hmac_sha256, hmac_sha384, hmac_sha384_hex, hmac_sha256_b64key),
        *(crc32, crc32_dec, crc32_hex, crc32_le_b64, base62, base36),
        *(prefix, suffix, lstrip_chars, newline, replace, strip),
        *(unix_timestamp, unix_timestamp_ms, iso_timestamp, iso_timestamp_no_frac, rfc1123_date),
        *(date_in_days, days_until, plus_days, random_string),
    )
} | {"uuid": make_uuid, "json": as_json}

# Plain Liquid's filters that are pure and cannot grow their input; `date` reads the clock and is not among them.
LIQUID: dict[str, Filter] = {
    "append": string.append,
    "prepend": string.prepend,
    "capitalize": string.capitalize,
    "downcase": string.downcase,
    "upcase": string.upcase,
    "lstrip": string.lstrip,
    "rstrip": string.rstrip,
    "strip_newlines": string.strip_newlines,
    "remove": string.remove,
    "remove_first": string.remove_first,
    "replace_first": string.replace_first,
    "slice": string.slice_,
    "split": string.split,
    "truncate": string.truncate,
    "url_decode": string.url_decode,
    "first": array.first,
    "last": array.last,
    "size": misc.size,
    "default": misc.default,
    "plus": math.plus,
    "minus": math.minus,
    "times": math.times,
    "divided_by": math.divided_by,
    "modulo": math.modulo,
}


def _guard(function: Filter, *, masked: bool) -> Filter:
    """Keep results short; where secrets are masked, whatever a mask goes into comes out as the mask."""

    @wraps(function)
    def guarded(*arguments: Any, **named: Any) -> Any:
        given = (*arguments, *named.values())
        if any(type(argument) is range for argument in given):
            raise TemplateError("a filter was given a range; ranges are for loops")
        if masked and any(_is_masked(argument) for argument in given):
            return MASK
        result = function(*arguments, **named)
        _check_size(result)
        return result

    return guarded


def _check_size(result: Any) -> None:
    if issubclass(type(result), str | list) and len(result) > MOST_TEXT:
        raise TemplateError(f"a filter's result is longer than {MOST_TEXT} characters")
    if type(result) is int and result.bit_length() > MOST_BITS:
        raise TemplateError("a filter's result is too large a number")


def _is_masked(argument: Any) -> bool:
    # By type and not by `isinstance`: the latter asks an undefined value for its class, which raises before `default`.
    if issubclass(type(argument), list):
        return any(_is_masked(item) for item in argument)
    return issubclass(type(argument), str) and MASK in argument


def accepts(function: Filter, count: int, names: list[str]) -> bool:
    """Whether a filter takes this many arguments after its value, and arguments of these names."""
    given: dict[str, object] = dict.fromkeys(names)
    for name in ("context", "environment"):
        if getattr(function, f"with_{name}", False):
            given[name] = None
    try:
        signature(function).bind(None, *[None] * count, **given)
    except TypeError:
        return False
    return True


def guarded_filters(*, masked: bool) -> dict[str, Filter]:
    """Every filter by its name, guarded."""
    return {name: _guard(function, masked=masked) for name, function in (LIQUID | OURS).items()}
