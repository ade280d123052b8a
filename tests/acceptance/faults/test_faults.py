"""Every case, on PostgreSQL, and those that are about no server's own database on SQLite too; a table at the end.

A few are played in every run of the tests; `make faults` plays them all. A case that needs what is not there says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from tests.acceptance.faults import provider_cases, system_cases
from tests.acceptance.faults.case import Call, Case, Statement
from tests.acceptance.faults.rig import WITHIN, Rig, open_rig
from tests.acceptance.faults.stage import Stage, Tally
from tests.sandbox.faults import Gate
from tests.servers.trap import When

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(900),
    # Who is hung up on by a server that was killed leaves a connection of this process unclosed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ALL = os.environ.get("REVOQ_TEST_FAULTS") == "all"
FEW = {
    "worker killed after its delete was done",
    "FLUSHALL in the middle of a delete",
    "PostgreSQL is not heard by one worker",
    "reset after what must not be repeated",
    "a bomb in the answer to a look",
    "a look is redirected",
}
"""What is played in every run."""
AT_ONCE = provider_cases.CASES
ALONE = system_cases.CASES
GROUPS = {
    "the provider": AT_ONCE,
    "worker": system_cases.WORKER,
    "clock": system_cases.CLOCK,
    "broker": system_cases.BROKER,
    "database": system_cases.DATABASE,
}
REACHED = 30.0


def chosen(cases: Sequence[Case], kind: str) -> list[Case]:
    """Those that are played on this database in this run; few, where not all are, and then on PostgreSQL alone."""
    if not ALL:
        return [case for case in cases if case.name in FEW and kind == "postgresql"]
    return [case for case in cases if kind == "postgresql" or "postgresql" not in case.needs]


KINDS = ["postgresql", "sqlite"] if ALL else ["postgresql"]
PLAYED = [(kind, case) for kind in KINDS for case in [*chosen(AT_ONCE, kind), *chosen(ALONE, kind)]]


@dataclass
class Run:
    """All cases on one database: the rig, each case's stage, and which of them have begun."""

    rig: Rig
    cases: Sequence[Case]
    stages: dict[str, Stage]
    begun: dict[str, float] = field(default_factory=dict)

    def begin(self, case: Case) -> None:
        """Commit its jobs; more of them for what is played at once."""
        stage = self.stages[case.name]
        case.before(self.rig, stage)
        self.rig.submit(stage.cast(case.jobs))
        self.begun[case.name] = time.monotonic()

    def play(self, case: Case) -> Tally:
        """Begin, hurt, mend, and see how it ends."""
        stage, rig = self.stages[case.name], self.rig
        if case in AT_ONCE:
            self.begin_all()
            case.mend(rig, stage)
        else:
            self.strike(case, stage)
        jobs = rig.settle(stage, waits=case.waits, within=WITHIN)
        tally = Tally()
        stage.judge(jobs, rig.lost(stage), case.allowed, tally)
        return tally

    def begin_all(self) -> None:
        """What hurts nobody else is begun together, by the first of them."""
        for each in self.cases:
            if each in AT_ONCE and each.name not in self.begun:
                self.begin(each)

    def strike(self, case: Case, stage: Stage) -> None:
        """Hurt it at its moment, and make it whole again."""
        rig = self.rig
        rig.tidy()
        case.before(rig, stage)
        gates: list[Gate] = []
        if isinstance(case.at, Call):
            gates.append(stage.hold(case.at.method, after=case.at.after, path=case.at.path, skip=case.at.skip))
        if isinstance(case.at, Statement):
            rig.strike_at(
                case.at.begins,
                case.at.skip,
                When.AFTER if case.at.after else When.BEFORE,
                lambda: case.hurt(rig, stage),
            )
        rig.submit(stage.cast(case.jobs))
        try:
            for gate in gates:
                assert gate.reached.wait(REACHED), f"no {case.at} came:\n{rig.system.logs()[-3000:]}"
            if isinstance(case.at, Statement):
                assert rig.tap.sprung.wait(WITHIN), f"no {case.at} came"
            else:
                case.hurt(rig, stage)
            if not case.late:
                open_gates(gates)
            case.mend(rig, stage)
        finally:
            open_gates(gates)
        if case.late:
            time.sleep(2.0)


def open_gates(gates: Sequence[Gate]) -> None:
    """Let the held requests go on."""
    for gate in gates:
        gate.opened.set()


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Run]]:
    """The run on each kind of database, made when the first case wants it; one is over before the next begins."""
    open_ones: dict[str, tuple[Run, object]] = {}

    def close() -> None:
        for _, opened in open_ones.values():
            opened.__exit__(None, None, None)  # type: ignore[attr-defined]
        open_ones.clear()

    def give(kind: str) -> Run:
        if kind not in open_ones:
            close()
            folder = tmp_path_factory.mktemp(kind)
            asked = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
            cases = [params["case"] for params in asked if params.get("kind") == kind and "case" in params]
            stages = {
                case.name: Stage(f"case-{number}", folder / f"case-{number}", case.where, case.more)
                for number, case in enumerate(cases)
            }
            opened = open_rig(folder, kind, list(stages.values()))
            open_ones[kind] = (Run(opened.__enter__(), cases, stages), opened)
        return open_ones[kind][0]

    yield give
    close()


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        pytest.param(kind, case, id=f"{kind}: {case.name}", marks=pytest.mark.xdist_group(f"faults {kind}"))
        for kind, case in PLAYED
    ],
)
def test_what_holds_whatever_is_hurt(
    runs: Callable[[str], Run], kind: str, case: Case, record_property: Callable[[str, object], None]
) -> None:
    """No job is lost, no step that must not be repeated takes effect twice, and no verdict is untrue."""
    run = runs(kind)
    if "disk" in case.needs and run.rig.small is None:
        pytest.skip("a small disk can be mounted by root alone")
    group = next(name for name, cases in GROUPS.items() if case in cases)

    tally = run.play(case)

    record_property("faults", [f"{group}, {kind}", 1, tally.jobs, tally.lost, tally.doubled, tally.wrong])
    assert not tally.says, f"{case.holds}\n" + "\n".join(tally.says) + f"\n{run.rig.system.logs()[-4000:]}"


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.xdist_group(f"faults {kind}")) for kind in KINDS]
)
def test_the_trail_is_whole_after_all_of_it(runs: Callable[[str], Run], kind: str) -> None:
    """Whatever was killed, no row of any chain is missing or edited."""
    told = runs(kind).rig.system.revoq("audit", "verify")
    assert told.returncode == 0, told.stdout + told.stderr
