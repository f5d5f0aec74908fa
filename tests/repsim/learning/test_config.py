import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repsim.learning import ESTIMATORS, TrainingConfig, choose_boundaries
from repsim.learning.networks import ACTIVATIONS, NORMS
from repsim.learning.schedules import SCHEDULES

FIELDS = [field.name for field in dataclasses.fields(TrainingConfig)]
SG = "synthetic-gradient"
derandomized = settings(derandomize=True, database=None, deadline=None, max_examples=200)


def test_defaults_are_in_range_and_use_backprop() -> None:
    assert TrainingConfig().cut_boundaries == ()


def test_config_is_frozen_and_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().seed = 1
    with pytest.raises(TypeError, match="positional"):
        TrainingConfig("digits")


@pytest.mark.parametrize("name", ["seed", "depth", "width", "sg_hidden_layers", "epochs", "batch_size"])
@pytest.mark.parametrize("value", [-1, 1.0, "3", True, None])
def test_whole_numbers_are_checked(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is {value!r}; expected a whole number of [01] or more\.$"):
        TrainingConfig.from_dict({name: value})


@pytest.mark.parametrize(
    ("name", "lowest"),
    [
        ("seed", 0),
        ("depth", 1),
        ("width", 1),
        ("sg_hidden_layers", 0),
        ("sg_hidden_width", 1),
        ("epochs", 0),
        ("batch_size", 1),
    ],
)
def test_whole_numbers_have_a_lowest_value(name: str, lowest: int) -> None:
    assert getattr(TrainingConfig.from_dict({name: lowest, "norm": "none"}), name) == lowest
    with pytest.raises(ValueError, match=f"{name} is {lowest - 1}; expected a whole number of {lowest} or more"):
        TrainingConfig.from_dict({name: lowest - 1})


@pytest.mark.parametrize(
    ("name", "choices"),
    [("norm", NORMS), ("activation", ACTIVATIONS), ("rule", ESTIMATORS), ("schedule", SCHEDULES)],
)
@pytest.mark.parametrize("value", ["Batch", "", None, ["relu"]])
def test_choices_are_checked_and_listed(name: str, choices: Any, value: object) -> None:
    with pytest.raises(ValueError) as caught:
        TrainingConfig.from_dict({name: value})
    assert str(caught.value) == f"Unknown {name} '{value}'. Choose one of: {', '.join(choices)}."


@pytest.mark.parametrize("name", ["learning_rate", "sg_learning_rate"])
@pytest.mark.parametrize("value", [0, 0.0, -1e-3, float("nan"), float("inf"), "0.1", True, None])
def test_learning_rates_are_positive_numbers(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is {value!r}; expected a number above 0\.$"):
        TrainingConfig.from_dict({name: value})


@pytest.mark.parametrize("name", ["data", "boundaries"])
@pytest.mark.parametrize("rule", ESTIMATORS)
def test_texts_are_texts(name: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is 4; expected text\.$"):
        TrainingConfig.from_dict({name: 4, "rule": rule})


@pytest.mark.parametrize("value", ["no", 0, None])
def test_label_conditioning_is_true_or_false(value: object) -> None:
    with pytest.raises(ValueError, match=rf"^sg_label_conditioned is {value!r}; expected True or False\.$"):
        TrainingConfig.from_dict({"sg_label_conditioned": value})


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
    assert TrainingConfig(rule="backprop", depth=4, boundaries="3").cut_boundaries == ()
    assert TrainingConfig(rule=SG, depth=1).cut_boundaries == (1,)
    assert TrainingConfig(rule=SG, depth=4, boundaries="3,1").cut_boundaries == (1, 3)


def test_config_survives_json() -> None:
    config = TrainingConfig(
        data="x.npz", seed=3, depth=6, rule=SG, boundaries="2,4", sg_hidden_width=7, sg_label_conditioned=False
    )
    assert list(config.to_dict()) == FIELDS
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_from_dict_keeps_defaults_and_names_an_unknown_key() -> None:
    assert TrainingConfig.from_dict({"seed": 5}) == TrainingConfig(seed=5)
    with pytest.raises(ValueError, match=r"^Unknown setting 'lr'\. Choose from: data, seed, depth, .*, threads\.$"):
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


@pytest.mark.parametrize(
    ("text", "depth", "expected"),
    [
        ("middle", 20, (10,)),
        ("middle", 2, (1,)),
        ("middle", 5, (2,)),
        ("every:5", 20, (5, 10, 15)),
        ("every:1", 3, (1, 2)),
        ("every:2", 3, (2,)),
        ("inner", 4, (1, 2, 3)),
        ("inner", 2, (1,)),
        ("all", 1, (1,)),
        ("all", 3, (1, 2, 3)),
        ("4", 4, (4,)),
        ("8, 4,8", 20, (4, 8)),
    ],
)
def test_boundaries_are_chosen_by_name_or_number(text: str, depth: int, expected: tuple[int, ...]) -> None:
    assert choose_boundaries(text, depth) == expected


@pytest.mark.parametrize(
    ("text", "depth", "what"),
    [
        ("inner", 1, "names no boundary"),
        ("every:0", 20, "names no boundary"),
        ("every:-2", 20, "names no boundary"),
        ("every:20", 20, "names no boundary"),
        ("0", 20, "names boundary 0"),
        ("-1", 20, "names boundary -1"),
        ("4,21", 20, "names boundary 21"),
    ],
)
def test_boundaries_outside_the_network_are_refused(text: str, depth: int, what: str) -> None:
    message = (
        rf"^boundaries '{text}' {what}; a network with {depth} hidden layers has boundaries 1 to {depth} \(boundary"
    )
    with pytest.raises(ValueError, match=message):
        choose_boundaries(text, depth)


@pytest.mark.parametrize("text", ["", "centre", "4,,8", "4;8", "every:", "every:two", "every:1.5", "1.0", "Middle"])
def test_boundaries_that_are_not_understood_are_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^boundaries '{text}' is not understood\. Use middle, inner, all, every:N or"
    ):
        choose_boundaries(text, 20)


@derandomized
@given(st.text(alphabet="0123456789,-: evrymidlna", max_size=9) | st.text(max_size=5), st.integers(1, 12))
def test_any_text_names_boundaries_of_the_network_or_is_refused(text: str, depth: int) -> None:
    try:
        chosen = choose_boundaries(text, depth)
    except ValueError as error:
        assert str(error).startswith(f"boundaries '{text}' ")
    else:
        assert chosen
        assert list(chosen) == sorted(set(chosen) & set(range(1, depth + 1)))
