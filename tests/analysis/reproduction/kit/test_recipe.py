from dataclasses import replace
from pathlib import Path

import pytest

from analysis.config.recording import RecordingConfig
from analysis.reproduction.kit.recipe import Recipe
from repsim.learning import TrainingConfig

RECIPE = Recipe(
    name="tiny",
    training=TrainingConfig(data="digits", depth=2, width=8),
    recording=RecordingConfig(steps="last", n_train=60, n_validation=20, n_test=40),
)


def test_networks_of_other_settings_have_other_folders_and_those_of_other_seeds_share_one() -> None:
    other, wider = (replace(RECIPE, training=replace(RECIPE.training, **each)) for each in ({"seed": 3}, {"width": 9}))
    assert RECIPE.path(Path()).parent == other.path(Path()).parent != wider.path(Path()).parent


def test_another_version_of_repsim_has_other_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    before = RECIPE.path(Path())
    monkeypatch.setattr("repsim.__version__", "0.0.0")
    assert RECIPE.path(Path()) != before
