from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning import (
    ESTIMATORS,
    NETWORKS,
    Chain,
    FeedbackAlignment,
    Segment,
    Site,
    compute_gradients,
    site_of,
)
from repsim.learning.networks.affine import affine_maps
from tests.repsim.small_chains import assert_close, cut_at_all, held_gradients, randn, seeded

N, CLASSES = 7, 3
SHAPES = {"mlp": (6,), "conv": (2, 8, 8), "residual": (2, 8, 8)}
FAMILY = [name for name, rule in ESTIMATORS.items() if issubclass(rule, FeedbackAlignment)]


def network(kind: str, **settings: Any) -> Chain:
    settings = {"depth": 3, "width": 5} | settings
    return NETWORKS[kind](SHAPES[kind], CLASSES, generator=seeded(), **settings).double()


def examples(kind: str) -> tuple[Tensor, Tensor]:
    return randn(N, 6 if kind == "mlp" else 128, seed=1), torch.arange(N) % CLASSES


def place(name: str, net: Chain, **options: Any) -> dict[int, FeedbackAlignment]:
    return {
        k: ESTIMATORS[name](site_of(net, k, n_outputs=CLASSES), generator=seeded(k), **options).double()
        for k in net.boundaries
    }


def copy_weights(net: Chain, estimators: dict[int, FeedbackAlignment]) -> None:
    with torch.no_grad():
        for k, estimator in estimators.items():
            for i, affine in enumerate(affine_maps(net.segments[k])):
                getattr(estimator, f"feedback_{i}").copy_(affine.weight)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", ["feedback-alignment", "adaptive-random-backprop"])
def test_feedback_alignment_with_the_weights_themselves_is_backprop(name: str, kind: str, norm: str) -> None:
    X, y = examples(kind)
    for loss, everywhere in (("log_loss", False), ("mse", True)):
        net, twin = network(kind, norm=norm), network(kind, norm=norm)
        estimators = place(name, net)
        copy_weights(net, estimators)
        compute_gradients(net, cut_at_all(estimators) if everywhere else estimators, X, y, loss=loss)
        compute_gradients(twin, {}, X, y, loss=loss)
        assert_close(held_gradients(net), held_gradients(twin))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", FAMILY)
def test_feedback_does_not_change_the_forward_pass(name: str, kind: str) -> None:
    (X, y), net, twin = examples(kind), network(kind), network(kind)
    ours, theirs = compute_gradients(net, place(name, net), X, y), compute_gradients(twin, {}, X, y)
    assert torch.equal(ours.logits, theirs.logits)
    assert torch.equal(net.output.get_submodule("affine" if kind != "mlp" else "").weight.grad,
                       twin.output.get_submodule("affine" if kind != "mlp" else "").weight.grad)  # fmt: skip


def test_feedback_alignment_equals_formulas_written_by_hand() -> None:
    (X, y), net = examples("mlp"), network("mlp", depth=2, norm="none")
    estimators = place("feedback-alignment", net)
    outcome = compute_gradients(net, estimators, X, y, watch=True)
    W1, b1, W2, b2, W3, b3 = (parameter.detach() for parameter in net.parameters())
    B2, B3 = (estimators[k].feedback_0 for k in (1, 2))
    a1 = X @ W1.T + b1
    a2 = a1.relu() @ W2.T + b2
    e = (a2.relu() @ W3.T + b3).softmax(dim=1) - F.one_hot(y, CLASSES)
    g2 = e @ B3
    delta2 = g2 * (a2 > 0)
    g1 = delta2 @ B2
    delta1 = g1 * (a1 > 0)
    torch.testing.assert_close(outcome.gradients[2], g2, rtol=0, atol=1e-13)
    torch.testing.assert_close(outcome.gradients[1], g1, rtol=0, atol=1e-13)
    expected = [delta1.T @ X, delta1.sum(0), delta2.T @ a1.relu(), delta2.sum(0), e.T @ a2.relu(), e.sum(0)]
    for parameter, total in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, total / N, rtol=0, atol=1e-13)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_feedback_through_a_convolution_is_the_transposed_convolution_by_the_feedback(norm: str) -> None:
    (X, y), net = examples("conv"), network("conv", norm=norm)
    estimators = place("feedback-alignment", net)
    outcome = compute_gradients(net, estimators, X, y, watch=True)
    segment = network("conv", norm=norm).hidden["2"]
    h1 = net.hidden["1"](net.input(X)).detach()
    a2 = segment.affine(h1).detach().requires_grad_()
    h2 = segment.pool(segment.activation(segment.norm(a2)))
    (delta2,) = torch.autograd.grad(h2, a2, outcome.gradients[2])
    expected = F.conv_transpose2d(delta2, estimators[1].feedback_0, padding=1)
    torch.testing.assert_close(outcome.gradients[1], expected, rtol=0, atol=1e-12)


def test_a_residual_block_sends_the_gradient_back_through_its_feedback_and_around_it() -> None:
    (X, y), net = examples("residual"), network("residual")
    estimators = place("feedback-alignment", net)
    outcome = compute_gradients(net, estimators, X, y, watch=True)
    block, h1 = network("residual").hidden["2"], net.hidden["1"](net.input(X)).detach()
    a1 = block.first.affine(h1).detach().requires_grad_()
    inner = block.first.activation(block.first.norm(a1))
    a2 = block.affine(inner.detach()).detach().requires_grad_()
    around = h1.clone().requires_grad_()
    out = block.pool(block.activation(around + block.norm(a2)))
    by_around, delta2 = torch.autograd.grad(out, [around, a2], outcome.gradients[2])
    B1, B2 = estimators[1].feedback_0, estimators[1].feedback_1
    (delta1,) = torch.autograd.grad(inner, a1, F.conv_transpose2d(delta2, B2, padding=1))
    expected = by_around + F.conv_transpose2d(delta1, B1, padding=1)
    torch.testing.assert_close(outcome.gradients[1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 2.5, 0.0])
def test_feedback_is_drawn_as_the_weights_are_but_independently(scale: float) -> None:
    net = network("mlp", width=120)
    B, W = place("feedback-alignment", net, scale=scale)[1].feedback_0, net.hidden["2"].affine.weight.detach()
    assert B.shape == W.shape
    assert B.std().item() == pytest.approx(scale * W.std().item(), rel=0.03)
    assert abs(float((B * W).mean())) <= 4 * scale * W.var().item() / W.numel() ** 0.5
    assert abs(B.mean().item()) <= 4 * scale * W.std().item() / W.numel() ** 0.5


def test_fixed_feedback_is_a_buffer_and_adaptive_feedback_a_parameter() -> None:
    net = network("residual")
    fixed, adaptive = (place(name, net)[1] for name in ("feedback-alignment", "adaptive-random-backprop"))
    assert not list(fixed.parameters())
    assert list(fixed.state_dict()) == ["feedback_0", "feedback_1"]
    assert [name for name, _ in adaptive.named_parameters()] == ["feedback_0", "feedback_1"]


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("kind", SHAPES)
def test_adaptive_feedback_gets_the_gradient_of_the_weight_it_stands_beside(kind: str, norm: str) -> None:
    (X, y), net = examples(kind), network(kind, norm=norm)
    estimators = place("adaptive-random-backprop", net)
    assert compute_gradients(net, estimators, X, y).estimator_losses == {}  # it follows a formula, not a loss
    for k, estimator in estimators.items():
        for i, affine in enumerate(affine_maps(net.segments[k])):
            B = getattr(estimator, f"feedback_{i}")
            assert torch.equal(B.grad, affine.weight.grad)
            assert B.grad.any()
            assert B.grad is not affine.weight.grad


def test_adaptive_feedback_follows_its_formula() -> None:
    """Golden: ΔB = δᵀ h / N, written out at the output of a network, where δ = e."""
    (X, y), net = examples("mlp"), network("mlp", depth=1)
    estimators = place("adaptive-random-backprop", net)
    outcome = compute_gradients(net, estimators, X, y)
    e = outcome.logits.softmax(dim=1) - F.one_hot(y, CLASSES)
    h = network("mlp", depth=1).hidden["1"](X).detach()
    torch.testing.assert_close(estimators[1].feedback_0.grad, e.T @ h / N, rtol=0, atol=1e-14)


def test_adaptive_feedback_and_weights_get_equal_updates() -> None:
    """With equal increments, the difference of B and W stays what it was: Kolen and Pollack without decay."""
    (X, y), net = examples("mlp"), network("mlp")
    estimators = place("adaptive-random-backprop", net)
    parameters = [*net.parameters(), *(p for estimator in estimators.values() for p in estimator.parameters())]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    weights = {k: affine_maps(net.segments[k])[0].weight for k in estimators}
    before = {k: (estimators[k].feedback_0 - weights[k]).detach().clone() for k in estimators}
    first = weights[1].detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        compute_gradients(net, estimators, X, y)
        optimizer.step()
    for k, estimator in estimators.items():
        torch.testing.assert_close((estimator.feedback_0 - weights[k]).detach(), before[k], rtol=0, atol=1e-12)
    assert (weights[1] - first).abs().max() > 1e-3


# Signs


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("magnitude", ["uniform", "fixed", "resampled"])
def test_sign_symmetric_feedback_has_the_signs_of_the_current_weights(magnitude: str, kind: str) -> None:
    net = network(kind)
    for k, estimator in place("sign-symmetric", net, magnitude=magnitude).items():
        for i, affine in enumerate(affine_maps(net.segments[k])):
            weight = affine.weight.detach()
            for now in (weight, -weight, weight.roll(1, 0)):
                assert torch.equal(estimator.feedback(i, now).sign(), now.sign())


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_uniform_magnitude_is_the_initial_root_mean_square(scale: float) -> None:
    net = network("mlp")
    weight = net.hidden["2"].affine.weight.detach().clone()
    estimator = place("sign-symmetric", net, scale=scale)[1]
    with torch.no_grad():
        net.hidden["2"].affine.weight.mul_(-7)
    B = estimator.feedback(0, -7 * weight)
    torch.testing.assert_close(B, -weight.sign() * scale * weight.square().mean().sqrt(), rtol=1e-6, atol=0)


def test_fixed_magnitude_is_drawn_once() -> None:
    net = network("mlp", width=100)
    weight = net.hidden["2"].affine.weight.detach()
    estimator = place("sign-symmetric", net, magnitude="fixed", scale=2.0)[1]
    first, again = estimator.feedback(0, weight), estimator.feedback(0, -3 * weight)
    assert torch.equal(first, -again)
    assert len(first.abs().unique()) > 0.9 * first.numel()
    assert first.square().mean().sqrt().item() == pytest.approx(2 * weight.square().mean().sqrt().item(), rel=0.05)


def test_resampled_magnitude_is_drawn_for_every_batch_and_every_affine_map() -> None:
    (X, y), net = examples("residual"), network("residual", width=16)
    estimator = place("sign-symmetric", net, magnitude="resampled")[1]
    weight = net.hidden["2"].affine.weight.detach()
    B = [estimator.feedback(i, weight) for i in (0, 1, 0)]
    assert not any(torch.equal(one, other) for one, other in ((B[0], B[1]), (B[0], B[2]), (B[1], B[2])))
    rms = net.hidden["2"].first.affine.weight.square().mean().sqrt().item()
    assert B[0].square().mean().sqrt().item() == pytest.approx(rms, rel=0.1)

    held = []
    for _ in range(2):
        net.zero_grad()
        held.append(compute_gradients(net.eval(), {1: estimator}, X, y, watch=True).gradients[1])
    assert not torch.equal(*held)


def test_weights_of_zero_have_no_sign_symmetric_feedback() -> None:
    net = network("mlp")
    weight = torch.zeros_like(net.hidden["2"].affine.weight)
    assert not place("sign-symmetric", net)[1].feedback(0, weight).any()


def test_sign_symmetric_feedback_is_nearer_to_backprop_than_random_feedback() -> None:
    (X, y) = examples("mlp")
    cosines = {}
    for name in ("feedback-alignment", "sign-symmetric"):
        net, twin = network("mlp", width=50), network("mlp", width=50)
        g = compute_gradients(net, place(name, net), X, y, watch=True).gradients[1]
        t = compute_gradients(twin, {}, X, y, watch=True).gradients[1]
        cosines[name] = F.cosine_similarity(g.flatten(), t.flatten(), dim=0).item()
    assert cosines["sign-symmetric"] > 0.4 > cosines["feedback-alignment"]


# What is refused


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize(
    ("above", "what"),
    [
        (None, "is a NoneType"),
        (nn.Tanh(), "is a Tanh"),
        (nn.Bilinear(4, 4, 2), "has the weight 'weight' outside of such layers"),
        (nn.Sequential(nn.Linear(4, 4), nn.Bilinear(4, 4, 2)), "has the weight '1.weight' outside of such layers"),
    ],
    ids=str,
)
def test_feedback_alignment_refuses_segments_without_affine_maps(above: nn.Module | None, what: str, name: str) -> None:
    message = (
        rf"boundary 3 needs affine maps in segment 4, each an nn\.Linear or nn\.Conv2d, but the segment {what}\. Use"
    )
    with pytest.raises(ValueError, match=message):
        ESTIMATORS[name](Site((4,), CLASSES, 3, above))


def test_feedback_alignment_accepts_a_bare_linear_layer() -> None:
    chain = Chain([nn.Linear(6, 4), nn.Linear(4, 4)], nn.Linear(4, CLASSES), shapes=[4, 4]).double()
    X, y = examples("mlp")
    estimators = place("feedback-alignment", chain)
    g = compute_gradients(chain, estimators, X, y, watch=True).gradients
    torch.testing.assert_close(g[1], g[2] @ estimators[1].feedback_0, rtol=0, atol=1e-14)


def test_feedback_alignment_accepts_subclasses_of_segment() -> None:
    segment = Segment(nn.Linear(4, 4), nn.Identity(), nn.Tanh())
    assert FeedbackAlignment(Site((4,), CLASSES, above=segment)).feedback_0.shape == (4, 4)


def test_feedback_alignment_reaches_linear_layers_inside_other_modules() -> None:
    hidden = Segment(nn.Sequential(nn.Linear(4, 4)), nn.Identity(), nn.Identity()).double()
    rule = FeedbackAlignment(Site((4,), 3, 1, hidden, (4,)), generator=seeded())
    X = randn(N, 4).requires_grad_()
    g = randn(N, 4, seed=1)
    rule.through(hidden, X).backward(g)
    torch.testing.assert_close(X.grad, g @ rule.feedback_0)
    assert "forward" not in vars(hidden.affine[0])
