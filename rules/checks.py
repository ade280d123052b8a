"""What no schema can see in a rule: templates, patterns and paths that cannot be read, and names that nothing defines.

Reading files is `loader`'s; what is unwise but can be used is `lint`'s.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from rules.errors import RevoqError, TemplateError
from rules.extract import compile_pattern, find_secret, parse_path
from rules.pattern import compile_filled
from rules.request import OF_REQUEST, parse_base
from rules.schema import (
    Acting,
    Alike,
    Aws,
    Command,
    Existing,
    Extraction,
    HeaderMatch,
    Identity,
    JsonMatch,
    JsonPath,
    Matcher,
    MultiStepRevocation,
    OutcomeClause,
    ProbeContent,
    Provider,
    Regex,
    Request,
    Revocation,
    Rotation,
    Rule,
    Select,
    StatusMatch,
    Step,
    Subject,
    XmlValid,
)
from rules.schema.rotation import EXISTING, JOB, OLD_LOOK, TEST_LOOK
from rules.strictyaml import Place
from rules.template import Place as Where
from rules.template import compile_template, split_origin

Mistake = tuple[Place, str]

ACTOR = "ACTOR"
"""A name for `given` and `unless` alone: known where a connection signs."""
SUBJECT = "SUBJECT"
"""The name by which a listing's templates know the person whose credentials are asked for."""
LOOKS = frozenset({"probe", "verify", "disabled", "recognise", TEST_LOOK, OLD_LOOK})


@dataclass
class _Checks:
    """Gathers mistakes; `hosts` are the base URLs that a URL may begin with."""

    hosts: frozenset[str]
    secrets: frozenset[str] = frozenset()
    mistakes: list[Mistake] = field(default_factory=list)

    def say(self, place: Place, sentence: str) -> None:
        self.mistakes.append((place, sentence))

    # ── the parts of a rule ───────────────────────────────────────────────────────────────────────────────────────

    def template(self, place: Place, source: str, known: Iterable[str]) -> bool:
        """Read a template, and ask of each name whether anything defines it."""
        try:
            template = compile_template(source)
        except TemplateError as error:
            self.say(place, str(error))
            return False
        known = set(known)
        for name in sorted(template.required - known):
            names = ", ".join(sorted(known - OF_REQUEST)) or "none"
            self.say(place, f"{name} is defined nowhere before; known here: {names}")
        return True

    def path(self, place: Place, path: str) -> None:
        """Read a JSONPath."""
        try:
            parse_path(path)
        except RevoqError as error:
            self.say(place, str(error))

    def pattern(self, place: Place, pattern: str) -> bool:
        """Compile a pattern."""
        try:
            compile_pattern(pattern)
        except RevoqError as error:
            self.say(place, str(error))
            return False
        return True

    def action(self, place: Place, part: Acting, known: frozenset[str]) -> None:
        """Check the one thing that a part of a rule does, whatever its kind."""
        if part.request is not None:
            self.request((*place, "request"), part.request, known)
        if part.command is not None:
            self.command((*place, "command"), part.command, known)
        if part.aws is not None:
            self.aws((*place, "aws"), part.aws, known)
        if part.alike is not None:
            self.alike((*place, "alike"), part.alike, known)

    def command(self, place: Place, command: Command, known: frozenset[str]) -> None:
        """Check a program's arguments, none of which may hold a secret, its environment and its input."""
        known |= self.hosts
        if command.actor:
            self.say((*place, "actor"), "nothing signs a command; what it needs to sign by itself goes by env or stdin")
        for number, source in enumerate(command.run):
            if self.template((*place, "run", number), source, known):
                self._keep_secrets_out((*place, "run", number), source)
        for name, source in command.env.items():
            self.template((*place, "env", name), source, known)
        self.template((*place, "stdin"), command.stdin or "", known)
        for number, matcher in enumerate(command.response_matcher):
            self._of_output((*place, "response_matcher", number), matcher)
        self.matchers((*place, "response_matcher"), command.response_matcher, known)

    def _keep_secrets_out(self, place: Place, source: str) -> None:
        inside = sorted(compile_template(source).names & self.secrets)
        if inside:
            names = " and ".join(inside)
            self.say(place, f"{names} is secret, and everybody on a machine can read arguments: use env or stdin")

    def _of_output(self, place: Place, matcher: Matcher) -> None:
        if isinstance(matcher, StatusMatch | HeaderMatch | XmlValid):
            self.say(place, f"{matcher.type} reads HTTP; a command has exit codes: ok, already_gone, retry")

    def aws(self, place: Place, call: Aws, known: frozenset[str]) -> None:
        """Check the templates of a call to AWS."""
        texts = {"key": call.key, "user": call.user, "region": call.region}
        texts |= {} if call.actor else {"secret": call.secret, "session": call.session}
        for name, source in texts.items():
            self.template((*place, name), source or "", known)
        self.matchers((*place, "response_matcher"), call.response_matcher, known)

    def alike(self, place: Place, alike: Alike, known: frozenset[str]) -> None:
        """Check the requests that read two lists, what their rows are compared by, and what each row is given by."""
        for key, request in alike.requests.items():
            self.request((*place, key), request, known | alike.brings if key == "each" else known)
        self.select((*place, "select"), alike.select, known)
        for number, path in enumerate(alike.by):
            self.path((*place, "by", number), path)
        for name, path in alike.row.items():
            self.path((*place, "row", name), path)

    def request(self, place: Place, request: Request, known: frozenset[str]) -> None:
        """Check every template of a request, and where it goes."""
        known |= OF_REQUEST
        if self.template((*place, "url"), request.url, known | self.hosts):
            try:
                split_origin(request.url, self.hosts)
            except TemplateError as error:
                self.say((*place, "url"), str(error))
        for key, templates in (("headers", request.headers), ("form", request.form or {})):
            for name, source in templates.items():
                self.template((*place, key, name), source, known | self.hosts)
        for twice in _repeated(name.lower() for name in request.headers):
            self.say((*place, "headers"), f"the header {twice} is there twice; upper case makes no other header")
        for number, part in enumerate(request.multipart.parts if request.multipart is not None else []):
            self.template((*place, "multipart", "parts", number, "content"), part.content, known | self.hosts)
        if request.body is not None:
            self.template((*place, "body"), request.body, known | self.hosts)
        if isinstance(request.digest, str):
            self.template((*place, "digest"), request.digest, known)
        elif request.digest is not None:
            self.template((*place, "digest", "username"), request.digest.username, known)
            self.template((*place, "digest", "password"), request.digest.password, known)
        self.matchers((*place, "response_matcher"), request.response_matcher, known)

    def matchers(self, place: Place, matchers: Iterable[Matcher], known: frozenset[str]) -> None:
        """Check the paths and texts of matchers."""
        for number, matcher in enumerate(matchers):
            if isinstance(matcher, JsonMatch):
                self.path((*place, number, "path"), matcher.path)
                for key, source in (("equals", matcher.equals), ("same", matcher.same)):
                    if isinstance(source, str):
                        self.template((*place, number, key), source, known)

    def clauses(self, place: Place, clauses: Iterable[OutcomeClause], known: frozenset[str]) -> None:
        """Check the matchers of outcome clauses."""
        for number, clause in enumerate(clauses):
            self.matchers((*place, number, "when"), clause.when, known)

    def extractions(self, place: Place, extractions: Mapping[str, Extraction], known: frozenset[str]) -> None:
        """Check paths and patterns of extractors."""
        for name, extraction in extractions.items():
            if isinstance(extraction, JsonPath):
                self.path((*place, name, "path"), extraction.path)
            if isinstance(extraction, Regex) and self.template((*place, name, "pattern"), extraction.pattern, known):
                self._filled_pattern((*place, name, "pattern"), extraction.pattern)

    def _filled_pattern(self, place: Place, source: str) -> None:
        template = compile_template(source)
        try:
            compile_filled(template.fill(dict.fromkeys(template.names, "x"), Where.REGEX))
        except RevoqError as error:
            self.say(place, str(error))

    def probe(self, place: Place, content: ProbeContent, known: frozenset[str]) -> None:
        """Check a probe."""
        self.action(place, content, known)
        self.matchers((*place, "dead"), content.dead, known)
        self.matchers((*place, "disabled"), content.disabled, known)
        self.clauses((*place, "outcomes"), content.outcomes, known)
        self.extractions((*place, "extract"), content.extract, known)
        if content.clean_up is not None:
            left = known | frozenset(content.clean_up.extract)
            self.extractions((*place, "clean_up", "extract"), content.clean_up.extract, known)
            self.request((*place, "clean_up", "request"), content.clean_up.request, left)

    def step(self, place: Place, step: Step, known: frozenset[str]) -> None:
        """Check a step."""
        self.action(place, step, known)
        self.clauses((*place, "outcomes"), step.outcomes, known)
        self.extractions((*place, "extract"), step.extract, known)
        if step.select is not None:
            self.select((*place, "select"), step.select, known)
            for name, extraction in step.extract.items():
                if not isinstance(extraction, JsonPath):
                    self.say((*place, "extract", name), "a step with select takes values by JsonPath out of the row")

    def select(self, place: Place, select: Select, known: frozenset[str]) -> None:
        """Check a selector's paths and conditions."""
        page = select.page
        paths: dict[Place, str | None] = {("rows",): select.rows, ("id",): select.id}
        paths |= {("show", number): path for number, path in enumerate(select.show)}
        paths |= {("page", "next"): page.next, ("page", "total"): page.total} if page is not None else {}
        for key, path in paths.items():
            if path is not None:
                self.path((*place, *key), path)
        for number, condition in enumerate(select.where):
            self.path((*place, "where", number, "field"), condition.field)
            for text in condition.values:
                self.template((*place, "where", number), text, known)

    def bases(self, place: Place, hosts: Mapping[str, list[str]]) -> None:
        """Check that each base URL is one, and https unless it is on this machine."""
        for name, urls in hosts.items():
            for number, url in enumerate(urls):
                try:
                    base = parse_base(url)
                except TemplateError as error:
                    self.say((*place, name, number), str(error))
                    continue
                if base.startswith("http://") and not is_loopback(base):
                    self.say((*place, name, number), f"expected https, got {url!r}; http is for this machine only")

    def names(self, place: Place, names: Iterable[str | None], known: Iterable[str]) -> None:
        """Check that something defines each name that is merely referred to."""
        for name in names:
            if name is not None and name not in set(known):
                self.say(place, f"{name} is defined nowhere; known here: {', '.join(sorted(known)) or 'none'}")


# ── whole rules ───────────────────────────────────────────────────────────────────────────────────────────────────


def check_rule(rule: Rule, provider: Provider | None) -> list[Mistake]:
    """Find every mistake of one rule, each with its place in it."""
    hosts = {**(provider.hosts if provider is not None else {}), **rule.hosts}
    checks = _Checks(frozenset(hosts), secret_names(rule))
    checks.bases(("hosts",), rule.hosts)
    own = _check_pattern(checks, rule)
    probe = rule.probe
    looked = frozenset(probe.extract if probe is not None else ())
    actor = frozenset(provider.actor_names if provider is not None else ())
    _check_actor_names(checks, rule, actor)
    known = own | actor
    for place, step in _every_step(rule):
        checks.step(place, step, known)
        known |= frozenset(step.extract)
    known |= looked
    _check_steps(checks, rule, known)
    _check_looks(checks, rule, probe, known)
    if rule.rotation is not None:
        _check_rotation(checks, rule.rotation, known)
        known |= {name for step in rule.rotation.target for name in step.extract}
    if rule.listing is not None:
        listed = frozenset({SUBJECT, *rule.variables})
        checks.action(("listing",), rule.listing, listed)
        checks.select(("listing", "select"), rule.listing.select, listed)
        checks.names(("listing", "variables"), rule.listing.variables, rule.variables)
    rotated = frozenset(name for step in _steps_of_rotation(rule) for name in step.extract)
    checks.names(("credential",), _names_of(rule.credential), known | rotated)
    _check_recorded(checks, rule)
    if provider is not None and rule.provider != provider.name:
        checks.say(("id",), f"expected an id that begins with the provider's name, {provider.name}., got {rule.id!r}")
    return checks.mistakes


def _check_pattern(checks: _Checks, rule: Rule) -> frozenset[str]:
    """Check the pattern, its examples and the variables; give back the names that are known from the start."""
    told: set[str] = set()
    if rule.pattern and checks.pattern(("pattern",), rule.pattern):
        told = {"TOKEN", *(name.upper() for name in compile_pattern(rule.pattern).groupindex)}
        _check_examples(checks, rule)
    names = [*rule.variables, *(alias for variable in rule.variables.values() for alias in variable.aliases)]
    for twice in _repeated(name.upper() for name in names):
        checks.say(("variables",), f"{twice} is there twice; a finding's value could be either's")
    for name, variable in rule.variables.items():
        if variable.pattern is not None:
            checks.pattern(("variables", name, "pattern"), variable.pattern)
    return frozenset({*told, *rule.variables, *(depends.variable for depends in rule.depends_on_rule)})


def _check_actor_names(checks: _Checks, rule: Rule, actor: frozenset[str]) -> None:
    """Nothing else may bear a name that stands for the connection's own identity."""
    taken: list[Place] = [("variables", name) for name in rule.variables]
    taken += [(*place, "extract", name) for place, step in _every_step(rule) for name in step.extract]
    for place in taken:
        if place[-1] in actor:
            checks.say(place, f"{place[-1]} stands for the identity of the connection that signs; choose another name")


def _check_examples(checks: _Checks, rule: Rule) -> None:
    for number, example in enumerate(rule.examples):
        if not _is_found(rule, example):
            checks.say(("examples", number), f"example {number + 1} does not match the pattern")
    for number, example in enumerate(rule.negative_examples):
        if _is_found(rule, example):
            checks.say(("negative_examples", number), f"example {number + 1} matches the pattern, and should not")


def _is_found(rule: Rule, example: str) -> bool:
    try:
        return find_secret(rule, example) is not None
    except RevoqError:
        return False


def secret_names(rule: Rule) -> frozenset[str]:
    """The names whose values are secret: the token, its groups that are no ids, and what is said to be secret."""
    public = {rule.credential.id, rule.credential.subject, rule.credential.tenant}
    try:
        groups = {name.upper() for name in compile_pattern(rule.pattern).groupindex}
    except RevoqError:
        groups = set()
    given = {name for name, variable in rule.variables.items() if variable.secret}
    given |= {depends.variable for depends in rule.depends_on_rule}
    taken = {
        name
        for step in [*rule.steps, *rule.restoring, *_steps_of_rotation(rule)]
        for name, extraction in step.extract.items()
        if extraction.secret
    }
    if rule.rotation is not None:
        taken |= {rule.rotation.key, rule.rotation.old}
    return frozenset({"TOKEN", *(groups - public), *given, *taken})


def _steps_of_rotation(rule: Rule) -> Iterator[Step]:
    if rule.rotation is not None:
        yield from (step for step in rule.rotation.steps.values() if isinstance(step, Step))


def _places_of_steps(key: str, said: Revocation | None, steps: Sequence[Step]) -> Iterator[tuple[Place, Step]]:
    many = isinstance(said, MultiStepRevocation)
    for number, step in enumerate(steps):
        yield (key, "content", "steps", number) if many else (key, "content"), step


def _every_step(rule: Rule) -> Iterator[tuple[Place, Step]]:
    yield from _places_of_steps("revocation", rule.revocation, rule.steps)
    yield from _places_of_steps("restoration", rule.restoration, rule.restoring)


def _check_steps(checks: _Checks, rule: Rule, known: frozenset[str]) -> None:
    taken: set[str] = set(LOOKS)
    rotating = list(_rotation_places(rule.rotation)) if rule.rotation is not None else []
    of_rotation = set(rule.rotation.steps) if rule.rotation is not None else set[str]()
    if len(of_rotation) < len(rotating):
        checks.say(("rotation",), "two steps have one name; each step has one of its own")
    taken |= of_rotation
    for number, (place, step) in enumerate(_every_step(rule), start=1):
        name = step.name or f"step {number}"
        if name in taken:
            checks.say(place, f"the step's name {name!r} is taken; each step has one of its own, and no look's name")
        taken.add(name)
        for key, names in (("given", step.given), ("unless", step.unless)):
            checks.names((*place, key), names, known | checks.hosts | {ACTOR})


def _check_rotation(checks: _Checks, rotation: Rotation, known: frozenset[str]) -> None:
    """Check each part with the names that are known when it is taken."""
    known |= {JOB}
    # What a sink holds is known once the target was read, and then the new key, where it is made here.
    told = {rotation.old, *rotation.current, *({rotation.key} if rotation.generate is not None else ())}
    for place, step in _rotation_places(rotation):
        if isinstance(step, Existing):
            checks.action(place, step, known)
            checks.select((*place, "select"), step.select, known)
            known |= {EXISTING}
        else:
            checks.step(place, step, known)
            known |= frozenset(step.extract)
        if place[1] in {"target", "existing"}:
            known |= told
    known |= told
    if rotation.test is not None:
        checks.probe(("rotation", "test"), rotation.test, known)
    if rotation.proof is not None:
        checks.probe(("rotation", "proof"), rotation.proof, known)
    checks.template(("rotation", "sink_name"), rotation.sink_name, known)
    for part, source in rotation.record.items():
        checks.template(("rotation", "record", part), source, known)
    checks.names(("rotation",), [rotation.id], known)


def _rotation_places(rotation: Rotation) -> Iterator[tuple[Place, Step | Existing]]:
    """Every part that is a step, where it stands, in the order in which they are taken."""
    for number, step in enumerate(rotation.target):
        yield ("rotation", "target", number), step
    if rotation.existing is not None:
        yield ("rotation", "existing"), rotation.existing
    for number, step in enumerate(rotation.issue):
        yield ("rotation", "issue", number), step
    for name, one in (("mine", rotation.mine), ("discard", rotation.discard), ("used", rotation.used)):
        if one is not None:
            yield ("rotation", name), one
    for number, step in enumerate(rotation.retire):
        yield ("rotation", "retire", number), step


def _check_looks(checks: _Checks, rule: Rule, probe: ProbeContent | None, known: frozenset[str]) -> None:
    """Check what only looks: it is asked where its names are known, so any step may have brought them."""
    if probe is not None:
        checks.probe(("validation", "content"), probe, known)
    if rule.verification.content is not None:
        checks.probe(("verification", "content"), rule.verification.content, known)
    if rule.verification.disabled is not None:
        checks.probe(("verification", "disabled"), rule.verification.disabled, known)
    if rule.recognition is not None:
        checks.action(("recognition",), rule.recognition, known)
        checks.matchers(("recognition", "known"), rule.recognition.known, known)


def _check_recorded(checks: _Checks, rule: Rule) -> None:
    every = [*rule.steps, *rule.restoring]
    names = {step.name or f"step {number}": step.extract for number, step in enumerate(every, start=1)}
    if rule.probe is not None:
        names["probe"] = rule.probe.extract
    if rule.disabling_look is not None:
        names["disabled"] = rule.disabling_look.extract
    if rule.verification.content is not None:
        names["verify"] = rule.verification.content.extract
    if rule.recognition is not None:
        names["recognise"] = {}
    if rule.rotation is not None:
        parts = {**rule.rotation.steps, **rule.rotation.looks}
        names |= {name: {} if isinstance(part, Existing) else part.extract for name, part in parts.items()}
    for number, recorded in enumerate(rule.recorded):
        if recorded.step not in names:
            steps = ", ".join(sorted(names)) or "none"
            checks.say(("recorded", number, "step"), f"there is no step {recorded.step!r} here; there are: {steps}")
        else:
            checks.names(("recorded", number, "takes"), recorded.takes, names[recorded.step])


def check_provider(provider: Provider) -> list[Mistake]:
    """Find every mistake of what the rules of one provider share."""
    checks = _Checks(frozenset(provider.hosts))
    checks.bases(("hosts",), provider.hosts)
    if provider.identity is not None:
        _check_identity(checks, ("identity",), provider.identity)
    for number, identity in enumerate(provider.other_identities):
        _check_identity(checks, ("other_identities", number), identity)
    return checks.mistakes


def _check_identity(checks: _Checks, place: Place, identity: Identity) -> None:
    fields = [*identity.needs, *identity.optional]
    checks.names((*place, "secrets"), identity.secrets, fields)
    known = frozenset(name.upper() for name in fields)
    if identity.sign_in is not None:
        checks.request((*place, "sign_in", "request"), identity.sign_in.request, known)
        checks.extractions((*place, "sign_in", "extract"), identity.sign_in.extract, known)
        checks.names((*place, "sign_in"), ["SESSION"], identity.sign_in.extract)
        known |= frozenset(identity.sign_in.extract)
    for name, source in identity.sign.items():
        checks.template((*place, "sign", name), source, known)
    if identity.sign_out is not None:
        checks.request((*place, "sign_out"), identity.sign_out, known)
    if identity.whoami is not None:
        checks.request((*place, "whoami", "request"), identity.whoami.request, known)
        checks.extractions((*place, "whoami", "extract"), identity.whoami.extract, known)
        known |= frozenset(identity.whoami.extract)
    checks.names((*place, "own"), _names_of(identity.own), known)


def _names_of(subject: Subject) -> list[str | None]:
    return [subject.id, subject.subject, subject.tenant, subject.expires]


def is_loopback(url: str) -> bool:
    """Whether a URL goes to this machine."""
    host = urlsplit(url).hostname or ""
    if re.fullmatch(r"localhost|.+\.localhost", host):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
