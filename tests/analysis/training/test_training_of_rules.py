"""Every learning rule in an ordinary run: what it logs, and that it goes on where it was."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis import Interrupted, resume_run, train_run
from analysis.config.recording import RecordingConfig
from analysis.execution.progress import Reporter
from checkpoints import Run
from repsim.learning import TrainingConfig
from tests.repsim.small_chains import RULES_OF_CHAINS

LAST, STOPPED = 12, 8  # two epochs of six updates, stopped in the second
TINY = {"data": "digits", "depth": 3, "width": 8, "epochs": 2, "batch_size": 200}
FEW = RecordingConfig(n_train=20, n_validation=10, n_test=10, diagnose="1,every:5,last")

SETTINGS: Mapping[str, dict[str, Any]] = {
    **{name: {"rule": name, "boundaries": "all"} for name in RULES_OF_CHAINS},
    "resampled": {"rule": "sign-symmetric:magnitude=resampled"},
    "mixed": {"rule": "direct-feedback-alignment@1 + synthetic-gradient:hidden_layers=1@2 + noise:scale=0.1@3"},
    "observed": {"rule": "synthetic-gradient:observe=true", "boundaries": "all"},
    "conv": {"network": "conv", "rule": "synthetic-gradient@1 + feedback-alignment@2 + decoupled-greedy@3", "width": 4},
    "residual": {"network": "residual", "rule": "synthetic-gradient@1 + sign-symmetric@2 + noise@3", "width": 4},
    "unlocked": {"rule": "synthetic-gradient@1,2 + synthetic-input@1,2 + synthetic-input:label_conditioned=true@3"},
    "transformer": {"network": "transformer", "rule": "synthetic-gradient@1 + decoupled-greedy@2", "width": 8},
    "mse": {"loss": "mse", "rule": "kickback:error=sum@1,2 + synthetic-gradient@3"},
    "sgd": {"optimizer": "sgd", "rule": "synthetic-gradient:hidden_layers=1", "boundaries": "all"},
    "searched": {"optimizer": "tracked-line-search", "rule": "synthetic-gradient@1,2 + synthetic-input@2"},
    "momentum": {"optimizer": "momentum", "rule": "synthetic-gradient-prop", "schedule": "cosine"},
}


def settings_of(name: str) -> TrainingConfig:
    return TrainingConfig(**{**TINY, **SETTINGS[name]})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Train with settings that have a name, once."""
    folder = tmp_path_factory.mktemp("trained")

    def run(name: str) -> Path:
        if not (folder / name).exists():
            train_run(folder / name, settings_of(name), FEW)
        return folder / name

    return run


@pytest.mark.parametrize("name", SETTINGS)
def test_an_interrupted_run_of_any_rule_equals_the_uninterrupted_one(
    trained: Callable[[str], Path],
    tmp_path: Path,
    at_update: Callable[..., Reporter],
    learned: Callable[[Path], dict[str, Any]],
    name: str,
) -> None:
    path = tmp_path / "run"
    with pytest.raises(Interrupted, match=rf"^Stopped at step {STOPPED}, "):
        train_run(path, settings_of(name), FEW, progress=at_update(STOPPED))
    assert Run.open(path).steps == [0, STOPPED]
    resume_run(path)
    assert learned(path) == learned(trained(name))


@pytest.mark.parametrize("name", SETTINGS)
def test_gradients_are_logged_at_diagnosed_steps_at_every_boundary(trained: Callable[[str], Path], name: str) -> None:
    records = Run.open(trained(name)).metrics()
    assert [record["step"] for record in records if "gradients" in record] == [1, 5, 10, LAST]
    for gradients in (record["gradients"] for record in records if "gradients" in record):
        assert list(gradients) == ["1", "2", "3"]
        for facts in gradients.values():
            known = ["norm", "true_norm", "relative_error", "cosine", "angle", "update_cosine"]
            assert list(facts)[:6] == known
            assert set(facts) - set(known) <= {"weight_angle", "input_error"}
            assert facts["true_norm"] > 0
        if name == "unlocked":
            assert all(facts["input_error"] > 0 for facts in gradients.values())
        assert ("weight_angle" in gradients["2"]) is (name in WITH_FEEDBACK_WEIGHTS_AT_2)


WITH_FEEDBACK_WEIGHTS_AT_2 = {
    "feedback-alignment",
    "sign-symmetric",
    "adaptive-random-backprop",
    "resampled",
    "conv",
    "residual",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_loss_is_logged_for_each_estimator_that_learns_at_every_update(
    trained: Callable[[str], Path], name: str
) -> None:
    records = Run.open(trained(name)).metrics()
    for record in records:
        assert list(record.get("estimator_losses", {})) == LEARNING.get(name, [])
        assert list(record.get("input_losses", {})) == WITH_INPUTS.get(name, [])


WITH_INPUTS = {"unlocked": ["1", "2", "3"], "searched": ["2"]}
LEARNING = {
    "searched": ["1", "2"],
    "adaptive-skipped-backprop": ["1", "2", "3"],
    "synthetic-gradient": ["1", "2", "3"],
    "synthetic-gradient-prop": ["1", "2", "3"],
    "bp-lambda": ["1", "2", "3"],
    "control-variate": ["1", "2", "3"],
    "least-error-mixture": ["1", "2", "3"],
    "forward-forward": ["1", "2", "3"],
    "decoupled-greedy": ["1", "2", "3"],
    "target-propagation": ["1", "2"],
    "mixed": ["2"],
    "unlocked": ["1", "2"],
    "observed": ["1", "2", "3"],
    "sgd": ["1", "2", "3"],
    "conv": ["1", "3"],
    "residual": ["1"],
    "transformer": ["1", "2"],
    "mse": ["3"],
    "momentum": ["1"],
}


def test_backprop_is_parallel_to_the_gradient_and_noise_orthogonal(trained: Callable[[str], Path]) -> None:
    for name, low, high in (("backprop", 0, 0.1), ("noise", 60, 120)):
        for gradients in (r["gradients"] for r in Run.open(trained(name)).metrics() if "gradients" in r):
            # noise has no scale before the first update
            angles = [facts["angle"] for facts in gradients.values() if facts["norm"] > 0]
            assert all(low <= angle <= high for angle in angles), name


def test_an_observed_rule_does_not_change_the_network(trained: Callable[[str], Path]) -> None:
    observed = Run.open(trained("observed")).last().weights()
    for name, values in Run.open(trained("backprop")).last().weights().items():
        torch.testing.assert_close(observed[name], values, rtol=1e-3, atol=1e-5)


def test_no_gradients_are_logged_unless_asked_for(
    trained: Callable[[str], Path], tmp_path: Path, learned: Callable[[Path], dict[str, Any]]
) -> None:
    train_run(tmp_path / "run", settings_of("mixed"), replace(FEW, diagnose="none"))
    assert not any("gradients" in record for record in Run.open(tmp_path / "run").metrics())
    assert learned(tmp_path / "run")["weights"] == learned(trained("mixed"))["weights"]
