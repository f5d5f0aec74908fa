"""Recorded teaching signals: what the rule chooses and the true gradient at each boundary, for the recorded stimuli."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from analysis import Interrupted, record_run, resume_run, train_run, train_seeds
from analysis.config.recording import RecordingConfig
from analysis.execution.progress import Reporter
from analysis.training import teaching_signals
from analysis.training.setup import configurations, prepare
from analysis.training.teaching_signals import TeachingSignals
from checkpoints import Run, Stimuli
from repsim.learning import Learner, TrainingConfig, build_learner, build_optimizer, compute_gradients, true_gradients
from tests.repsim.small_chains import RULES_OF_CHAINS

LAST = 12
TINY = TrainingConfig(data="digits", depth=3, width=8, epochs=2, batch_size=200)
FEW = RecordingConfig(n_train=20, n_validation=10, n_test=10, steps="first,5,last", record_signals=True)
SG = "synthetic-gradient"
RULES = {
    **{name: {"rule": name, "boundaries": "all"} for name in RULES_OF_CHAINS},
    "mixed": {"rule": f"noise@1 + {SG}:hidden_layers=1@2", "loss": "mse"},
    "unlocked": {"rule": f"{SG}@1 + synthetic-input@1,2"},
    "observed": {"rule": f"{SG}:observe=true", "boundaries": "all"},
    "conv": {"network": "conv", "width": 4, "rule": f"{SG}@1,3 + feedback-alignment@2"},
}


def learner_of(run: Run, step: int) -> tuple[Learner, Stimuli]:
    setup = prepare(*configurations(run))
    with torch.random.fork_rng():
        run[step].restore(setup.learner, build_optimizer(setup.learner, setup.training))
    return setup.learner, setup.stimuli


def gradients_in_evaluation_mode(run: Run, step: int) -> tuple[dict[int, NDArray[Any]], dict[int, NDArray[Any]]]:
    """Return chosen and true gradients of all stimuli at once, by means that the recording does not use."""
    learner, stimuli = learner_of(run, step)
    learner.eval()
    X, y = torch.from_numpy(stimuli.first_inputs(len(stimuli))), torch.from_numpy(stimuli.labels)
    inputs = learner.placed_inputs()
    step = compute_gradients(
        learner.network, learner.placed(), X, y, synthetic_inputs=inputs, loss=learner.loss, watch=True
    )
    chosen = step.gradients
    h, activations = learner.network.input(X), []
    for segment in learner.network.segments:
        h = segment(h)
        activations.append(h)
    if learner.loss == "mse":
        total = (h - F.one_hot(y, h.shape[1])).square().sum()
    else:
        total = F.cross_entropy(h, y, reduction="sum")
    true = torch.autograd.grad(total, activations[:-1])
    return (
        {k: g.flatten(1).numpy() for k, g in chosen.items()},
        {k: t.flatten(1).numpy() for k, t in enumerate(true, start=1)},
    )


@pytest.mark.parametrize("name", RULES)
def test_signals_are_those_of_the_committed_learner_in_evaluation_mode(tmp_path: Path, name: str) -> None:
    run = train_run(tmp_path / "run", replace(TINY, **RULES[name]), FEW)
    assert run.verify() == run.recorded_steps == [0, 5, LAST]
    for step in (0, 5, LAST):
        signals = run[step].gradients
        assert list(signals) == [f"{kind}/hidden.{k}" for kind in ("chosen", "true") for k in (1, 2, 3)]
        chosen, true = gradients_in_evaluation_mode(run, step)
        for k in (1, 2, 3):
            np.testing.assert_allclose(signals[f"chosen/hidden.{k}"][:], chosen[k], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(signals[f"true/hidden.{k}"][:], true[k], rtol=1e-4, atol=1e-6)


def test_signals_are_layers_that_say_what_they_are(tmp_path: Path) -> None:
    run = train_run(tmp_path / "run", replace(TINY, **RULES["conv"]), replace(FEW, compress=True))
    signals, activations = run.last().gradients, run.last().activations
    for k in (1, 2, 3):
        activation = activations[f"hidden.{k}"]
        for kind in ("chosen", "true"):
            layer = signals[f"{kind}/hidden.{k}"]
            assert (layer.module, layer.side, layer.reduction) == (f"hidden.{k}", "gradient", "flatten")
            assert (layer.shape, layer.feature_shape) == (activation.shape, activation.feature_shape)
            assert layer.stimulus_ids.tolist() == run.stimuli.ids.tolist()
    assert signals.header == activations.header


def test_at_boundaries_of_backprop_the_chosen_gradient_is_the_true_one(tmp_path: Path) -> None:
    signals = train_run(tmp_path / "run", replace(TINY, rule=f"{SG}@1"), FEW).last().gradients
    for k in (2, 3):
        np.testing.assert_allclose(
            signals[f"chosen/hidden.{k}"][:], signals[f"true/hidden.{k}"][:], rtol=1e-4, atol=1e-6
        )
    assert not np.allclose(signals["chosen/hidden.1"][:], signals["true/hidden.1"][:], rtol=0.1)


# The training is not changed


@pytest.mark.parametrize("name", ["noise", SG, "mixed", "target-propagation", "sign-symmetric"])
def test_training_is_the_same_with_and_without_signals(
    tmp_path: Path, learned: Callable[[Path], dict[str, Any]], name: str
) -> None:
    settings = replace(TINY, **RULES[name])
    before = torch.random.get_rng_state()
    with_signals = train_run(tmp_path / "with", settings, FEW)
    without = train_run(tmp_path / "without", settings, replace(FEW, record_signals=False))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert learned(with_signals.path) == learned(without.path)
    for step in (0, 5, LAST):
        extra = with_signals[step].manifest.keys() - without[step].manifest.keys()
        assert extra == {"gradients.h5"}
        for file in ("weights.safetensors", "optimizer.safetensors", "state.json"):
            assert with_signals[step].manifest[file] == without[step].manifest[file]


def test_recording_signals_leaves_the_learner_as_it_was(tmp_path: Path) -> None:
    run = train_run(tmp_path / "run", replace(TINY, **RULES["mixed"]), FEW)
    learner, stimuli = learner_of(run, LAST)
    learner.train()
    for parameter in learner.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    with torch.no_grad():
        blocks = list(TeachingSignals(learner).blocks(stimuli.first_inputs(len(stimuli)), stimuli.labels))
        assert not torch.is_grad_enabled()
    assert len(blocks) == 1
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert all(bool((parameter.grad == 3).all()) for parameter in learner.parameters())
    assert all(module.training for module in learner.modules())


def test_an_interrupted_run_records_the_same_signals(tmp_path: Path, at_update: Callable[..., Reporter]) -> None:
    settings = replace(TINY, **RULES["mixed"])
    whole = train_run(tmp_path / "whole", settings, FEW)
    with pytest.raises(Interrupted):
        train_run(tmp_path / "parts", settings, FEW, progress=at_update(7))
    parts = resume_run(tmp_path / "parts")
    assert "gradients.h5" not in parts[7].manifest
    for name, layer in whole.last().gradients.items():
        np.testing.assert_array_equal(parts.last().gradients[name][:], layer[:])


# Blocks


def test_signals_do_not_depend_on_the_size_of_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train_run(tmp_path / "run", replace(TINY, **RULES[SG]), FEW)
    learner, stimuli = learner_of(run, LAST)
    inputs = stimuli.first_inputs(len(stimuli))
    (whole,) = TeachingSignals(learner).blocks(inputs, stimuli.labels)
    monkeypatch.setattr(teaching_signals, "_BLOCK_BYTES", 2 * 4 * 3 * 8 * 7)  # of seven stimuli, rounded to four
    blocks = list(TeachingSignals(learner).blocks(inputs, stimuli.labels))
    assert [len(next(iter(block.values()))) for block in blocks] == [4] * (len(stimuli) // 4) + [
        *([len(stimuli) % 4] if len(stimuli) % 4 else [])
    ]
    for name, layer in whole.items():
        parts = np.concatenate([block[name].values for block in blocks])
        np.testing.assert_allclose(parts, layer.values, rtol=1e-4, atol=1e-6)


def test_noise_differs_between_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train_run(tmp_path / "run", replace(TINY, rule="noise:scale=1", boundaries="all"), FEW)
    learner, stimuli = learner_of(run, LAST)
    monkeypatch.setattr(teaching_signals, "_LARGEST_BLOCK", 8)
    first, second, *_ = TeachingSignals(learner).blocks(stimuli.first_inputs(len(stimuli)), stimuli.labels)
    for k in (1, 2, 3):
        drawn = [block[f"chosen/hidden.{k}"].values for block in (first, second)]
        assert all(abs(float(values.std()) - 1) < 0.3 for values in drawn)
        assert np.abs(np.corrcoef(*(values.ravel() for values in drawn))[0, 1]) < 0.5


# Other runs


def test_a_run_without_signals_says_so(tmp_path: Path) -> None:
    run = train_run(tmp_path / "run", TINY, replace(FEW, record_signals=False))
    with pytest.raises(ValueError, match=r"step_00000012 was recorded without gradients\. Train with --record-signals"):
        _ = run.last().gradients
    assert "record_signals" not in run.config["recording"]


def test_recording_a_run_with_signals_anew_records_activations(tmp_path: Path) -> None:
    run = train_run(tmp_path / "run", TINY, FEW)
    recorded = record_run(run.path, tmp_path / "new", steps="last")
    assert "gradients.h5" not in recorded.last().manifest
    assert "record_signals" not in recorded.config["recording"]


def test_seeds_that_are_trained_together_record_signals(tmp_path: Path) -> None:
    runs = train_seeds(tmp_path, replace(TINY, rule=SG, boundaries="all"), FEW, seeds="0-1", how="stacked")
    for run in runs:
        chosen, true = gradients_in_evaluation_mode(run, LAST)
        np.testing.assert_allclose(run.last().gradients["chosen/hidden.1"][:], chosen[1], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(run.last().gradients["true/hidden.1"][:], true[1], rtol=1e-4, atol=1e-6)


def test_signals_are_an_option_of_the_command(repsim: Callable[..., Any], tmp_path: Path) -> None:
    line = "train --data digits --depth 2 --width 8 --epochs 1 --quiet --record last --record-signals"
    assert repsim(line, tmp_path / "run").code == 0
    run = Run.open(tmp_path / "run")
    assert run.config["recording"]["record_signals"] is True
    assert "true/hidden.2" in run.last().gradients


def test_signals_of_a_network_that_relaxes_are_differences_of_equilibria_and_gradients_through_the_relaxation() -> None:
    config = TrainingConfig(
        rule="equilibrium-propagation", depth=2, width=5, norm="none", activation="sigmoid", loss="mse"
    )
    learner = build_learner(config, 6, 3)
    X, y = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32), np.arange(7) % 3
    (block,) = TeachingSignals(learner).blocks(X, y)
    tensors = torch.from_numpy(X), torch.from_numpy(y)
    chosen = learner.compute_gradients(*tensors, watch=True).gradients
    true = true_gradients(learner.network, *tensors, loss="mse")
    for k in (1, 2):
        assert np.array_equal(block[f"chosen/hidden.{k}"].values, chosen[k].numpy())
        assert np.array_equal(block[f"true/hidden.{k}"].values, true[k].numpy())
        assert chosen[k].any()
