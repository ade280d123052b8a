"""A sink that is a program of the operator's: the record comes on its input, and never among its arguments.

Only programs that `commands_allowed` names may run. Its exit code is its answer, in the words of sysexits(3). The
check-and-set is as good as its `read`: what is there is compared before the program is started.
"""

from __future__ import annotations

import os
from typing import Any

from rules.secret import Secret
from worker.errors import ExchangeError, SinkBroken, SinkConflict, SinkDenied, SinkError, SinkLost, SinkUnavailable
from worker.process import Ended, run
from worker.settings import CommandPlace, Settings
from worker.sink import Held, Record, Sink, Visit, parse, write

NOTHING_THERE = 66  # EX_NOINPUT: from `read` alone
MEANINGS: dict[int, tuple[type[SinkError], str]] = {
    69: (SinkUnavailable, "something that it needs is unavailable"),  # EX_UNAVAILABLE
    73: (SinkConflict, "something else is there already"),  # EX_CANTCREAT
    75: (SinkUnavailable, "it asks to be started again later"),  # EX_TEMPFAIL
    77: (SinkDenied, "a right is missing"),  # EX_NOPERM
    78: (SinkBroken, "its own settings are wrong"),  # EX_CONFIG
}


class Program(Sink):
    """One program for all targets."""

    PLACE = CommandPlace
    _place: CommandPlace

    @classmethod
    def refuse(cls, place: Any, settings: Settings) -> str | None:
        """Only programs that the settings name may run; at first that is none."""
        for program in {place.run[0], (place.read or place.run)[0]} - set(settings.commands_allowed):
            return f"the settings do not allow to run {program}; add it to commands_allowed, if it is to be trusted"
        return None

    def _check(self, visit: Visit) -> None:
        for arguments in filter(None, (self._place.run, self._place.read)):
            if not os.access(arguments[0], os.X_OK):
                raise visit.error(SinkBroken, f"{arguments[0]} is no program that we may start")
        self._read(visit)

    def _read(self, visit: Visit) -> Held | None:
        if self._place.read is None:
            return None
        ended = self._run(visit, self._place.read, None)
        if ended.code == NOTHING_THERE:
            return None
        self._settle(visit, self._place.read[0], ended.code, writes=False)
        record = parse(ended.output)
        if record is None:
            raise visit.error(SinkBroken, f"{self._place.read[0]} printed something else than a record in JSON")
        return Held(record, self.safe.digest(write(record).encode()))

    def _put(self, visit: Visit, record: Record, over: Held | None) -> None:
        if self._is_there(visit, record, over, "nothing was started"):
            return
        ended = self._run(visit, self._place.run, Secret(write(record)))
        self._settle(visit, self._place.run[0], ended.code, writes=True)

    def _run(self, visit: Visit, template: list[str], stdin: Secret | None) -> Ended:
        if (why := self.refuse(self._place, self.settings)) is not None:
            raise visit.error(SinkBroken, why)
        arguments = [visit.fill(part) for part in template]
        limit = self.settings.body_limit
        try:
            return run(arguments, environment={}, stdin=stdin, timeout=visit.left(), limit=limit)
        except ExchangeError as error:
            if not error.sent:
                raise visit.error(SinkBroken, str(error)) from None
            raise visit.told(error, writes=stdin is not None) from None

    def _settle(self, visit: Visit, program: str, code: int, *, writes: bool) -> None:
        if code == 0:
            return
        if code < 0:
            says = f"{program} was ended by signal {-code}"
            raise visit.error(SinkLost if writes else SinkUnavailable, says)
        kind, says = MEANINGS.get(code, (SinkBroken, "which has no meaning here"))
        raise visit.error(kind, f"{program} ended with exit code {code}: {says}")


SINK = Program
