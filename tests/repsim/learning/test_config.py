import dataclasses
import json
from typing import Any

import pytest

from repsim.learning import CELLS, LOSSES, NETWORKS, TrainingConfig
from repsim.learning.networks import ACTIVATIONS, NORMS
from repsim.learning.optimizers import OPTIMIZERS
from repsim.learning.schedules import SCHEDULES

FIELDS = [field.name for field in dataclasses.fields(TrainingConfig)]
SG = "synthetic-gradient"


def test_defaults_are_in_range_and_use_backprop() -> None:
    assert TrainingConfig().rules == {}


def test_config_is_frozen_and_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().seed = 1
    with pytest.raises(TypeError, match="positional"):
        TrainingConfig("digits")


def test_numbers_have_a_lowest_and_a_highest_value() -> None:
    ranges = {
        "seed": (0, 2**63 - 1),
        "split_seed": (0, 2**63 - 1),
        "depth": (1, 10_000),
        "width": (1, 1_000_000),
        "epochs": (0, 1_000_000_000),
        "batch_size": (1, 1_000_000_000),
        "threads": (1, 1024),
    }
    for name, (lowest, highest) in ranges.items():
        for value in (lowest, highest):
            assert getattr(TrainingConfig.from_dict({name: value, "norm": "none"}), name) == value
        for value, words in ((lowest - 1, f"{lowest} or more"), (highest + 1, f"{highest} or less")):
            with pytest.raises(ValueError, match=f"{name} is {value}; expected a whole number of {words}"):
                TrainingConfig.from_dict({name: value})
    for name in ("learning_rate", "estimator_learning_rate"):
        with pytest.raises(ValueError, match=rf"^{name} is 0\.0; expected a number above 0\.$"):
            TrainingConfig.from_dict({name: 0.0})
    assert TrainingConfig(shift=-1).shift == -1


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("network", [*NETWORKS, *CELLS]),
        ("norm", NORMS),
        ("activation", ACTIVATIONS),
        ("loss", LOSSES),
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
    ],
)
def test_choices_are_those_of_the_registries(name: str, choices: Any) -> None:
    with pytest.raises(ValueError) as caught:
        TrainingConfig.from_dict({name: "Batch"})
    assert str(caught.value) == f"Unknown {name} 'Batch'. Choose one of: {', '.join(choices)}."


def test_an_option_of_the_rule_is_checked_with_the_configuration() -> None:
    with pytest.raises(ValueError, match=rf"^{SG}: hidden_layers is -1; expected a whole number of 0 or more\.$"):
        TrainingConfig(rule=f"{SG}:hidden_layers=-1")


def test_batch_norm_needs_two_examples() -> None:
    with pytest.raises(
        ValueError, match=r"batch_size is 1 and norm is 'batch'.*Use a batch_size of 2 or more, or norm"
    ):
        TrainingConfig(batch_size=1)
    assert TrainingConfig(batch_size=2).batch_size == 2
    assert TrainingConfig(batch_size=1, norm="layer").batch_size == 1


def test_boundaries_must_fit_the_depth_also_where_the_rule_ignores_them() -> None:
    for rule in (SG, "backprop"):
        with pytest.raises(ValueError, match=r"boundaries '9' names boundary 9; a network with 4 hidden layers has"):
            TrainingConfig(rule=rule, depth=4, boundaries="9")
    assert TrainingConfig(rule="backprop", depth=4, boundaries="3").rules == {}
    assert list(TrainingConfig(rule=SG, depth=1).rules) == [1]
    assert list(TrainingConfig(rule=SG, depth=4, boundaries="3,1").rules) == [1, 3]
    assert list(TrainingConfig(rule="noise", depth=4).rules) == [1, 2, 3, 4]


def test_config_survives_json() -> None:
    config = TrainingConfig(
        data="x.npz", seed=3, network="conv", depth=6, loss="mse", rule=f"{SG}:hidden_width=7", boundaries="2,4"
    )
    later = (
        "window",
        "updates",
        "model",
        "heads",
        "patch",
        "warmup",
        "weight_decay",
        "clip_norm",
    )  # left out at their defaults, as in earlier versions
    assert list(config.to_dict()) == [name for name in FIELDS if name not in later]
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_from_dict_keeps_defaults_and_names_an_unknown_key() -> None:
    assert TrainingConfig.from_dict({"seed": 5}) == TrainingConfig(seed=5)
    with pytest.raises(ValueError, match=r"^Unknown setting 'lr'\. Choose one of: data, seed, .*, threads\.$"):
        TrainingConfig.from_dict({"seed": 5, "lr": 0.1})


# Settings that only some networks have


def test_a_transformer_has_layer_norm_where_other_networks_have_batch_norm() -> None:
    assert TrainingConfig().norm == "batch"
    assert TrainingConfig(network="transformer").norm == "layer"
    assert TrainingConfig(network="transformer", norm="batch").norm == "batch"
    assert TrainingConfig(model="a:b").norm == "batch"


@pytest.mark.parametrize(("name", "value"), [("heads", 2), ("patch", 4)])
def test_settings_of_a_transformer_are_refused_for_other_networks(name: str, value: int) -> None:
    assert getattr(TrainingConfig(network="transformer", **{name: value}), name) == value
    message = rf"^{name} is {value}, which network 'conv' does not have\. Leave it out, or use network 'transformer'\.$"
    with pytest.raises(ValueError, match=message):
        TrainingConfig(network="conv", **{name: value})
    with pytest.raises(ValueError, match=rf"^{name} is {value} and model is 'a:b', which decides that itself\."):
        TrainingConfig(model="a:b", **{name: value})


def test_a_run_of_a_model_whose_norm_was_written_down_can_be_read() -> None:
    assert TrainingConfig.from_dict({"model": "a:b", "norm": "batch"}).model == "a:b"
    with pytest.raises(ValueError, match="norm is 'layer' and model is 'a:b'"):
        TrainingConfig.from_dict({"model": "a:b", "norm": "layer"})
