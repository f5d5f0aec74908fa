from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.execution import Cache, Task
from analysis.reproduction.claim import ClaimTask, Frames, Plan
from analysis.reproduction.claim_results import cached_tasks, read_results

THIRD = 1 / 3


def work(folder: Path, **settings: Any) -> Frames:
    (folder / "called").touch()
    table = {"x": [settings["x"], THIRD], "name": ["None", "NA"], "nothing": [np.nan, 1.0], "none": [None, None]}
    return {"numbers": pd.DataFrame(table), "empty": pd.DataFrame()}


def other(folder: Path, **settings: Any) -> Frames:
    return {}


def task(folder: Path, x: float = 0.1, **changes: Any) -> Task:
    part = ClaimTask("tests", "one", work, {"x": x}, cost=1.0)
    (made,) = cached_tasks([replace(part, **changes)], Cache(folder))
    return made


def test_tables_are_read_back_bit_for_bit_and_empty_ones_left_out(tmp_path: Path) -> None:
    first = task(tmp_path)
    first.run()
    results = read_results([first], Plan(), tmp_path)
    assert list(results.tables) == ["numbers"]
    expected = work(tmp_path, x=0.1)["numbers"].astype({"none": "float64"})  # as numbers of other tasks stand below
    pd.testing.assert_frame_equal(results["numbers"], expected, check_exact=True)


def test_a_column_of_numbers_and_none_can_be_joined_with_numbers(tmp_path: Path) -> None:
    tasks = [task(tmp_path, x) for x in (1, None, 2.5)]
    for each in tasks:
        each.run()
    column = read_results(tasks, Plan(), tmp_path)["numbers"]["x"]
    assert column.dtype == "float64"
    np.testing.assert_array_equal(column, [1, THIRD, np.nan, THIRD, 2.5, THIRD])


def test_tables_of_equal_name_are_concatenated_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    tasks = [task(tmp_path, x) for x in (3.0, 1.0, 2.0)]
    for each in reversed(tasks):
        each.run()
    assert read_results(tasks, Plan(), tmp_path)["numbers"]["x"].tolist() == [3.0, THIRD, 1.0, THIRD, 2.0, THIRD]


@pytest.mark.parametrize(
    "changes", [{"settings": {"x": 0.2}}, {"group": "others"}, {"name": "two"}, {"function": other}]
)
def test_other_settings_functions_and_names_are_another_task(tmp_path: Path, changes: dict[str, Any]) -> None:
    task(tmp_path).run()
    assert task(tmp_path).is_done()
    assert not task(tmp_path, **changes).is_done()


def test_another_version_of_repsim_runs_its_tasks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task(tmp_path).run()
    monkeypatch.setattr("repsim.__version__", "0.0.0")
    assert not task(tmp_path).is_done()


def test_a_task_that_needs_an_unknown_task_is_refused(tmp_path: Path) -> None:
    part = ClaimTask("tests", "one", work, {"x": 1.0}, cost=1.0, after=("tests/zero-00000000",))
    with pytest.raises(ValueError, match=r"needs 'tests/zero-00000000', which is not among the tasks before it"):
        cached_tasks([part], Cache(tmp_path))


def test_tasks_that_differ_in_their_function_alone_are_refused(tmp_path: Path) -> None:
    part = ClaimTask("tests", "one", work, {"x": 1.0}, cost=1.0)
    assert len(cached_tasks([part, part], Cache(tmp_path))) == 1
    with pytest.raises(ValueError, match="differ in their function; give them other names"):
        cached_tasks([part, replace(part, function=other)], Cache(tmp_path))
