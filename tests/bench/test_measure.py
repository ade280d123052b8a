"""The table's arithmetic, and that every row of it is there."""

from __future__ import annotations

import pytest

from bench.measure import Goal, Line, interleave, middle, ratios
from bench.rows.messages import promises_of
from bench.rows.table import GROUPS, ROWS
from bench.soak import Sample, judge, parts


def line(goal: Goal, *found: float) -> Line:
    """One with these pairs."""
    return Line("B1", "ours ÷ theirs", goal, found, "2 ÷ 1 a second")


def test_every_row_is_there_once() -> None:
    """B1 to B13, each measured by one group."""
    assert list(ROWS) == [f"B{number}" for number in range(1, 14)]
    assert sum(len(group.rows) for group in GROUPS) == 13


class TestLine:
    def test_the_ratio_is_the_median_of_all_pairs(self) -> None:
        """One pair that a neighbour disturbed moves the spread and not the ratio."""
        measured = line(Goal(0.5), 0.52, 0.6, 0.55, 0.51, 9.0)

        assert measured.ratio == 0.55
        assert measured.spread == (0.51, 9.0)

    @pytest.mark.parametrize(
        ("goal", "ratio", "met"),
        [
            (Goal(0.5), 0.5, True),
            (Goal(0.5), 0.499, False),
            (Goal(1.2, at_most=True), 1.2, True),
            (Goal(1.2, at_most=True), 1.201, False),
        ],
    )
    def test_a_goal_is_met_from_its_limit_on(self, goal: Goal, ratio: float, met: bool) -> None:  # noqa: FBT001
        """At least and at most are told apart."""
        assert line(goal, ratio).met is met

    def test_a_goal_says_its_direction(self) -> None:
        """As it stands in the table."""
        assert (str(Goal(0.5)), str(Goal(1.2, at_most=True))) == ("≥ 0.5", "≤ 1.2")


class TestInterleave:
    def test_each_round_has_every_side_and_another_one_begins(self) -> None:
        """What a round gives is in the order of the sides, whichever was measured first."""
        said: list[str] = []

        def side(name: str, value: float) -> float:
            said.append(name)
            return value

        rounds = interleave([lambda: side("ours", 2.0), lambda: side("theirs", 4.0)], 3)

        assert said == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
        assert rounds == [(2.0, 4.0)] * 3
        assert ratios(rounds) == (0.5, 0.5, 0.5)

    def test_ratios_are_made_within_a_round(self) -> None:
        """A machine that got twice as slow between two rounds changes no ratio."""
        rounds = [(2.0, 4.0, 1.0), (1.0, 2.0, 0.5)]

        assert ratios(rounds, 1, 2) == (4.0, 4.0)
        assert middle(rounds, 0) == 1.5


class TestSoak:
    def samples(self, memory: list[float], files: list[float]) -> list[Sample]:
        """Five for each tenth of a hundred jobs."""
        return [Sample(settled, memory[settled // 10], 5, files[settled // 10], 40) for settled in range(0, 100, 2)]

    def test_the_last_tenth_is_held_against_the_second(self) -> None:
        """What a worker needs to get going, in the first tenth, is no growth."""
        found = judge(self.samples([50, 100, *[103] * 8], [30] * 10), 100)

        assert (found["growth"], found["leaked"], found["flat"]) == (1.03, [], True)

    def test_growth_and_leaks_are_told(self) -> None:
        """More than five per cent of memory, or a few more files."""
        found = judge(self.samples([50, 100, *[106] * 8], [30, 30, *[36] * 8]), 100)

        assert (found["growth"], found["leaked"], found["flat"]) == (1.06, ["files"], False)

    def test_too_few_jobs_are_refused(self) -> None:
        """Nobody is told that nothing grew where nothing was seen."""
        with pytest.raises(ValueError, match="take more"):
            judge([Sample(0, 1, 1, 1, 1), Sample(100, 1, 1, 1, 1)], 100)

    def test_parts_add_up(self) -> None:
        """No job is forgotten, and no batch is empty."""
        assert parts(23, 10) == [3, 3, 3, *[2] * 7]
        assert parts(2, 10) == [1, 1]


@pytest.mark.parametrize(
    ("statement", "promise"),
    [
        ("INSERT INTO audit (job) VALUES (1)", "6"),
        ("WITH x AS (SELECT 1 FROM jobs) UPDATE jobs SET fence = 1", "3"),
        ("INSERT INTO steps (job) SELECT id FROM jobs", "4"),
        ("SELECT jobs.id FROM jobs JOIN batches ON true", "3"),
        ("SELECT 1 FROM rainbows", "none"),
    ],
)
def test_a_statement_is_told_by_what_it_writes(statement: str, promise: str) -> None:
    """What it only looks at on the way does not count."""
    (told,) = promises_of(statement)
    assert told.startswith(f"{promise}:")


def test_statements_in_one_are_told_one_by_one() -> None:
    """What a transaction writes at once keeps as many promises as it has parts."""
    whole = (
        "WITH moved AS (UPDATE jobs SET says=%(says_0)s WHERE jobs.id = %(this_0)s RETURNING 1), "
        "then_2 AS (UPDATE steps SET state=%(state_2)s WHERE EXISTS (SELECT 1 FROM moved)) "
        "INSERT INTO audit (job) SELECT %(new_job_1)s FROM moved"
    )
    assert [told[0] for told in promises_of(whole)] == ["3", "4", "6"]
