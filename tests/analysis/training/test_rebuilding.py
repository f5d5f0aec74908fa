"""The learner of a committed step, rebuilt from its run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis import fork_run, record_run, train_run
from analysis.config.recording import CaptureConfig, RecordingConfig
from analysis.training.rebuilding import rebuild
from analysis.training.teaching_signals import TeachingSignals
from analysis.training.transplant import configuration_at
from checkpoints import Checkpoint, Run
from repsim.learning import TrainingConfig

TINY = TrainingConfig(data="digits", depth=3, width=8, epochs=2, batch_size=200)
FEW = RecordingConfig(n_train=20, n_validation=10, n_test=10, steps="first,5,last", record_signals=True)
RULES: dict[str, dict[str, Any]] = {
    "stacked": {"rule": "synthetic-gradient", "boundaries": "all"},
    "mixed": {"rule": "noise@1 + synthetic-gradient:hidden_layers=1@2"},
    "unlocked": {"rule": "synthetic-gradient@1 + synthetic-input@1,2"},
    "random": {"rule": "noise", "boundaries": "all"},
    "conv": {"network": "conv", "width": 4, "rule": "synthetic-gradient@1,3 + feedback-alignment@2"},
}


def everything(run: Run) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", RULES)
def test_the_learner_chooses_the_recorded_gradients(tmp_path: Path, name: str) -> None:
    run = train_run(tmp_path / "run", replace(TINY, **RULES[name]), FEW)
    before, state = everything(run), torch.get_rng_state()
    for step in run.recorded_steps:
        setup = rebuild(run, step)
        assert setup.learner.training
        assert all(len(ks) == 1 for ks in setup.learner.placed())
        inputs = setup.stimuli.first_inputs(len(setup.stimuli))
        (found,) = TeachingSignals(setup.learner).blocks(np.asarray(inputs), setup.stimuli.labels)
        for layer, recorded in run[step].gradients.items():
            np.testing.assert_allclose(found[layer].values, recorded[:], rtol=1e-4, atol=1e-6)
    assert everything(run) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_steps_of_a_fork_have_the_rule_that_they_were_trained_with(tmp_path: Path) -> None:
    train_run(tmp_path / "source", replace(TINY, rule="noise@1"), replace(FEW, steps="first,3,5,last"))
    fork = fork_run(tmp_path / "fork", tmp_path / "source", 5, {"rule": "synthetic-gradient@1,2"})
    rules = {step: configuration_at(fork, step)[0].rule for step in fork.recorded_steps}
    assert rules == {0: "noise@1", 3: "noise@1", 5: "noise@1", 12: "synthetic-gradient@1,2"}
    assert configuration_at(fork, 12)[1] == {1: 5, 2: 5}
    assert list(rebuild(fork, 5).learner.placed()) == [(1,)]
    assert list(rebuild(fork, 12).learner.placed()) == [(1,), (2,)]


def test_a_step_from_before_two_forks_is_refused(tmp_path: Path) -> None:
    train_run(tmp_path / "source", TINY, replace(FEW, steps="first,3,6,9"))
    fork_run(tmp_path / "fork", tmp_path / "source", 3, {"rule": "noise@1"})
    again = fork_run(tmp_path / "again", tmp_path / "fork", 6, {"rule": "noise@2"})
    assert configuration_at(again, 6)[0].rule == "noise@1"
    with pytest.raises(ValueError, match=r"^Step 3 of .* belongs to a run before the one that was forked at step 6"):
        rebuild(again, 3)


def test_missing_and_foreign_weights_and_data_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = np.random.default_rng(0).normal(size=(300, 6)), np.arange(300) % 3
    np.savez(tmp_path / "own.npz", X=X, y=y)
    run = train_run(tmp_path / "run", replace(TINY, data=str(tmp_path / "own.npz"), batch_size=50), FEW)
    bare = record_run(
        tmp_path / "run",
        tmp_path / "bare",
        steps="last",
        capture=CaptureConfig(layers=("hidden.*",), save_weights=False),
    )
    with pytest.raises(ValueError, match="was recorded without weights"):
        rebuild(bare, bare.recorded_steps[-1])
    np.savez(tmp_path / "own.npz", X=X + 1, y=y)
    with pytest.raises(ValueError, match="are not the 40 that the run records"):
        rebuild(run, 0)
    recorded = {int(each) for each in run.stimuli.ids}
    changed = X.copy()
    changed[min(set(range(300)) - recorded)] += 1
    np.savez(tmp_path / "own.npz", X=changed, y=y)
    with pytest.raises(ValueError, match=r"^The data set .*own\.npz has changed since"):
        rebuild(run, 0)
    np.savez(tmp_path / "own.npz", X=X, y=y)
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "weights", lambda self: {"other": torch.ones(1)})
        with pytest.raises(ValueError, match=r"^The weights of step 0 of .* do not fit the learner"):
            rebuild(run, 0)
    (tmp_path / "own.npz").unlink()
    with pytest.raises(OSError, match=r"own\.npz"):
        rebuild(run, 0)
