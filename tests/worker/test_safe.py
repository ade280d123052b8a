"""The safe: what is sealed opens in its own place only, and no key or secret shows."""

import base64
import dataclasses
import re
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.secret import Secret
from worker.errors import KeyMissing, SafeError, Shredded, Tampered
from worker.safe import Key, Ring, Safe, Sealed, new_secret_id, rotate_ring, write_ring

RING = Ring((Key("k1", bytes(range(32))),), (Key("f1", bytes(range(32, 64))),))
PLACE = {"secret_id": "sec_1", "owner": "cred_1", "kind": "token"}
SECRET = Secret("ghp_hunter2")


def seal(secret: Secret = SECRET) -> Sealed:
    """Seal at the usual place under the usual ring."""
    return Safe(RING).seal(secret, **PLACE)


def unseal(
    sealed: Sealed, ring: Ring = RING, *, place: Mapping[str, str] = PLACE, shred_by: int = 10, now: int = 9
) -> Secret:
    """Open, as if it were sealed at `place`."""
    return Safe(ring).open(sealed, **place, shred_by=shred_by, now=now)


@given(st.text())
def test_what_was_sealed_comes_out(text: str) -> None:
    """Any text comes back as it was."""
    assert unseal(seal(Secret(text))) == Secret(text)


def test_lone_surrogates_survive() -> None:
    """What the terminal could not decode is a secret like any other."""
    assert unseal(seal(Secret("a\udc80b"))) == Secret("a\udc80b")


def test_the_envelope_says_how_it_was_made() -> None:
    """Version, algorithm and key ids are in clear; the secret is not."""
    sealed = seal()
    assert (sealed.version, sealed.algorithm, sealed.key_id, sealed.fingerprint_key) == (1, "AES-256-GCM", "k1", "f1")
    assert sealed.nonce is not None
    assert sealed.ciphertext is not None
    assert b"hunter2" not in sealed.ciphertext
    assert seal().nonce != sealed.nonce


def test_the_length_tells_little() -> None:
    """Ciphertexts grow in steps of 64 bytes."""
    lengths = {len(seal(Secret("x" * length)).ciphertext or b"") for length in range(130)}
    assert lengths == {64 + 16, 128 + 16, 192 + 16}


@pytest.mark.parametrize("changed", [{"secret_id": "sec_2"}, {"owner": "cred_2"}, {"kind": "variable:X"}])
def test_an_envelope_opens_only_in_its_place(changed: dict[str, str]) -> None:
    """Copied to another row, owner or kind, it does not open."""
    with pytest.raises(Tampered, match="was changed, or is not where it was sealed for"):
        unseal(seal(), place={**PLACE, **changed})


def test_places_do_not_run_together() -> None:
    """Owner and kind are bound one by one, not as the text that they make together."""
    sealed = Safe(RING).seal(SECRET, secret_id="a", owner="b", kind="c")
    with pytest.raises(Tampered):
        Safe(RING).open(sealed, secret_id="a", owner="bc", kind="", shred_by=1, now=0)


@pytest.mark.parametrize("name", ["nonce", "ciphertext"])
def test_an_edited_envelope_does_not_open(name: str) -> None:
    """A flipped bit is told, and the error holds nothing that was in there."""
    value: bytes = getattr(seal(), name)
    edited = dataclasses.replace(seal(), **{name: bytes([value[0] ^ 1]) + value[1:]})  # type: ignore[arg-type]
    with pytest.raises(Tampered) as caught:
        unseal(edited)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("change", [{"version": 2}, {"algorithm": "none"}])
def test_an_unknown_kind_of_envelope_is_refused(change: dict[str, object]) -> None:
    """Nothing talks the safe into another algorithm."""
    with pytest.raises(Tampered, match="of a kind that this version"):
        unseal(dataclasses.replace(seal(), **change))  # type: ignore[arg-type]


def test_a_relabelled_key_does_not_open() -> None:
    """The key's id is bound too: an envelope moved to another name of the same key is not the one that was sealed."""
    ring = Ring((Key("k2", RING.seals[0].material),), RING.fingerprints)
    with pytest.raises(Tampered):
        unseal(dataclasses.replace(seal(), key_id="k2"), ring)


def test_a_missing_key_is_named() -> None:
    """Whoever restores a backup has to know which key to look for."""
    with pytest.raises(KeyMissing, match="the key k1 is not on the key ring") as caught:
        unseal(seal(), Ring.generate())
    assert caught.value.key_id == "k1"


def test_a_shredded_secret_is_gone() -> None:
    """Without its bytes it is shredded; past its date it counts as shredded, even if the broom was late."""
    with pytest.raises(Shredded, match="sec_1 was shredded"):
        unseal(dataclasses.replace(seal(), nonce=None, ciphertext=None))
    with pytest.raises(Shredded, match="sec_1 is past its shred-by date"):
        unseal(seal(), shred_by=10, now=10)


def test_fingerprints() -> None:
    """The same secret has the same fingerprint under one key, and a history is searched under all of them."""
    older = Key("f0", bytes(32))
    safe = Safe(Ring(RING.seals, (*RING.fingerprints, older)))
    assert safe.fingerprint(SECRET) == Safe(RING).fingerprint(SECRET) == seal().fingerprint
    assert safe.fingerprint(SECRET) != safe.fingerprint(Secret("ghp_hunter3"))
    assert safe.fingerprints(SECRET) == {"f1": seal().fingerprint, "f0": SECRET.fingerprint(bytes(32))}


def test_a_digest_is_no_fingerprint() -> None:
    """An answer that is nothing but the secret must not be tied to it by its digest."""
    safe = Safe(RING)
    digest = safe.digest(SECRET.reveal().encode())
    assert re.fullmatch(r"f1:[0-9a-f]{64}", digest)
    assert safe.fingerprint(SECRET) not in digest
    assert digest == safe.digest(SECRET.reveal().encode()) != safe.digest(b"")


def test_ids_sort_by_time() -> None:
    """Ids are texts that fit their column, and later ones do not sort earlier by their time."""
    first, second = new_secret_id(), new_secret_id()
    assert first[:16] <= second[:16]
    assert first != second
    assert len(first) <= 40


def test_a_ring_is_read_as_it_is_written() -> None:
    """Writing and reading a ring keeps every key and their order; comments and empty lines say nothing."""
    ring = Ring.generate().rotate()
    assert Ring.parse(Secret(f"# ours\n\n{ring.text.reveal()}")) == ring


def test_a_new_key_is_named_for_its_day() -> None:
    """The id says since when: whoever destroys a period's key has to find it."""
    ring = Ring.generate()
    assert re.fullmatch(r"k\d{4}-\d\d-\d\d-[0-9a-f]{4}", ring.seals[0].id)
    assert re.fullmatch(r"f\d{4}-\d\d-\d\d-[0-9a-f]{4}", ring.fingerprints[0].id)


def test_rotation_seals_with_a_new_key_and_opens_with_the_old() -> None:
    """After a rotation the new key seals, the older opens, and fingerprints stay what they were."""
    ring = RING.rotate()
    assert ring.seals[1:] == RING.seals
    assert ring.fingerprints == RING.fingerprints
    assert unseal(seal(), ring) == SECRET
    assert Safe(ring).seal(SECRET, **PLACE).key_id == ring.seals[0].id != "k1"
    assert Safe(ring).fingerprint(SECRET) == Safe(RING).fingerprint(SECRET)


def test_no_key_shows() -> None:
    """A ring, a key and a safe can be printed."""
    key = base64.urlsafe_b64encode(RING.seals[0].material).decode()[:20]
    for shown in (repr(RING), str(RING.seals[0]), repr(Safe(RING)), repr(RING.text)):
        assert key not in shown
        assert "\\x01\\x02" not in shown


KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
OTHER = base64.urlsafe_b64encode(bytes(range(1, 33))).decode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected at least one seal key and one fingerprint key"),
        (f"seal a {KEY}\n", "expected at least one seal key and one fingerprint key"),
        (f"seal a {KEY[:-4]}\nfingerprint f {OTHER}\n", "line 1: expected 32 bytes as base64url for a"),
        (f"seal a {KEY}\nfingerprint f not*base64\n", "line 2: expected 32 bytes as base64url for f"),
        (f"seal {KEY}\nlock a {KEY}\n", "line 1: expected `seal ID KEY`.*; line 2: expected `seal ID KEY`"),
        (f"seal a {KEY}\nfingerprint a {OTHER}\n", "line 2: the id a stands on an earlier line already"),
        (f"seal a {KEY}\nfingerprint f {KEY}\n", "line 2: the key f is the same as an earlier one"),
        (f"seal a/b {KEY}\nfingerprint f {OTHER}\n", "line 1: expected an id of at most 32 letters"),
    ],
)
def test_a_bad_ring_gets_sentences(text: str, says: str) -> None:
    """Every mistake with its line, and nothing of any key."""
    with pytest.raises(SafeError, match=says) as caught:
        Ring.parse(Secret(text))
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown
    assert OTHER not in shown


def test_padding_of_base64_does_not_matter() -> None:
    """A key may be written with or without its trailing `=`."""
    text = f"seal a {KEY}\nfingerprint f {OTHER}\n"
    assert Ring.parse(Secret(text)) == Ring.parse(Secret(text.replace("=", "")))


def test_the_file_of_keys_is_private(tmp_path: Path) -> None:
    """It is written with mode 0600 into a folder of its own, and never written over."""
    path, ring = tmp_path / "data" / "keys", Ring.generate()
    write_ring(path, ring)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(SafeError, match="holds keys already: revoq keys rotate adds a new one"):
        write_ring(path, Ring.generate())
    assert Ring.parse(Secret(path.read_text())) == ring


def test_keys_are_not_written_through_a_link(tmp_path: Path) -> None:
    """A link that somebody left where the keys go does not lead them elsewhere."""
    (tmp_path / "keys").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SafeError):
        write_ring(tmp_path / "keys", Ring.generate())
    assert not (tmp_path / "elsewhere").exists()


def test_rotating_the_file_keeps_every_key(tmp_path: Path) -> None:
    """The file holds the new key first and all others behind, is private, and nothing is left beside it."""
    path, ring = tmp_path / "keys", Ring.generate()
    write_ring(path, ring)
    after = rotate_ring(path)
    assert Ring.parse(Secret(path.read_text())) == after
    assert after.seals[1:] == ring.seals
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys"]


def test_one_rotation_at_a_time(tmp_path: Path) -> None:
    """A rotation that is under way, or that died, is told, and its lock is not taken away."""
    write_ring(tmp_path / "keys", Ring.generate())
    (tmp_path / "keys.lock").touch()
    with pytest.raises(SafeError, match=r"another rotation holds .*keys\.lock: take it away if none is running"):
        rotate_ring(tmp_path / "keys")
    assert (tmp_path / "keys.lock").exists()


def test_what_is_no_ring_is_not_rotated(tmp_path: Path) -> None:
    """A file that cannot be read as a ring stays as it is."""
    with pytest.raises(SafeError, match="No such file or directory; revoq keys generate makes a first one"):
        rotate_ring(tmp_path / "keys")
    (tmp_path / "keys").write_text("nothing", "utf-8")
    with pytest.raises(SafeError, match="the key ring cannot be used"):
        rotate_ring(tmp_path / "keys")
    assert (tmp_path / "keys").read_text() == "nothing"
    assert not (tmp_path / "keys.lock").exists()


@given(st.text())
def test_a_producer_seals_and_cannot_open(text: str) -> None:
    """Sealed to the public key, it opens at home alone; both tell it apart by the same fingerprint."""
    home = Ring.generate()
    ring = Ring.parse(home.for_producers().text)
    sealed = Safe(ring).seal(Secret(text), **PLACE)

    assert unseal(sealed, home) == Secret(text)
    assert unseal(sealed, home.rotate()) == Secret(text)
    assert sealed.fingerprint == Safe(home).fingerprint(Secret(text))
    for other in (RING, Ring.generate()):
        with pytest.raises(KeyMissing, match=sealed.key_id):
            unseal(sealed, other)
    with pytest.raises(SafeError, match="one for producers"):
        unseal(sealed, ring)
    assert (Safe(ring).opens, Safe(home).opens) == (False, True)


@pytest.mark.parametrize("changed", ["secret_id", "owner", "kind"])
def test_what_a_producer_sealed_is_bound_to_its_place(changed: str) -> None:
    """As all else is: an envelope in another row does not open."""
    home = Ring.generate()
    sealed = Safe(home.for_producers()).seal(SECRET, **PLACE)
    with pytest.raises(Tampered):
        unseal(sealed, home, place={**PLACE, changed: "another"})


def test_a_producers_envelope_that_was_changed_does_not_open() -> None:
    """One bit of the encapsulated key or of the ciphertext, or another algorithm's name."""
    home = Ring.generate()
    sealed = Safe(home.for_producers()).seal(SECRET, **PLACE)
    assert sealed.nonce is not None
    assert sealed.ciphertext is not None
    for changes in (
        {"nonce": bytes([sealed.nonce[0] ^ 1]) + sealed.nonce[1:]},
        {"ciphertext": sealed.ciphertext[:-1] + bytes([sealed.ciphertext[-1] ^ 1])},
        {"nonce": b""},
        {"algorithm": "AES-256-GCM"},
    ):
        with pytest.raises(Tampered):
            unseal(dataclasses.replace(sealed, **changes), home)


def test_a_ring_for_producers_needs_a_key_that_opens() -> None:
    """An older ring gets one when it is rotated; a ring that opens and seals to others as well is a mistake."""
    with pytest.raises(SafeError, match="revoq keys rotate"):
        RING.for_producers()
    home = RING.rotate()
    with pytest.raises(SafeError, match="either keys that open or public ones"):
        Ring.parse(Secret(RING.text.reveal() + Ring.generate().for_producers().text.reveal()))
    private = home.opens[0].line.split()[1]
    given = home.for_producers()
    assert private not in given.text.reveal()
    for refused in (given.rotate, given.for_producers):
        with pytest.raises(SafeError, match="one for producers"):
            refused()
