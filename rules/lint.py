"""What is unwise in a rule that can be used: warnings, each with its file and line; mistakes are `checks`'."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rules.checks import is_loopback
from rules.errors import RevoqError, RuleError
from rules.extract import compile_pattern
from rules.lifecycle import Intent
from rules.loader import LoadedRule, builtin, hosts_of
from rules.parts import looks_of, named, names_of_action
from rules.pattern import find_secret
from rules.plan import ACTOR, TOKEN, Purpose
from rules.planning import plan
from rules.schema import Acting, Action, JsonPath, Matcher, ProbeContent, ReportResponse, Request, Rule, Step
from rules.template import compile_template, split_origin

POSITION = re.compile(r"\[\s*-?\d+\s*\]|\[\s*-?\d*\s*:")
"""An index or a slice of a list: whatever stands there, it stands there by chance."""


def lint(loaded: LoadedRule) -> list[RuleError]:
    """Give every warning about a rule."""
    says = [
        *_lint_proof(loaded.rule),
        *_lint_examples(loaded),
        *_lint_steps(loaded.rule),
        *_lint_lists(loaded.rule),
        *_lint_ties(loaded),
        *_lint_urls(loaded),
    ]
    return [RuleError(f"{loaded.rule.id}: {sentence}", loaded.file, loaded.line) for sentence in says]


def _lint_proof(rule: Rule) -> Iterator[str]:
    probe = rule.probe
    explained = any(sentence.startswith("prove ") for sentence in rule.cannot)
    if rule.revocation is not None and probe is None and rule.verification.content is None and not explained:
        yield (
            "it revokes and has no probe: a 2xx proves nothing, so that every job ends as acknowledged at best; "
            "where nothing can be asked, say under `cannot` what it cannot prove, and why"
        )
    if probe is not None and probe.command is None and not _deciding(probe.action):
        yield "its probe has no matcher, so that it never says alive; add a StatusMatch"
    if probe is not None and not probe.can_say_dead and rule.revocation is not None:
        yield (
            "its probe has no `dead` matchers, so that only a 401 or 403 after an alive answer counts as dead; "
            "say which answer tells that the credential is dead, and nothing else"
        )
    if rule.cannot == [] and rule.revocation is None:
        yield "it has no revocation, and does not say so under `cannot`"


def _deciding(action: Action) -> list[Matcher]:
    return [matcher for matcher in action.response_matcher if not isinstance(matcher, ReportResponse)]


def _lint_examples(loaded: LoadedRule) -> Iterator[str]:
    rule = loaded.rule
    if rule.pattern and not rule.examples:
        yield "it has no examples: nothing shows that its pattern finds what it should"
    if not rule.recorded and _asks(rule) and loaded.file.startswith(str(builtin())):
        yield "it has no recorded answers: nothing shows how it reads the provider"
    names = [name for name in compile_pattern(rule.pattern).groupindex if name != name.upper()]
    if names:
        yield f"the groups {', '.join(names)} are known in upper case in templates"
    if any(_is_missed(rule, example) for example in rule.examples):
        yield "an example is found only with what stands around it; a secret that is handed in stands alone"


def _asks(rule: Rule) -> bool:
    """Whether there is a provider whose answers it reads."""
    rotation = rule.rotation
    return bool(rule.steps or rule.probe or rule.listing or (rotation is not None and rotation.steps))


def _is_missed(rule: Rule, example: str) -> bool:
    """Whether the secret of an example would not be found by itself."""
    found = find_secret(rule, example)
    try:
        return found is not None and found["TOKEN"] != example and find_secret(rule, found["TOKEN"]) is None
    except RevoqError:
        return True


def _lint_steps(rule: Rule) -> Iterator[str]:
    sure = _sure_names(rule)
    for number, step in enumerate(rule.steps, start=1):
        name = step.name or f"step {number}"
        if step.request is not None and step.mutates and not _deciding(step.action) and not step.outcomes:
            yield f"the step {name} changes something and has no matcher: any 2xx counts as done"
        unsure = sorted(names_of_action(step.action) & _unsure_names(rule) - sure - set(step.given))
        if unsure:
            yield f"the step {name} needs {', '.join(unsure)}, which may be missing then: add it to `given`"


def _unsure_names(rule: Rule) -> set[str]:
    """Names that need not be known: variables that nobody has to give, and values that may be missing."""
    unsure = {name for name, variable in rule.variables.items() if not variable.required}
    return unsure | {name for step in rule.steps for name, taken in step.extract.items() if taken.optional}


def _sure_names(rule: Rule) -> set[str]:
    """Names that the pattern tells where a secret has to be given."""
    if rule.secret != "required":  # noqa: S105 - a word of the language
        return set()
    return {"TOKEN", *(name.upper() for name in compile_pattern(rule.pattern).groupindex)}


def _lint_lists(rule: Rule) -> Iterator[str]:
    for number, step in enumerate(rule.steps, start=1):
        later = rule.steps[number:]
        for name, extraction in step.extract.items():
            feeds = [other for other in later if other.mutates and _uses(other, name)]
            if isinstance(extraction, JsonPath) and POSITION.search(extraction.path) and feeds:
                yield f"{name} is one of a list by its position ({extraction.path}), and a step that changes uses it"
        page = step.select.page if step.select is not None else None
        if page is not None and page.kind == "page" and page.total is None:
            yield f"the list of step {step.name or number} ends at an empty page: is that no 404? name `total`"
        if step.select is not None and not step.select.where:
            yield f"the list of step {step.name or number} has no condition: any single row would do"


def _lint_ties(loaded: LoadedRule) -> Iterator[str]:
    """Ask the plan itself which of its steps nothing ties to the credential."""
    rule = loaded.rule
    given = {TOKEN, ACTOR, *rule.variables, *hosts_of(loaded), *(depends.variable for depends in rule.depends_on_rule)}
    try:
        steps = plan(loaded, Intent.REVOKE, given).steps
    except RevoqError:
        return
    for step in steps:
        if step.purpose is Purpose.ACT and not step.tied:
            yield f"nothing ties the step {step.name} to the credential: a job parks before it as needs_selection"


def _uses(step: Step, name: str) -> bool:
    return any(name in compile_template(source).names for source in step.action.templates)


def _lint_urls(loaded: LoadedRule) -> Iterator[str]:
    rule = loaded.rule
    secrets = _secret_names(rule)
    for where, request in _requests(rule):
        inside = sorted(compile_template(request.url).names & secrets)
        if inside:
            yield f"{where} puts {', '.join(inside)} into the URL, where proxies and servers log it"
        literal = split_origin(request.url, hosts_of(loaded)).literal or ""
        if literal.startswith("http://") and not is_loopback(literal):
            yield f"{where} goes over http, where everybody on the way can read it"


def _secret_names(rule: Rule) -> set[str]:
    """The credential and its parts, unless the rule says that a part is an id; what other rules find; secret values."""
    public = {rule.credential.id, rule.credential.subject, rule.credential.tenant}
    secrets = {"TOKEN", *(name.upper() for name in compile_pattern(rule.pattern).groupindex)} - public
    secrets |= {name for name, variable in rule.variables.items() if variable.secret}
    secrets |= {depends.variable for depends in rule.depends_on_rule}
    secrets |= {name for look in looks_of(rule).values() if look.clean_up is not None for name in look.clean_up.extract}
    return secrets | {name for step in rule.steps for name, taken in step.extract.items() if taken.secret}


def _requests(rule: Rule) -> Iterator[tuple[str, Request]]:
    parts: list[tuple[str, Acting | None]] = [
        ("the probe", rule.probe),
        ("the verification", rule.verification.content),
        ("the look that shows whether it is disabled", rule.verification.disabled),
        ("the recognition", rule.recognition),
    ]
    parts += [(f"the step {name}", step) for name, step in named(rule.steps)]
    parts += [(f"the restoring step {name}", step) for name, step in named(rule.restoring)]
    for name, part in parts:
        if part is not None and part.request is not None:
            yield name, part.request
        if isinstance(part, ProbeContent) and part.clean_up is not None:
            yield f"what cleans up after {name}", part.clean_up.request
