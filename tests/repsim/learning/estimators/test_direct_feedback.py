from typing import Any

import pytest
import torch
import torch.nn.functional as F

from repsim.learning import (
    AdaptiveSkippedBackprop,
    Chain,
    DirectFeedbackAlignment,
    DirectRandomTarget,
    Signals,
    Site,
    compute_gradients,
    conv_net,
    mlp,
)
from tests.repsim.small_chains import randn, seeded

N, WIDTH, CLASSES = 7, 5, 3
FAMILY = [DirectFeedbackAlignment, AdaptiveSkippedBackprop, DirectRandomTarget]
SITES = {"vectors": Site((WIDTH,), CLASSES), "maps": Site((2, 4, 3), CLASSES)}


def network(**settings: Any) -> Chain:
    return mlp(6, CLASSES, width=WIDTH, generator=seeded(), **({"depth": 4} | settings)).double()


def signals_at(site: Site) -> Signals:
    h = randn(N, *site.shape, seed=1)
    return Signals(h, torch.arange(N) % CLASSES, error=randn(N, CLASSES, seed=2))


@pytest.mark.parametrize("loss", ["log_loss", "mse"])
@pytest.mark.parametrize("rule", [DirectFeedbackAlignment, AdaptiveSkippedBackprop])
def test_direct_feedback_by_the_product_of_the_weights_above_is_backprop_on_a_linear_chain(
    rule: type[DirectFeedbackAlignment], loss: str
) -> None:
    X, y = randn(N, 6, seed=1), torch.arange(N) % CLASSES
    net, twin = (network(norm="none", activation="linear") for _ in range(2))
    estimators, product = {}, net.output.weight.detach()
    for k in reversed(net.boundaries):
        estimators[k] = rule(Site((WIDTH,), CLASSES, k)).double()
        with torch.no_grad():
            estimators[k].feedback.copy_(product)
        product = product @ net.segments[k - 1].affine.weight.detach()
    compute_gradients(net, estimators, X, y, loss=loss)
    compute_gradients(twin, {}, X, y, loss=loss)
    for (name, ours), theirs in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12, msg=name)
        assert ours.grad.any()


def test_direct_feedback_is_not_backprop_on_a_chain_that_is_not_linear() -> None:
    X, y = randn(N, 6, seed=1), torch.arange(N) % CLASSES
    net, twin = (network(norm="none", activation="relu", depth=2) for _ in range(2))
    rule = DirectFeedbackAlignment(Site((WIDTH,), CLASSES)).double()
    rule.feedback.copy_(net.output.weight.detach() @ net.hidden["2"].affine.weight.detach())
    compute_gradients(net, {1: rule}, X, y)
    compute_gradients(twin, {}, X, y)
    assert (net.hidden["1"].affine.weight.grad - twin.hidden["1"].affine.weight.grad).abs().max() > 1e-3


@pytest.mark.parametrize("where", SITES)
@pytest.mark.parametrize("rule", [DirectFeedbackAlignment, AdaptiveSkippedBackprop])
def test_direct_feedback_projects_the_error_densely(rule: type[DirectFeedbackAlignment], where: str) -> None:
    site = SITES[where]
    signals, estimator = signals_at(site), rule(site, generator=seeded()).double()
    assert estimator.feedback.shape == (CLASSES, site.size)
    g = estimator.gradient(signals)
    assert not g.requires_grad
    for i in range(N):
        expected = sum(signals.error[i, c] * estimator.feedback[c] for c in range(CLASSES)).detach()
        torch.testing.assert_close(g[i].flatten(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("where", SITES)
def test_direct_random_target_is_the_row_of_the_class(where: str) -> None:
    site = SITES[where]
    signals, estimator = signals_at(site), DirectRandomTarget(site, generator=seeded()).double()
    g = estimator.gradient(signals)
    for i in range(N):
        assert torch.equal(g[i].flatten(), estimator.feedback[signals.labels[i]])


def test_direct_random_target_projects_regression_targets() -> None:
    estimator, y = DirectRandomTarget(SITES["vectors"], generator=seeded()).double(), randn(N, CLASSES, seed=4)
    g = estimator.gradient(Signals(randn(N, WIDTH), y))
    torch.testing.assert_close(g, y @ estimator.feedback, rtol=0, atol=1e-14)


def test_direct_random_target_has_the_sign_of_the_feedback_of_the_class_whatever_the_network_says() -> None:
    X, y = randn(N, 6, seed=1), torch.arange(N) % CLASSES
    held = []
    for factor in (1.0, -20.0):
        net, estimator = network(), DirectRandomTarget(SITES["vectors"], generator=seeded()).double()
        with torch.no_grad():
            net.output.weight.mul_(factor)
        held.append(compute_gradients(net, {2: estimator}, X, y, watch=True).gradients[2])
    assert torch.equal(*held)


@pytest.mark.parametrize("kind", ["vectors", "maps"])
def test_adaptive_feedback_follows_error_times_activation(kind: str) -> None:
    """Golden: ΔB_k ∝ eᵀ h_k / N."""
    if kind == "vectors":
        X, net = randn(N, 6, seed=1), network()
    else:
        X, net = randn(N, 64, seed=1), conv_net((1, 8, 8), CLASSES, depth=4, width=2, generator=seeded()).double()
    y = torch.arange(N) % CLASSES
    estimators = {k: AdaptiveSkippedBackprop(Site(net.shapes[k - 1], CLASSES, k)).double() for k in net.boundaries}
    outcome = compute_gradients(net, estimators, X, y)
    e = outcome.logits.softmax(dim=1) - F.one_hot(y, CLASSES)
    h = net.input(X)
    for k in net.boundaries:
        h = net.segments[k - 1](h).detach()
        B = estimators[k].feedback
        torch.testing.assert_close(B.grad, e.T @ h.flatten(1) / N, rtol=0, atol=1e-13)
        expected = (h.flatten(1) * (e @ B)).sum(dim=1).mean().item()
        assert outcome.estimator_losses[k].item() == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("rule", FAMILY)
def test_feedback_has_the_declared_scale_and_the_generator_decides_it(
    rule: type[DirectFeedbackAlignment], scale: float
) -> None:
    site = Site((4000,), CLASSES)
    one, same, other = (rule(site, generator=seeded(seed), scale=scale).feedback for seed in (1, 1, 2))
    assert one.std().item() == pytest.approx(scale / CLASSES**0.5, rel=0.03)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_only_adaptive_feedback_is_a_parameter() -> None:
    learning = [rule for rule in FAMILY if list(rule(SITES["vectors"]).parameters())]
    assert learning == [AdaptiveSkippedBackprop]
    assert all(list(rule(SITES["vectors"]).state_dict()) == ["feedback"] for rule in FAMILY)
