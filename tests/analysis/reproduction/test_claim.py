from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.execution import Cache, Task
from analysis.reproduction.claim import Claim, Frames, Plan, Results, Section, claim_task, verdict_of

THIRD = 1 / 3


def work(folder: Path, *, x: float | None = 0.1) -> Frames:
    table = {"x": [x, THIRD], "name": ["None", "NA"], "nothing": [np.nan, 1.0]}
    return {"numbers": pd.DataFrame(table), "empty": pd.DataFrame()}


def other(folder: Path, *, x: float) -> Frames:
    return {}


def claim(*tasks: Task) -> Claim:
    return Claim(
        name="one",
        title="One",
        statement="[M] One.",
        parts=lambda plan: tasks,
        conclude=lambda results: Section(setting="-", verdict="holds", findings=["-"], tables=results.tables),
        figures=lambda results, section: [],
    )


def computed(folder: Path, *values: float | None) -> Results:
    tasks = [replace(claim_task("one", work, cost=1.0, x=x), cache=Cache(folder)) for x in values]
    for task in reversed(tasks):
        task.run()
    return Results.read(tasks, Plan(), folder)


# Plan


@pytest.mark.parametrize("seeds", [(), (0,), (0, 1, 2)])
def test_fewer_than_four_seeds_are_rejected(seeds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"^{len(seeds)} seeds .* expected 4 or more"):
        Plan(seeds=seeds)


def test_seeds_reserved_for_reference_networks_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"Seed 1000000 .* below 1,000,000"):
        Plan(seeds=(0, 1, 2, 1_000_000))


def test_an_unknown_scale_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"'huge'.*quick, full"):
        Plan(scale="huge")


def test_quick_scale_has_few_digits_and_three_seeds_for_long_tasks() -> None:
    quick, full = Plan(), Plan(scale="full")
    assert (quick.dataset, quick.few_seeds) == ("mnist5k", (0, 1, 2))
    assert (full.dataset, full.few_seeds) == ("mnist", full.seeds)


# Tasks


@pytest.mark.parametrize("changes", [{"x": 0.2}, {"name": "two"}, {"function": other}])
def test_keys_follow_from_name_function_and_inputs(changes: dict[str, Any]) -> None:
    given = {"name": "one", "function": work, "x": 0.1}
    first, second = (
        claim_task(each["name"], each["function"], cost=1.0, x=each["x"]) for each in (given, given | changes)
    )
    assert first.key != second.key


def test_keys_change_with_the_version_of_repsim(monkeypatch: pytest.MonkeyPatch) -> None:
    before = claim_task("one", work, cost=1.0).key
    monkeypatch.setattr("repsim.__version__", "0.0.0")
    assert claim_task("one", work, cost=1.0).key != before


def test_a_task_that_is_listed_twice_is_kept_once(tmp_path: Path) -> None:
    task = claim_task("one", work, cost=1.0)
    (only,) = claim(task, task).tasks(Plan(), Cache(tmp_path))
    assert only.key == task.key


def test_a_task_that_needs_one_that_does_not_come_before_it_is_rejected(tmp_path: Path) -> None:
    first = claim_task("first", work, cost=1.0)
    second = claim_task("second", work, cost=1.0, after=[first])
    assert len(claim(first, second).tasks(Plan(), Cache(tmp_path))) == 2
    for tasks in ([second], [second, first]):
        with pytest.raises(ValueError, match=r"'second-\w+' needs 'first-\w+', which is not among the tasks before it"):
            claim(*tasks).tasks(Plan(), Cache(tmp_path))


# Results


def test_tables_are_read_back_bit_for_bit_without_those_that_are_empty(tmp_path: Path) -> None:
    results = computed(tmp_path, 0.1)
    assert list(results.tables) == ["numbers"]
    pd.testing.assert_frame_equal(results["numbers"], work(tmp_path)["numbers"], check_exact=True)


def test_tables_of_equal_name_are_concatenated_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    assert computed(tmp_path, 3.0, 1.0, 2.0)["numbers"]["x"].tolist() == [3.0, THIRD, 1.0, THIRD, 2.0, THIRD]


def test_none_among_numbers_is_read_as_nan(tmp_path: Path) -> None:
    column = computed(tmp_path, 1, None, 2.5)["numbers"]["x"]
    assert column.dtype == "float64"
    np.testing.assert_array_equal(column, [1, THIRD, np.nan, THIRD, 2.5, THIRD])


# Section


def test_an_unknown_verdict_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"'perhaps'.*holds, holds in part, does not"):
        Section(setting="", verdict="perhaps", findings=[], tables={})


@pytest.mark.parametrize(
    ("held", "verdict"),
    [([True, True], "holds"), ([False, True], "holds in part"), ([False, False], "does not hold")],
)
def test_a_claim_holds_in_part_if_some_conditions_hold(held: list[bool], verdict: str) -> None:
    assert verdict_of(held) == verdict
