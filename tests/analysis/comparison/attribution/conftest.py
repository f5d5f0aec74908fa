from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import RecordingConfig, train_seeds
from repsim.learning import TrainingConfig

SEEDS = (0, 1, 2)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def arm_runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Path, ...]]:
    """Finished runs of three seeds per arm, on the same stimuli, recorded at shares of their training."""
    folder = tmp_path_factory.mktemp("arms")
    usual = TrainingConfig(data="digits", depth=3, width=8, epochs=2, batch_size=128, learning_rate=0.01)
    slow = {"learning_rate": 0.003, "epochs": 3}
    arms = {
        "bp": {},
        "sg": {"rule": "synthetic-gradient", "boundaries": "inner", **slow},
        "slow": slow,
        "greedy": {"rule": "decoupled-greedy", "boundaries": "inner", **slow},
        "short": {"depth": 1},
    }
    recording = RecordingConfig(steps="first,50%,100%", n_train=100, n_validation=50, n_test=60)
    return {
        name: tuple(
            run.path for run in train_seeds(folder / name, replace(usual, **changes), recording, seeds=list(SEEDS))
        )
        for name, changes in arms.items()
    }
