from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.reproduction.claim import ClaimTask, Frames, Plan
from analysis.reproduction.parts import Assignment, is_done, perform, read_results

CALLS: list[dict[str, Any]] = []
THIRD = 1 / 3


def work(folder: Path, **settings: Any) -> Frames:
    CALLS.append(settings)
    if settings.get("fails"):
        raise ArithmeticError("no")
    return {"numbers": pd.DataFrame({"x": [settings["x"], THIRD], "name": ["None", "NA"], "nothing": [np.nan, 1.0]})}


TASK = ClaimTask("tests", "one", work, {"x": 0.1}, cost=1.0)


@pytest.fixture(autouse=True)
def forget() -> None:
    CALLS.clear()


def test_a_task_runs_once(tmp_path: Path) -> None:
    assert not is_done(TASK, tmp_path)
    perform(Assignment(TASK, tmp_path))
    assert is_done(TASK, tmp_path)
    perform(Assignment(TASK, tmp_path))
    assert CALLS == [{"x": 0.1}]


def test_tables_are_read_back_bit_for_bit(tmp_path: Path) -> None:
    perform(Assignment(TASK, tmp_path))
    table = read_results([TASK], Plan(), tmp_path)["numbers"]
    pd.testing.assert_frame_equal(table, work(tmp_path, x=0.1)["numbers"], check_exact=True)


def test_tables_of_equal_name_are_concatenated_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    tasks = [replace(TASK, settings={"x": x}) for x in (3.0, 1.0, 2.0)]
    for task in reversed(tasks):
        perform(Assignment(task, tmp_path))
    assert read_results(tasks, Plan(), tmp_path)["numbers"]["x"].tolist() == [3.0, THIRD, 1.0, THIRD, 2.0, THIRD]


def test_other_settings_are_another_task(tmp_path: Path) -> None:
    perform(Assignment(TASK, tmp_path))
    assert not is_done(replace(TASK, settings={"x": 0.2}), tmp_path)
    assert not is_done(replace(TASK, group="others"), tmp_path)


def test_a_task_that_fails_leaves_nothing(tmp_path: Path) -> None:
    failing = replace(TASK, settings={"fails": True})
    with pytest.raises(ArithmeticError):
        perform(Assignment(failing, tmp_path))
    assert not is_done(failing, tmp_path)
    assert not list(tmp_path.rglob("*.csv"))
