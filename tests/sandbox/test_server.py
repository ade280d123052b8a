"""The sandbox serves, counts, and lets go wrong what it is told to."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
MANY = 150


def sign(secret: str) -> dict[str, str]:
    """The header that signs a call."""
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    """One client that keeps its connections."""
    with httpx.Client(timeout=5, limits=httpx.Limits(max_connections=MANY + 50)) as client:
        yield client


@pytest.fixture
def scopes(sandbox: Sandbox) -> str:
    """An address that any live key may read."""
    return f"{sandbox.url('sendgrid')}/v3/scopes"


def test_many_connections_at_once(sandbox: Sandbox, client: httpx.Client, scopes: str) -> None:
    """A hundred and fifty slow calls at the same time take hardly longer than one."""
    key = sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", "delay", seconds=0.5, times=MANY)
    one_after_another = 0.5 * MANY
    began = time.monotonic()

    with ThreadPoolExecutor(MANY) as pool:
        statuses = list(pool.map(lambda _: client.get(scopes, headers=sign(key.secret)).status_code, range(MANY)))

    assert statuses == [200] * MANY
    assert time.monotonic() - began < one_after_another / 15


def test_connections_are_kept(sandbox: Sandbox, client: httpx.Client, scopes: str) -> None:
    """Calls in a row share a connection."""
    for _ in range(3):
        client.get(scopes)

    assert len(sandbox.tasks) == 1


def test_every_call_is_counted(sandbox: Sandbox, client: httpx.Client) -> None:
    """The log tells method, path, status and who signed; a dead or unknown credential is nobody."""
    actor, target = sandbox.sendgrid.add_key(), sandbox.sendgrid.add_key()
    path = f"/v3/api_keys/{target.id}"
    client.get(sandbox.url("sendgrid") + path, headers=sign(actor.secret))
    client.delete(sandbox.url("sendgrid") + path, headers=sign(actor.secret))
    client.get(sandbox.url("tailscale") + "/api/v2/tailnet/-/keys", headers=sign("nonsense"))

    assert [(actor.id, "GET", path, 200), (actor.id, "DELETE", path, 204)] == [
        (call.actor, call.method, call.path, call.status) for call in sandbox.calls("sendgrid")
    ]
    assert [(call.actor, call.status) for call in sandbox.calls("tailscale")] == [("", 401)]
    assert len(sandbox.calls("sendgrid", "DELETE")) == 1
    assert len(sandbox.mutations()) == 1
    assert sandbox.calls(path="/v3/*") == sandbox.calls("sendgrid")
    sandbox.forget_calls()
    assert sandbox.calls() == []


def test_log_keeps_secrets_in_memory(sandbox: Sandbox, client: httpx.Client, scopes: str) -> None:
    """A test may look at what was sent; nothing that is printed or leaves the process holds it."""
    key = sandbox.sendgrid.add_key()
    client.get(scopes, headers=sign(key.secret), params={"secret": key.secret})

    received = sandbox.calls("sendgrid")[0]
    shown = client.get(f"{sandbox.base_url}/_sandbox/calls").text

    assert received.call.headers["authorization"] == f"Bearer {key.secret}"
    assert key.secret not in repr(received) + shown


def test_status_fault_speaks_as_the_provider(sandbox: Sandbox, client: httpx.Client, scopes: str) -> None:
    """A status without a body is the provider's documented error; it strikes as often as was asked."""
    key = sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", status=429, headers={"X-Extra": "1"}, times=2)

    answers = [client.get(scopes, headers=sign(key.secret)) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].json() == {"errors": [{"field": None, "message": "too many requests"}]}
    assert {"x-ratelimit-reset", "x-extra"} <= set(answers[0].headers)
    assert [call.handled for call in sandbox.calls()] == [False, False, True]


def test_fault_fits_method_path_and_turn(sandbox: Sandbox, client: httpx.Client, scopes: str) -> None:
    """Only fitting calls are hit, and only after as many as were to pass."""
    key = sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", status=500, method="GET", path="/v3/sc*", after=1)
    base, headers = sandbox.url("sendgrid"), sign(key.secret)

    assert client.get(f"{base}/v3/api_keys", headers=headers).status_code == 200
    assert [client.get(scopes, headers=headers).status_code for _ in range(3)] == [200, 500, 200]


def test_clearing_faults(sandbox: Sandbox, client: httpx.Client, scopes: str) -> None:
    """A fault without a number lasts until it is cleared."""
    sandbox.fault("sendgrid", status=503, times=None)

    assert [client.get(scopes).status_code for _ in range(5)] == [503] * 5
    sandbox.clear_faults()
    assert client.get(scopes).status_code == 401


def test_drop_before(sandbox: Sandbox, client: httpx.Client) -> None:
    """The connection ends and nothing has happened."""
    actor, target = sandbox.sendgrid.add_key(), sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", "drop_before")

    with pytest.raises(httpx.RemoteProtocolError):
        client.delete(f"{sandbox.url('sendgrid')}/v3/api_keys/{target.id}", headers=sign(actor.secret))

    assert sandbox.alive("sendgrid", target.id)
    assert [(c.handled, c.status, c.fault) for c in sandbox.calls()] == [(False, None, "drop_before")]


def test_drop_after_is_a_lost_answer(sandbox: Sandbox, client: httpx.Client) -> None:
    """The connection ends and the key is gone."""
    actor, target = sandbox.sendgrid.add_key(), sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", "drop_after", method="DELETE")

    with pytest.raises(httpx.RemoteProtocolError):
        client.delete(f"{sandbox.url('sendgrid')}/v3/api_keys/{target.id}", headers=sign(actor.secret))

    assert not sandbox.alive("sendgrid", target.id)
    assert [(c.handled, c.status, c.fault) for c in sandbox.calls()] == [(True, None, "drop_after")]


@pytest.mark.parametrize("kind", ["delay", "delay_after"])
def test_late_answer(sandbox: Sandbox, client: httpx.Client, kind: str) -> None:
    """A client that stops waiting does not stop the provider."""
    actor, target = sandbox.sendgrid.add_key(), sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", kind, seconds=0.4)

    with pytest.raises(httpx.ReadTimeout):
        client.delete(f"{sandbox.url('sendgrid')}/v3/api_keys/{target.id}", headers=sign(actor.secret), timeout=0.15)
    assert sandbox.alive("sendgrid", target.id) == (kind == "delay")
    time.sleep(0.4)

    assert not sandbox.alive("sendgrid", target.id)


def test_drip(sandbox: Sandbox, client: httpx.Client, scopes: str) -> None:
    """Bytes come so seldom that a timeout for each read never ends, and the answer is whole all the same."""
    key = sandbox.sendgrid.add_key(scopes=["x"])
    sandbox.fault("sendgrid", "drip", seconds=0.02)
    began = time.monotonic()

    answer = client.get(scopes, headers=sign(key.secret), timeout=0.2)

    assert answer.json() == {"scopes": ["x"]}
    assert time.monotonic() - began > 0.25


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_cut(sandbox: Sandbox, client: httpx.Client, method: str) -> None:
    """An answer that ends too early, with a body and without."""
    key = sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", "cut")

    with pytest.raises(httpx.RemoteProtocolError):
        client.request(method, f"{sandbox.url('sendgrid')}/v3/api_keys/{key.id}", headers=sign(key.secret))

    assert sandbox.calls()[0].handled


def test_endless_body(sandbox: Sandbox, client: httpx.Client, scopes: str) -> None:
    """A body that goes on for as long as somebody reads it; others are served meanwhile."""
    sandbox.fault("sendgrid", "endless")

    with client.stream("GET", scopes) as answer:
        read = 0
        for part in answer.iter_bytes():
            read += len(part)
            if read > 1_000_000:
                break
        assert client.get(scopes).status_code == 401

    assert read > 1_000_000


def test_answers_that_are_not_the_provider_s(sandbox: Sandbox, client: httpx.Client, scopes: str) -> None:
    """A sign-in page with 200, another shape, broken JSON, a redirect; and the provider was not asked."""
    sandbox.fault("sendgrid", "html_200")
    sandbox.fault("sendgrid", "wrong_json")
    sandbox.fault("sendgrid", "broken_json")
    sandbox.fault("sendgrid", "redirect", to="http://127.0.0.1:9/elsewhere")

    page, shape, broken, redirect = (client.get(scopes) for _ in range(4))

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert isinstance(shape.json(), list)
    with pytest.raises(json.JSONDecodeError):
        broken.json()
    assert (redirect.status_code, redirect.headers["location"]) == (302, "http://127.0.0.1:9/elsewhere")
    assert not any(call.handled for call in sandbox.calls())


def test_bad_gateway_after_the_deed(sandbox: Sandbox, client: httpx.Client) -> None:
    """With `handled`, a proxy in front says 502 to what the provider did."""
    actor, target = sandbox.sendgrid.add_key(), sandbox.sendgrid.add_key()
    sandbox.fault("sendgrid", status=502, body="{}", handled=True)

    answer = client.delete(f"{sandbox.url('sendgrid')}/v3/api_keys/{target.id}", headers=sign(actor.secret))

    assert answer.status_code == 502
    assert not sandbox.alive("sendgrid", target.id)
    assert [(call.handled, call.status) for call in sandbox.calls()] == [(True, 502)]


def test_mistakes_are_told(sandbox: Sandbox, client: httpx.Client) -> None:
    """An unknown provider, kind, switch or seed is refused with what was expected."""
    with pytest.raises(ValueError, match="expected one of sendgrid"):
        sandbox.fault("sendgird")
    with pytest.raises(ValueError, match="drop_before"):
        sandbox.fault("sendgrid", "explode")
    with pytest.raises(ValueError, match="expected a switch of pangolin"):
        sandbox.switch("pangolin", colour="red")
    with pytest.raises(ValueError, match="expected a kind"):
        sandbox.seed("hub", "key")
    told = client.post(f"{sandbox.base_url}/_sandbox/fault", json={"provider": "hub", "kind": "explode"})
    assert told.status_code == 400
    assert "drop_before" in told.json()["error"]


def test_unknown_paths(sandbox: Sandbox, client: httpx.Client) -> None:
    """No provider, no route, no such method: 404 and 405, as anywhere."""
    base = sandbox.base_url

    assert client.get(f"{base}/nobody/v1").status_code == 404
    assert client.get(base).status_code == 404
    assert client.get(f"{base}/sendgrid").status_code == 404
    assert client.patch(f"{base}/sendgrid/v3/scopes").status_code == 405
    assert client.get(f"{base}/_sandbox/nothing").status_code == 404


def test_encoded_path_stays_in_its_place(sandbox: Sandbox, client: httpx.Client) -> None:
    """A slash inside an id does not make another path, and the log shows what was sent."""
    actor = sandbox.sendgrid.add_key()

    answer = client.delete(f"{sandbox.url('sendgrid')}/v3/api_keys/..%2Fx%3Fy", headers=sign(actor.secret))

    assert answer.json()["errors"][0]["message"] == "unable to find API Key"
    assert sandbox.calls()[0].path == "/v3/api_keys/..%2Fx%3Fy"


def test_over_http(sandbox: Sandbox, client: httpx.Client, scopes: str) -> None:
    """Everything that a test in this process can ask for, another process can, too."""
    control = f"{sandbox.base_url}/_sandbox"
    key = client.post(f"{control}/seed", json={"provider": "sendgrid", "kind": "key", "scopes": ["x"]}).json()

    assert client.get(scopes, headers=sign(key["secret"])).json() == {"scopes": ["x"]}
    client.post(f"{control}/fault", json={"provider": "sendgrid", "status": 500})
    assert client.get(scopes, headers=sign(key["secret"])).status_code == 500
    assert [call["status"] for call in client.get(f"{control}/calls?provider=sendgrid").json()] == [200, 500]
    assert client.get(f"{control}/state").json()["sendgrid"][key["id"]] is True
    client.post(f"{control}/switch", json={"provider": "sendgrid", "addresses_allowed": False})
    assert client.get(scopes, headers=sign(key["secret"])).status_code == 403
    client.post(f"{control}/advance", json={"hours": 1})
    assert sandbox.clock.skipped == 3600
    client.delete(f"{control}/calls")
    assert sandbox.calls() == []


def test_down_and_up_again(sandbox: Sandbox, client: httpx.Client, scopes: str) -> None:
    """A provider that was down comes back where it was, and remembers."""
    key = sandbox.sendgrid.add_key()
    sandbox.stop()
    with pytest.raises(httpx.ConnectError):
        client.get(scopes)
    sandbox.start()

    assert client.get(scopes, headers=sign(key.secret)).status_code == 200


def test_taken_port_is_told(sandbox: Sandbox) -> None:
    """A port that somebody else has is an error at the start."""
    with pytest.raises(OSError, match="in use"):
        Sandbox(sandbox.port).start()


def test_own_process(tmp_path: Path, client: httpx.Client) -> None:
    """`python -m tests.sandbox` says where it is, keeps its state file, and ends on SIGTERM."""
    path = tmp_path / "state.json"
    command = [sys.executable, "-m", "tests.sandbox", "--port", "0", "--state", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = json.loads(process.stdout.readline())
            control = f"{line['base_url']}/_sandbox"
            cast = client.post(f"{control}/cast").json()
            plain = cast["members"][0]
            actor = cast["environment"]["DEMO_SENDGRID_TOKEN"]
            client.delete(f"{line['urls']['sendgrid']}/v3/api_keys/{plain['id']}", headers=sign(actor))
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0

    assert line["port"] == int(line["base_url"].rpartition(":")[2])
    state = json.loads(path.read_text())
    assert state["sendgrid"][plain["id"]] is False
    assert plain["secret"] not in path.read_text()
