"""Tasks: their keys, their order, and the way in which their results are stored."""

import math
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.execution.cache import Cache, TaskResult
from analysis.execution.task import FunctionByName, NotStarted, Task, TaskGraph, pack, perform
from repsim.learning import TrainingConfig


def nothing(**_: Any) -> None:
    pass


def other(**_: Any) -> None:
    pass


@dataclass(frozen=True)
class Grid:
    limits: tuple[float, float]


def task(name: str, *after: Task, cost: float = 1.0, **options: Any) -> Task:
    return Task(name, nothing, {"name": name}, after=tuple(each.key for each in after), cost=cost, **options)


# Keys


def test_a_function_by_name_has_the_key_of_the_function_and_is_imported_when_it_runs() -> None:
    by_name = FunctionByName("tests.no.such:function")
    assert Task("t", by_name).key.startswith("t-")
    with pytest.raises(ModuleNotFoundError):
        by_name()
    same = FunctionByName("analysis.execution.task:pack")
    assert Task("t", same).key == Task("t", pack).key != Task("t", by_name).key


def test_a_key_follows_from_the_function_its_version_and_its_inputs() -> None:
    first = Task("a", nothing, {"x": 1, "y": (1.5, "b")})
    assert Task("a", nothing, {"y": [1.5, "b"], "x": 1}, after=("b",), cost=9.0).key == first.key
    others = [
        Task("a", nothing, {"x": 2, "y": (1.5, "b")}),
        Task("a", nothing, {"x": 1, "y": (1.5, "b")}, version=2),
        Task("a", other, {"x": 1, "y": (1.5, "b")}),
    ]
    assert len({each.key for each in (first, *others)}) == 4


def test_paths_functions_and_configurations_stand_in_keys_by_their_content() -> None:
    inputs = {"path": Path("a"), "function": nothing, "training": TrainingConfig(), "grid": Grid((0.0, 1.0))}
    same = {**inputs, "training": TrainingConfig(), "grid": Grid((0.0, 1.0))}
    assert Task("a", nothing, inputs).key == Task("a", nothing, same).key
    others = [
        {"path": Path("b")},
        {"function": other},
        {"training": TrainingConfig(seed=1)},
        {"grid": Grid((0.0, 2.0))},
    ]
    for changed in others:
        assert Task("a", nothing, inputs | changed).key != Task("a", nothing, inputs).key


@pytest.mark.parametrize("value", [object(), lambda: 1, partial(nothing, x=1)])
def test_what_cannot_stand_in_a_key_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"cannot be part of a task's key\. Use JSON-ready values, paths, fun"):
        _ = Task("a", nothing, {"x": value}).key


# Order


def order(graph: TaskGraph) -> list[str]:
    names = []
    while graph:
        ready = graph.pop()
        names.append(ready.name)
        assert graph.settle(ready, None) == []
    return names


def test_the_longest_chain_of_tasks_starts_first() -> None:
    short, long, start = task("short"), task("long", cost=4.0), task("start")
    end = task("end", start, cost=3.5)
    assert order(TaskGraph([short, long, start, end])) == ["start", "long", "end", "short"]


def test_a_task_becomes_ready_when_all_that_it_needs_has_ended() -> None:
    first, second = task("first"), task("second")
    graph = TaskGraph([first, second, task("both", first, second)])
    assert graph.settle(graph.pop(), None) == []
    assert graph.settle(graph.pop(), None) == []
    assert graph.pop().name == "both"
    assert not graph


def test_tasks_that_need_a_failed_one_are_not_started_each_once() -> None:
    fails = task("fails")
    first, second = task("first", fails), task("second", fails)
    graph = TaskGraph([fails, first, second, task("last", first, second)])
    lost = graph.settle(graph.pop(), ValueError("no good"))
    assert [each.name for each, _ in lost] == ["first", "last", "second"]
    assert all(isinstance(error, NotStarted) and "no good" in str(error) for _, error in lost)
    assert not graph


def test_an_impossible_order_is_refused() -> None:
    first = task("a")
    with pytest.raises(ValueError, match=r"^Task 'b-\w+' comes before 'a-\w+', which it needs\.$"):
        TaskGraph([task("b", first), first])
    with pytest.raises(ValueError, match=r"^1 tasks have the same key as another task; expected unique keys\.$"):
        TaskGraph([first, first])


def test_equal_tasks_of_two_caches_are_two(tmp_path: Path) -> None:
    pair = [task("a", cache=Cache(tmp_path / name)) for name in "xy"]
    assert pair[0].key == pair[1].key
    assert order(TaskGraph(pair)) == ["a", "a"]


# Results


def compute(folder: Path, *, x: float) -> TaskResult:
    warnings.warn("careful", RuntimeWarning, stacklevel=1)
    warnings.warn("old", DeprecationWarning, stacklevel=1)
    return TaskResult(values={"root": math.sqrt(x)}, warnings=["first"])


def tabulate(folder: Path, *, x: float) -> dict[str, pd.DataFrame]:
    (folder / "called").touch()
    return {"numbers": pd.DataFrame({"x": [x]})}


def test_a_result_is_stored_with_the_warnings_of_its_task(tmp_path: Path) -> None:
    root = Task("root", compute, {"x": 4.0}, cache=Cache(tmp_path))
    assert not root.is_done()
    perform(pack(root))
    assert root.is_done()
    assert root.result().values == {"root": 2.0}
    assert root.result().warnings == ("first", "careful")


def test_a_stored_result_is_not_computed_again_until_the_version_is_raised(tmp_path: Path) -> None:
    first = Task("numbers", tabulate, {"x": 1 / 3}, cache=Cache(tmp_path))
    first.run()
    (tmp_path / "called").unlink()
    Task("numbers", tabulate, {"x": 1 / 3}, cache=Cache(tmp_path)).run()
    assert not (tmp_path / "called").exists()
    assert first.result().tables["numbers"]["x"].tolist() == [1 / 3]
    Task("numbers", tabulate, {"x": 1 / 3}, version=2, cache=Cache(tmp_path)).run()
    assert (tmp_path / "called").exists()


def test_a_task_that_fails_stores_nothing(tmp_path: Path) -> None:
    failing = Task("root", compute, {"x": -1.0}, cache=Cache(tmp_path))
    with pytest.raises(ValueError, match="domain"), warnings.catch_warnings():
        failing.run()
    assert not failing.is_done()
    assert list(tmp_path.iterdir()) == []


def test_a_task_without_a_cache_has_no_result() -> None:
    with pytest.raises(ValueError, match=r"^Task 'a' has no cache"):
        task("a").result()


def test_a_few_of_many_tasks_of_a_name_start_first_the_cheapest_kind_before_others() -> None:
    many = [Task(name, nothing, {"number": n}, cost=cost) for name, cost in (("b", 2.0), ("a", 1.0)) for n in range(10)]
    single = Task("single", nothing, cost=50.0)
    names = [name[0] for name in order(TaskGraph([single, *many]))]
    assert names[:8] == ["a", "a", "a", "b", "b", "b", "s", "b"]
