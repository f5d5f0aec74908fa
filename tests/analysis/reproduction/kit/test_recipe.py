import json
from dataclasses import replace
from pathlib import Path

from analysis.config.recording import RecordingConfig
from analysis.reproduction.kit.recipe import Recipe
from repsim.learning import TrainingConfig

RECIPE = Recipe(
    name="tiny",
    training=TrainingConfig(data="digits", depth=2, width=8),
    recording=RecordingConfig(steps="last", n_train=60, n_validation=20, n_test=40),
)


def test_networks_of_other_settings_have_other_folders(tmp_path: Path) -> None:
    other, wider = (
        replace(RECIPE, training=replace(RECIPE.training, **change)) for change in ({"seed": 3}, {"width": 9})
    )
    assert RECIPE.path(tmp_path).parent == other.path(tmp_path).parent != wider.path(tmp_path).parent


def test_a_recipe_survives_json() -> None:
    assert Recipe.from_dict(json.loads(json.dumps(RECIPE.to_dict()))) == RECIPE
