"""The log and the status of a run."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import checkpoints.metadata
import checkpoints.run
from checkpoints import Damaged, Run, Stimuli
from tests.checkpoints.small_runs import contents


def test_metrics_come_back_as_they_were_logged(run: Run) -> None:
    records = [{"step": step, "loss": 1 / (step + 1), "note": "é\n", "inner": {"a": [1, None]}} for step in range(3)]
    for record in records:
        run.log(record)
    assert run.metrics() == Run.open(run.path).metrics() == records


def test_numbers_that_are_not_finite_become_null_at_any_depth(run: Run) -> None:
    bad = [float("nan"), float("inf"), -float("inf"), np.float64("nan")]
    run.log({"step": 1, "loss": bad[0], "losses": {"10": bad, "20": (1.5, bad[0])}})
    assert run.metrics() == [{"step": 1, "loss": None, "losses": {"10": [None] * 4, "20": [1.5, None]}}]


def test_values_that_json_lacks_are_not_logged(run: Run) -> None:
    run.log({"step": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        run.log({"step": 2, "losses": torch.ones(2)})
    run.log({"step": 3})
    assert run.metrics() == [{"step": 1}, {"step": 3}]


def test_a_torn_last_line_is_ignored_and_gone_once_the_run_is_resumed(recorded: Path, stimuli: Stimuli) -> None:
    whole = Run.open(recorded).metrics()
    with (recorded / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    assert Run.open(recorded).metrics() == whole
    Run.open(recorded).verify()
    with Run.resume(recorded, stimuli) as run:
        run.log({"step": 6})
        assert run.metrics() == [*whole, {"step": 6}]


def test_a_run_without_its_log_is_damaged(recorded: Path, stimuli: Stimuli) -> None:
    (recorded / "metrics.jsonl").unlink()
    for act in (Run.metrics, Run.verify):
        with pytest.raises(Damaged, match=rf"{recorded}/metrics\.jsonl is missing or not a regular file"):
            act(Run.open(recorded))
    with pytest.raises(Damaged, match=rf"{recorded}/metrics\.jsonl is missing"):
        Run.resume(recorded, stimuli)


def test_metrics_are_cut_after_a_step(recorded: Path, stimuli: Stimuli) -> None:
    with Run.resume(recorded, stimuli) as run:
        run.cut_metrics(5)
        assert [record["step"] for record in run.metrics()] == [1, 5]
        with pytest.raises(ValueError, match="has a checkpoint of step 5; move it out of the run before"):
            run.cut_metrics(4)
        shutil.rmtree(run.path / "checkpoints" / "step_00000005")
        run.cut_metrics(4)
        assert [record["step"] for record in run.metrics()] == [1]
        assert run.verify() == [0]
        with pytest.raises(TypeError, match="The step of a metric is None; expected a whole number"):
            run.log({"note": "no step"})
        run.log({"step": 5, "loss": 0.2})
        assert run.metrics()[-1] == {"step": 5, "loss": 0.2}


def test_the_status_is_the_last_one_set(run: Run) -> None:
    for state in ("running", "interrupted", "running", "finished"):
        run.set_status(state, step=3)
        for seen in (run.status, Run.open(run.path).status):
            assert (seen["state"], seen["step"]) == (state, 3)
    run.set_status("diverged", loss=float("nan"))
    assert run.status.keys() == {"state", "time", "loss"}
    assert run.status["loss"] is None


def test_a_status_that_is_not_json_changes_nothing(run: Run) -> None:
    run.set_status("running")
    before = contents(run.path)
    with pytest.raises(TypeError, match="not JSON serializable"):
        run.set_status("finished", model=object())
    assert contents(run.path) == before
    assert run.info["status"] == run.status
    assert run.status["state"] == "running"


def test_a_run_marked_as_running_without_a_writer_is_stopped(run: Run, stimuli: Stimuli) -> None:
    run.set_status("running")
    run.close()
    assert Run.open(run.path).status["state"] == "stopped"
    with Run.resume(run.path, stimuli) as resumed:
        assert resumed.status["state"] == Run.open(run.path).status["state"] == "running"
        resumed.set_status("finished")
    assert Run.open(run.path).status["state"] == "finished"


def test_a_run_that_finishes_while_its_status_is_read_is_not_reported_as_stopped(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish_meanwhile(path: Path) -> bool:
        run.set_status("finished")
        run.close()
        return False

    run.set_status("running")
    monkeypatch.setattr(checkpoints.run, "is_locked", finish_meanwhile)
    assert Run.open(run.path).status["state"] == "finished"


@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.checkpoint(9, nn.Linear(1, 1)),
        lambda run: run.log({"step": 9}),
        lambda run: run.cut_metrics(0),
        lambda run: run.set_status("finished"),
    ],
)
def test_a_run_that_was_opened_for_reading_is_not_written(recorded: Path, write: Callable[[Run], Any]) -> None:
    before = contents(recorded)
    message = f"{recorded} was opened for reading; use Run.create or Run.resume to write"
    with pytest.raises(PermissionError, match=message):
        write(Run.open(recorded))
    assert contents(recorded) == before


def test_a_closed_run_is_not_written(run: Run) -> None:
    run.close()
    run.close()
    with pytest.raises(PermissionError, match="was opened for reading"):
        run.log({"step": 1})


def test_lines_logged_before_a_commit_are_never_cut(recorded: Path, stimuli: Stimuli, network: nn.Module) -> None:
    with Run.resume(recorded, stimuli) as run:
        run.log({"step": 10})
        run.checkpoint(9, network)
        run.log({"step": 11})
        run.cut_metrics(9)
        assert [record["step"] for record in run.metrics()][-1] == 10
        assert run.verify() == [0, 5, 9]


def test_numbers_of_numpy_and_torch_are_logged(run: Run) -> None:
    run.log({"step": np.int64(3), "loss": torch.tensor(0.5), "parts": [np.float32(0.25), torch.tensor(float("nan"))]})
    assert run.metrics() == [{"step": 3, "loss": 0.5, "parts": [0.25, None]}]


def test_threads_may_log_at_once(run: Run) -> None:
    def log(first: int) -> None:
        for step in range(first, first + 100):
            run.log({"step": step})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(log, [0, 100, 200, 300]))
    assert sorted(record["step"] for record in run.metrics()) == list(range(400))
    run.set_status("finished")
    assert run.verify() == []
