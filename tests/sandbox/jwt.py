"""JSON web tokens, signed with HS256 (RFC 7519), as far as a pretend server needs them."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

HEADER = b'{"typ":"JWT","alg":"HS256"}'


def sign_token(claims: Mapping[str, Any], key: bytes) -> str:
    """The token that holds these claims."""
    signed = f"{encode(HEADER)}.{encode(json.dumps(claims).encode())}"
    return f"{signed}.{encode(compute_signature(signed, key))}"


def read_token(token: str, key: bytes) -> dict[str, Any]:
    """The claims of a token that this key has signed; raises ValueError for any other text."""
    signed, _, signature = token.rpartition(".")
    if not hmac.compare_digest(encode(compute_signature(signed, key)).encode(), signature.encode()):
        raise ValueError("the signature does not fit")
    claims: dict[str, Any] = json.loads(decode(signed.partition(".")[2]))
    return claims


def compute_signature(signed: str, key: bytes) -> bytes:
    """HMAC with SHA-256 over header and claims."""
    return hmac.new(key, signed.encode(), hashlib.sha256).digest()


def encode(raw: bytes) -> str:
    """Base64 for URLs, without the padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The reverse of `encode`."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
