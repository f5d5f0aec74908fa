import re

import pytest
import torch

from repsim.learning import (
    CELLS,
    ESTIMATORS,
    Learner,
    Site,
    SyntheticInput,
    TrainingConfig,
    build_learner,
    compute_gradients,
    recurrent_net,
)
from repsim.learning.recurrent.window_rules import shared_estimator
from repsim.learning.rules import Rule

SERVING = (
    "truncated",
    "noise",
    "synthetic-gradient",
    "synthetic-gradient-prop",
    "bp-lambda",
    "control-variate",
)


def learner(rule: str, window: int | None = 2, **settings: object) -> Learner:
    config = TrainingConfig(network="gru", width=4, window=window, rule=rule, **settings)
    return build_learner(config, (6, 3), 2)


@pytest.mark.parametrize("rule", SERVING)
def test_one_estimator_serves_all_boundaries(rule: str) -> None:
    one = learner(rule)
    assert list(one.placed()) == [(2,)]
    assert list(one.network.boundaries) == [2, 4]


@pytest.mark.parametrize("rule", ESTIMATORS)
def test_rules_that_need_more_than_the_state_and_its_target_are_refused(rule: str) -> None:
    if rule in SERVING or rule == "backprop":
        learner(rule)
        return
    with pytest.raises(ValueError) as caught:
        learner(rule)
    words = str(caught.value)
    assert re.match(
        rf"Rule {rule} cannot serve a recurrent network: (it needs|it changes|its segments learn) .*\. Choose one of: ",
        words,
    )
    for name in SERVING:
        assert name in words.partition("Choose one of")[2]


def test_a_label_is_refused_where_it_is_asked_for() -> None:
    with pytest.raises(
        ValueError, match=r"label_conditioned is true, but the state between two windows .* has no label"
    ):
        learner("synthetic-gradient:label_conditioned=true")
    assert learner("synthetic-gradient:label_conditioned=false").placed()[2,].label_vectors is None


def test_rules_at_some_boundaries_only_are_refused() -> None:
    net = recurrent_net("rnn", (6, 3), 2, width=4, window=2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="one rule serves all boundaries between them"):
        shared_estimator({2: Rule("truncated", {})}, net, 2, loss="mse", seed=0)


@pytest.mark.parametrize("rule", ["backprop", "bp-lambda:lam=0.5", "synthetic-gradient:observe=true"])
def test_a_rule_that_waits_for_later_windows_cannot_be_updated_after_each(rule: str) -> None:
    with pytest.raises(ValueError, match=r"updates is 'window', but the rule uses the gradient of later windows"):
        learner(rule, updates="window")
    assert learner(rule, window=6, updates="window").online  # one window


def test_a_network_without_windows_cannot_be_updated_after_each() -> None:
    plain = build_learner(TrainingConfig(depth=1, width=4), 6, 2)
    with pytest.raises(ValueError, match="updates is 'window', but the network has no windows; expected 'sequence'"):
        Learner(plain.network, online=True)


@pytest.mark.parametrize("rule", ["truncated@2", "truncated + noise"])
def test_the_config_refuses_boundaries(rule: str) -> None:
    with pytest.raises(ValueError, match="boundaries of a recurrent network lie between its windows"):
        TrainingConfig(network="rnn", rule=rule, window=2)
    with pytest.raises(ValueError, match="boundaries of a recurrent network lie between its windows"):
        TrainingConfig(network="rnn", rule="truncated", boundaries="all", window=2)


@pytest.mark.parametrize("kind", CELLS)
def test_the_config_says_which_settings_do_not_go_together(kind: str) -> None:
    with pytest.raises(ValueError, match=r"Rule 'truncated' acts between the windows .*; give .* as window, such as 5"):
        TrainingConfig(network=kind, rule="truncated")
    with pytest.raises(
        ValueError, match=rf"norm is 'layer', but the cell of network '{kind}' is fixed\. Leave norm out"
    ):
        TrainingConfig(network=kind, norm="layer")
    with pytest.raises(
        ValueError, match=r"window is 5 and the network is not recurrent, .* use network rnn, gru or lstm"
    ):
        TrainingConfig(window=5)
    with pytest.raises(ValueError, match="updates is 'window' and the network is not recurrent"):
        TrainingConfig(updates="window")
    with pytest.raises(ValueError, match=r"bp-lambda: lam is 1\.5; expected a number from 0 to 1"):
        TrainingConfig(network=kind, rule="bp-lambda:lam=1.5", window=2)
    with pytest.raises(ValueError, match="is the number of time steps, which is known once the data are loaded"):
        _ = TrainingConfig(network=kind).rules


def test_the_rule_is_at_every_boundary_between_windows() -> None:
    config = TrainingConfig(network="rnn", rule="truncated", window=3)
    assert list(config.rules_at(7)) == [3, 6]
    assert list(config.rules_at(6)) == [3]
    assert list(config.rules_at(3)) == []


def test_a_feed_forward_network_has_no_outputs_over_time() -> None:
    with pytest.raises(
        ValueError, match=r"targets at 2 time step\(s\) of a sequence, and network 'mlp' has one output"
    ):
        build_learner(TrainingConfig(depth=1), 6, 2, scored=(1, 2))


def test_a_synthetic_input_is_refused_in_a_recurrent_network() -> None:
    net = recurrent_net("rnn", (6, 3), 2, width=4, window=2, generator=torch.Generator().manual_seed(0))
    inputs = {2: SyntheticInput(Site((4,), 2), 18)}
    X, y = torch.zeros(3, 18), torch.zeros(3, dtype=torch.int64)
    for refused in (
        lambda: learner("synthetic-input"),
        lambda: Learner.with_rule(net, "truncated + synthetic-input"),
        lambda: Learner(net, synthetic_inputs=inputs),
        lambda: compute_gradients(net, {}, X, y, synthetic_inputs=inputs),
    ):
        with pytest.raises(ValueError, match=r"A synthetic input predicts .* but the windows of a recurrent network"):
            refused()
