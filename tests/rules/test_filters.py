"""The filters of Kingfisher's rules give what its documentation shows, and none reads a clock or draws by itself."""

from datetime import UTC, datetime

import pytest

from rules.errors import TemplateError
from rules.template import Place, compile_template

NOW = datetime(2026, 3, 10, 12, 30, 1, 500000, tzinfo=UTC)


def fill(source: str) -> str:
    """Fill a template that has no names."""
    return compile_template(source).fill({}, Place.PLAIN, now=NOW, random=lambda count: bytes(range(count)))


@pytest.mark.parametrize(
    ("source", "filled"),
    [
        ("'hello' | b64enc", "aGVsbG8="),
        ("'aGVsbG8=' | b64dec", "hello"),
        ("'++??' | b64url_enc", "Kys_Pw"),
        ("'Kys_Pw' | b64url_dec", "++??"),
        ("'hello' | sha256", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
        ("'hello' | sha256_b32: 4", "FTZE"),
        ("'hello' | crc32", "907060870"),
        ("'hello' | crc32_dec: 6", "060870"),
        ("'hello' | crc32_hex", "3610a686"),
        ("'hello' | crc32_hex: 10", "003610a686"),
        ("'hello' | crc32_le_b64: 6", "hqYQNg"),
        ("'hello' | crc32 | base62: 6", "0zNvy2"),
        ("123456 | base36: 6", "002n9c"),
        ("'data' | hmac_sha1: 'key1'", "8ORXAyn23+fyaYmcNeI2u01JUK8="),
        ("'hi!' | hmac_sha256: 'secret'", "da1MbYe7wwTnrOPvBWn2k5KYFlJhghJb8qRpMFw9i68="),
        ("'90' | date_in_days", "2026-06-08"),
        ("0 | date_in_days", "2026-03-10"),
        ('\'["a",  {"b": null}]\' | json', '["a", {"b": null}]'),
        ("'abcdef' | prefix: 3", "abc"),
        ("'abcdef' | suffix: 3", "def"),
        ("'abcdef' | suffix: 0", ""),
        ("'xxabc' | lstrip_chars: 'x'", "abc"),
        ("'hello world' | replace: 'world', 'mars'", "hello mars"),
        ("'hello-world!' | url_encode", "hello%2Dworld%21"),
        ("'\"hi\"' | json_escape", '"\\"hi\\""'),
        ("'HS256' | jwt_header", "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9"),
        ("'a,b' | split: ',' | last", "b"),
        ("'' | newline", "\n"),
        ("'' | unix_timestamp", "1773145801"),
        ("'' | unix_timestamp_ms", "1773145801500"),
        ("'' | iso_timestamp_no_frac", "2026-03-10T12:30:01Z"),
        ("'' | rfc1123_date", "Tue, 10 Mar 2026 12:30:01 GMT"),
        ("'2026-03-15T12:00:00Z' | days_until", "5"),
        ("'2026-03-15T23:00:00+02:00' | days_until", "5"),
        ("'2026-03-10T12:30:02Z' | days_until", "1"),
        ("'2026-02-28T12:00:00Z' | plus_days: 1", "2026-03-01T12:00:00+00:00"),
        ("'2026-03-01T01:00:00+02:00' | plus_days: -1", "2026-02-27T23:00:00+00:00"),
        ("'' | uuid", "00010203-0405-4607-8809-0a0b0c0d0e0f"),
    ],
)
def test_filter(source: str, filled: str) -> None:
    """Each filter gives what Kingfisher's does."""
    assert fill(f"{{{{ {source} }}}}") == filled


def test_random_string() -> None:
    """A random string has the length that was asked for, 32 where none was."""
    assert len(fill("{{ '' | random_string }}")) == 32
    assert len(fill("{{ 10 | random_string }}")) == 10
    assert len(fill("{{ '' | random_string: 5 }}")) == 5


@pytest.mark.parametrize(
    "name", ["unix_timestamp", "iso_timestamp", "rfc1123_date", "date_in_days", "uuid", "random_string"]
)
def test_not_passed_in(name: str) -> None:
    """Without a time and a source of randomness, what needs them refuses."""
    with pytest.raises(TemplateError, match="none was passed in"):
        compile_template(f"{{{{ '' | {name} }}}}").fill({}, Place.PLAIN)


@pytest.mark.parametrize(
    "source", ["'é?' | b64dec", "'%%' | b64url_dec", "'x' | hmac_sha256_b64key: '?'", "'ten' | base62"]
)
def test_unfit(source: str) -> None:
    """A value that does not fit its filter is refused with a sentence."""
    with pytest.raises(TemplateError, match=r"Base64|whole number"):
        fill(f"{{{{ {source} }}}}")


def test_a_value_kept_as_json_stays_one_value() -> None:
    """It is read and written anew, so that what a provider answered cannot end the body that it goes into."""
    body = compile_template('{"name": "x", "scopes": {{ SCOPES | json }}}')

    assert body.fill({"SCOPES": '["mail.send"]'}, Place.BODY_JSON) == '{"name": "x", "scopes": ["mail.send"]}'
    for unfit in ('["a"], "admin": true', "", "mail.send", '"a'):
        with pytest.raises(TemplateError, match="json: true"):
            body.fill({"SCOPES": unfit}, Place.BODY_JSON)


@pytest.mark.parametrize(
    "source",
    [
        "'2026-03-10T12:30:01Z' | days_until",
        "'2026-03-15T12:00:00' | days_until",
        "'next week' | days_until",
        "'2026-03-15T12:00:00Z' | plus_days: 'a few'",
        "'9999-12-31T12:00:00Z' | plus_days: 2",
    ],
)
def test_no_time_to_reckon_with(source: str) -> None:
    """A time that has passed, one without its offset, and what is no time or no number."""
    with pytest.raises(TemplateError, match=r"passed|such as 2026|whole number"):
        fill(f"{{{{ {source} }}}}")
