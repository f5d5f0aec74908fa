"""Running tasks: what is cached is skipped, errors are collected, Ctrl-C is reported."""

from pathlib import Path
from typing import Any

import pytest

from analysis.config.execution import ExecutionConfig
from analysis.execution import Cache, NotStarted, Task, TaskResult, pending, run_tasks
from analysis.execution.interruption import Interrupted, TrainingInterrupted
from analysis.execution.progress import Reporter

CALLS: list[str] = []


class Notes(Reporter):
    """Keeps messages."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


def note(folder: Path, *, name: str) -> TaskResult:
    CALLS.append(name)
    return TaskResult(values={"name": name})


def fail(folder: Path, *, name: str) -> TaskResult:
    CALLS.append(name)
    raise ValueError(f"{name} is bad")


def stop(folder: Path, *, name: str) -> TaskResult:
    raise KeyboardInterrupt


def stop_training(folder: Path, *, name: str) -> TaskResult:
    raise TrainingInterrupted(Path("run"), 3)


def task(folder: Path, name: str, *after: Task, function: Any = note, **options: Any) -> Task:
    keys = tuple(each.key for each in after)
    return Task(name, function, {"name": name}, after=keys, cache=Cache(folder), **options)


def serial(reporter: Reporter | None = None) -> ExecutionConfig:
    return ExecutionConfig(executor="serial", progress=reporter)


def test_cached_results_are_not_computed_again(tmp_path: Path) -> None:
    first = task(tmp_path, "first")
    tasks = [first, task(tmp_path, "second", first)]
    assert run_tasks(tasks[:1], serial()) == {}
    assert run_tasks(tasks, serial()) == {}
    assert CALLS == ["first", "second"]
    assert run_tasks(tasks, serial()) == {}
    assert CALLS == ["first", "second"]


def test_a_task_that_several_sets_share_is_run_once_before_all_that_need_it(tmp_path: Path) -> None:
    shared = task(tmp_path, "shared")
    tasks = [shared, task(tmp_path, "one", shared), task(tmp_path, "shared"), task(tmp_path, "two", shared)]
    assert [each.name for each in pending(tasks)] == ["shared", "one", "two"]
    run_tasks(tasks, serial())
    assert CALLS == ["shared", "one", "two"]


def test_a_task_that_measures_time_runs_last_and_not_if_one_that_it_needs_failed(tmp_path: Path) -> None:
    bad = task(tmp_path, "bad", function=fail)
    alone = [task(tmp_path, "timed", alone=True), task(tmp_path, "lost", bad, alone=True)]
    run_tasks([*alone, bad, task(tmp_path, "other")], serial())
    assert CALLS == ["bad", "other", "timed"]


def test_tasks_that_measure_time_form_chains_that_end_at_an_error(tmp_path: Path) -> None:
    bad = task(tmp_path, "bad", function=fail, alone=True)
    lost = task(tmp_path, "lost", bad, alone=True)
    errors = run_tasks([bad, lost, task(tmp_path, "last", lost, alone=True)], serial())
    assert CALLS == ["bad"]
    assert list(errors) == [bad.key]


def test_no_task_can_need_one_that_runs_after_it(tmp_path: Path) -> None:
    timed = task(tmp_path, "timed", alone=True)
    with pytest.raises(ValueError, match=r"needs 'timed-\w+', which runs alone after all others"):
        run_tasks([timed, task(tmp_path, "other", timed)], serial())
    assert CALLS == []


def test_one_error_is_left_to_the_caller(tmp_path: Path) -> None:
    notes, bad = Notes(), task(tmp_path, "bad", function=fail)
    ended: list[tuple[str, bool]] = []
    errors = run_tasks(
        [bad, task(tmp_path, "after", bad), task(tmp_path, "good")],
        serial(notes),
        on_end=lambda task, error: ended.append((task.name, error is None)),
    )
    assert list(errors) == [bad.key]
    assert str(errors[bad.key]) == "bad is bad"
    assert notes.messages == []
    assert ended == [("bad", False), ("good", True)]
    assert not any(isinstance(error, NotStarted) for error in errors.values())


def test_the_first_of_many_errors_are_reported_and_the_rest_counted(tmp_path: Path) -> None:
    notes = Notes()
    errors = run_tasks([task(tmp_path, f"t{n:02d}", function=fail) for n in range(12)], serial(notes))
    assert len(errors) == 12
    assert len(notes.messages) == 11
    assert notes.messages[0].endswith("t00: t00 is bad")
    assert notes.messages[-1] == "12 tasks failed; the results of all others are kept."


def test_errors_of_equal_tasks_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    notes = Notes()
    run_tasks([task(tmp_path / name, "bad", function=fail) for name in ("a", "b")], serial(notes))
    assert notes.messages == [
        f"{tmp_path / 'a'}, bad: bad is bad",
        f"{tmp_path / 'b'}, bad: bad is bad",
        "2 tasks failed; the results of all others are kept.",
    ]


@pytest.mark.parametrize("function", [stop, stop_training])
def test_ctrl_c_reports_how_many_results_are_kept(tmp_path: Path, function: Any) -> None:
    tasks = [task(tmp_path, "first", cost=2.0), task(tmp_path, "stops", function=function), task(tmp_path, "last")]
    with pytest.raises(Interrupted, match=r"^Stopped; 1 of 3 tasks are done and kept\. Continue with the same command"):
        run_tasks(tasks, serial())
    assert [each.name for each in pending(tasks)] == ["stops", "last"]


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_every_executor_stores_the_same(tmp_path: Path, executor: str) -> None:
    first = task(tmp_path, "first")
    tasks = [first, *(task(tmp_path, f"t{n}", first) for n in range(3))]
    assert run_tasks(tasks, ExecutionConfig(executor=executor, jobs=2)) == {}
    assert [each.result().values["name"] for each in tasks] == ["first", "t0", "t1", "t2"]
