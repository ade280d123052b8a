"""Reading what Kingfisher's 1.x format allows beyond ours: it is put into our shape, or taken out with its reason.

What a rule may say is `schema`'s; which mistakes a rule has, `checks`'. A notice is said of a rule that works without
what it speaks of; what cannot be used soundly stays a mistake, and the rule is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from rules.checks import Mistake
from rules.model import Model
from rules.schema import METHODS, Matcher, Rule
from rules.strictyaml import Place
from rules.wording import explain

TEXTS = frozenset({"name", "body", "special_chars"})
"""Keys whose text Kingfisher takes as it is written, quotes or none: 2 and 1.50 are texts here."""
LISTED_TEXTS = frozenset({"headers", "examples", "negative_examples", "references", "ignore_if_contains"})
"""The same for everything below these keys."""


# ── validations that revoq recognises and cannot use ──────────────────────────────────────────────────────────────


class Typed(Model):
    """A validation that is Kingfisher's own code, or, `Assumed`, none at all."""

    type: Literal[
        "Assumed",
        "AzureStorage",
        "Coinbase",
        "CredentialUri",
        "GCP",
        "JWT",
        "Jdbc",
        "MongoDB",
        "MySQL",
        "Postgres",
    ]
    content: None = None


class Ethereum(Model):
    """A check of key material without any request."""

    type: Literal["Ethereum"]
    content: Literal["private_key", "public_key", "mnemonic"]


class Raw(Model):
    """A check by name, in Kingfisher's own code."""

    type: Literal["Raw"]
    content: str


class GrpcRequest(Model):
    """A unary call."""

    url: str
    headers: dict[str, str] | None = None
    body: str | None = None
    response_matcher: list[Matcher] | None = None


class GrpcContent(Model):
    """What a gRPC validation holds."""

    request: GrpcRequest


class Grpc(Model):
    """A validation over HTTP/2 with trailers."""

    type: Literal["Grpc"]
    content: GrpcContent


class Foreign(Model):
    """A rule's `validation` of another type than Http."""

    validation: Annotated[Typed | Ethereum | Raw | Grpc, Field(discriminator="type")]


FOREIGN = frozenset({*Typed.model_fields["type"].annotation.__args__, "Ethereum", "Raw", "Grpc"})  # type: ignore[union-attr]

WHY = {
    "Assumed": "its validation is Assumed, which asks nobody",
    "Grpc": "its validation speaks gRPC, and revoq does not",
    "Ethereum": "its validation looks at the key itself and asks nobody",
}
NO_PROBE = "the rule revokes without a probe, so that a job of it ends as acknowledged at best"
ONLY_FINDS = "the rule only finds"


# ── before the rule is read ───────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Adapted:
    """A rule's value in our shape, with what is wrong in the parts that were taken out, and what is to be said."""

    value: dict[str, Any]
    mistakes: list[Mistake] = field(default_factory=list)
    notices: list[Mistake] = field(default_factory=list)

    def without(self, key: str, place: Place, sentence: str) -> None:
        """Take a part out, and say why."""
        self.value = {name: part for name, part in self.value.items() if name != key}
        self.notices.append((place, sentence))


def adapt(value: Mapping[str, Any], written: Mapping[Place, str]) -> Adapted:
    """Bring one rule of a Kingfisher file into our shape. `written` are numbers and truths as the file spells them."""
    adapted = Adapted(_settle(value, (), written))
    _adapt_dependencies(adapted)
    _adapt_multipart(adapted.value)
    _adapt_revocation(adapted)
    _adapt_validation(adapted)
    return adapted


def _settle(value: Any, place: Place, written: Mapping[Place, str]) -> Any:
    """Leave out keys with nothing behind them, and take texts as they are written."""
    if isinstance(value, list):
        return [_settle(item, (*place, number), written) for number, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: _settle(item, (*place, key), written) for key, item in value.items() if item is not None}
    is_text = place[-1:] and (place[-1] in TEXTS or (len(place) > 1 and place[-2] in LISTED_TEXTS))
    return written.get(place, value) if is_text else value


def _adapt_dependencies(adapted: Adapted) -> None:
    listed = adapted.value.get("depends_on_rule")
    if isinstance(listed, list):
        adapted.value = {**adapted.value, "depends_on_rule": [entry for entry in listed if entry is not None]}


def _adapt_multipart(value: dict[str, Any]) -> None:
    """Kingfisher reads `multipart` beside a request as well as in it; ours stands in it."""
    for content in _contents(value):
        request = content.get("request")
        if isinstance(request, dict) and "multipart" in content and "multipart" not in request:
            content["request"] = {**request, "multipart": content.pop("multipart")}


def _contents(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The mappings that hold a request."""
    for key in ("validation", "revocation"):
        part = value.get(key)
        content = part.get("content") if isinstance(part, dict) else None
        if isinstance(content, dict):
            yield content
            steps = content.get("steps")
            yield from (step for step in steps if isinstance(step, dict)) if isinstance(steps, list) else ()


def _adapt_validation(adapted: Adapted) -> None:
    validation = adapted.value.get("validation")
    kind = validation.get("type") if isinstance(validation, dict) else None
    if isinstance(kind, str) and kind in FOREIGN:
        try:
            Foreign.model_validate({"validation": validation})
        except ValidationError as error:
            adapted.mistakes += explain(error, Foreign, {"validation": validation})
        why = WHY.get(
            kind, f"its validation ({kind}) is a part of Kingfisher itself and no request that revoq can send"
        )
        adapted.without(
            "validation", ("validation", "type"), f"{why}; {_what_is_left(adapted.value.get('revocation'))}"
        )
        return
    method = _method_of(validation)
    if method is not None and method.upper() not in METHODS:
        why = f"its validation sends {method!r}, and revoq sends {', '.join(sorted(METHODS))} alone"
        left = _what_is_left(adapted.value.get("revocation"))
        adapted.without("validation", ("validation", "content", "request", "method"), f"{why}; {left}")


def _what_is_left(revocation: object) -> str:
    """What a rule is good for without its validation."""
    return ONLY_FINDS if revocation is None else NO_PROBE


def _method_of(validation: Any) -> str | None:
    for key in ("content", "request", "method"):
        validation = validation.get(key) if isinstance(validation, dict) else None
    return validation if isinstance(validation, str) else None


def _adapt_revocation(adapted: Adapted) -> None:
    revocation = adapted.value.get("revocation")
    if revocation in ({"type": "GCP"}, {"type": "GCP", "content": {}}):
        sentence = "its revocation (GCP) is not supported yet; the rule does not revoke"
        adapted.without("revocation", ("revocation", "type"), sentence)


# ── after the rule was read ───────────────────────────────────────────────────────────────────────────────────────


def soften(rule: Rule, mistakes: Sequence[Mistake]) -> tuple[Rule, list[Mistake], list[Mistake]]:
    """Tell what leaves a rule out from what it can do without: the rule, its mistakes, its notices."""
    notices = [
        (place, sentence) for place, sentence in mistakes if place[:1] in {("examples",), ("negative_examples",)}
    ]
    rest = [mistake for mistake in mistakes if mistake not in notices]
    if _has_imported_probe(rule):
        unusable = [(place, sentence) for place, sentence in rest if place[:1] == ("validation",)]
        rest = [mistake for mistake in rest if mistake not in unusable]
        if unusable:
            (place, sentence), left = unusable[0], _what_is_left(rule.revocation)
            notices.append((place, f"its validation cannot be used: {sentence}; {left}"))
            rule = rule.model_copy(update={"validation": None})
    if rule.tls_mode in {"lax", "off"} and (rule.validation is not None or rule.steps):
        sentence = "certificates are always verified; a private CA goes into a connection as ca_bundle"
        notices.append((("tls_mode",), f"tls_mode: {rule.tls_mode} is not followed: {sentence}"))
    return rule, rest, notices


def _has_imported_probe(rule: Rule) -> bool:
    """Whether the validation says nothing that only our format can say."""
    content = rule.validation.content if rule.validation is not None else None
    return content is not None and not content.can_say_dead and not content.outcomes and not content.extract
