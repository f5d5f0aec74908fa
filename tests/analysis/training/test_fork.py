"""Forks: equal to the source, bit for bit, until the rule differs; with estimators that are kept or start afresh."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import AnalysisConfig, Interrupted, compare_runs, fork_run, record_run, resume_run, train_run
from analysis.comparison.tables.probe_tables import probe_table
from analysis.comparison.view import views_of_runs
from analysis.config.recording import RecordingConfig
from analysis.execution.progress import Reporter
from analysis.training.setup import configurations, prepare
from analysis.training.transplant import restore_training, started_in
from checkpoints import Locked, Run
from repsim.learning import TrainingConfig, build_learner, build_optimizer
from tests.repsim.small_chains import RULES_OF_CHAINS

AtUpdate = Callable[..., Reporter]
Learned = Callable[[Path], dict[str, Any]]

FORKED, LAST = 5, 12  # in the first of two epochs of six updates
TINY = TrainingConfig(data="digits", depth=3, width=8, epochs=2, batch_size=200)
FEW = RecordingConfig(n_train=30, n_validation=20, n_test=20, steps=f"first,3,{FORKED},8,last", diagnose="1,last")
SG = "synthetic-gradient"

SOURCES: Mapping[str, dict[str, Any]] = {
    **{name: {"rule": name, "boundaries": "all"} for name in RULES_OF_CHAINS},
    "mixed": {"rule": "noise@1,2 + synthetic-gradient:hidden_layers=1@3", "schedule": "cosine"},
    "observed": {"rule": f"{SG}:observe=true", "boundaries": "all"},
    "conv": {"network": "conv", "width": 4, "rule": f"{SG}@1,3 + feedback-alignment@2"},
    "unlocked": {"rule": f"{SG}@1,2 + synthetic-input:hidden_layers=1@2"},
    "momentum": {"optimizer": "momentum", "rule": f"{SG}:hidden_layers=1", "boundaries": "all"},
}


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def crash() -> None:
    raise RuntimeError("power cut")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Train with settings that have a name, once."""
    folder = tmp_path_factory.mktemp("sources")

    def run(name: str) -> Path:
        if not (folder / name).exists():
            train_run(folder / name, replace(TINY, **SOURCES[name]), FEW)
        return folder / name

    return run


# The same rule


@pytest.mark.parametrize("name", SOURCES)
def test_a_fork_with_the_same_rule_equals_its_source(
    source: Callable[[str], Path], tmp_path: Path, learned: Learned, name: str
) -> None:
    before = files(source(name))
    fork = fork_run(tmp_path / "fork", source(name), FORKED)
    assert learned(fork.path) == learned(source(name))
    assert fork.verify() == fork.recorded_steps == [0, 3, FORKED, 8, LAST]
    for step in (8, LAST):
        own, expected = fork[step], Run.open(source(name))[step]
        for file in ("weights.safetensors", "optimizer.safetensors", "state.json"):
            assert own.manifest[file] == expected.manifest[file]
        for layer, values in expected.activations.items():
            np.testing.assert_array_equal(fork[step][layer][:], values[:])
    assert files(source(name)) == before


def test_a_fork_says_what_it_was_forked_from(source: Callable[[str], Path], tmp_path: Path) -> None:
    fork = fork_run(tmp_path / "fork", source("backprop"), FORKED, {"rule": f"{SG}@2", "epochs": 3})
    assert fork.config["training"] == replace(TINY, rule=f"{SG}@2", epochs=3).to_dict()
    assert fork.config["boundaries"] == {SG: [2]}
    assert fork.config["forked_from"] == {
        "path": str(source("backprop")),
        "uuid": Run.open(source("backprop")).info["uuid"],
        "step": FORKED,
        "changes": {
            "rule": {"before": "backprop", "after": f"{SG}@2"},
            "boundaries": {"before": "all", "after": None},
            "epochs": {"before": 2, "after": 3},
        },
        "estimators_started": {"before": {}, "after": {"2": FORKED}},
    }
    assert fork.info["ancestors"] == [{"uuid": Run.open(source("backprop")).info["uuid"], "step": FORKED}]
    assert fork.status["step"] == 18


# Another rule


@pytest.mark.parametrize("rule", [f"{SG}@1,3", "noise@2 + bp-lambda@3", "target-propagation", "feedback-alignment@1"])
def test_a_fork_at_step_0_equals_a_training_with_its_rule(
    source: Callable[[str], Path], tmp_path: Path, learned: Learned, rule: str
) -> None:
    train_run(tmp_path / "alone", replace(TINY, rule=rule), FEW)
    fork_run(tmp_path / "fork", source(SG), 0, {"rule": rule})
    assert learned(tmp_path / "fork") == learned(tmp_path / "alone")


def test_up_to_the_fork_every_file_is_that_of_the_source(source: Callable[[str], Path], tmp_path: Path) -> None:
    path, other = source("backprop"), tmp_path / "fork"
    fork = fork_run(other, path, FORKED, {"rule": f"{SG}@1,2"})
    for step in (0, 3, FORKED):
        assert files(fork[step].path) == files(Run.open(path)[step].path)
    assert fork.metrics()[:FORKED] == Run.open(path).metrics()[:FORKED]
    assert fork.metrics()[FORKED]["loss"] == Run.open(path).metrics()[FORKED]["loss"]  # before the first new update
    assert fork.metrics()[-1] != Run.open(path).metrics()[-1]
    assert (other / "stimuli.h5").read_bytes() == (path / "stimuli.h5").read_bytes()


def state_of(path: Path) -> tuple[Any, torch.optim.Optimizer]:
    """Return the learner and optimizer with which a run continues."""
    run = Run.open(path)
    setup = prepare(*configurations(run), started=started_in(run.config))
    optimizer = build_optimizer(setup.learner, setup.training)
    with torch.random.fork_rng():
        restore_training(run, setup, optimizer)
    return setup.learner, optimizer


@pytest.mark.parametrize(
    ("before", "after", "groups", "kept"),
    [
        (f"{SG}@1,2,3", f"{SG}@1,3 + {SG}:hidden_layers=1@2", ["1_3", "2"], {1, 3}),
        (f"{SG}@1,3", f"{SG}@1,2,3", ["1_3", "2"], {1, 3}),
        (f"{SG}@1,2", f"{SG}@2,3", ["2", "3"], {2}),
        (f"{SG}:observe=true@1,2,3", f"{SG}@1,2", ["1_2"], {1, 2}),
        (f"{SG}@1,2", f"{SG}:observe=true@1 + direct-feedback-alignment@2", ["1", "2"], {1}),
        (f"{SG}@1", f"{SG}:label_conditioned=true@1", ["1"], {1}),  # which is the default
    ],
)
def test_estimators_are_kept_where_the_rule_is_and_start_afresh_elsewhere(
    tmp_path: Path, at_update: AtUpdate, before: str, after: str, groups: list[str], kept: set[int]
) -> None:
    def by_boundary(learner: Any, optimizer: torch.optim.Optimizer) -> dict[tuple[int, str], dict[str, Any]]:
        found = {}
        for ks, estimator in learner.placed().items():
            inner = getattr(estimator, "watched", estimator)
            for i, k in enumerate(ks):
                for name, parameter in inner.named_parameters():
                    state = {"": parameter, **optimizer.state.get(parameter, {})}
                    found[k, name] = {
                        key: (value[i] if len(ks) > 1 and key != "step" else value).detach().clone()
                        for key, value in state.items()
                    }
        return found

    train_run(tmp_path / "source", replace(TINY, rule=before), FEW)
    with pytest.raises(RuntimeError, match="power cut"):
        fork_run(tmp_path / "fork", tmp_path / "source", FORKED, {"rule": after}, progress=at_update(FORKED + 1, crash))
    stopped = train_run_until(tmp_path / "stopped", replace(TINY, rule=before), FORKED, at_update)
    old, (learner, optimizer) = by_boundary(*state_of(stopped)), state_of(tmp_path / "fork")
    assert list(learner.estimators) == groups
    fresh_learner = build_learner(replace(TINY, rule=after), (1, 8, 8), 10, together=False)
    fresh = by_boundary(fresh_learner, build_optimizer(fresh_learner, replace(TINY, rule=after)))
    new = by_boundary(learner, optimizer)
    assert {k for k, _ in new} >= kept
    for (k, name), state in new.items():
        expected = (old if k in kept else fresh)[k, name]
        assert state.keys() == expected.keys()
        assert (k in kept) is ("exp_avg" in state)
        assert all(torch.equal(state[key], expected[key]) for key in state), (k, name)
    saved = Run.open(stopped)[FORKED].weights()
    assert all(torch.equal(value, saved[f"network.{name}"]) for name, value in learner.network.state_dict().items())


def test_synthetic_inputs_are_kept_where_they_are_and_start_afresh_elsewhere(
    tmp_path: Path, at_update: AtUpdate
) -> None:
    before = f"{SG}@1 + synthetic-input@1,2"
    after = "noise@1 + synthetic-input:hidden_layers=0@1 + synthetic-input:hidden_layers=1@2"  # 0 is the default
    train_run(tmp_path / "source", replace(TINY, rule=before), FEW)
    with pytest.raises(RuntimeError, match="power cut"):
        fork_run(tmp_path / "fork", tmp_path / "source", FORKED, {"rule": after}, progress=at_update(FORKED + 1, crash))
    stopped = train_run_until(tmp_path / "stopped", replace(TINY, rule=before), FORKED, at_update)
    (old, of_old), (new, of_new) = state_of(stopped), state_of(tmp_path / "fork")
    fresh = build_learner(replace(TINY, rule=after), (1, 8, 8), 10).synthetic_inputs.state_dict()
    kept, given = (each.placed_inputs()[1].layers[0].weight for each in (new, old))
    assert torch.equal(kept, given)
    assert not torch.equal(kept, fresh["1.layers.0.weight"])
    assert torch.equal(of_new.state[kept]["exp_avg"], of_old.state[given]["exp_avg"])
    changed = new.placed_inputs()[2].layers[0].weight
    assert torch.equal(changed, fresh["2.layers.0.weight"])
    assert changed not in of_new.state


def train_run_until(path: Path, training: TrainingConfig, step: int, at_update: AtUpdate) -> Path:
    with pytest.raises(Interrupted):
        train_run(path, training, FEW, progress=at_update(step))
    return path


def test_an_estimator_that_is_only_observed_leaves_the_network_to_backprop(
    source: Callable[[str], Path], tmp_path: Path
) -> None:
    forks = [
        fork_run(tmp_path / rule, source(SG), FORKED, {"rule": rule, "boundaries": "1,2,3"})
        for rule in ("backprop", f"{SG}:observe=true")
    ]
    plain, observed = (fork.last().weights() for fork in forks)
    for name in plain:
        torch.testing.assert_close(plain[name], observed[name], rtol=1e-5, atol=1e-6)


def test_another_rate_and_number_of_epochs_hold_from_the_fork_on(source: Callable[[str], Path], tmp_path: Path) -> None:
    fork = fork_run(tmp_path / "fork", source(SG), FORKED, {"estimator_learning_rate": 0.5, "epochs": 3})
    assert fork.last().step == 18
    groups = state_of(fork.path)[1].param_groups
    assert [group["lr"] for group in groups] == [group["initial_lr"] for group in groups] == [1e-3, 0.5]
    longer = fork_run(tmp_path / "longer", source(SG), LAST, {"epochs": 3})
    train_run(tmp_path / "alone", replace(TINY, **SOURCES[SG], epochs=3), FEW)
    assert longer.last().weights().keys() == Run.open(tmp_path / "alone").last().weights().keys()
    for name, value in Run.open(tmp_path / "alone").last().weights().items():
        assert torch.equal(longer.last().weights()[name], value)


# Interruption


@pytest.mark.parametrize("update", [FORKED + 1, 9])
@pytest.mark.parametrize("act", [None, crash])
def test_an_interrupted_fork_continues_with_the_same_bits(
    source: Callable[[str], Path], tmp_path: Path, at_update: AtUpdate, learned: Learned, update: int, act: Any
) -> None:
    changes = {"rule": f"{SG}@2,3 + noise@1"}
    whole = fork_run(tmp_path / "whole", source("mixed"), FORKED, changes)
    progress = at_update(update) if act is None else at_update(update, act)
    with pytest.raises((Interrupted, RuntimeError), match=r"Stopped at step|power cut"):
        fork_run(tmp_path / "fork", source("mixed"), FORKED, changes, progress=progress)
    assert resume_run(tmp_path / "fork").status["state"] == "finished"
    assert learned(tmp_path / "fork") == learned(whole.path)
    assert Run.open(tmp_path / "fork").verify() == sorted({*whole.steps, *([update] if act is None else [])})


def test_a_killed_fork_continues_with_the_same_bits(tmp_path: Path, learned: Learned) -> None:
    training = replace(TINY, rule=f"{SG}@1,3", epochs=40, batch_size=64)
    source = train_run(tmp_path / "source", training, replace(FEW, steps="first,50,last"))
    command = [sys.executable, "-m", "analysis", "train", str(tmp_path / "fork"), "--from", str(source.path)]
    with subprocess.Popen([*command, "--step", "50", "--quiet"]) as process:
        log, deadline = tmp_path / "fork" / "metrics.jsonl", time.monotonic() + 60
        while not log.is_file() or log.read_bytes().count(b"\n") < 60:
            assert process.poll() is None
            assert time.monotonic() < deadline, "nothing was logged for a minute"
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    killed = Run.open(tmp_path / "fork")
    assert (killed.status["state"], killed.verify()) == ("stopped", [0, 50])
    resume_run(tmp_path / "fork")
    assert learned(tmp_path / "fork") == learned(source.path)


def test_an_unfinished_run_can_be_forked(tmp_path: Path, at_update: AtUpdate, learned: Learned) -> None:
    stopped = train_run_until(tmp_path / "source", replace(TINY, rule=f"{SG}@2"), 7, at_update)
    before = files(stopped)
    fork = fork_run(tmp_path / "fork", stopped, 7)
    assert files(stopped) == before
    train_run(tmp_path / "alone", replace(TINY, rule=f"{SG}@2"), FEW)
    assert learned(fork.path) == learned(tmp_path / "alone")


# Forks of forks


def test_a_fork_can_be_forked_after_its_own_fork(
    source: Callable[[str], Path], tmp_path: Path, learned: Learned
) -> None:
    first = fork_run(tmp_path / "first", source(SG), FORKED, {"rule": f"{SG}@1,3 + {SG}:hidden_layers=1@2"})
    second = fork_run(tmp_path / "second", first.path, 8)
    assert learned(second.path) == learned(first.path)
    assert second.verify() == [0, 3, FORKED, 8, LAST]
    assert [each["step"] for each in second.info["ancestors"]] == [FORKED, 8]
    third = fork_run(tmp_path / "third", first.path, 8, {"rule": f"{SG}@1,2,3"})
    assert third.config["forked_from"]["estimators_started"] == {"before": {"2": FORKED}, "after": {"2": 8}}
    assert list(state_of(third.path)[0].estimators) == ["1_3", "2"]
    for step in (3, FORKED):
        with pytest.raises(
            ValueError, match=rf"Step {step} of .*first was copied from the run .* at step {FORKED}\. Fork"
        ):
            fork_run(tmp_path / "none", first.path, step)


def test_a_fork_is_recorded_anew_with_the_estimators_of_each_step(
    source: Callable[[str], Path], tmp_path: Path
) -> None:
    fork = fork_run(tmp_path / "fork", source("backprop"), FORKED, {"rule": f"{SG}@1,3"})
    again = record_run(record_run(fork.path, tmp_path / "anew").path, tmp_path / "again")
    assert again.steps == fork.steps
    for step in fork.steps:
        weights, copied = fork[step].weights(), again[step].weights()
        assert weights.keys() == copied.keys()
        assert any(name.startswith("estimators") for name in copied) == (step > FORKED)
        assert all(torch.equal(weights[name], copied[name]) for name in weights)
        layers = {name: layer[:] for name, layer in fork[step].activations.items()}
        for name, layer in again[step].activations.items():
            np.testing.assert_array_equal(layer[:], layers[name])


def test_of_a_fork_of_a_fork_the_steps_before_its_source_are_not_recorded_anew(
    source: Callable[[str], Path], tmp_path: Path
) -> None:
    first = fork_run(tmp_path / "first", source("backprop"), 3, {"rule": f"{SG}@1"})
    second = fork_run(tmp_path / "second", first.path, 8, {"rule": f"{SG}@1,3"})
    with pytest.raises(ValueError, match=r"Step 0 of .* belongs to a run before .* Use that run"):
        record_run(second.path, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    assert record_run(second.path, tmp_path / "anew", steps="5,8,12").steps == [5, 8, 12]


# Comparison


@pytest.mark.usefixtures("blank_figures")
def test_twins_are_compared_over_all_steps(source: Callable[[str], Path], tmp_path: Path) -> None:
    twins = source("backprop"), fork_run(tmp_path / "fork", source("backprop"), FORKED, {"rule": f"{SG}@2"}).path
    config = AnalysisConfig(steps="all", layers=("hidden.2",), Cs=(0.1,))
    tables = compare_runs(twins, output=tmp_path / "out", config=config).tables
    assert [view.step for view in tables.views] == [0, 3, FORKED, 8, LAST] * 2
    structure = tables["class_structure"].set_index(["run", "step"])["class_structure"].unstack("run")
    equal = structure.iloc[:, 0] == structure.iloc[:, 1]
    assert equal.to_dict() == {0: True, 3: True, FORKED: True, 8: False, LAST: False}
    assert (tables.folder / "report.html").is_file()


def test_a_fork_is_another_method_than_a_training_with_its_rule(source: Callable[[str], Path], tmp_path: Path) -> None:
    train_run(tmp_path / "seed-1", replace(TINY, rule=f"{SG}@2", seed=1), FEW)
    fork_run(tmp_path / "seed-0", source("backprop"), FORKED, {"rule": f"{SG}@2"})
    views = views_of_runs([tmp_path / "seed-0", tmp_path / "seed-1"])
    row = {"layer": "hidden.1", "d": 8, "status": "ok", "message": "", "accuracy": 0.5}
    table = probe_table(views, [pd.DataFrame([row])] * 2)
    assert table["method"].tolist() == [f"{tmp_path.name}/seed-0", f"{tmp_path.name}/seed-1"]
    assert table["seed"].tolist() == [0, 0]  # each is the only one of its method


# Mistakes


@pytest.mark.parametrize(
    ("step", "changes", "message"),
    [
        (7, {}, rf"^Step 7 is not among the committed steps 0, 3, {FORKED}, 8, {LAST} of "),
        (LAST, {}, rf"^Step {LAST} is not before the end of this training, step {LAST}; choose an earlier step"),
        (8, {"epochs": 1}, "^Step 8 is not before the end of this training, step 6;"),
        (3, {"learning_rate": 0.1}, "^A fork cannot change learning_rate; expected one of: rule, boundaries, est"),
        (3, {"rule": f"{SG}@4"}, "names boundary 4; a network with 3 hidden layers has boundaries 1 to 3"),
        (3, {"rule": "magic"}, "^Unknown rule 'magic'"),
        (3, {"rule": f"{SG}@1", "boundaries": "2"}, "every rule of .* names its boundaries after an @"),
        (3, {"epochs": -1}, "epochs is -1; expected a whole number of 0 or more"),
    ],
)
def test_a_fork_that_cannot_be_is_refused_before_anything_is_written(
    source: Callable[[str], Path], tmp_path: Path, step: int, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fork_run(tmp_path / "fork", source("backprop"), step, changes)
    assert list(tmp_path.iterdir()) == []


def test_only_runs_that_were_trained_here_are_forked(
    source: Callable[[str], Path], tmp_path: Path, known_view: Callable[..., Any]
) -> None:
    recorded = record_run(source("backprop"), tmp_path / "recorded", steps="last")
    with pytest.raises(ValueError, match=r"recorded holds recordings of .*; there is nothing to train"):
        fork_run(tmp_path / "fork", recorded.path, LAST)
    foreign = known_view("mine", np.eye(4), [0, 0, 1, 1], [np.eye(4)]).run
    with pytest.raises(ValueError, match=r"mine was not trained by repsim train, so it cannot be retrained, forked or"):
        fork_run(tmp_path / "fork", foreign.path, 7)
    with pytest.raises(FileExistsError, match="recorded exists already"):
        fork_run(recorded.path, source("backprop"), 3)
    with pytest.raises(FileNotFoundError, match="There is no run at"):
        fork_run(tmp_path / "fork", tmp_path / "missing", 3)


def test_a_run_that_is_being_written_is_not_forked(tmp_path: Path, at_update: AtUpdate) -> None:
    def fork() -> None:
        with pytest.raises(Locked, match=r"source is being written\. Fork it once its training has ended or been sto"):
            fork_run(tmp_path / "fork", tmp_path / "source", 3)
        raise RuntimeError("tried")

    with pytest.raises(RuntimeError, match="tried"):
        train_run(tmp_path / "source", TINY, FEW, progress=at_update(6, fork))
    assert not (tmp_path / "fork").exists()


def test_a_run_is_not_forked_on_other_data(tmp_path: Path) -> None:
    X, y = np.random.default_rng(0).normal(size=(300, 5)), np.arange(300) % 3
    np.savez(tmp_path / "mine.npz", X=X, y=y)
    source = train_run(tmp_path / "source", replace(TINY, data=str(tmp_path / "mine.npz"), batch_size=50), FEW)
    np.savez(tmp_path / "mine.npz", X=X + 1, y=y)
    with pytest.raises(ValueError, match=r"^The data set .*mine\.npz has changed since .*source was trained on it"):
        fork_run(tmp_path / "fork", source.path, 3)
    assert not (tmp_path / "fork").exists()


def test_a_damaged_source_is_not_forked(source: Callable[[str], Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(source("backprop"), tmp_path / "copy"))
    path = copy / "checkpoints" / "step_00000003" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} has changed since it was committed"):
        fork_run(tmp_path / "fork", copy, FORKED)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy"]
    assert fork_run(tmp_path / "fork", copy, 0).verify()[0] == 0  # the damaged step is not part of this fork
