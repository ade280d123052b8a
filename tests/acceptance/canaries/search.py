"""How a planted secret is looked for: in every form that it may be written in, and with every wrapping taken off."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

WRAPPINGS = ("gzip", "zlib", "message body")
"""What is taken off before the search, also one in another."""
DEEPEST = 3
ZERO = bytes(16)
ZEROS = re.compile(rb"\0{17,}")
LARGEST = 16 * 1024 * 1024
STARTS = {"gzip": (b"\x1f\x8b\x08",), "zlib": (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")}
BODY = b'"body": "'
"""Where Celery puts the base64 of what a message says."""


def forms_of(secret: str) -> dict[str, bytes]:
    """The secret as each encoding writes it; of base64 only what does not depend on its neighbours."""
    raw = secret.encode()
    forms = {
        "raw": raw,
        "URL": quote(raw, safe="").encode(),
        "URL, slashes kept": quote(raw).encode(),
        "form": quote_plus(raw).encode(),
        "JSON": json.dumps(secret)[1:-1].encode(),
        "JSON in JSON": json.dumps(json.dumps(secret)[1:-1])[1:-1].encode(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "UTF-16": secret.encode("utf-16-le"),
    }
    for offset, first in enumerate((0, 2, 3)):
        text = base64.b64encode(bytes(offset) + raw).rstrip(b"=")
        core = text[first : len(text) - ((offset + len(raw)) % 3 != 0)]
        forms[f"base64 at {offset}"] = core
        forms[f"base64 for URLs at {offset}"] = core.replace(b"+", b"-").replace(b"/", b"_")
    return forms


ENCODINGS = (*forms_of(""), *WRAPPINGS)


def find(content: bytes, planted: Mapping[str, str]) -> list[str]:
    """Every planted secret that is in the content, by its name, with the encoding in which it was found."""
    # Runs of zeros are most of a database's files, and no form of a secret holds one.
    whole = ZEROS.sub(ZERO, b"\n".join((content, *unwrap(content))))
    found: list[str] = []
    for name, secret in planted.items():
        forms = forms_of(secret)
        there = {form for form in set(forms.values()) if form in whole}
        found += [f"{name} ({encoding})" for encoding, form in forms.items() if form in there]
    return found


def unwrap(content: bytes, depth: int = 0) -> Iterator[bytes]:
    """What is in the content compressed or as a message's body, and what is in that in turn."""
    if depth == DEEPEST:
        return
    for inner in (*decompress(content), *bodies(content)):
        yield inner
        yield from unwrap(inner, depth + 1)


def decompress(content: bytes) -> Iterator[bytes]:
    """Every compressed stream, however far it can be read."""
    view = memoryview(content)
    for kind, starts in STARTS.items():
        for start in starts:
            at = content.find(start)
            while at >= 0:
                try:
                    inner = zlib.decompressobj(47 if kind == "gzip" else 15).decompress(
                        view[at : at + LARGEST], LARGEST
                    )
                except zlib.error:
                    inner = b""
                if inner:
                    yield inner
                at = content.find(start, at + 1)


def bodies(content: bytes) -> Iterator[bytes]:
    """The bodies of Celery's messages, also where the message itself stands in a JSON text."""
    for part in content.replace(b"\\", b"").split(BODY)[1:]:
        try:
            yield base64.b64decode(part.split(b'"', 1)[0])
        except ValueError:
            continue
