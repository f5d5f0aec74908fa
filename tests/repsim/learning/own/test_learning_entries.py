"""Checks of the user's own rules, networks, losses, optimizers, schedules and data sets when they are registered."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from repsim.learning import (
    DATASETS,
    ESTIMATORS,
    Dataset,
    Estimator,
    RuleOptions,
    Signals,
    TrainingConfig,
    catalogue,
    load_dataset,
    register_rule,
)
from repsim.registration import add_entry
from repsim.registry_kinds import KINDS

pytestmark = pytest.mark.usefixtures("own")


class Half(Estimator):
    """g_k = t_k / 2."""

    formula = "t_k / 2"
    reference = "a test"
    needs = frozenset({"target"})

    def gradient(self, signals: Signals) -> Tensor:
        assert signals.target is not None
        return signals.target / 2


def test_a_rule_is_known_by_name_and_listed() -> None:
    assert register_rule("half")(Half) is Half
    assert TrainingConfig(data="digits", depth=3, rule="half@2").rules[2].name == "half"
    assert catalogue()[-1].formula == "t_k / 2"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_our_rules_pass_the_checks_of_yours(name: str) -> None:
    from repsim.learning.own.learning_entries import make_rule

    assert make_rule(name, ESTIMATORS[name]) is ESTIMATORS[name]


def rule(**attributes: Any) -> type[Estimator]:
    return type("Changed", (Half,), attributes)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (len, TypeError, r"^The rule 'x' is <built-in .*; expected a subclass of repsim\.learning\.Estimator\."),
        (
            rule(Options=dict),
            TypeError,
            "^The Options of the rule 'x' are <class 'dict'>; expected a subclass of",
        ),
        (rule(formula=None), ValueError, "^The rule 'x' has no formula; give its class a text of this name"),
        (rule(needs={"gradients"}), ValueError, r"^The rule 'x' needs {'gradients'}; expected a frozenset of: activat"),
        (rule(__init__=lambda self: None), ValueError, r"^The rule 'x' cannot be built \(TypeError: "),
        (
            rule(needs=frozenset({"error"})),
            ValueError,
            r"^The gradient of the rule 'x' fails on random signals \(AssertionError: (.|\n)*needs are None: .*target",
        ),
        (
            rule(gradient=lambda self, signals: signals.target[0]),
            ValueError,
            r"^The gradient of the rule 'x' has shape \(6,\); expected \(8, 6\), that of the activation",
        ),
        (
            rule(gradient=lambda self, signals: signals.target * math.nan),
            ValueError,
            "^The gradient of the rule 'x' has values that are NaN",
        ),
    ],
)
def test_rules_that_are_not_as_declared_are_refused(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        register_rule("x")(given)
    assert "x" not in ESTIMATORS


def test_a_rule_may_have_options() -> None:
    register_rule("half")(rule(Options=RuleOptions))
    assert catalogue()[-1].options == {}


def data(data_dir: Path | None) -> Dataset:
    return Dataset("mine", np.zeros((6, 2), np.float32), np.arange(6) % 2, ("a", "b"))


def arrays() -> tuple[Any, Any]:
    return [[float(i), 1.0] for i in range(6)], ["a", "b"] * 3


@pytest.mark.parametrize("given", [data, arrays])
def test_a_function_is_a_data_set(given: Any) -> None:
    add_entry(KINDS["datasets"], "mine", given)
    found = load_dataset("mine")
    assert (found.X.shape, found.classes, found.name) == ((6, 2), ("a", "b"), "mine")


def test_a_data_set_of_something_else_is_refused() -> None:
    add_entry(KINDS["datasets"], "mine", lambda: 3)
    with pytest.raises(ValueError, match=r"^The data set 'mine' is a int; expected a Dataset, or the pair \(X, y\)\.$"):
        DATASETS["mine"](None)


@pytest.mark.parametrize(
    ("kind", "given", "error", "message"),
    [
        ("datasets", 3, TypeError, r"^The data set 'x' is 3; expected a function of \(data_dir\) or \(\)"),
        (
            "networks",
            lambda shape: 0,
            TypeError,
            r"^The network 'x' is a function of \(shape\); expected one of",
        ),
        ("norms", nn.LayerNorm, TypeError, "^The norm 'x' is .*; expected a Norm, and nothing declared"),
        ("activations", lambda: 3, TypeError, r"^The activation 'x' makes a int; expected a torch\.nn\.Module"),
        (
            "losses",
            lambda output, y: output,
            ValueError,
            r"^The loss 'x' has shape \(2, 4, 3\) for y of",
        ),
        ("losses", lambda output, y: y / 0.0, ValueError, "^The loss 'x' has values that are NaN or infinite"),
        ("losses", lambda output, y: y.nothing, ValueError, r"^The loss 'x' fails on random data \(AttributeError"),
        ("optimizers", lambda groups: 3, TypeError, r"^The optimizer 'x' makes a int; expected a torch\.optim\.Optim"),
        ("schedules", lambda progress: -1.0, ValueError, r"^The schedule 'x' is -1\.0 at 0\.0; expected a number of 0"),
    ],
)
def test_other_things_than_a_registry_holds_are_refused(
    kind: str, given: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        add_entry(KINDS[kind], "x", given)


def test_an_activation_takes_a_gain() -> None:
    add_entry(KINDS["activations"], "elu", nn.ELU, {"gain": 1.2})
    config = TrainingConfig(data="digits", depth=2, width=4, activation="elu")
    assert KINDS["activations"].registry[config.activation].gain == 1.2
    assert isinstance(KINDS["activations"].registry["elu"].module()(torch.zeros(1)), Tensor)


def test_a_network_with_the_name_of_a_recurrent_one_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^'gru' is a recurrent network of this package; choose another name for yours"
    ):
        add_entry(KINDS["networks"], "gru", lambda *sizes, **settings: None)
