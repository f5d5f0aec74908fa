import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repsim.learning import (
    ESTIMATORS,
    Estimator,
    Learner,
    Signals,
    Site,
    SyntheticGradient,
    TrainingConfig,
    build_learner,
    build_optimizer,
    locks,
    mlp,
    stack,
)
from repsim.learning.decoupled.local import LocalLearner
from repsim.learning.decoupled.stages import is_unlocked, learns_from_target, split_into_stages

N, CLASSES, STEPS = 20, 3, 5
TINY = {"rtol": 0.0, "atol": 1e-12}
SHAPES = {"mlp": (6,), "conv": (1, 8, 8), "residual": (1, 8, 8), "transformer": (1, 8, 8)}

CHAINS = {
    "one synthetic gradient": "synthetic-gradient@2",
    "synthetic gradients everywhere": "synthetic-gradient:hidden_layers=1@1-4",
    "without labels": "synthetic-gradient:label_conditioned=false@2,3",
    "noise": "noise@1,3",
    "random targets": "direct-random-target@1,2,3",
    "greedy": "decoupled-greedy@1-4",
    "lambda 0": "bp-lambda:lam=0@2",
    "locked below": "feedback-alignment@1,2 + synthetic-gradient@3",
    "targets below": "target-propagation@1,2 + synthetic-gradient@3",
    "prop below": "synthetic-gradient-prop@1 + bp-lambda@2 + synthetic-gradient@3",
    "error at the top": "synthetic-gradient@2 + direct-feedback-alignment@3 + kickback@4",
    "true gradient at the top": "synthetic-gradient@2 + disturbed-gradient@3,4",
    "unlocked forward too": "synthetic-gradient@1-3 + synthetic-input@1,3",
    "predicted within a stage": "decoupled-greedy@1 + synthetic-input:label_conditioned=true@2,3 + noise@4",
    "of all kinds": "noise@1 + adaptive-random-backprop@2 + decoupled-greedy@3 + synthetic-gradient:observe=true@4",
}


def config(rule: str, **settings: Any) -> TrainingConfig:
    small = {"depth": 4, "width": 8, "rule": rule, "learning_rate": 0.01, "estimator_learning_rate": 0.02}
    return TrainingConfig.from_dict(small | settings)


def start(settings: TrainingConfig) -> Learner:
    return build_learner(settings, SHAPES[settings.network], CLASSES, together=False).double()


def batches(network: str, n: int = STEPS) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    shape = (N, torch.Size(SHAPES[network]).numel())
    draw = {"generator": generator, "dtype": torch.float64}
    return [(torch.randn(shape, **draw), torch.randint(CLASSES, (N,), generator=generator)) for _ in range(n)]


def assert_local_is_synchronous(settings: TrainingConfig) -> None:
    one, other = start(settings), start(settings)
    local, optimizer = LocalLearner(one, settings), build_optimizer(other, settings)
    for X, y in batches(settings.network):
        optimizer.zero_grad(set_to_none=True)
        expected = other.compute_gradients(X, y)
        optimizer.step()
        outcome = local.step(X, y)
        torch.testing.assert_close(outcome.loss, expected.loss, **TINY)
        torch.testing.assert_close(outcome.logits, expected.logits, **TINY)
        torch.testing.assert_close(outcome.estimator_losses, expected.estimator_losses, **TINY)
        torch.testing.assert_close(outcome.input_losses, expected.input_losses, **TINY)
    trained, beginning = other.state_dict(), start(settings).state_dict()
    torch.testing.assert_close(one.state_dict(), trained, **TINY)
    assert any(not torch.allclose(value, beginning[name]) for name, value in trained.items())


@pytest.mark.parametrize("chain", CHAINS)
def test_local_steps_are_synchronous_steps(chain: str) -> None:
    assert_local_is_synchronous(config(CHAINS[chain]))


@pytest.mark.parametrize("network", SHAPES)
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_local_steps_are_synchronous_steps_in_every_network(network: str, norm: str, optimizer: str) -> None:
    rule = "decoupled-greedy@1 + synthetic-gradient@3"
    assert_local_is_synchronous(config(rule, network=network, norm=norm, optimizer=optimizer, width=4))


def test_a_stage_has_learned_before_the_next_one_runs() -> None:
    settings = config("noise@1 + synthetic-gradient@3")
    learner = start(settings)
    local = LocalLearner(learner, settings)
    before = copy.deepcopy(learner)
    seen: dict[int, list[bool]] = {}  # at the forward pass of a segment, which segments have changed

    def changed(k: int) -> bool:
        pairs = zip(
            learner.network.segments[k - 1].parameters(), before.network.segments[k - 1].parameters(), strict=True
        )
        return any(not torch.equal(p, q) for p, q in pairs)

    with torch.no_grad():
        learner.estimators["1"].scale.fill_(1.0)
        for p in learner.estimators["3"].parameters():
            p.normal_(generator=torch.Generator().manual_seed(0))
    for k, segment in enumerate(learner.network.segments, start=1):
        segment.register_forward_pre_hook(lambda *_, k=k: seen.update({k: [changed(j) for j in range(1, 6)]}))
    local.step(*batches("mlp", 1)[0])
    assert seen == {
        1: [False] * 5,
        2: [True, False, False, False, False],
        3: [True, False, False, False, False],  # segments 2 and 3 are one stage
        4: [True, True, True, False, False],
        5: [True, True, True, False, False],
    }
    assert all(changed(k) for k in range(1, 6))


def test_stages_above_a_synthetic_input_run_before_those_below() -> None:
    settings = config("synthetic-gradient@1,2,3 + synthetic-input@1,3")
    learner = start(settings)
    local, order = LocalLearner(learner, settings), list[int]()
    for k, segment in enumerate(learner.network.segments, start=1):
        segment.register_forward_pre_hook(lambda *_, k=k: order.append(k))
    local.step(*batches("mlp", 1)[0])
    assert order == [4, 5, 2, 3, 1]


def test_an_estimator_is_taught_when_the_stage_above_it_has_run() -> None:
    settings = config("synthetic-gradient@2,3")
    learner = start(settings)
    local = LocalLearner(learner, settings)
    taught: dict[int, list[bool]] = {}
    zero = {k: learner.estimators[k] for k in ("2", "3")}

    def record(k: int) -> None:
        taught[k] = [any(p.any() for p in estimator.parameters()) for estimator in zero.values()]

    for k, segment in enumerate(learner.network.segments, start=1):
        segment.register_forward_pre_hook(lambda *_, k=k: record(k))
    X, y = batches("mlp", 1)[0]
    local.step(X, y)  # the upper estimator is zero, and that is what the lower one is taught
    record(0)
    assert taught[0] == [False, True]
    local.step(X, y)
    assert taught[3] == [False, True]
    assert taught[4] == [True, True]


def test_stages_share_no_parameter_and_hold_them_all() -> None:
    settings = config("synthetic-gradient@1 + feedback-alignment@2 + decoupled-greedy@3")
    learner = start(settings)
    local = LocalLearner(learner, settings)
    held = [
        parameter
        for pair in local.optimizers
        for optimizer in pair
        if optimizer is not None
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert len(set(held)) == len(held)
    assert set(held) == set(learner.parameters())


def test_a_chain_without_unlocked_boundaries_is_one_stage() -> None:
    assert [stage.numbers for stage in split_into_stages(start(config("backprop")))] == [(1, 2, 3, 4, 5)]
    assert_local_is_synchronous(config("feedback-alignment"))


def test_a_stack_of_learners_steps_as_each_alone() -> None:
    configs = [config("synthetic-gradient:hidden_layers=1@2", seed=seed, norm="none") for seed in (0, 1)]
    alone = [start(settings) for settings in configs]
    together = LocalLearner(stack(alone), configs[0])
    separate = [LocalLearner(learner, configs[0]) for learner in alone]
    for X, y in batches("mlp"):
        loss = together.step(X.expand(2, *X.shape), y.expand(2, *y.shape)).loss
        expected = torch.stack([local.step(X, y).loss for local in separate])
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)


def test_losses_of_regression_are_local_too() -> None:
    settings = config("synthetic-gradient@2", loss="mse")
    one, other = start(settings), start(settings)
    local, optimizer = LocalLearner(one, settings), build_optimizer(other, settings)
    for X, _ in batches("mlp"):
        optimizer.zero_grad(set_to_none=True)
        expected = other.compute_gradients(X, X[:, :CLASSES])
        optimizer.step()
        torch.testing.assert_close(local.step(X, X[:, :CLASSES]).loss, expected.loss, **TINY)


def at_a_boundary(name: str) -> Estimator:
    site = Site((4,), CLASSES, 1, nn.Linear(4, 4), (4,), n_features=4)
    return ESTIMATORS[name](site, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_unlocked_estimators_need_at_most_activation_and_labels(name: str) -> None:
    estimator = at_a_boundary(name)
    has_no_lock = not locks(estimator) and not estimator.learns_again
    assert is_unlocked(estimator) == has_no_lock == (estimator.needs <= {"activation", "labels"})


@pytest.mark.parametrize("rule", ["forward-forward", "pepita"])
def test_a_rule_that_learns_in_a_second_pass_is_trained_in_one_stage(rule: str) -> None:
    settings = config(rule, boundaries="all")
    one, other = start(settings), start(settings)
    local, optimizer = LocalLearner(one, settings), build_optimizer(other, settings)
    assert len(local.stages) == 1
    for X, y in batches("mlp"):
        optimizer.zero_grad(set_to_none=True)
        expected = other.compute_gradients(X, y)
        optimizer.step()
        torch.testing.assert_close(local.step(X, y).loss, expected.loss, **TINY)


def test_a_second_pass_starts_at_the_input_and_cannot_end_at_a_cut() -> None:
    settings = config("synthetic-gradient@1 + forward-forward@2,3")
    with pytest.raises(ValueError, match="forward-forward at boundary 2 learns in a second forward pass, which starts"):
        LocalLearner(start(settings), settings)
    settings = config("forward-forward", boundaries="all")
    with pytest.raises(ValueError, match="at boundary 2 learns in a second forward pass through all segments"):
        split_into_stages(start(settings), [2])


def test_a_rule_that_changes_the_segment_above_is_not_unlocked() -> None:
    class Reaching(SyntheticGradient):
        def through(self, segment: nn.Module, X: Tensor) -> Tensor:
            return 2 * segment(X)

    assert is_unlocked(SyntheticGradient(Site((4,), CLASSES)))
    assert not is_unlocked(Reaching(Site((4,), CLASSES)))


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if is_unlocked(at_a_boundary(name))])
def test_estimators_that_ignore_the_target_learn_without_it(name: str) -> None:
    """So that the list of those that learn alone stays true."""
    estimator = at_a_boundary(name)
    signals = Signals(torch.ones(2, 4), torch.tensor([0, 1]))
    chosen = estimator.gradient(signals)
    if learns_from_target(estimator):
        with pytest.raises(AssertionError):
            estimator.loss(chosen, signals)
    else:
        estimator.loss(chosen, signals)


@pytest.mark.parametrize(
    ("rule", "needed"),
    [
        ("direct-feedback-alignment", "error of the output"),
        ("kickback", "error of the output"),
        ("adaptive-skipped-backprop", "error of the output"),
        ("disturbed-gradient", "true gradient"),
    ],
)
def test_a_rule_that_needs_what_only_the_top_has_is_refused_below_it(rule: str, needed: str) -> None:
    settings = config(f"{rule}@1 + synthetic-gradient@3")
    with pytest.raises(ValueError, match=f"Rule {rule} at boundary 1 needs the {needed}.*do not cut at boundary 3"):
        LocalLearner(start(settings), settings)


@pytest.mark.parametrize("rule", ["synthetic-gradient", "decoupled-greedy", "direct-random-target"])
def test_missing_labels_are_refused_before_any_update(rule: str) -> None:
    settings = config(f"noise@1 + {rule}@3")
    learner = start(settings)
    before = copy.deepcopy(learner.state_dict())
    with pytest.raises(ValueError, match=f"Rule {rule} at boundary 3 needs labels, but y is None"):
        LocalLearner(learner, settings).step(batches("mlp")[0][0], None)
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


def test_the_loss_needs_labels_whatever_the_rules() -> None:
    settings = config("noise@1")
    local = LocalLearner(start(settings), settings)
    with pytest.raises(
        ValueError, match=r"output segment learns from the true loss, which needs labels, but y is None"
    ):
        local.step(batches("mlp")[0][0], None)


def test_estimators_that_are_evaluated_together_are_refused() -> None:
    settings = config("synthetic-gradient@1,3")
    learner = build_learner(settings, 6, CLASSES)
    with pytest.raises(ValueError, match=r"boundaries 1, 3 are evaluated together.*together=False"):
        LocalLearner(learner, settings)


def test_cuts_must_be_at_boundaries_that_can_be_cut() -> None:
    learner = start(config("feedback-alignment@2"))
    with pytest.raises(ValueError, match="There is no boundary 5 to cut at; this network has boundaries 1 to 4"):
        split_into_stages(learner, [5])
    with pytest.raises(ValueError, match="name a boundary twice"):
        split_into_stages(learner, [1, 1])
    with pytest.raises(ValueError, match="Rule feedback-alignment at boundary 2 is locked"):
        split_into_stages(learner, [2])
    assert [stage.numbers for stage in split_into_stages(learner, [3])] == [(1, 2, 3), (4, 5)]


def test_a_rule_of_ones_own_is_named_by_its_class() -> None:
    class Mine(SyntheticGradient):
        def __init__(self, site: Site) -> None:
            super().__init__(site)
            self.needs = frozenset({"error"})

    network = mlp(6, CLASSES, depth=2, width=8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="Rule Mine at boundary 1 is locked"):
        split_into_stages(Learner(network, {1: Mine(Site((8,), CLASSES))}), [1])


def test_regression_targets_of_one_axis_are_refused_as_by_the_synchronous_step() -> None:
    settings = TrainingConfig(depth=2, width=4, loss="mse", norm="none")
    learner = build_learner(settings, 6, 1, together=False)
    X, y = torch.ones(4, 6), torch.ones(4)
    messages = []
    for step in (learner.compute_gradients, LocalLearner(learner, settings).step):
        with pytest.raises(ValueError, match="y has shape") as caught:
            step(X, y)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
