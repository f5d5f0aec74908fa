"""The pipeline in its processes. Each takes seconds to start, so that what can be seen in one run is seen in one."""

import copy
import multiprocessing
import operator
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repsim.learning import (
    Diverged,
    Learner,
    TrainingConfig,
    build_learner,
    build_optimizer,
    load_dataset,
    split_dataset,
    train,
)
from repsim.learning.decoupled.pipeline import PipelineResult, StageReport, train_pipeline
from repsim.learning.decoupled.pipeline.process_group import run_together
from repsim.learning.decoupled.pipeline.stage_training import wants_target
from repsim.learning.decoupled.stages import split_into_stages

ROOT = Path(__file__).parents[4]
FEATURES, CLASSES, BATCH = 64, 10, 64


@pytest.fixture(autouse=True, scope="module")
def path_to_this_module() -> Iterator[None]:
    """New processes import the classes below by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield


@pytest.fixture(autouse=True)
def nobody_is_left_behind() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


class Slow(nn.Module):
    """A segment that takes its time."""

    def __init__(self, segment: nn.Module, seconds: float) -> None:
        super().__init__()
        self.segment, self.seconds = segment, seconds

    def forward(self, X: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return self.segment(X)


class Mortal(nn.Module):
    """A segment whose process is killed at the third batch."""

    def __init__(self, segment: nn.Module) -> None:
        super().__init__()
        self.segment, self.left = segment, 3

    def forward(self, X: Tensor) -> Tensor:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.segment(X)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    dataset = load_dataset("digits")
    rows = split_dataset(dataset, seed=0)["train"]
    return torch.from_numpy(dataset.X[rows]), torch.from_numpy(dataset.y[rows])


def config(rule: str, **settings: Any) -> TrainingConfig:
    small = {"depth": 5, "width": 32, "rule": rule, "epochs": 1, "batch_size": BATCH}
    return TrainingConfig.from_dict(small | settings)


def start(settings: TrainingConfig) -> Learner:
    return build_learner(settings, FEATURES, CLASSES, together=False)


def last_loss(steps: list[Any]) -> float:
    return statistics.mean(step.loss for step in steps if step.epoch == steps[-1].epoch)


def assert_same(one: nn.Module, other: nn.Module, tolerance: float) -> None:
    torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()), rtol=0.0, atol=tolerance)


# The locked schedule

RULES = (
    "feedback-alignment@1 + direct-feedback-alignment@5 + synthetic-gradient:observe=true@3 + "
    "synthetic-input:label_conditioned=true@1,5"
)
LOCKED = config(RULES, schedule="cosine", epochs=2, seed=3)


@pytest.fixture(scope="module")
def locked(digits: tuple[Tensor, Tensor]) -> tuple[PipelineResult, Learner, Learner]:
    """Return backprop across two cuts with a slow top, the learner that was given, and one that is to be trained."""
    X, y = digits
    given, other = (start(LOCKED).double() for _ in range(2))
    slowed = copy.deepcopy(given)
    slowed.network.output = Slow(slowed.network.output, 0.002)
    return train_pipeline(slowed, X.double(), y, LOCKED, cuts=[2, 4], in_flight=3), slowed, other


def test_the_locked_pipeline_is_the_synchronous_run(
    locked: tuple[PipelineResult, Learner, Learner], digits: tuple[Tensor, Tensor]
) -> None:
    result, _, other = locked
    X, y = digits
    steps = list(train(other, build_optimizer(other, LOCKED), X.double(), y, LOCKED))
    assert len(result.steps) == len(steps) == 2 * (len(y) // BATCH)
    for step, expected in zip(result.steps, steps, strict=True):
        assert (step.step, step.epoch, step.accuracy) == (expected.step, expected.epoch, expected.accuracy)
        assert step.loss == pytest.approx(expected.loss, abs=1e-10)
        assert step.estimator_losses == pytest.approx(expected.estimator_losses, abs=1e-10)
        assert step.estimator_losses.keys() == {3}
        assert step.input_losses == pytest.approx(expected.input_losses, abs=1e-10)
        assert step.input_losses.keys() == {1, 5}
    result.learner.network.output = result.learner.network.output.segment
    assert_same(result.learner, other, 1e-10)


def test_a_locked_stage_never_gets_ahead(
    locked: tuple[PipelineResult, Learner, Learner],
) -> None:
    result, _, _ = locked
    assert [stage.segments for stage in result.stages] == [(1, 2), (3, 4), (5, 6)]
    assert [stage.ahead for stage in result.stages] == [1, 1, 0]
    n_steps = len(result.steps)
    for stage in result.stages[:-1]:
        assert stage.idle["gradient"] > 0.002 * n_steps * 0.9  # the top sleeps that long while all others wait


def test_reports_add_up(locked: tuple[PipelineResult, Learner, Learner]) -> None:
    result, _, _ = locked
    for stage in result.stages:
        assert set(stage.idle) == {"input", "room", "gradient", "drain"}
        assert 0 <= stage.idle_fraction <= 1
        assert stage.busy + stage.idle_seconds == pytest.approx(stage.seconds)
        assert stage.cpu > 0
    assert result.seconds == max(stage.seconds for stage in result.stages)
    assert result.stages[0].idle["input"] == 0
    assert result.stages[-1].idle["gradient"] == 0


def test_the_pipeline_does_not_change_its_learner(
    locked: tuple[PipelineResult, Learner, Learner],
) -> None:
    _, given, _ = locked
    given.network.output = given.network.output.segment
    assert_same(given, start(LOCKED).double(), 0.0)


def test_idle_fraction_is_idle_time_over_total_time() -> None:
    report = StageReport((1,), 4.0, {"input": 1.0, "room": 0.5, "gradient": 0.0, "drain": 1.5}, 0.5, 2)
    assert (report.idle_seconds, report.busy, report.idle_fraction) == (3.0, 1.0, 0.75)


# Unlocked

EPOCHS, ROOM = 8, 2


@pytest.fixture(scope="module")
def unlocked(digits: tuple[Tensor, Tensor]) -> PipelineResult:
    """Return synthetic gradients with a slow top: the stages below run ahead as far as they can."""
    settings = config("synthetic-gradient@2,4", epochs=EPOCHS)
    learner = start(settings)
    learner.network.output = Slow(learner.network.output, 0.005)
    return train_pipeline(learner, *digits, settings, in_flight=ROOM)


def test_an_unlocked_stage_runs_ahead_as_far_as_in_flight_allows(
    unlocked: PipelineResult,
) -> None:
    for stage in unlocked.stages[:-1]:
        assert stage.idle["gradient"] == 0
        # ROOM wait, one is worked on above, one here; a target may be on its way
        assert ROOM + 1 <= stage.ahead <= ROOM + 3
    assert unlocked.stages[-1].ahead == 0
    assert unlocked.stages[-2].idle["room"] > 0  # the top is slow, and memory is bounded


def test_all_targets_arrive_and_train_the_estimators(unlocked: PipelineResult) -> None:
    assert all(step.estimator_losses.keys() == {2, 4} for step in unlocked.steps)
    first, last = unlocked.steps[0], unlocked.steps[-1]
    assert len(unlocked.steps) == EPOCHS * (1259 // BATCH)
    assert first.estimator_losses[2] == 0  # the gradient that S at 4 starts with is zero, and so is its pull-back
    assert all(losses[k] > 0 for losses, k in [(first.estimator_losses, 4), (last.estimator_losses, 2)])
    for estimator in unlocked.learner.estimators.values():
        assert all(parameter.any() for parameter in estimator.parameters())  # they began at zero


def test_the_unlocked_pipeline_reaches_the_synchronous_loss_within_the_spread_of_seeds(
    unlocked: PipelineResult, digits: tuple[Tensor, Tensor]
) -> None:
    """The mean loss of the last epoch is within three standard deviations over seeds; noise in place of S is not."""

    def synchronous(rule: str, seed: int) -> float:
        settings = config(rule, epochs=EPOCHS, seed=seed)
        learner = start(settings)
        return last_loss(list(train(learner, build_optimizer(learner, settings), *digits, settings)))

    same_seed, *others = [synchronous("synthetic-gradient@2,4", seed) for seed in range(5)]
    tolerance = 3 * statistics.stdev([same_seed, *others])
    assert abs(last_loss(unlocked.steps) - same_seed) <= tolerance
    assert abs(synchronous("noise@2,4", 0) - same_seed) > tolerance


def test_no_target_is_sent_to_a_rule_that_learns_without_it() -> None:
    rules = "direct-random-target@1 + noise@2 + decoupled-greedy@3 + synthetic-gradient@4"
    stages = split_into_stages(start(config(rules)), [1, 2, 3, 4, 5])
    assert [wants_target(stage) for stage in stages] == [False, True, False, True, True, False]


# Unlocked forward too


@pytest.fixture(scope="module")
def predicting(digits: tuple[Tensor, Tensor]) -> PipelineResult:
    """Return synthetic inputs above slow segments: the stages above run ahead as far as they can."""
    settings = config("synthetic-gradient@2,4 + synthetic-input@2,4", epochs=EPOCHS)
    learner = start(settings)
    learner.network.hidden["1"] = Slow(learner.network.hidden["1"], 0.01)
    return train_pipeline(learner, *digits, settings, in_flight=ROOM)


def test_a_stage_above_a_synthetic_input_begins_before_its_activation_has_arrived(predicting: PipelineResult) -> None:
    assert [stage.ahead_of_input for stage in predicting.stages] == [0, ROOM, ROOM]
    bottom, middle, _ = predicting.stages
    assert bottom.idle["gradient"] == bottom.idle["input"] == 0
    assert middle.idle["input"] > 0  # the bottom is slow, and memory is bounded


def test_all_activations_arrive_and_train_the_synthetic_inputs(predicting: PipelineResult) -> None:
    assert all(step.input_losses.keys() == step.estimator_losses.keys() == {2, 4} for step in predicting.steps)
    first, last = predicting.steps[0], predicting.steps[-1]
    assert all(last.input_losses[k] < 0.6 * first.input_losses[k] for k in (2, 4))
    assert last_loss(predicting.steps) < 0.5 * first.loss
    fresh = start(config("synthetic-gradient@2,4 + synthetic-input@2,4")).synthetic_inputs.state_dict()
    for name, value in predicting.learner.synthetic_inputs.state_dict().items():
        assert not torch.equal(value, fresh[name])


def test_a_cut_may_have_backprop_and_a_synthetic_input() -> None:
    settings = config("synthetic-input@3")
    below, above = split_into_stages(start(settings), [3])
    assert (below.above, above.below is not None) == (None, True)
    assert wants_target(below)
    assert (below.reads_stimuli, above.reads_stimuli) == (False, True)


# When something goes wrong


def test_a_process_that_is_killed_ends_all(digits: tuple[Tensor, Tensor]) -> None:
    settings = config("synthetic-gradient@2")
    learner = start(settings)
    learner.network.hidden["4"] = Mortal(learner.network.hidden["4"])
    with pytest.raises(RuntimeError, match=r"Process 2 of 2 died with exit code -9, and the others were stopped"):
        train_pipeline(learner, *digits, settings)


def test_a_process_that_waits_too_long_ends_all(digits: tuple[Tensor, Tensor]) -> None:
    settings = config("backprop")
    learner = start(settings)
    learner.network.output = Slow(learner.network.output, 600)
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"(?s)Process 1 of 2 failed.*PeerLost: Another process was .* timeout"):
        train_pipeline(learner, *digits, settings, cuts=[3], timeout=3)
    assert time.monotonic() - started < 60


def test_a_pipeline_that_diverges_raises_the_error_of_train(digits: tuple[Tensor, Tensor]) -> None:
    (X, y), settings = digits, config("backprop")
    with pytest.raises(Diverged, match="Training diverged: the loss is nan at step 1") as caught:
        train_pipeline(start(settings), X * torch.nan, y, settings, cuts=[])
    assert caught.value.step == 1


def test_a_failure_is_raised_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)Process 1 of 1 failed, and the others.*ZeroDivisionError"):
        run_together(operator.floordiv, [0])


def dawdle(rank: int, path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(600)


def test_processes_end_if_the_one_that_started_them_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    starter = multiprocessing.get_context("spawn").Process(target=run_together, args=(dawdle, [path]))
    starter.start()
    assert comes_true(lambda: path.exists() and path.read_text() != "")
    pid = int(path.read_text())
    os.kill(pid, 0)  # it is there
    starter.kill()
    starter.join()
    assert comes_true(lambda: not is_running(pid))


def comes_true(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


# At the door


def test_settings_are_checked() -> None:
    small = config("backprop", batch_size=2)
    learner, X, y = start(small), torch.zeros(10, FEATURES), torch.zeros(10, dtype=torch.int64)
    bad = {
        "in_flight is 0; expected a whole number of 1 or more": {"in_flight": 0},
        "timeout is 0; expected a number above 0": {"timeout": 0},
        "There is no boundary 6 to cut at": {"cuts": [6]},
    }
    for message, settings in bad.items():
        with pytest.raises(ValueError, match=message):
            train_pipeline(learner, X, y, small, **settings)
    with pytest.raises(ValueError, match="batch_size is 11 but there are only 10"):
        train_pipeline(learner, X, y, config("backprop", batch_size=11))
    with pytest.raises(ValueError, match="X has 10 examples and y has 9; expected equally many"):
        train_pipeline(learner, X, y[:9], small)
    with pytest.raises(ValueError, match=r"needs the error of the output.*do not cut at boundary 3"):
        train_pipeline(start(config("direct-feedback-alignment@1")), X, y, small, cuts=[3])
