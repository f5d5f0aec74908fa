import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repsim.learning import (
    LOSSES,
    Diverged,
    Learner,
    LineSearch,
    LocalLearner,
    TrainingConfig,
    build_learner,
    build_optimizer,
    largest_error_ratio,
    train,
    train_pipeline,
    train_replicas,
)
from repsim.theory import least_squares, linear_model, track
from tests.repsim.small_chains import assert_same_bits, randn, seeded

DELTA = 0.1


class Quadratic:
    """f(θ) = θᵀ A θ / 2 with eigenvalues from 0.1 to 10, whose largest stable rate of plain descent is 0.2."""

    def __init__(self, seed: int, size: float = 1.0) -> None:
        Q = torch.linalg.qr(randn(6, 6, seed=seed))[0]
        self.A = Q @ torch.diag(torch.logspace(-1, 1, 6, dtype=torch.float64)) @ Q.T
        self.theta = nn.Parameter(size * randn(6, seed=100 + seed))

    def loss(self) -> float:
        theta = self.theta.detach()
        return float(theta @ self.A @ theta) / 2

    def gradient(self) -> Tensor:
        return self.A @ self.theta.detach()


Disturb = Callable[[Tensor, float, int], Tensor]  # of a gradient, an error ratio and the number of the step


def at_random(gradient: Tensor, ratio: float, step: int) -> Tensor:
    noise = randn(len(gradient), seed=1000 + step)
    return gradient + ratio * gradient.norm() * noise / noise.norm()


def along(gradient: Tensor, ratio: float, step: int) -> Tensor:
    """The worst direction for descent: too short, or too long, in turn."""
    return gradient * (1 - ratio if step % 2 else 1 + ratio)


def across(gradient: Tensor, ratio: float, step: int) -> Tensor:
    noise = randn(len(gradient), seed=1000 + step)
    noise = noise - gradient * (noise @ gradient) / gradient.square().sum()
    return gradient + ratio * gradient.norm() * noise / noise.norm()


def descend(problem: Quadratic, disturb: Disturb, ratio: float, lr: float, **options: Any) -> list[Any]:
    """Return the searched steps until the gradient has fallen to a thousandth of the first, or none is made."""
    optimizer, first, steps = LineSearch([problem.theta], lr=lr, **options), problem.gradient().norm(), []
    for number in range(2000):
        true, before = problem.gradient(), problem.loss()
        problem.theta.grad = disturb(true, ratio, number)
        (step,) = optimizer.search([problem.loss], [[true]] if options else None)
        steps.append(step)
        assert problem.loss() < before if step.size else problem.loss() == before
        if not step.size or problem.gradient().norm() <= 1e-3 * first:
            break
    return steps


@pytest.mark.parametrize("size", [1.0, 1e4])
@pytest.mark.parametrize("disturb", [at_random, along, across])
@pytest.mark.parametrize("lr", [0.19, 1.0, 1e3])  # up to 5,000 times the largest rate of plain descent
def test_with_errors_within_the_condition_every_step_lowers_the_loss_and_descent_converges_from_any_start(
    lr: float, disturb: Disturb, size: float
) -> None:
    ratio = largest_error_ratio(DELTA) * 0.999
    for seed in range(4):
        for options in ({}, {"delta": DELTA}):
            problem = Quadratic(seed, size)
            first = problem.gradient().norm()
            steps = descend(problem, disturb, ratio, lr, **options)
            assert all(step.size for step in steps)
            assert problem.gradient().norm() <= 1e-3 * first


def test_steps_up_to_what_the_bound_promises_are_accepted() -> None:
    """(1/2 + δ) / L, with the error that makes gᵀ∇f as small as the condition allows."""
    ratio, L = largest_error_ratio(DELTA), 10.0
    for seed in range(20):
        problem = Quadratic(seed)
        problem.theta.grad = at_random(problem.gradient(), ratio, seed)
        (step,) = LineSearch([problem.theta], lr=(0.5 + DELTA) / L).search([problem.loss])
        assert step.n_trials == 1


@pytest.mark.parametrize("lr", [0.1, 10.0])
def test_beyond_the_condition_no_step_is_made_and_the_reason_is_told(lr: float) -> None:
    for seed in range(6):
        against, tracked = Quadratic(seed), Quadratic(seed)
        (last,) = descend(against, along, -2.5, lr)[-1:]  # at step 0: 1 - 2.5, an ascent
        assert (last.size, last.reason) == (0.0, "no decrease")
        assert torch.equal(against.theta, Quadratic(seed).theta)
        (last,) = descend(tracked, across, 1.1 * largest_error_ratio(DELTA), lr, delta=DELTA)
        assert (last.size, last.reason, last.n_trials) == (0.0, "error of the gradient", 0)
        assert last.error_ratio == pytest.approx(1.1 * largest_error_ratio(DELTA))
    problem = Quadratic(0)
    problem.theta.grad = torch.zeros(6, dtype=torch.float64)
    assert LineSearch([problem.theta]).search([problem.loss])[0].reason == "gradient is zero"


# With synthetic gradients


def linear_case(scale: float = 1.0) -> tuple[Learner, Tensor, Tensor]:
    """Return a linear model with a linear synthetic gradient at its output, and noisy examples."""
    X = randn(60, 3, seed=1)
    Y = X @ randn(3, 2, seed=2) + 0.5 * randn(60, 2, seed=3)
    learner = Learner.with_rule(measured(linear_model(3, 2, generator=seeded())), "synthetic-gradient@1", loss="mse")
    learner = learner.double()
    with torch.no_grad():
        learner.network.hidden["1"].weight.mul_(scale)
    return learner, X, Y


def measured(network: Any) -> Any:
    network.measure(torch.zeros(2, 3))
    return network


def groups(learner: Learner, lr: float) -> list[dict[str, Any]]:
    return [{"params": list(part.parameters()), "lr": lr} for part in (learner.network, learner.estimators)]


@pytest.mark.parametrize(("lr", "scale"), [(1.0, 100.0), (50.0, 1.0)])
def test_a_linear_model_converges_from_any_start_at_rates_at_which_plain_descent_diverges(
    lr: float, scale: float
) -> None:
    settings = TrainingConfig(epochs=80, batch_size=60)
    learner, X, Y = linear_case(scale)
    with pytest.raises(Diverged):
        list(train(learner, torch.optim.SGD(groups(learner, lr)), X, Y, settings))
    Z = torch.cat([X, X.new_ones(60, 1)], dim=1)
    best = float((Z @ least_squares(X, Y) - Y).square().sum(dim=1).mean())
    for delta in (None, DELTA):
        learner, X, Y = linear_case(scale)
        losses = [step.loss for step in train(learner, LineSearch(groups(learner, lr), delta=delta), X, Y, settings)]
        assert all(after <= before * (1 + 1e-12) for before, after in pairwise(losses))
        assert losses[-1] == pytest.approx(best, rel=1e-6)


def test_the_error_that_decides_is_that_of_the_theory() -> None:
    learner, X, Y = linear_case()
    optimizer = LineSearch(groups(learner, 0.1), delta=DELTA)
    moved: list[bool] = []
    seen: Any = None
    for step in islice(train(learner, optimizer, X, Y, TrainingConfig(epochs=12, batch_size=60)), 12):
        if moved:
            assert step.line_search["network"].error_ratio == pytest.approx(seen.error_norm / seen.gradient_norm)
            assert step.line_search["network"].error_ratio <= seen.ratio * (1 + 1e-9)
            if seen.holds(DELTA):
                assert step.line_search["network"].size > 0
        moved.append(step.line_search["network"].size > 0)
        (seen,) = track(learner, X, Y).values()
    assert not moved[0]  # S starts at zero: its error is the whole gradient
    assert any(moved)


SETTINGS = TrainingConfig(
    depth=3, width=8, rule="synthetic-gradient@2 + decoupled-greedy@1", epochs=2, batch_size=12, learning_rate=1.0
)


def start(optimizer: str, **settings: Any) -> tuple[Learner, torch.optim.Optimizer, TrainingConfig]:
    config = replace(SETTINGS, optimizer=optimizer, **settings)
    learner = build_learner(config, 6, 3)
    return learner, build_optimizer(learner, config), config


EXAMPLES = randn(36, 6, seed=7).float(), torch.arange(36) % 3


@pytest.mark.parametrize("optimizer", ["line-search", "tracked-line-search"])
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(optimizer: str) -> None:
    learner, search, config = start(optimizer)
    steps = train(learner, search, *EXAMPLES, config)
    list(islice(steps, 3))
    state = copy.deepcopy((learner.state_dict(), search.state_dict()))
    rest = list(steps)
    resumed, again, _ = start(optimizer)
    resumed.load_state_dict(state[0])
    again.load_state_dict(state[1])
    assert list(map(repr, train(resumed, again, *EXAMPLES, config, start=3))) == list(map(repr, rest))
    assert_same_bits(resumed.state_dict(), learner.state_dict())


def test_trial_steps_change_no_running_statistics() -> None:
    searched, other = (start(optimizer) for optimizer in ("line-search", "sgd"))
    next(train(searched[0], searched[1], *EXAMPLES, searched[2]))
    next(train(other[0], other[1], *EXAMPLES, other[2]))
    assert_same_bits(dict(searched[0].named_buffers()), dict(other[0].named_buffers()))


def test_the_loss_of_the_batch_falls_at_every_step_under_any_searchable_rule() -> None:
    for rule in ("backprop", "feedback-alignment", "bp-lambda@2", "synthetic-gradient@all", "noise:observe=true"):
        learner, search, config = start("line-search", rule=rule, epochs=4, batch_size=36)
        losses = [step.loss for step in train(learner, search, *EXAMPLES, config)]
        assert losses[-1] <= losses[0]
        assert all(after <= before + 1e-5 for before, after in pairwise(losses))


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("target-propagation", "TargetPropagation draws random numbers"),
        ("control-variate", "ControlVariate draws random numbers"),
        ("adaptive-random-backprop", "changes its parameters without a loss"),
    ],
)
def test_rules_whose_losses_cannot_be_compared_are_refused(rule: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^Optimizer 'line-search' compares .*{reason}\. Use optimizer adam"):
        start("line-search", rule=rule)


def test_networks_that_relax_to_an_equilibrium_are_refused() -> None:
    settings = {"norm": "none", "activation": "sigmoid", "loss": "mse", "rule": "equilibrium-propagation"}
    with pytest.raises(ValueError, match=r"^Optimizer 'line-search' compares .* but this network relaxes to an equil"):
        start("line-search", **settings)
    learner = build_learner(replace(SETTINGS, **settings), 6, 3)
    with pytest.raises(ValueError, match=r"^Optimizer 'LineSearch' compares .* but this network relaxes to an equil"):
        next(train(learner, LineSearch(learner.parameters()), *EXAMPLES, SETTINGS))


@pytest.mark.parametrize("optimizer", ["line-search", "tracked-line-search"])
def test_stages_that_update_one_by_one_are_refused(optimizer: str) -> None:
    config = replace(SETTINGS, optimizer=optimizer, rule="synthetic-gradient@2")
    learner = build_learner(config, 6, 3, together=False)
    refusal = rf"^Optimizer '{optimizer}' compares losses of the whole network, but stages update one by one\. Use"
    with pytest.raises(ValueError, match=refusal):
        LocalLearner(learner, config)
    with pytest.raises(ValueError, match=refusal):
        train_pipeline(learner, *EXAMPLES, config)


# With rules and inputs of more than one pass


def true_loss(learner: Learner) -> float:
    """The loss of the forward pass of all examples, with the statistics of this batch."""
    twin = copy.deepcopy(learner.network).train()
    return float(LOSSES[learner.loss](twin(EXAMPLES[0]), EXAMPLES[1]).mean().detach())


JOINED = [
    "synthetic-gradient@2 + synthetic-input@1,2",
    "backprop + synthetic-input:label_conditioned=true@2",
    "forward-forward@1 + synthetic-gradient@2,3",
    "pepita",
    "predictive-coding:rate=0.5",
    "least-error-mixture",
]


@pytest.mark.parametrize("optimizer", ["line-search", "tracked-line-search"])
@pytest.mark.parametrize("rule", JOINED)
def test_the_loss_of_the_true_forward_pass_never_rises(rule: str, optimizer: str) -> None:
    learner, search, config = start(optimizer, rule=rule, epochs=12, batch_size=36)
    losses, moved = [true_loss(learner)], 0
    for step in train(learner, search, *EXAMPLES, config):
        losses.append(true_loss(learner))
        moved += step.line_search["network"].size > 0
    assert all(after <= before + 1e-5 for before, after in pairwise(losses))
    assert optimizer != "line-search" or (moved and losses[-1] < losses[0])


@pytest.mark.parametrize("rule", ["synthetic-input@1,3", "synthetic-input:label_conditioned=true,hidden_layers=1@2"])
def test_synthetic_inputs_step_down_their_own_loss(rule: str) -> None:
    learner, search, config = start("line-search", rule=f"backprop + {rule}", epochs=1, batch_size=36)
    before = copy.deepcopy(learner)
    (step,) = train(learner, search, *EXAMPLES, config)
    modules, X, y = learner.placed_inputs(), *EXAMPLES
    h = X
    twin = copy.deepcopy(before.network).train()
    after = {}
    for k, segment in enumerate(twin.segments, start=1):
        below = before.placed_inputs().get(k - 1)
        h = segment(h if below is None else below(X, y)).detach()
        if k in modules:
            after[k] = float(modules[k].loss(modules[k](X, y), h).detach())
            assert float(before.placed_inputs()[k].loss(before.placed_inputs()[k](X, y), h).detach()) == pytest.approx(
                step.input_losses[k]
            )
    size = step.line_search["estimators"].size
    squared_norm = sum(float(p.grad.square().sum()) for p in learner.synthetic_inputs.parameters())
    assert size > 0
    assert sum(after.values()) <= sum(step.input_losses.values()) - size * squared_norm / 4 + 1e-4
    for old, new in zip(before.synthetic_inputs.parameters(), learner.synthetic_inputs.parameters(), strict=True):
        torch.testing.assert_close(new, old - size * new.grad)


def test_trial_steps_change_no_running_averages_of_a_rule() -> None:
    searched, other = (start(optimizer, rule="least-error-mixture") for optimizer in ("line-search", "sgd"))
    next(train(searched[0], searched[1], *EXAMPLES, searched[2]))
    next(train(other[0], other[1], *EXAMPLES, other[2]))
    assert any("moments" in name for name, _ in other[0].named_buffers())
    assert_same_bits(dict(searched[0].named_buffers()), dict(other[0].named_buffers()))


@pytest.mark.parametrize("rule", [SETTINGS.rule, *JOINED])
def test_diagnosed_steps_change_no_bit_of_a_search(rule: str) -> None:
    runs = []
    for diagnosed in ((), (1, 3)):
        learner, search, config = start("tracked-line-search", rule=rule)
        steps = list(train(learner, search, *EXAMPLES, config, diagnosed=diagnosed, diagnosis_batches=2))
        runs.append((steps, learner.state_dict()))
    (quiet, state), (watched, same) = runs
    assert_same_bits(state, same)
    assert [repr(each) for each in quiet] == [repr(replace(each, diagnoses={})) for each in watched]
    for found in watched[0].diagnoses.values():
        assert found.variance is not None
        assert found.true_norm > 0


def test_what_a_line_search_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^weight_decay is 0\.1, but optimizer 'line-search' has no weight decay"):
        start("line-search", weight_decay=0.1)
    with pytest.raises(ValueError, match=r"^clip_norm is 1\.0, but optimizer 'line-search' finds the size"):
        start("line-search", clip_norm=1.0)
    for delta in (0, 1, 2.0):
        with pytest.raises(ValueError, match=rf"^delta is {delta}; expected a number between 0 and 1"):
            LineSearch([nn.Parameter(torch.ones(1))], delta=delta)
    search = LineSearch([nn.Parameter(torch.ones(1))], delta=0.5)
    with pytest.raises(ValueError, match="LineSearch compares the losses of trial steps, for which `train` calls"):
        search.step()
    with pytest.raises(ValueError, match=r"^There are 0 losses and 1 groups; expected one each\.$"):
        search.search([])
    with pytest.raises(ValueError, match="delta was given, so that the condition is checked; give the true gradients"):
        search.search([lambda: 0.0])


def test_seeds_are_trained_one_by_one_and_stacking_them_is_refused() -> None:
    built = [start("line-search", seed=seed) for seed in (0, 1)]
    learners, searches, configs = ([each[i] for each in built] for i in range(3))
    with pytest.raises(ValueError, match=r"LineSearch is not known to update every number by itself"):
        train_replicas(learners, searches, [EXAMPLES] * 2, configs, how="stacked")
    training = train_replicas(learners, searches, [EXAMPLES] * 2, configs)
    assert training.choice.how == "loop"
    records = list(training)
    alone, search, config = start("line-search", seed=1)
    assert list(map(repr, train(alone, search, *EXAMPLES, config))) == [repr(each[1]) for each in records]
