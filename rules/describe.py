"""What a rule will do, in plain sentences: built from the rule and from its plan for each way to hand a credential in.

Showing them is the operator's door's; what is unwise about a rule is `lint`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from rules.errors import BadInput
from rules.leaving import lists_a_person
from rules.lifecycle import Intent
from rules.loader import LoadedRule, hosts_of
from rules.parts import groups_of, names_of_action, part_of
from rules.plan import ACTOR, TOKEN, WAY_BACK, Plan, Planned, Purpose
from rules.planning import plan
from rules.schema import Action, Condition, Pause, ProbeContent, Request, Rotation, Rule, Select, Step
from rules.select import is_one_row

VALUE = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)\s*(\|.*?)?-?\}\}", re.DOTALL)
OTHER = re.compile(r"\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)
MOST_OPTIONAL = 4
"""Variables that need not be given, of which every combination is looked at; more make no other plans in practice."""
LONGEST_PATTERN = 400
HANDED_IN = {
    "required": "The credential itself is needed, on standard input.",
    "optional": "The credential itself may be given, on standard input; variables can name it instead.",
    "none": "Variables name the credential; no secret is read.",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what is said under it, sentence by sentence."""

    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to hand a credential in, and the plan that it leads to."""

    given: frozenset[str]
    plan: Plan


def describe(loaded: LoadedRule) -> list[Section]:
    """Everything that a person should know before a rule is used; sections with nothing to say are left out."""
    rule = loaded.rule
    ways = find_ways(loaded)
    sections = [
        Section("What it is", tuple(_introduce(rule))),
        Section("What it needs", tuple(_needs(loaded))),
    ]
    for way in ways:
        title = "What it does" if len(ways) == 1 else f"What it does {_handed_in(loaded, way)}"
        sections.append(Section(title, tuple(_tell_way(loaded, way))))
    if not ways:
        sections.append(Section("What it does", tuple(_tell_probe(loaded))))
    sections += [
        Section("How it undoes it", tuple(_restores(rule))),
        Section("How its key is replaced", tuple(_rotates(loaded))),
        Section("What it lists", tuple(_lists(rule))),
        Section("What dies with it", _sentences(rule.also_kills)),
        Section("What lives on", _sentences(rule.residual)),
        Section("What lapses", tuple(_lapses(rule))),
        Section("When it is looked at again", tuple(_rechecks(rule))),
        Section("What it cannot do", _sentences([*rule.cannot, *_unreached(rule, ways)])),
        Section("What nobody has tried yet", _sentences(rule.unverified)),
        Section("What the provider allows", tuple(_limits(rule))),
        Section("What is not followed of the file", _sentences(notice.message for notice in loaded.notices)),
        Section("See also", tuple(_see(loaded))),
    ]
    return [section for section in sections if section.sentences]


def find_ways(loaded: LoadedRule) -> list[Way]:
    """Every way that leads to a plan of its own, each with no more than it needs; the fullest proof comes first."""
    found: dict[object, Way] = {}
    for given in sorted(_inputs(loaded), key=len):
        try:
            made = plan(loaded, Intent.REVOKE, given)
        except BadInput:
            continue
        # A way that has the credential itself and does the same is the same way, with more to hand in.
        signature = (TOKEN in given, tuple((step.name, step.purpose) for step in made.steps))
        found.setdefault(signature, Way(given, made))
    return sorted(found.values(), key=lambda way: (TOKEN not in way.given, ACTOR not in way.given))


def _inputs(loaded: LoadedRule) -> Iterator[frozenset[str]]:
    rule = loaded.rule
    always = {name for name, variable in rule.variables.items() if variable.required}
    always |= {depends.variable for depends in rule.depends_on_rule if not depends.optional}
    optional = sorted(({*rule.variables, *(each.variable for each in rule.depends_on_rule)}) - always)[:MOST_OPTIONAL]
    secrets = {"required": [{TOKEN}], "optional": [{TOKEN}, set()], "none": [set[str]()]}[rule.secret]
    signers = [set[str](), {ACTOR}] if _signs(loaded) else [set[str]()]
    for secret in secrets:
        for signer in signers:
            for many in range(len(optional) + 1):
                for some in combinations(optional, many):
                    yield frozenset(always | secret | signer | set(some))


def _signs(loaded: LoadedRule) -> bool:
    return loaded.provider is not None and loaded.provider.identity is not None


# ── what it is and needs ──────────────────────────────────────────────────────────────────────────────────────────


def _introduce(rule: Rule) -> Iterator[str]:
    able = [word for word, can in (("revoke it", rule.steps), ("tell whether it works", rule.probe)) if can]
    yield f"{rule.id} is about this credential: {rule.name}."
    yield f"The rule can {_all_of(able)}." if able else "The rule only finds it: it can neither revoke nor try it."
    if rule.about:
        yield " ".join(plain(rule.about).split())
    if rule.aliases:
        yield f"It is also called {_all_of(rule.aliases)}."


def _needs(loaded: LoadedRule) -> Iterator[str]:
    rule = loaded.rule
    yield HANDED_IN[rule.secret]
    if rule.pattern:
        yield f"It has to fit this pattern: {_short(rule.pattern)}"
    for name, variable in rule.variables.items():
        words = [word for word, on in (("needed", variable.required), ("secret", variable.secret)) if on]
        said = f" ({_all_of(words)})" if words else " (may be left out)"
        called = f"; a scanner's finding calls it {_one_of(variable.aliases)}" if variable.aliases else ""
        yield _sentence(f"--var {name}=…: {variable.about}{said}{called}")
    for depends in rule.depends_on_rule:
        word = "may be left out" if depends.optional else "needed"
        yield f"--var {depends.variable}=…: what the rule {depends.rule_id} finds ({word} and secret)."
    yield from _needs_connection(loaded)


def _needs_connection(loaded: LoadedRule) -> Iterator[str]:
    ways = find_ways(loaded)
    signing = [ACTOR in way.given for way in ways]
    if signing and all(signing):
        yield "A connection is needed: its identity signs the calls."
    elif any(signing):
        yield "A connection may be given: its identity then signs the calls."
    said = loaded.rule.model_dump_json()
    for name, field in (loaded.provider.actor_names if loaded.provider is not None else {}).items():
        if name in said:
            yield f"{name} is the {field} of the connection's own identity."
    for name, urls in hosts_of(loaded).items():
        if not urls:
            yield f"{name}, the address of the provider, comes from the connection."
        elif len(urls) == 1:
            yield f"{name} is {urls[0]}, unless a connection says another address."
        else:
            yield f"{name} is {urls[0]}; a connection, or --var {name}=…, can say another: {_one_of(urls[1:])}."


def _handed_in(loaded: LoadedRule, way: Way) -> str:
    """The way in a few words, as the end of a heading."""
    optional = {name for name, variable in loaded.rule.variables.items() if not variable.required}
    optional |= {depends.variable for depends in loaded.rule.depends_on_rule if depends.optional}
    parts = ["the credential itself"] if TOKEN in way.given else []
    parts += sorted(way.given & optional)
    parts += ["a connection that signs"] if ACTOR in way.given else []
    without = loaded.rule.secret == "optional" and TOKEN not in way.given  # noqa: S105 - a word of the language
    return f"with {_all_of(parts)}{', and without the credential itself' if without else ''}"


# ── the steps ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _tell_way(loaded: LoadedRule, way: Way) -> Iterator[str]:
    rule = loaded.rule
    proof = _proof(way.plan)
    number = 0
    for planned in way.plan.steps:
        if planned.purpose in {Purpose.ASK, Purpose.AFTER, Purpose.OURS, Purpose.UNDO}:
            continue
        number += 1
        yield f"{number}. {_tell_step(rule, planned, way.plan)}"
    if not any(planned.purpose is Purpose.BEFORE and not planned.disables for planned in way.plan.steps):
        yield "Nobody asks first whether it works."
    yield from _identifies(rule, way)
    yield from _proves(rule, way.plan, proof)
    yield from _cleans_up(rule, way.plan)


def _tell_probe(loaded: LoadedRule) -> Iterator[str]:
    rule = loaded.rule
    if rule.probe is None:
        yield "It tells how the credential looks, and nothing else: no request is ever sent."
        return
    yield f"It asks whether the credential works: {_call(rule.probe.action)}."
    yield "It cannot revoke it."


def _tell_step(rule: Rule, planned: Planned, made: Plan) -> str:
    part = part_of(planned, rule)
    call = _call(part.action)
    match planned.purpose:
        case Purpose.BEFORE if planned.disables:
            says = f"it asks whether it is disabled already: {call}"
        case Purpose.BEFORE:
            says = f"it asks whether the credential works: {call}; a dead one is not acted on"
        case Purpose.RECOGNISE:
            says = f"where that says dead, it asks whether this account ever knew it: {call}"
        case Purpose.PAUSE:
            says = f"it waits for {_span(planned.pause or 0)} in the step {planned.name}"
        case Purpose.ACT:
            verb = "disables it, which can be undone," if planned.disables else "acts"
            again = "" if planned.repeatable else "; where the answer is lost, it is not sent again blindly"
            says = f"it {verb} in the step {planned.name}: {call}{again}"
        case _:
            says = f"it looks up in the step {planned.name}: {call}{_reads(part)}"
    return _sentence(f"{_when(planned, _learnt(rule, made))}{says}")


def _learnt(rule: Rule, made: Plan) -> set[str]:
    """The names that a step of this plan may bring."""
    parts = [part_of(planned, rule) for planned in made.steps]
    return {name for part in parts if isinstance(part, Step) for name in part.extract}


def _when(planned: Planned, learnt: set[str]) -> str:
    """On which names a step waits, as the beginning of a sentence; what can never be known is not spoken of."""
    said = [f"{name} is known by then" for name in planned.given if name in learnt]
    said += [f"{name} is not known by then" for name in planned.unless if name in learnt]
    return f"where {_all_of(said)}, " if said else ""


def _reads(part: object) -> str:
    """What a lookup makes of its answer."""
    if not isinstance(part, Step):
        return ""
    taken = f", and takes {_all_of(sorted(part.extract))} out of it" if part.extract else ""
    if part.select is None:
        return f"{taken.replace(' out of it', ' out of the answer')}"
    if is_one_row(part.select):
        return f"; the answer, or one row of it, has to fit{taken}"
    pages = " page by page" if part.select.page is not None else ""
    return f"; it reads the list{pages} to its end, finds the one row that fits{taken}"


def _call(action: Action) -> str:
    """What is asked of whom, and who signs it."""
    return f"{plain(action.title)} ({_signer(action)})"


def _signer(action: Action) -> str:
    if action.actor:
        return "signed by the connection"
    if isinstance(action, Pause):
        return "nothing is sent"
    names = names_of_action(action)
    if TOKEN in names:
        return "with the credential itself"
    return "unsigned" if isinstance(action, Request) else "with what was handed in"


# ── which one, and whether it is dead ─────────────────────────────────────────────────────────────────────────────


def _identifies(rule: Rule, way: Way) -> Iterator[str]:
    """How each step that acts knows the exact credential."""
    told: dict[str, list[str]] = {}
    for planned in way.plan.steps:
        if planned.purpose is Purpose.ACT:
            told.setdefault(_identify(rule, way, planned), []).append(planned.name)
    for how, names in told.items():
        which = f"For the step {_all_of(names)}, the" if len(told) > 1 else "The"
        yield f"{which} exact credential is known {how}."


def _identify(rule: Rule, way: Way, act: Planned) -> str:
    if not act.tied:
        return "by nothing: the job is parked before it acts, and a person picks the right one"
    return (
        ", and ".join(_ties(rule, way, names_of_action(part_of(act, rule).action))) or "by itself: it is what is sent"
    )


def _ties(rule: Rule, way: Way, uses: frozenset[str]) -> Iterator[str]:
    """Everything that ties what a request uses to the credential, each with where it comes from."""
    named_by = {name for name in uses & way.given if name in rule.variables and rule.variables[name].identifies}
    if named_by:
        yield f"by {_all_of(sorted(named_by))}, as the requester names it"
    for planned in way.plan.steps:
        part = part_of(planned, rule)
        taken = sorted(uses & set(part.extract)) if isinstance(part, Step) else []
        if planned.purpose is Purpose.READ and isinstance(part, Step) and taken:
            yield _found(planned.name, part, taken)
    inside = sorted(uses & groups_of(rule.pattern) - {TOKEN}) if TOKEN in way.given else []
    if inside:
        yield f"by {_all_of(inside)}, which is written inside the credential"
    beside = sorted(uses & {depends.variable for depends in rule.depends_on_rule})
    if beside and TOKEN not in uses:
        yield f"by {_all_of(beside)}, which is handed in beside it"


def _found(name: str, step: Step, taken: Sequence[str]) -> str:
    if step.select is not None:
        rows = "row in the answer" if is_one_row(step.select) else "row of the list"
        return f"by exactly one {rows} in the step {name}: {_conditions(step.select)}"
    return f"by {_all_of(taken)}, which the provider itself tells in the step {name}"


def _conditions(select: Select) -> str:
    said = [clause for condition in select.where for clause in _condition(condition)]
    return f"{_all_of(said)}; none or several are left to a person" if said else "whatever it holds"


def _condition(condition: Condition) -> Iterator[str]:
    field = condition.field.removeprefix("$.")
    for text, word in (
        (condition.equals, "equals"),
        (condition.prefix, "begins with"),
        (condition.suffix, "ends with"),
        (condition.before, "is before"),
        (condition.after, "is after"),
    ):
        if text is not None:
            yield f"its {field} {word} {plain(text)}"
    if condition.is_null is not None:
        yield f"its {field} is {'empty' if condition.is_null else 'not empty'}"


def _proves(rule: Rule, made: Plan, proof: Sequence[Planned]) -> Iterator[str]:
    if not proof:
        yield f"The end cannot be proved, since {_why_unprovable(rule)}: the job ends as acknowledged."
        return
    for planned in proof:
        look = _call(part_of(planned, rule).action)
        dead = "disabled" if planned.disables else "dead"
        times = f"{made.samples} answers in a row, {_span(made.spacing)} apart, have to say {dead}"
        many = times if made.samples > 1 else f"the answer has to say {dead}"
        when = _when(planned, _learnt(rule, made))
        yield _sentence(f"{when}the end is proved by asking again: {look}; {many}")
    if made.window:
        yield f"For {_span(made.window)} after the last request, a live answer counts as the provider still settling."
    yield "Where an answer is lost, it asks in the same way what happened before anything is sent again."
    if rule.probe is not None and not rule.probe.can_say_dead and rule.verification.content is None:
        yield "The rule has no word for dead: only a refusal after an answer that said alive counts."


def _cleans_up(rule: Rule, made: Plan) -> Iterator[str]:
    """What is taken away again that a look leaves at the provider."""
    parts = [part_of(planned, rule) for planned in made.steps]
    calls = [part.clean_up.request for part in parts if isinstance(part, ProbeContent) and part.clean_up is not None]
    for title in dict.fromkeys(plain(call.title) for call in calls):
        yield f"What asking leaves at the provider is taken away again each time: {title}."


def _proof(made: Plan) -> list[Planned]:
    """The look that proves the end; what ends as disabled is proved by the look that shows that, where there is one."""
    looks = [step for step in made.steps if step.purpose is Purpose.AFTER]
    working = [step for step in looks if not step.disables]
    ends_disabled = [step for step in made.steps if step.purpose is Purpose.ACT][-1].disables
    return ([step for step in looks if step.disables] or working) if ends_disabled else working


def _why_unprovable(rule: Rule) -> str:
    if rule.probe is None:
        return "the rule has no probe"
    return "the probe needs the credential itself, and it is not there"


# ── a new key ─────────────────────────────────────────────────────────────────────────────────────────────────────

SINK = "every sink"
UNTOLD = frozenset({Purpose.FIND, Purpose.DISCARD, Purpose.ASK, Purpose.PROMOTE}) | WAY_BACK
"""Steps of a rotation that are told with the one that they serve."""


def _rotates(loaded: LoadedRule) -> Iterator[str]:
    """The plan of a rotation, told with all that can be handed in but the credential itself."""
    rule, rotation = loaded.rule, loaded.rule.rotation
    if rotation is None:
        return
    if rotation.about:
        yield _sentence(rotation.about)
    try:
        made = plan(loaded, Intent.ROTATE, {ACTOR, *rule.variables}, {SINK: False})
    except BadInput as error:
        yield _sentence(str(error))
        return
    told = [planned for planned in made.steps if planned.purpose not in UNTOLD]
    for number, planned in enumerate(told, start=1):
        yield f"{number}. {_sentence(f'{_where(rule, planned, made)}{_tell_rotation(rule, rotation, planned)}')}"
    yield "Whatever fails after the new key was made leaves it sealed, and revoq jobs retry goes on from there."
    if any(planned.purpose is Purpose.PUT_BACK for planned in made.steps):
        yield "Until the old key is retired, revoq jobs rollback puts it back, and deletes the new one."


def _where(rule: Rule, planned: Planned, made: Plan) -> str:
    """On what the step waits, and with which variable that may be left out it is taken at all."""
    part = part_of(planned, rule)
    needed = part.given if isinstance(part, Step) else []
    asked = [name for name in needed if name in rule.variables and not rule.variables[name].required]
    if asked:
        return f"with --var {_all_of(asked)}, "
    if rule.rotation is not None and rule.rotation.overlap and rule.rotation.old in planned.given:
        return "where the old key is known, from a sink or from the requester, "
    sure = rule.rotation.makes.extract if rule.rotation is not None and rule.rotation.makes is not None else {}
    return _when(planned, _learnt(rule, made) - set(sure))


TOLD = {
    Purpose.PREFLIGHT: "every sink has to be ready and to hold the key that is replaced, for {place}{empty}",
    Purpose.BEFORE: "it asks whether the old key works, and goes on either way: {call}",
    Purpose.LIST: "it lists what exists, so that what is made can be told from it: {call}",
    Purpose.GENERATE: "it makes the new key here: {title}",
    Purpose.ISSUE: "it makes the new key in the step {name}: {call}; {lost}",
    Purpose.GRANT: "it gives the new key what the old one has in the step {name}: {call}",
    Purpose.TEST: "the new key has to work before anybody is told of it: {call}",
    Purpose.DELIVER: "every sink is given {record}{one}",
    Purpose.READ_BACK: "every sink is read, and has to hold {record} as given",
    Purpose.PAUSE: "for {span} both keys work",
    Purpose.USED: "where the old key was used since then, it stops for a person: {call}",
    Purpose.ACT: "it {verb} the old key in the step {name}: {call}",
    Purpose.AFTER: "the old key has to be dead: {call}",
    Purpose.READ: "it looks up in the step {name}: {call}{reads}",
}
"""What each step of a rotation does."""


def _tell_rotation(rule: Rule, rotation: Rotation, planned: Planned) -> str:
    part = part_of(planned, rule)
    return TOLD[planned.purpose].format(
        name=planned.name,
        title=part.action.title,
        call=f"{plain(part.action.title)} ({_holder(rotation, part.action)})",
        place=plain(rotation.sink_name),
        empty="; one that holds nothing yet is fine" if rotation.overlap else "",
        lost=_when_lost(rotation, planned),
        record=_all_of(list(rotation.record)),
        one=", as one" if len(rotation.record) > 1 else "",
        span=_span(planned.pause or 0),
        verb="disables" if planned.disables else "ends",
        reads=_reads(part),
    )


def _when_lost(rotation: Rotation, issue: Planned) -> str:
    """What becomes of a key whose answer was lost."""
    if rotation.mine is not None:
        return "where the answer is lost, it finds what nobody holds, deletes it, and makes another one"
    if not issue.repeatable:
        return "where the answer is lost, it is never sent again, and a person is asked"
    return "where the answer is lost, the old key tells: it works, and it is sent again; it is dead, and that at once"


def _holder(rotation: Rotation, action: Action) -> str:
    """Which key a request is made with, where it is not the connection that signs it."""
    names = names_of_action(action)
    for name, which in ((rotation.key, "new"), (rotation.old, "old")):
        if name in names and not action.actor:
            return f"with the {which} key"
    return _signer(action)


# ── the rest ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _lists(rule: Rule) -> Iterator[str]:
    """What `revoq credentials list` shows by this rule."""
    if rule.listing is None:
        return
    whose = "of the person that --subject names" if lists_a_person(rule) else "of the account"
    fields = ", ".join(rule.listing.select.show) or "nothing but the id"
    yield f"The credentials {whose}, by revoq credentials list; of each row it shows {fields}."


def _restores(rule: Rule) -> Iterator[str]:
    for number, step in enumerate(rule.restoring, start=1):
        verb = "it is enabled again" if step.mutates else "it is looked up"
        yield f"In the step {step.name or number}, {verb}: {_call(step.action)}."


def _lapses(rule: Rule) -> Iterator[str]:
    for number, step in enumerate(rule.steps, start=1):
        if step.lapses is not None:
            yield f"The provider forgets what the step {step.name or number} did after {_span(step.lapses)}."


def _rechecks(rule: Rule) -> Iterator[str]:
    """Only what is the rule's own: the settings say it for all others."""
    spans = rule.verification.recheck
    if spans is not None:
        yield f"{_all_of([_span(span) for span in spans])} after its end." if spans else "Never."
    if rule.lifetime is not None:
        yield f"The provider lets none live longer than {_span(rule.lifetime)}, and after that nothing is looked at."


def _unreached(rule: Rule, ways: Sequence[Way]) -> Iterator[str]:
    reached = {planned.name for way in ways for planned in way.plan.steps}
    for number, step in enumerate(rule.steps, start=1):
        if (step.name or f"step {number}") not in reached:
            yield f"reach the step {step.name or number}, whatever is handed in"


def _limits(rule: Rule) -> Iterator[str]:
    limits = rule.limits
    if limits is not None:
        source = f" ({limits.source})" if limits.source else ""
        many = "one request" if limits.requests == 1 else f"{limits.requests} requests"
        yield f"It allows {many} in {_span(limits.per)}{source}."


def _see(loaded: LoadedRule) -> Iterator[str]:
    shared = loaded.provider.references if loaded.provider is not None else []
    yield from dict.fromkeys([*loaded.rule.references, *shared])
    yield f"{loaded.file}:{loaded.line}"


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def plain(source: str) -> str:
    """A template for a reader: each value as its name in angle brackets, everything else of the language as dots.

    Of a value that goes through filters it is only said where it comes from.
    """
    return OTHER.sub("…", VALUE.sub(lambda found: f"<from {found[1]}>" if found[2] else f"<{found[1]}>", source))


def _sentences(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(_sentence(text) for text in texts)


def _sentence(text: str) -> str:
    """A text of a rule as a sentence: a capital letter, a full stop, one line, no template."""
    text = " ".join(plain(text).split())
    ended = text if text.endswith((".", "!", "?")) else f"{text}."
    return ended[:1].upper() + ended[1:]


def _all_of(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _one_of(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _span(seconds: float) -> str:
    """A duration in the largest unit that leaves no rest."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size and seconds % size == 0:
            count = f"{seconds / size:g}"
            return f"{count} {unit}{'' if count == '1' else 's'}"
    return f"{seconds:g} seconds"


def _short(pattern: str) -> str:
    text = " ".join(pattern.split())
    return text if len(text) <= LONGEST_PATTERN else f"{text[:LONGEST_PATTERN]}…"
