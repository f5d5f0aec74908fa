import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repsim.learning import (
    NETWORKS,
    Chain,
    Segment,
    Signals,
    Site,
    TargetPropagation,
    compute_gradients,
    locks,
    site_of,
)
from repsim.learning.draws import Draws
from tests.repsim.small_chains import randn, seeded

N, CLASSES, WIDTH, SEED = 9, 3, 5, 4
SHAPES = {"mlp": (6,), "conv": (1, 9, 8), "residual": (1, 9, 8)}


def network(kind: str = "mlp", **settings: Any) -> Chain:
    settings = {"depth": 4, "width": WIDTH} | settings
    return NETWORKS[kind](SHAPES[kind], CLASSES, generator=seeded(), **settings).double()


def examples(kind: str = "mlp") -> tuple[Tensor, Tensor]:
    return randn(N, 6 if kind == "mlp" else 72, seed=1), torch.arange(N) % CLASSES


def place(net: Chain, **options: Any) -> dict[int, TargetPropagation]:
    return {
        k: TargetPropagation(site_of(net, k, n_outputs=CLASSES, seed=SEED), generator=seeded(k), **options).double()
        for k in net.boundaries
    }


def activations(net: Chain, X: Tensor) -> list[Tensor]:
    h = [net.input(X)]
    for segment in net.segments:
        h.append(segment(h[-1]).detach())
    return h


def give_exact_inverse(estimator: TargetPropagation, affine: nn.Linear) -> None:
    with torch.no_grad():
        (layer,) = estimator.inverse.layers
        layer.weight.copy_(affine.weight.inverse())
        layer.bias.copy_(-affine.weight.inverse() @ affine.bias)


# Exact inverses


@pytest.mark.parametrize("step", [0.01, 0.5, 1.0, 7.0])
def test_exact_inverses_of_a_linear_chain_carry_targets_exactly(step: float) -> None:
    """g_k = g_{k+1} W⁻ᵀ: moving h_k to its target moves h_{k+1} to its own, whatever α."""
    X, y = examples()
    net = network(norm="none", activation="linear")
    with torch.no_grad():
        for segment in net.hidden.values():
            segment.affine.bias.normal_(generator=seeded(3))
    estimators = place(net, step=step)
    for k in (1, 2, 3):
        give_exact_inverse(estimators[k], net.segments[k].affine)
    g = compute_gradients(net, estimators, X, y, watch=True).gradients
    h = activations(net, X)
    for k in (1, 2, 3):
        W = net.segments[k].affine.weight.detach()
        torch.testing.assert_close(g[k], g[k + 1] @ W.inverse().T, rtol=1e-10, atol=1e-10)
        reached = net.segments[k](h[k] - step * g[k]).detach()
        torch.testing.assert_close(reached, h[k + 1] - step * g[k + 1], rtol=1e-10, atol=1e-10)


class Undo(nn.Module):
    """The exact inverse of a tanh segment."""

    def __init__(self, segment: Segment) -> None:
        super().__init__()
        self.segment = [segment]

    def forward(self, above: Tensor) -> Tensor:
        affine = self.segment[0].affine
        return (above.atanh() - affine.bias) @ affine.weight.inverse().T


def test_exact_inverses_carry_targets_exactly_through_nonlinear_segments_too() -> None:
    X, y = examples()
    net, step = network(norm="none", activation="tanh"), 1e-4
    estimators = place(net, step=step)
    for k in (1, 2, 3):
        estimators[k].inverse = Undo(net.segments[k])
        estimators[k].loss = lambda gradient, signals: None  # nothing is left to learn
    g = compute_gradients(net, estimators, X, y, watch=True).gradients
    h = activations(net, X)
    for k in (1, 2, 3):
        reached = net.segments[k](h[k] - step * g[k]).detach()
        torch.testing.assert_close(reached, h[k + 1] - step * g[k + 1], rtol=0, atol=1e-11)


def test_target_propagation_with_transposes_is_backprop_on_an_orthogonal_chain() -> None:
    """With W Wᵀ = 1, W⁻ᵀ = W."""
    X, y = examples()
    nets = [network(norm="none", activation="linear") for _ in "ab"]
    for net in nets:
        with torch.no_grad():
            for k in (2, 3, 4):
                affine = net.hidden[str(k)].affine
                affine.weight.copy_(torch.linalg.qr(affine.weight)[0])
    estimators = place(nets[0], step=0.7)
    for k in (1, 2, 3):
        give_exact_inverse(estimators[k], nets[0].segments[k].affine)
    compute_gradients(nets[0], estimators, X, y)
    compute_gradients(nets[1], {}, X, y)
    for ours, theirs in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)


# Formulas


@pytest.mark.parametrize("hidden_layers", [0, 1])
@pytest.mark.parametrize("step", [0.5, 0.1])
@pytest.mark.parametrize("kind", SHAPES)
def test_gradient_is_the_distance_of_the_activation_from_its_target(kind: str, step: float, hidden_layers: int) -> None:
    """Golden: g_k = (h_k − ĥ_k) / α, which is 2 (h_k − ĥ_k) for α = 1/2 as in equation 15."""
    X, y = examples(kind)
    net = network(kind)
    estimators = place(net, step=step, hidden_layers=hidden_layers)
    g = compute_gradients(net, estimators, X, y, watch=True).gradients
    h = activations(network(kind), X)
    for k in (1, 2, 3):
        inverse = estimators[k].inverse
        target = h[k] + (inverse(h[k + 1] - step * g[k + 1]) - inverse(h[k + 1])).detach()
        torch.testing.assert_close(g[k], (h[k] - target) / step, rtol=0, atol=1e-11)
        assert g[k].any()


@pytest.mark.parametrize("kind", SHAPES)
def test_at_the_last_boundary_the_gradient_is_the_target_and_nothing_learns(kind: str) -> None:
    X, y = examples(kind)
    net, twin = network(kind), network(kind)
    estimators = place(net)
    ours = compute_gradients(net, estimators, X, y, watch=True)
    theirs = compute_gradients(twin, {}, X, y, watch=True)
    torch.testing.assert_close(ours.gradients[4], theirs.gradients[4], rtol=0, atol=1e-13)
    assert not estimators[4].state_dict()
    assert list(ours.estimator_losses) == [1, 2, 3]
    assert locks(estimators[4]) == locks(estimators[1]) == {"update", "backward"}
    assert estimators[4].needs == {"target"}
    assert estimators[1].needs == {"activation_above", "gradient_above"}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("noise", [0.5, 0.1])
def test_the_inverse_learns_to_undo_noise_by_its_formula(noise: float, norm: str, kind: str) -> None:
    """Golden: ‖ψ(f(h + σε)) − h − σε‖² / σ², where σ is in units of the root mean square of h."""
    X, y = examples(kind)
    net, twin = network(kind, norm=norm), network(kind, norm=norm)
    estimators = place(net, noise=noise)
    outcome = compute_gradients(net, estimators, X, y)
    h = activations(copy.deepcopy(twin), X)
    for k in (1, 2, 3):
        sigma = noise * h[k].square().mean().sqrt()
        noisy = h[k] + sigma * Draws(SEED, k).normal_like(h[k])
        with torch.no_grad():
            above = twin.segments[k](noisy)  # in training mode: with the statistics of this batch
        distances = (estimators[k].inverse(above) - noisy).flatten(1).square().sum(dim=1)
        expected = distances.mean() / sigma**2
        assert outcome.estimator_losses[k].item() == pytest.approx(expected.item(), rel=1e-12)
        slopes = torch.autograd.grad(expected, list(estimators[k].parameters()))
        for parameter, slope in zip(estimators[k].parameters(), slopes, strict=True):
            torch.testing.assert_close(parameter.grad, slope, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", SHAPES)
def test_noise_does_not_change_running_statistics(kind: str) -> None:
    """Neither running statistics nor gradients of the network know that segments saw noisy activations."""
    X, y = examples(kind)
    held = []
    for noise in (0.1, 5.0):
        net = network(kind)
        compute_gradients(net, place(net, noise=noise), X, y)
        held.append((list(net.buffers()), [parameter.grad for parameter in net.parameters()]))
    plain = network(kind)
    plain(X)
    for one, other in zip(held[0][0] + held[0][1], held[1][0] + held[1][1], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(held[0][0], plain.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_inverse_learns(kind: str) -> None:
    X, y = examples(kind)
    net = network(kind, activation="tanh")
    estimators = place(net)
    optimizer = torch.optim.Adam([p for estimator in estimators.values() for p in estimator.parameters()], lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(compute_gradients(net, estimators, X, y).estimator_losses)
        optimizer.step()
    assert all(losses[-1][k] < 0.6 * losses[0][k] for k in (1, 2, 3))


def test_draws_are_new_each_step_and_differ_between_boundaries() -> None:
    X, y = examples()
    net = network()
    estimators = place(net)
    first, second = (compute_gradients(net, estimators, X, y).estimator_losses for _ in range(2))
    assert all(first[k] != second[k] for k in (1, 2, 3))
    assert [int(estimators[k].draws.count) for k in (1, 2, 3)] == [2, 2, 2]
    h = randn(4, WIDTH)
    assert not torch.equal(estimators[1].draws.normal_like(h), estimators[2].draws.normal_like(h))


def test_the_inverse_stays_finite_at_activations_of_zero() -> None:
    site = Site((WIDTH,), CLASSES, shape_above=(WIDTH,))
    rule = TargetPropagation(site, generator=seeded()).double()
    signals = Signals(torch.zeros(N, WIDTH).double(), segment_above=lambda h: h)
    assert rule.loss(signals.activation, signals).isfinite()


@pytest.mark.parametrize(
    ("shape", "above"),
    [((5,), (7,)), ((7,), (5,)), ((3, 9, 8), (2, 4, 4)), ((3, 4, 4), (2, 4, 4)), ((2, 5, 4), (7,))],
)
@pytest.mark.parametrize("hidden_layers", [0, 2])
def test_inverses_map_any_shape_above_to_any_shape_at_the_boundary(
    shape: tuple[int, ...], above: tuple[int, ...], hidden_layers: int
) -> None:
    site = Site(shape, CLASSES, shape_above=above)
    rule = TargetPropagation(site, hidden_layers=hidden_layers, generator=seeded()).double()
    signals = Signals(
        randn(N, *shape), activation_above=randn(N, *above, seed=1), gradient_above=randn(N, *above, seed=2)
    )
    g = rule.gradient(signals)
    assert g.shape == (N, *shape)
    assert g.any()
    assert not g.requires_grad
