"""Playing a rule's recorded answers through the readings, so that a rule shows what it makes of each; sends nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rules.alike import compare, values_of
from rules.errors import ExtractError, RevoqError, TemplateError
from rules.extract import Values, find_secret, take_all
from rules.lifecycle import Outcome
from rules.loader import LoadedRule, hosts_of
from rules.match import read_probe, read_recognition, read_step
from rules.message import Answer, Prepared
from rules.schema import Acting, Alike, Existing, Extraction, ProbeContent, Recorded, RecordedAnswer, Rule, Select, Step
from rules.schema.rotation import EXISTING
from rules.secret import Secret
from rules.select import Ambiguous, Chosen, Listing, choose, ids_of
from rules.template import split_origin

NOWHERE = "https://recorded.invalid"

Read = tuple[Outcome, dict[str, str]]


def check(loaded: LoadedRule) -> list[str]:
    """Give a sentence for each recorded answer that is read as something else than it says."""
    return list(_complaints(loaded))


def _complaints(loaded: LoadedRule) -> Iterator[str]:
    for recorded in loaded.rule.recorded:
        name = f"{loaded.rule.id}, recorded {recorded.name!r}"
        try:
            outcome, taken = _read(loaded, recorded)
        except RevoqError as error:
            yield f"{name}: it cannot be read: {error}"
            continue
        if outcome is not recorded.gives:
            yield f"{name}: expected {recorded.gives}, read {outcome}"
        elif recorded.takes and taken != recorded.takes:
            yield f"{name}: expected to take {_list(recorded.takes)}, took {_list(taken)}"


def _list(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items())) or "nothing"


def _read(loaded: LoadedRule, recorded: Recorded) -> Read:
    rule = loaded.rule
    values = _values_of(rule, recorded)
    answers = [_answer(given) for given in recorded.answers]
    content = _find(rule, recorded.step)
    if isinstance(content, ProbeContent):
        return _with_values(read_probe(content, answers[0], values), content.extract, answers[0], values)
    if content is None:
        assert rule.recognition is not None  # noqa: S101 - the loader has looked
        return read_recognition(rule.recognition, answers[0], values), {}
    if isinstance(content, Existing):
        return _read_existing(content, answers, values, _origin_of(content, loaded))
    if content.alike is not None:
        return _read_alike(content, content.alike, answers, values), {}
    if content.select is not None:
        return _read_list(content, content.select, answers, values, _origin_of(content, loaded))
    return _with_values(read_step(content, answers[0], values), content.extract, answers[0], values)


def _find(rule: Rule, name: str) -> Step | Existing | ProbeContent | None:
    """Find the part that a recorded answer belongs to; None stands for the recognition."""
    if name == "recognise":
        return None
    if name == "disabled" and rule.disabling_look is not None:
        return rule.disabling_look
    if name == "verify" and rule.verification.content is not None:
        return rule.verification.content
    if name in {"probe", "verify"} and rule.probe is not None:
        return rule.probe
    if rule.rotation is not None and name in rule.rotation.looks:
        return rule.rotation.looks[name]
    if rule.rotation is not None and name in rule.rotation.steps:
        return rule.rotation.steps[name]
    steps = {step.name or f"step {number}": step for number, step in enumerate([*rule.steps, *rule.restoring], start=1)}
    return steps[name]


def _values_of(rule: Rule, recorded: Recorded) -> Values:
    groups = find_secret(rule, rule.examples[0]) if rule.examples else None
    values: dict[str, str | Secret] = {**(groups or {}), **recorded.given}
    return values | {name: Secret(str(value)) for name, value in values.items() if name == "TOKEN"}


def _answer(given: RecordedAnswer) -> Answer:
    return Answer(given.status, {name.lower(): value for name, value in given.headers.items()}, given.body.encode())


def _with_values(outcome: Outcome, extract: Mapping[str, Extraction], answer: Answer, values: Values) -> Read:
    """Take the values out of a good answer; one that lacks them is broken, as it is when it comes from the provider."""
    if outcome not in {Outcome.OK, Outcome.ALIVE}:
        return outcome, {}
    try:
        return outcome, take_all(extract, answer, values)
    except ExtractError:
        return Outcome.BROKEN, {}


def _read_list(step: Step, select: Select, answers: list[Answer], values: Values, origin: str) -> Read:
    outcome, listing, complete = _read_pages(step, select, answers, values, origin)
    if outcome is not Outcome.OK:
        return outcome, {}
    choice = choose(select, listing.rows, values, complete=complete, tied=frozenset(values))
    if isinstance(choice, Chosen):
        return _with_values(Outcome.OK, step.extract, choice.answer, values)
    return Outcome.AMBIGUOUS if isinstance(choice, Ambiguous) else Outcome.NO_ROW, {}


def _read_alike(step: Step, alike: Alike, answers: list[Answer], values: Values) -> Outcome:
    """The first answer is the one list, the second the other; where they differ, the third is the one to `each`."""
    lists = []
    for request, answer in zip((alike.source, alike.target), answers, strict=False):
        part = Step(request=request, select=alike.select)
        outcome, listing, complete = _read_pages(part, alike.select, [answer], values, NOWHERE)
        if outcome is not Outcome.OK or not complete:
            return outcome if outcome is not Outcome.OK else Outcome.AMBIGUOUS
        lists.append(listing.rows)
    if len(lists) < 2:
        return Outcome.BROKEN
    found = compare(alike, *lists)
    if not found.says:
        return Outcome.OK
    if found.more or alike.each is None or len(answers) < 3:
        return Outcome.BROKEN
    known = {**values, **values_of(alike, found.lacking[0])}
    return read_step(Step(request=alike.each, outcomes=step.outcomes), answers[2], known)


def _read_existing(existing: Existing, answers: list[Answer], values: Values, origin: str) -> Read:
    outcome, listing, complete = _read_pages(existing.step, existing.select, answers, values, origin)
    if outcome is not Outcome.OK or not complete:
        return outcome if outcome is not Outcome.OK else Outcome.AMBIGUOUS, {}
    if existing.room is not None and len(listing.rows) > existing.room:
        return Outcome.FULL, {}
    return outcome, {EXISTING: "\n".join(ids_of(existing.select, listing.rows))}


def _read_pages(
    step: Step, select: Select, answers: list[Answer], values: Values, origin: str
) -> tuple[Outcome, Listing, bool]:
    """The rows of all pages, and whether they are all that there are."""
    method = step.request.method if step.request is not None else ""
    listing = Listing(select, Prepared(method, Secret(f"{origin}/"), f"{origin}/", origin))
    wanted: Prepared | None = listing.first
    for answer in answers:
        outcome = read_step(step, answer, values)
        if outcome is not Outcome.OK or wanted is None:
            return outcome if wanted is not None else Outcome.BROKEN, listing, False
        try:
            wanted = listing.add(answer)
        except ExtractError:
            return Outcome.BROKEN, listing, False
    # The empty page that ends a list without a total need not be recorded.
    complete = listing.complete or (wanted is not None and listing.is_short and _counts_nothing(select))
    return Outcome.OK, listing, complete


def _counts_nothing(select: Select) -> bool:
    return select.page is not None and select.page.kind in {"offset", "page"} and select.page.total is None


def _origin_of(step: Acting, loaded: LoadedRule) -> str:
    """The origin that links of a recorded list may stay on."""
    hosts = hosts_of(loaded)
    try:
        origin = split_origin(step.request.url if step.request is not None else "", hosts)
    except TemplateError:
        return NOWHERE
    urls = hosts.get(origin.base or "") or [NOWHERE]
    return origin.literal or urls[0].rstrip("/")
