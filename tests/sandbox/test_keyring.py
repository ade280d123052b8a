"""The invented provider has every difficulty of the list-then-delete shape, and its rule file can be read."""

from pathlib import Path

import httpx
import pytest
import yaml

from rules.schema import RuleFile
from tests.sandbox import Sandbox
from tests.sandbox.keyring import Key

RULES = Path(__file__).parent / "rules" / "keyring.yaml"


@pytest.fixture
def admin(sandbox: Sandbox) -> Key:
    """An admin's key."""
    return sandbox.keyring.add_key(owner="revoq", admin=True)


def ask(sandbox: Sandbox, key: Key, method: str, path: str) -> httpx.Response:
    """One call, signed with this key."""
    headers = {"Authorization": f"Bearer {key.secret}"}
    return httpx.request(method, sandbox.url("keyring") + path, headers=headers)


def read_list(sandbox: Sandbox, admin: Key, size: int = 5) -> list[dict[str, str]]:
    """All pages until one is empty."""
    rows: list[dict[str, str]] = []
    page = 1
    while answer := ask(sandbox, admin, "GET", f"/v1/keys?page={page}&per_page={size}").json()["keys"]:
        rows += answer
        page += 1
    return rows


def test_life_and_death(sandbox: Sandbox, admin: Key) -> None:
    """Who am I says 200 or 401 with a code; a DELETE is 204, and again 404."""
    key = sandbox.keyring.add_key(owner="dana")

    assert ask(sandbox, key, "GET", "/v1/whoami").json() == {"owner": "dana"}
    assert [ask(sandbox, admin, "DELETE", f"/v1/keys/{key.id}").status_code for _ in range(2)] == [204, 404]
    dead = ask(sandbox, key, "GET", "/v1/whoami")
    assert (dead.status_code, dead.json()["error"]["code"]) == (401, "key_invalid")
    assert ask(sandbox, sandbox.keyring.add_key(), "GET", "/v1/keys").status_code == 403


def test_pages_with_a_wrong_row_first(sandbox: Sandbox, admin: Key) -> None:
    """The list goes on over pages, shows both ends of each token, and begins with a row that is never the target."""
    keys = [sandbox.keyring.add_key() for _ in range(8)]

    rows = read_list(sandbox, admin)

    assert rows[0]["owner"] == "billing"
    assert {key.id for key in keys} < {row["id"] for row in rows}
    shown = {row["id"]: (row["prefix"], row["last4"], row["hint"]) for row in rows}
    assert all(
        shown[key.id] == (key.secret[:7], key.secret[-4:], f"{key.secret[:7]}…{key.secret[-4:]}") for key in keys
    )
    assert all(key.secret not in str(rows) for key in keys)


def test_two_rows_look_alike(sandbox: Sandbox, admin: Key) -> None:
    """Equal hints do not make equal keys."""
    key = sandbox.keyring.add_key()
    twin = sandbox.keyring.add_key(like=key.secret)

    hints = [row["hint"] for row in read_list(sandbox, admin) if row["id"] in {key.id, twin.id}]

    assert hints[0] == hints[1]
    assert key.secret != twin.secret


def test_yes_but_alive(sandbox: Sandbox, admin: Key) -> None:
    """A DELETE that is answered 200, and a key that goes on working."""
    key = sandbox.keyring.add_key(yes_but_alive=True)

    assert ask(sandbox, admin, "DELETE", f"/v1/keys/{key.id}").status_code == 200
    assert ask(sandbox, key, "GET", "/v1/whoami").status_code == 200
    assert sandbox.alive("keyring", key.id)


def test_throttled_then_heard(sandbox: Sandbox, admin: Key) -> None:
    """429 with Retry-After as often as was asked, then the DELETE is done."""
    key = sandbox.keyring.add_key(throttle=2, retry_after=3)

    answers = [ask(sandbox, admin, "DELETE", f"/v1/keys/{key.id}") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [429, 429, 204]
    assert answers[0].headers["retry-after"] == "3"


def test_list_that_is_cut_off(sandbox: Sandbox, admin: Key) -> None:
    """Rows are missing, and only the total tells."""
    for _ in range(6):
        sandbox.keyring.add_key()
    sandbox.switch("keyring", list_cut_at=3)

    total = ask(sandbox, admin, "GET", "/v1/keys").json()["total"]

    assert (len(read_list(sandbox, admin)), total) == (3, 8)


def test_rule_file_fits_the_schema() -> None:
    """The demo's rule is one that revoq's own language knows."""
    file = RuleFile.model_validate(yaml.safe_load(RULES.read_text()))

    assert [rule.id for rule in file.rules] == ["keyring.token", "keyring.service", "keyring.rolled"]


def test_a_list_in_random_order(sandbox: Sandbox, admin: Key) -> None:
    """Each reading has an order of its own with every row in it once; or each page, and then rows come twice."""
    keys = [sandbox.keyring.add_key() for _ in range(40)]
    sandbox.switch("keyring", shuffle="list")

    first, second = ([row["id"] for row in read_list(sandbox, admin)] for _ in range(2))

    assert first != second
    assert sorted(first) == sorted(second)
    assert {key.id for key in keys} < set(first)
    sandbox.switch("keyring", shuffle="page")
    assert len({row["id"] for row in read_list(sandbox, admin)}) < len(first)


def test_the_dead_are_forgotten(sandbox: Sandbox, admin: Key) -> None:
    """A list that sweeps its dead away shows the living only."""
    dead, live = sandbox.keyring.add_key(revoked=True), sandbox.keyring.add_key()

    sandbox.keyring.forget_dead()

    shown = {row["id"] for row in read_list(sandbox, admin)}
    assert live.id in shown
    assert dead.id not in shown
