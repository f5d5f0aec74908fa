"""Runs of recurrent networks: trained, resumed, forked, rebuilt, recorded anew and analysed as other runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis import Interrupted, record_run, resume_run, train_run, train_seeds
from analysis.config.recording import RecordingConfig
from analysis.execution.progress import Reporter
from analysis.training.fork import fork_run
from analysis.training.rebuilding import learner_at, rebuild
from analysis.training.seed_runs import resume_seeds
from checkpoints import Run
from repsim.learning import TrainingConfig, evaluate, load_dataset

AtUpdate = Callable[..., Reporter]
Learned = Callable[[Path], dict[str, Any]]
TRAINING = TrainingConfig(
    data="copy:3",
    network="gru",
    width=6,
    window=2,
    rule="synthetic-gradient",
    epochs=2,
    batch_size=200,
    optimizer="momentum",
    learning_rate=0.05,
)
FEW = RecordingConfig(n_train=40, n_validation=10, n_test=20, steps="first,5,last", diagnose="1,last")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("trained") / "run", TRAINING, FEW).path


def test_a_layer_is_recorded_for_each_time_step(trained: Path) -> None:
    run = Run.open(trained)
    assert run.verify() == [0, 5, 14]
    assert list(run.last().activations) == [f"hidden.{t}" for t in range(1, 7)]
    assert run.config["boundaries"] == {"synthetic-gradient": [2, 4]}
    assert run.config["training"]["depth"] == 6
    assert run.config["data"]["scored"] == [4, 5, 6]
    assert list(run.metrics()[0]["gradients"]) == ["2", "4"]
    assert list(run.metrics()[0]["estimator_losses"]) == ["2"]
    data = load_dataset("copy:3")
    net = learner_at(run, 14).network
    rows = [int(each) for each in run.stimuli.ids]
    states: list[Any] = []
    net.hidden["4"].register_forward_hook(lambda module, inputs, state: states.append(state.detach()))
    net.eval()(torch.from_numpy(data.X[rows]))
    np.testing.assert_allclose(run.last()["hidden.4"][:], states[0], atol=1e-6)


def test_the_score_of_a_run_is_that_of_its_targets(trained: Path) -> None:
    setup = rebuild(Run.open(trained), 14)
    test = evaluate(setup.learner.network, *setup.part("test"))
    status = Run.open(trained).status
    assert (status["test_loss"], status["test_accuracy"]) == pytest.approx((test.loss, test.accuracy), rel=1e-5)
    assert setup.part("test")[1].shape == (len(setup.split["test"]), 3)


@pytest.mark.parametrize("changes", [{}, {"updates": "window"}, {"network": "lstm", "rule": "bp-lambda"}])
def test_an_interrupted_and_resumed_run_equals_the_uninterrupted_one(
    tmp_path: Path, changes: dict[str, Any], at_update: AtUpdate, learned: Learned
) -> None:
    settings = replace(TRAINING, **changes)
    train_run(tmp_path / "whole", settings, FEW)
    with pytest.raises(Interrupted):
        train_run(tmp_path / "parts", settings, FEW, progress=at_update(9))
    resume_run(tmp_path / "parts")
    assert learned(tmp_path / "parts") == learned(tmp_path / "whole")


def test_seeds_that_are_trained_together_equal_single_runs_and_continue(
    tmp_path: Path, trained: Path, at_update: AtUpdate
) -> None:
    with pytest.raises(Interrupted):
        train_seeds(tmp_path, TRAINING, FEW, seeds="0-1", how="stacked", progress=at_update(8))
    first, _ = resume_seeds(tmp_path, "0-1")
    alone = Run.open(trained).last().weights()
    for name, values in first.last().weights().items():
        torch.testing.assert_close(values, alone[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_fork_keeps_the_network_and_takes_another_rule(tmp_path: Path, trained: Path) -> None:
    fork = fork_run(tmp_path / "fork", trained, 5, {"rule": "truncated"})
    assert fork.config["boundaries"] == {"truncated": [2, 4]}
    before, source = fork[5].weights(), Run.open(trained)[5].weights()
    assert all(torch.equal(before[name], source[name]) for name in before if name.startswith("network."))
    same = fork_run(tmp_path / "same", trained, 5, {})
    theirs = Run.open(trained).last().weights()
    assert all(torch.equal(each, theirs[name]) for name, each in same.last().weights().items())


def test_a_run_can_be_recorded_anew(tmp_path: Path, trained: Path) -> None:
    again = record_run(trained, tmp_path / "again", steps="last")
    np.testing.assert_array_equal(again.last()["hidden.6"][:], Run.open(trained).last()["hidden.6"][:])


def test_a_regression_has_no_accuracy(tmp_path: Path, learned: Learned) -> None:
    settings = replace(TRAINING, data="adding:4", loss="mse", network="rnn", epochs=1)
    run = train_run(tmp_path / "run", settings, FEW)
    assert run.status["test_accuracy"] is None
    assert 0 < run.status["test_loss"] < 10
    assert {record["accuracy"] for record in run.metrics()} == {None}


def test_images_are_sequences_of_rows(tmp_path: Path) -> None:
    settings = replace(TRAINING, data="digits", epochs=1)
    recording = replace(FEW, record_signals=True, steps="last")
    run = train_run(tmp_path / "run", settings, recording)
    assert list(run.last().activations) == [f"hidden.{t}" for t in range(1, 9)]
    assert set(run.last().gradients) == {f"{kind}/hidden.{t}" for kind in ("chosen", "true") for t in (2, 4, 6)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": 7}, "window is 7, but the sequences have 6 time steps; use a window of at most 6"),
        ({"width": 900_000}, r"A network of width 900000 needs about 3\.2e\+04 GB of memory, and .* GB are free"),
        ({"depth": 5}, "depth is 5, but the sequences of copy:3 have 6 time steps, .* Leave depth out"),
        ({"data": "xor"}, r"needs sequences, of shape \(steps, features\); these examples have shape \(2,\)"),
        ({"data": "adding:4"}, "targets of adding:4 are numbers, and the loss 'log_loss' needs classes. Use .* 'mse'"),
        ({"rule": "kickback"}, "Rule kickback cannot serve a recurrent network: it needs error, influence, labels"),
        (
            {"network": "mlp", "window": None, "rule": "backprop"},
            "copy:3 are sequences with targets of their own, and network 'mlp' learns one class per example. Use",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        train_run(tmp_path / "run", replace(TRAINING, **changes), FEW)
    assert not (tmp_path / "run").exists()


def test_signals_of_data_with_targets_of_their_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="record_signals needs one class per example, and copy:3 has other targets"):
        train_run(tmp_path / "run", TRAINING, replace(FEW, record_signals=True))


def test_sequences_without_labels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", X=np.zeros((30, 4, 3)))
    with pytest.raises(ValueError, match=r"mine\.npz has no array y \(found: X\)"):
        train_run(tmp_path / "run", replace(TRAINING, data=str(tmp_path / "mine.npz")), FEW)
