import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repsim.learning import LOSSES, NETWORKS, TrainingConfig
from repsim.learning.networks import ACTIVATIONS, NORMS
from repsim.learning.optimizers import OPTIMIZERS
from repsim.learning.schedules import SCHEDULES

FIELDS = [field.name for field in dataclasses.fields(TrainingConfig)]
SG = "synthetic-gradient"
derandomized = settings(derandomize=True, database=None, deadline=None, max_examples=200)


def test_defaults_are_in_range_and_use_backprop() -> None:
    assert TrainingConfig().rules == {}


def test_config_is_frozen_and_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().seed = 1
    with pytest.raises(TypeError, match="positional"):
        TrainingConfig("digits")


@pytest.mark.parametrize("name", ["seed", "split_seed", "depth", "width", "epochs", "batch_size", "threads"])
@pytest.mark.parametrize("value", [-1, 1.0, "3", True, None])
def test_whole_numbers_are_checked(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is {value!r}; expected a whole number of [01] or more\.$"):
        TrainingConfig.from_dict({name: value})


@pytest.mark.parametrize(
    ("name", "lowest"),
    [
        ("seed", 0),
        ("split_seed", 0),
        ("depth", 1),
        ("width", 1),
        ("epochs", 0),
        ("batch_size", 1),
        ("threads", 1),
    ],
)
def test_whole_numbers_have_a_lowest_value(name: str, lowest: int) -> None:
    assert getattr(TrainingConfig.from_dict({name: lowest, "norm": "none"}), name) == lowest
    with pytest.raises(ValueError, match=f"{name} is {lowest - 1}; expected a whole number of {lowest} or more"):
        TrainingConfig.from_dict({name: lowest - 1})


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("network", NETWORKS),
        ("norm", NORMS),
        ("activation", ACTIVATIONS),
        ("loss", LOSSES),
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
    ],
)
@pytest.mark.parametrize("value", ["Batch", "", None, ["relu"]])
def test_choices_are_checked_and_listed(name: str, choices: Any, value: object) -> None:
    with pytest.raises(ValueError) as caught:
        TrainingConfig.from_dict({name: value})
    assert str(caught.value) == f"Unknown {name} '{value}'. Choose one of: {', '.join(choices)}."


@pytest.mark.parametrize("name", ["learning_rate", "estimator_learning_rate"])
@pytest.mark.parametrize("value", [0, 0.0, -1e-3, float("nan"), float("inf"), "0.1", True, None])
def test_learning_rates_are_positive_numbers(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is {value!r}; expected a number above 0\.$"):
        TrainingConfig.from_dict({name: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", True, None])
def test_a_shift_is_a_finite_number(value: object) -> None:
    assert TrainingConfig(shift=-1).shift == -1
    with pytest.raises(ValueError, match=rf"^shift is {value!r}; expected a finite number\.$"):
        TrainingConfig.from_dict({"shift": value})


@pytest.mark.parametrize("name", ["data", "rule", "boundaries"])
def test_texts_are_texts(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is 4; expected text\.$"):
        TrainingConfig.from_dict({name: 4})


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
    assert list(config.to_dict()) == FIELDS
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_from_dict_keeps_defaults_and_names_an_unknown_key() -> None:
    assert TrainingConfig.from_dict({"seed": 5}) == TrainingConfig(seed=5)
    message = r"^Unknown setting 'lr'\. Choose from: data, seed, .*, threads\.$"
    with pytest.raises(ValueError, match=message):
        TrainingConfig.from_dict({"seed": 5, "lr": 0.1})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@derandomized
@given(st.sampled_from(FIELDS), json_values)
def test_any_value_is_accepted_as_it_is_or_refused_with_one_sentence(name: str, value: object) -> None:
    try:
        config = TrainingConfig.from_dict({"rule": SG, name: value})
    except ValueError as error:
        assert len(str(error).splitlines()) == 1 or isinstance(value, str)
    else:
        assert getattr(config, name) is value
