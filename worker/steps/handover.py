"""A step at a sink: is it ready and which key does it hold, deliver, read back, tell its consumer.

Which sink that is, the job says; what it is given, the rule's rotation says; how it is reached is `worker.sinks`'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rules.errors import TemplateError
from rules.lifecycle import Outcome
from rules.planning_rotation import record_before
from rules.schema import Action, Handover, Rotation
from rules.secret import Secret
from rules.template import Place, compile_template
from worker.errors import SinkDenied, SinkError, SinkLost, SinkUnavailable, UnknownSink
from worker.settings import Settings
from worker.sink import Held, Record, Sink, Target
from worker.sinks import find_refusal, open_sink
from worker.step import Filling, Result, Tools, Values

ACTION = Handover


def refuse(action: Action, settings: Settings) -> str | None:
    """A sink that the settings do not name, or that cannot be used on this machine, is said before anything is done."""
    assert isinstance(action, Handover)  # noqa: S101 - this kind is chosen by it
    try:
        return find_refusal(action.sink, settings)
    except UnknownSink as error:
        return str(error)


def ready(filling: Filling) -> HandoverStep:
    """Fill in what is delivered, as far as it is known by now, and where."""
    handover, rotation = filling.part.action, filling.rule.rotation
    assert isinstance(handover, Handover)  # noqa: S101 - this kind is chosen by it
    assert rotation is not None  # noqa: S101 - only a rotation hands anything over
    name = compile_template(rotation.sink_name).fill(filling.values, Place.PLAIN)
    record = record_of(rotation.record, filling.values)
    before = record_of(record_before(rotation) or {}, filling.values)
    needed = {"deliver": record, "read_back": record, "put_back": before, "seen_back": before}
    if not needed.get(handover.what, {"": ""}):
        raise TemplateError(f"{handover.sink} is to hold {', '.join(rotation.record)} for {name}, not all known yet")
    return HandoverStep(filling, handover, rotation, name, record, before)


def record_of(sources: Mapping[str, str], values: Values) -> Record | None:
    """What a sink is given, as one; None as long as a value of it is not known."""
    templates = {field: compile_template(source) for field, source in sources.items()}
    if not all(template.required <= values.keys() for template in templates.values()):
        return None
    filled = {field: template.fill(values, Place.PLAIN) for field, template in templates.items()}
    hidden = {
        field
        for field, template in templates.items()
        if any(isinstance(values.get(name), Secret) for name in template.names)
    }
    return {field: Secret(text) if field in hidden else text for field, text in filled.items()}


@dataclass(frozen=True, slots=True)
class HandoverStep:
    """One thing that is asked of one sink."""

    filling: Filling
    handover: Handover
    rotation: Rotation
    name: str
    record: Record | None
    before: Record | None

    @property
    def label(self) -> dict[str, str]:
        """What is done, to which sink and for whom."""
        return {"method": self.handover.what.upper(), "url": f"sink {self.handover.sink}, {self.name}"}

    def perform(self, tools: Tools) -> Result:
        """Ask the sink. What goes wrong there is told as an outcome."""
        verbs: Mapping[str, Callable[[Sink, Target], Result]] = {
            "preflight": self._preflight,
            "vacant": self._vacant,
            "deliver": self._deliver,
            "read_back": self._read_back,
            "reload": self._reload,
            "put_back": self._put_back,
            "seen_back": self._seen_back,
            "tell_back": self._reload,
        }
        try:
            sink = open_sink(self._asked(tools.settings), tools.settings, tools.safe)
            return verbs[self.handover.what](sink, Target(self.name, self._id, tools.account.name))
        except SinkUnavailable as error:
            return Result(Outcome.RETRY, str(error))
        except SinkLost as error:
            return Result(Outcome.LOST, str(error))
        except SinkDenied as error:
            return Result(Outcome.DENIED, str(error))
        except (SinkError, UnknownSink) as error:
            return Result(Outcome.BROKEN, str(error))

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _preflight(self, sink: Sink, target: Target) -> Result:
        """It has to be ready, and what it holds has to be the key that is rotated; that key is then known."""
        sink.check(target)
        if not sink.reads_back:
            return Result(Outcome.UNPROVABLE, f"{self._shown} is ready, and cannot be read")
        held = sink.read(target)
        if held is None:
            return Result(Outcome.NO_ROW, f"{self._shown} holds nothing yet")
        if self.record is not None and sink.confirms(held, self.record):
            return Result(Outcome.OK, f"{self._shown} is ready and holds the new key already")
        other = self._differs(held)
        if other:
            return Result(Outcome.BROKEN, f"{self._shown} does not hold the key that is to be rotated: {other}")
        return self._learn(held)

    def _learn(self, held: Held) -> Result:
        """What the sink tells of the old key, by the names of the rule."""
        told = {name: held.record[field] for name, field in self.rotation.current.items() if field in held.record}
        unknown = {name: value for name, value in told.items() if name not in self.filling.values}
        secrets = {name: value for name, value in unknown.items() if name == self.rotation.old}
        return Result(
            Outcome.OK,
            f"{self._shown} is ready and holds a key of this target",
            taken={name: _open(value) for name, value in unknown.items() if name not in secrets},
            secrets={name: Secret(_open(value)) for name, value in secrets.items()},
        )

    def _vacant(self, sink: Sink, target: Target) -> Result:
        """A key that is issued for the first time must not take the place of another."""
        sink.check(target)
        held = sink.read(target)
        if held is None:
            return Result(Outcome.OK, f"{self._shown} is ready and free")
        if self.record is not None and sink.confirms(held, self.record):
            return Result(Outcome.OK, f"{self._shown} holds the new key already")
        return Result(Outcome.BROKEN, f"{self._shown} holds a record already; take it away, or rotate its key")

    def _deliver(self, sink: Sink, target: Target) -> Result:
        assert self.record is not None  # noqa: S101 - `ready` has looked
        held = sink.read(target)
        if sink.confirms(held, self.record):
            return Result(Outcome.OK, f"{self._shown} holds the new key already")
        other = self._differs(held) if held is not None else ""
        if other:
            says = f"somebody else delivered to {self._shown} meanwhile, and nothing was written: {other}"
            return Result(Outcome.BROKEN, says)
        sink.put(target, self.record, over=held)
        return Result(Outcome.OK, f"{self._shown} was given {', '.join(self.record)}")

    def _read_back(self, sink: Sink, target: Target) -> Result:
        return self._holds(sink, target, self.record, "the new key")

    def _put_back(self, sink: Sink, target: Target) -> Result:
        """Give the old key back to a sink that holds the new one; what somebody else put there stays."""
        assert self.before is not None  # noqa: S101 - `ready` has looked
        held = sink.read(target)
        if sink.confirms(held, self.before):
            return Result(Outcome.OK, f"{self._shown} holds the old key already")
        if held is not None and (self.record is None or not sink.confirms(held, self.record)):
            says = f"{self._shown} holds neither the new key nor the old one, and nothing was written"
            return Result(Outcome.BROKEN, says)
        sink.put(target, self.before, over=held)
        return Result(Outcome.OK, f"{self._shown} was given the old key again")

    def _seen_back(self, sink: Sink, target: Target) -> Result:
        return self._holds(sink, target, self.before, "the old key")

    def _holds(self, sink: Sink, target: Target, record: Record | None, what: str) -> Result:
        assert record is not None  # noqa: S101 - `ready` has looked
        if not sink.reads_back:
            return Result(Outcome.UNPROVABLE, f"{self._shown} cannot be read back")
        if sink.confirms(sink.read(target), record):
            return Result(Outcome.OK, f"{self._shown} holds {what}")
        return Result(Outcome.NO_ROW, f"{self._shown} does not hold {what}, which was delivered")

    def _reload(self, sink: Sink, target: Target) -> Result:
        """Tell who uses the key that there is a new one: the target, and nothing of the key."""
        sink.put(target, {}, over=None)
        return Result(Outcome.OK, f"the consumer of {self._shown} was told by {sink.name}")

    def _asked(self, settings: Settings) -> str:
        """The sink that is asked: its own hook, where its consumer is to be told."""
        place = settings.sink(self.handover.sink)
        return place.reload or "" if self.handover.what in {"reload", "tell_back"} else place.name

    def _differs(self, held: Held) -> str:
        """Say in what the record that a sink holds is not the old key's, by names alone; empty where it is."""
        for name, field in self.rotation.current.items():
            known = self.filling.values.get(name)
            if known is not None and field in held.record and _open(held.record[field]) != _open(known):
                return f"its {field} is another than {name}"
        return ""

    @property
    def _id(self) -> str:
        back = self.handover.what in {"put_back", "seen_back", "tell_back"}
        name = self.filling.rule.credential.id if back else self.rotation.id
        value = self.filling.values.get(name) if name is not None else None
        return value if isinstance(value, str) else ""

    @property
    def _shown(self) -> str:
        return f"the sink {self.handover.sink} for {self.name}"


def _open(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value
