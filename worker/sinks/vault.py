"""A sink that is Vault or OpenBao, a KV engine of version 2: every write is a check-and-set over the version it saw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from rules.message import Answer, Prepared
from rules.secret import Secret
from worker.errors import SinkBroken, SinkConflict, SinkDenied, SinkError
from worker.extras import find_missing
from worker.settings import Settings, VaultPlace
from worker.sink import Held, Record, Sink, Visit, close, is_same, opened

if TYPE_CHECKING:
    from worker.openbao import OpenBao

MISSING = find_missing("hvac")
WHO = "the server"
MISMATCH = "check-and-set"
ENOUGH = frozenset({"root", "create", "update"})


class Vault(Sink):
    """One secret for each target."""

    PLACE = VaultPlace
    _place: VaultPlace

    @classmethod
    def refuse(cls, place: Any, settings: Settings) -> str | None:  # noqa: ARG003 - every kind is asked the same
        """Without the optional extra, nothing can speak to it."""
        return MISSING

    def _check(self, visit: Visit) -> None:
        """Ask what our token may do there, and read; the server may forbid to ask, which says nothing."""
        path = visit.fill(self._place.path)
        with self._signed_in(visit) as server:
            answer = server.capabilities(f"{self._place.mount}/data/{path}")
            said = _said(answer).get("capabilities", _part(answer, "data").get("capabilities"))
            if isinstance(said, list) and not ENOUGH & set(said):
                can = ", ".join(map(str, said)) or "nothing"
                raise visit.error(SinkDenied, f"the policy lets us {can} at {path}: it needs read, create and update")
            self._look(visit, server, path)

    def _read(self, visit: Visit) -> Held | None:
        path = visit.fill(self._place.path)
        with self._signed_in(visit) as server:
            return self._look(visit, server, path)[0]

    def _put(self, visit: Visit, record: Record, over: Held | None) -> None:
        path = visit.fill(self._place.path)
        with self._signed_in(visit) as server:
            held, number = self._look(visit, server, path)
            if held is not None and is_same(held.record, record):
                return
            if (held.version if held is not None else None) != (over.version if over is not None else None):
                raise self._conflict(visit)
            answer = server.write(self._place.mount, path, opened(record), number)
            if answer.status == 400 and MISMATCH in answer.text:
                raise self._conflict(visit)
            if answer.status == 204:
                raise visit.error(SinkBroken, f"{WHO} took it without a version, as an engine of version 1 does")
            if answer.status != 200:
                raise visit.unwelcome(answer.status, WHO, writes=True)

    def _look(self, visit: Visit, server: OpenBao, path: str) -> tuple[Held | None, int]:
        """What is there, and its version's number; a version that was deleted has a number and nothing in it."""
        answer = server.read(self._place.mount, path)
        said = _part(answer, "data")
        about = said.get("metadata")
        number = about.get("version") if isinstance(about, dict) else 0
        if answer.status == 404 and isinstance(number, int) and not _complaints(answer):
            return None, number
        if answer.status not in {200, 404}:
            raise visit.unwelcome(answer.status, WHO, writes=False)
        if answer.status == 404 or not isinstance(said.get("data"), dict) or not isinstance(number, int) or number < 1:
            says = f"{WHO} answered {answer.status} and has no KV engine of version 2 there: look at url and mount"
            raise visit.error(SinkBroken, says)
        return Held(close(said["data"]), str(number)), number

    @contextmanager
    def _signed_in(self, visit: Visit) -> Iterator[OpenBao]:
        """The server, signed in once for the visit; a token that we asked for is given back."""
        place = self._place

        def send(prepared: Prepared, writes: bool) -> Answer:  # noqa: FBT001 - as `Send` has it
            return visit.send(prepared, place, place.url, limit=self.settings.body_limit, writes=writes)

        from worker.openbao import OpenBao  # noqa: PLC0415 - it loads hvac

        server = OpenBao(place.url, place.namespace, send)
        if place.token is not None:
            yield server.with_token(place.resolve("token"))
            return
        server = server.with_token(self._login(visit, server))
        try:
            yield server
        finally:
            with suppress(SinkError):
                server.forget()

    def _login(self, visit: Visit, server: OpenBao) -> Secret:
        place = self._place
        answer = server.login(place.approle, place.resolve("role_id"), place.resolve("secret_id"))
        token = _part(answer, "auth").get("client_token")
        if answer.status == 400:
            raise visit.error(SinkDenied, f"{WHO} does not know the app role: look at role_id and secret_id")
        if answer.status != 200 or not isinstance(token, str):
            raise visit.unwelcome(answer.status, WHO, writes=False)
        return Secret(token)

    def _conflict(self, visit: Visit) -> SinkError:
        return visit.error(SinkConflict, "somebody wrote another version since it was read; nothing was written")


SINK = Vault


def _part(answer: Answer, name: str) -> dict[str, Any]:
    """One part of what the server said, where it is a mapping."""
    found = _said(answer).get(name)
    return found if isinstance(found, dict) else {}


def _complaints(answer: Answer) -> bool:
    """Whether a 404 says more than that nothing is there: no engine is at the mount, or a proxy answered."""
    said = _said(answer)
    return not said or bool(said.get("errors"))


def _said(answer: Answer) -> dict[str, Any]:
    try:
        said = answer.json
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
