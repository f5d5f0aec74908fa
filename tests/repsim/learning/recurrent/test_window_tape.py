"""Training of recurrent networks in windows, against plain autograd through the sequence."""

import copy
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning import (
    CELLS,
    Learner,
    Outcome,
    RecurrentNetwork,
    gradient_bias_variance,
    recurrent_net,
    stack,
    true_gradients,
)
from repsim.learning.diagnostics import bias_variances, diagnose_step, true_step
from repsim.learning.networks.recurrent_cells import ElmanCell
from tests.repsim.small_chains import randn

N, STEPS, FEATURES, WIDTH, OUTPUTS = 5, 8, 3, 4, 3
EVERY, LAST = tuple(range(1, STEPS + 1)), None
RULES = (
    "truncated",
    "synthetic-gradient:hidden_layers=1",
    "synthetic-gradient-prop",
    "bp-lambda:lam=0.5",
    "control-variate",
    "noise",
)
X = randn(N, STEPS * FEATURES)


def learner(rule: str, kind: str = "gru", seed: int = 0, **settings: Any) -> Learner:
    net = recurrent_net(
        kind, (STEPS, FEATURES), OUTPUTS, width=WIDTH, generator=torch.Generator().manual_seed(seed), **settings
    )
    return Learner.with_rule(net, rule, seed=seed).double()


def targets(scored: Sequence[int] | None) -> Tensor:
    shape = (N,) if scored is None else (N, len(scored))
    return torch.randint(OUTPUTS, shape, generator=torch.Generator().manual_seed(3))


def gradients_of(learner: Learner) -> dict[str, Tensor]:
    return {name: each.grad for name, each in learner.named_parameters() if each.grad is not None}


def trained(learner: Learner, y: Tensor, X: Tensor = X, **settings: Any) -> tuple[Outcome, dict[str, Tensor]]:
    outcome = learner.compute_gradients(X, y, **settings)
    return outcome, gradients_of(learner)


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor], atol: float = 1e-12, zero: str = "") -> None:
    assert len(theirs) >= 4
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=atol, msg=name)
        assert expected.any() or name == zero, name


def autograd(learner: Learner, y: Tensor, window: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Return loss and gradients of a plain loop over time steps; the state is detached after every window."""
    plain: Any = copy.deepcopy(learner)
    net: RecurrentNetwork = plain.network
    state, outputs = X.new_zeros(N, net.state_size), []
    for t in range(STEPS):
        if window is not None and t % window == 0:
            state = state.detach()
        state = net.cell(net.cell.of_inputs(X.unflatten(-1, (STEPS, FEATURES))[:, t]), state)
        if t + 1 in net.scored:
            outputs.append(net.output(state[:, :WIDTH]))
    loss = F.cross_entropy(torch.cat(outputs), y.T.flatten() if y.ndim > 1 else y)
    loss.backward()
    return loss.detach(), gradients_of(plain)


@pytest.mark.parametrize("scored", [EVERY, (3, 7, 8), LAST])
@pytest.mark.parametrize("window", [1, 3, STEPS])
@pytest.mark.parametrize("rule", ["backprop", "bp-lambda:lam=1"])
@pytest.mark.parametrize("kind", CELLS)
def test_backprop_and_lambda_1_are_autograd_through_time(
    kind: str, rule: str, window: int, scored: tuple[int, ...] | None
) -> None:
    y, one = targets(scored), learner(rule, kind, window=window, scored=scored)
    loss, expected = autograd(one, y)
    outcome, found = trained(one, y)
    torch.testing.assert_close(outcome.loss, loss, rtol=0, atol=1e-13)
    torch.testing.assert_close(outcome.logits, one(X), rtol=0, atol=1e-13)
    assert_equal(found, expected)


@pytest.mark.parametrize("rule", RULES)
def test_a_window_as_long_as_the_sequence_is_backprop_for_every_rule(rule: str) -> None:
    y, one = targets(EVERY), learner(rule, window=STEPS, scored=EVERY)
    assert not one.placed()
    assert_equal(trained(one, y)[1], autograd(one, y)[1])


@pytest.mark.parametrize("scored", [EVERY, LAST])
@pytest.mark.parametrize("window", [1, 3, 4])
@pytest.mark.parametrize("kind", CELLS)
def test_truncation_is_autograd_with_detached_states(kind: str, window: int, scored: tuple[int, ...] | None) -> None:
    y, one = targets(scored), learner("truncated", kind, window=window, scored=scored)
    found = trained(one, y)[1]
    assert_equal(found, autograd(one, y, window)[1])
    whole = autograd(one, y)[1]
    assert not torch.allclose(found["network.cell.of_state.weight"], whole["network.cell.of_state.weight"])


def test_a_synthetic_gradient_of_zero_is_truncation() -> None:
    y, settings = targets(EVERY), {"window": 3, "scored": EVERY}
    truncated, synthetic = learner("truncated", **settings), learner("synthetic-gradient", **settings)
    expected = trained(truncated, y)[1]
    assert_equal(trained(synthetic, y)[1] | {}, expected, atol=0)


def test_lambda_mixes_the_target_with_the_synthetic_gradient() -> None:
    """The chosen gradient at each boundary is λ times the pull-back of that above, plus (1 − λ) S."""
    y, one = targets(EVERY), randomised(learner("bp-lambda:lam=0.3", window=3, scored=EVERY))
    (estimator,) = one.placed().values()
    chosen = one.compute_gradients(X, y, watch=True).gradients
    passed = one.network.run_windows(X, cut=True)
    losses = one.network.losses_of(passed.logits, y, "log_loss")
    for t, window in ((6, 2), (3, 1)):
        above = losses[window].sum() + ((passed.leaving[6] * chosen[6]).sum() if t == 3 else 0)
        target = torch.autograd.grad(above, passed.entering[t], retain_graph=True)[0]
        estimate = estimator.traced(type("S", (), {"activation": passed.leaving[t].detach()})).detach()
        torch.testing.assert_close(chosen[t], 0.3 * target + 0.7 * estimate, rtol=0, atol=1e-12)


def randomised(one: Learner) -> Learner:
    """Return a learner whose estimator has random parameters."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in one.estimators.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return one


@pytest.mark.parametrize("rule", ["synthetic-gradient", "synthetic-gradient:hidden_layers=1", "bp-lambda:lam=0.5"])
def test_the_synthetic_gradient_learns_the_bootstrapped_target(rule: str) -> None:
    """The target is the pull-back of the loss of the next window and of the gradient chosen at its end."""
    y, one = targets(EVERY), randomised(learner(rule, window=3, scored=EVERY))
    (estimator,) = one.placed().values()
    outcome, found = trained(one, y, watch=True)
    chosen = outcome.gradients
    passed = one.network.run_windows(X, cut=True)
    losses = one.network.losses_of(passed.logits, y, "log_loss")
    total = sum(each.sum() for each in losses) + sum((passed.leaving[t] * chosen[t]).sum() for t in (3, 6))
    aims = torch.autograd.grad(total, [passed.entering[3], passed.entering[6]])
    states = torch.cat([passed.leaving[3], passed.leaving[6]]).detach()
    estimate = estimator.traced(type("S", (), {"activation": states}))
    loss = (estimate - torch.cat(aims)).square().sum(dim=-1).mean()
    torch.testing.assert_close(outcome.estimator_losses[3], loss.detach(), rtol=0, atol=1e-12)
    names, parameters = zip(*estimator.named_parameters(), strict=True)
    for name, expected in zip(names, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(found[f"estimators.3.{name}"], expected, rtol=0, atol=1e-12)


def test_an_exact_synthetic_gradient_makes_truncation_harmless() -> None:
    """A linear cell that turns its state by a whole turn per window has one linear gradient at all boundaries.

    Without inputs after the first window the state at every boundary is that at the end, so for the squared error
    2 (R h + r - y) with equal targets y the gradient is 2 (h Rᵀ + r - y) R everywhere.
    """
    window = 4
    generator = torch.Generator().manual_seed(0)
    cell = ElmanCell(FEATURES, 2, generator, activation=nn.Identity)
    net = RecurrentNetwork(cell, nn.Linear(2, OUTPUTS), (3 * window, FEATURES), window=window)
    one = Learner.with_rule(net, "synthetic-gradient", loss="mse").double()
    with torch.no_grad():
        cell.of_state.weight.copy_(torch.tensor([[0.0, -1.0], [1.0, 0.0]]))  # a quarter of a turn
        cell.of_inputs.bias.zero_()
        net.output.weight.copy_(randn(OUTPUTS, 2, seed=4))
        net.output.bias.copy_(randn(OUTPUTS, seed=5))
    inputs = randn(N, 3 * window, FEATURES)
    inputs[:, window:] = 0
    inputs, y = inputs.flatten(1), torch.tensor([[0.3, -1.0, 0.5]]).double().expand(N, OUTPUTS)
    plain = copy.deepcopy(one)
    (plain.network(inputs) - y).square().sum(dim=1).mean().backward()
    (estimator,) = one.placed().values()
    R, r = net.output.weight.detach(), net.output.bias.detach()
    with torch.no_grad():
        estimator.layers[0].weight.copy_(2 * R.T @ R)
        estimator.layers[0].bias.copy_(2 * (r - y[0]) @ R)
    outcome, found = trained(one, y, inputs, watch=True)
    zero = "network.cell.of_inputs.bias"  # over a whole turn the gradient of a constant input sums to zero
    assert_equal(found, gradients_of(plain), atol=1e-10, zero=zero)
    torch.testing.assert_close(outcome.estimator_losses[window], torch.zeros(()).double(), rtol=0, atol=1e-20)
    for t, g in true_gradients(net, inputs, y, loss="mse").items():
        torch.testing.assert_close(outcome.gradients[t], g, rtol=0, atol=1e-10)


def test_watched_gradients_of_backprop_are_the_true_ones_and_watching_changes_nothing() -> None:
    y, settings = targets(EVERY), {"window": 3, "scored": EVERY}
    for rule in ("backprop", *RULES, "synthetic-gradient:observe=true"):
        one, again = learner(rule, **settings), learner(rule, **settings)
        watched, found = trained(one, y, watch=True)
        assert list(watched.gradients) == [3, 6]
        assert all(torch.equal(found[name], each) for name, each in trained(again, y)[1].items())
    true = true_gradients(one.network, X, y)
    chosen = learner("backprop", **settings).compute_gradients(X, y, watch=True).gradients
    for t in (3, 6):
        torch.testing.assert_close(chosen[t], true[t], rtol=0, atol=1e-12)


def test_an_observed_rule_learns_while_the_network_uses_backprop() -> None:
    y, settings = targets(EVERY), {"window": 3, "scored": EVERY}
    observed = randomised(learner("synthetic-gradient:observe=true", **settings))
    outcome, found = trained(observed, y, watch=True)
    assert_equal(found, autograd(observed, y)[1])
    estimated = outcome.gradients[3]
    assert found["estimators.3.watched.layers.0.weight"].any()
    true = true_gradients(observed.network, X, y)
    loss = torch.cat([outcome.gradients[t] - true[t] for t in (3, 6)]).square().sum(dim=-1).mean()
    torch.testing.assert_close(outcome.estimator_losses[3], loss, rtol=0, atol=1e-12)
    assert not torch.allclose(estimated, true[3])


def test_windows_without_a_loss_pass_on_what_the_rule_chose() -> None:
    scored = (1,)
    one = randomised(learner("synthetic-gradient", window=3, scored=scored))
    outcome, found = trained(one, targets(scored), watch=True)
    assert found["network.cell.of_state.weight"].any()
    assert outcome.gradients[6].any()
    mixed = learner("bp-lambda:lam=1", window=3, scored=scored)
    for name, expected in autograd(mixed, targets(scored))[1].items():
        torch.testing.assert_close(trained(mixed, targets(scored))[1][name], expected, rtol=0, atol=1e-12)
        mixed.zero_grad()


@pytest.mark.parametrize("scored", [EVERY, LAST])
@pytest.mark.parametrize("rule", ["backprop", *RULES])
def test_stacked_learners_equal_each_alone(rule: str, scored: tuple[int, ...] | None) -> None:
    several = [learner(rule, seed=seed, window=3, scored=scored) for seed in range(3)]
    if not rule.startswith(("noise", "truncated", "backprop")):
        several = [randomised(each) for each in several]
    together: Any = stack(several)
    y = torch.stack([targets(scored)] * 3)
    outcome = together.compute_gradients(torch.stack([X, -X, 2 * X]), y, watch=True)
    for i, one in enumerate(several):
        alone, found = trained(one, y[i], [X, -X, 2 * X][i], watch=True)
        torch.testing.assert_close(outcome.loss[i], alone.loss, rtol=0, atol=1e-12)
        for t, g in alone.gradients.items():
            torch.testing.assert_close(outcome.gradients[t][i], g, rtol=0, atol=1e-12)
        for t, loss in alone.estimator_losses.items():
            torch.testing.assert_close(outcome.estimator_losses[t][i], loss, rtol=0, atol=1e-12)
        for name, expected in found.items():
            torch.testing.assert_close(together.get_parameter(name).grad[i], expected, rtol=0, atol=1e-12)


def test_a_control_variate_that_always_uses_the_target_is_backprop() -> None:
    one = randomised(learner("control-variate:probability=1", window=3, scored=EVERY))
    assert_equal(trained(one, targets(EVERY))[1], autograd(one, targets(EVERY))[1])


def test_a_control_variate_is_right_on_average() -> None:
    y, repeated = targets(EVERY), 4000
    one = randomised(learner("control-variate:probability=0.5", window=3, scored=EVERY))
    expected = autograd(one, y)[1]["network.cell.of_state.weight"]
    _, found = trained(one, y.repeat(repeated, 1), X.repeat(repeated, 1))
    ours = found["network.cell.of_state.weight"]
    _, of_module = trained(learner("truncated", window=3, scored=EVERY), y)
    apart = (of_module["network.cell.of_state.weight"] - expected).norm()
    assert (ours - expected).norm() < 0.1 * apart


@pytest.mark.parametrize("rule", ["backprop", *RULES])
def test_updates_of_the_cell_are_compared_with_those_of_backprop(rule: str) -> None:
    y, settings = targets(EVERY), {"window": 3, "scored": EVERY}
    one, backprop = learner(rule, **settings), learner("backprop", **settings)
    true = true_step(one, X, y)
    found = diagnose_step(one, one.compute_gradients(X, y, watch=True), true)
    backprop.compute_gradients(X, y)
    ours, theirs = (
        torch.cat([p.grad.flatten() for p in each.network.cell.parameters() if p.grad is not None])
        for each in (one, backprop)
    )
    for t in (3, 6):
        (of_boundary,) = found[t]
        assert of_boundary.update_cosine == pytest.approx(float(F.cosine_similarity(ours, theirs, dim=0)), rel=1e-12)
        assert of_boundary.weight_angle is None
        assert of_boundary.input_error is None


@pytest.mark.parametrize("scored", [EVERY, LAST])
def test_bias_and_variance_of_stacked_networks_equal_those_of_each(scored: tuple[int, ...] | None) -> None:
    y = targets(scored)
    several = [randomised(learner("synthetic-gradient", seed=seed, window=3, scored=scored)) for seed in range(2)]
    together = bias_variances(stack(several), [(torch.stack([i * X, -X]), torch.stack([y, y])) for i in (1, 2)], lead=1)
    for i, one in enumerate(several):
        alone = gradient_bias_variance(one, [((j * X, -X)[i], y) for j in (1, 2)])
        for t in (3, 6):
            assert asdict(together[t][i]) == pytest.approx(asdict(alone[t]), rel=1e-9, abs=1e-12)
    assert together[3][0].bias > 0


def test_backprop_through_windows_has_no_bias() -> None:
    one = learner("backprop", window=3, scored=EVERY)
    for found in gradient_bias_variance(one, [(X, targets(EVERY)), (2 * X, targets(EVERY))]).values():
        assert found.bias < 1e-12 < found.variance
