import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repsim.learning import (
    NETWORKS,
    Chain,
    Learner,
    Pepita,
    Site,
    TrainingConfig,
    build_learner,
    compute_gradients,
    locks,
    site_of,
)
from tests.repsim.small_chains import (
    CLASSES,
    SHAPES,
    N,
    assert_close,
    held_gradients,
    randn,
    seeded,
    small_examples,
)
from tests.repsim.small_digits import digits_accuracy

SITE = Site((5,), CLASSES, n_features=6)


def network(kind: str, **settings: str) -> Chain:
    return NETWORKS[kind](SHAPES[kind], CLASSES, depth=2, width=5, generator=seeded(), **settings).double()


def build(net: Chain, scale: float = 1.0) -> dict[int, Pepita]:
    return {
        k: Pepita(site_of(net, k, n_outputs=CLASSES), generator=seeded(k), scale=scale).double() for k in net.boundaries
    }


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_updates_are_products_of_differences_and_modulated_activations(activation: str) -> None:
    """Oracle: the equations, written by hand for two hidden layers."""
    net, (X, y) = network("mlp", norm="none", activation=activation), small_examples("mlp")
    estimators = build(net)
    outcome = compute_gradients(net, estimators, X, y, watch=True)
    W1, b1, W2, b2, W3, b3 = (parameter.detach() for parameter in net.parameters())
    phi = getattr(torch, activation)
    h1 = phi(X @ W1.T + b1)
    h2 = phi(h1 @ W2.T + b2)
    e = (h2 @ W3.T + b3).softmax(dim=1) - F.one_hot(y, CLASSES)
    modulated = X + e @ estimators[1].feedback
    again1 = phi(modulated @ W1.T + b1)
    again2 = phi(again1 @ W2.T + b2)
    g1, g2 = h1 - again1, h2 - again2
    expected = [g1.T @ modulated, g1.sum(0), g2.T @ again1, g2.sum(0), e.T @ h2, e.sum(0)]
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient / N, rtol=0, atol=1e-12)
    for k, g in ((1, g1), (2, g2)):
        assert g.any()
        torch.testing.assert_close(outcome.gradients[k], g, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["mlp", "conv", "residual"])
def test_without_nonlinearities_the_update_is_the_chain_rule_of_the_difference(kind: str) -> None:
    """Oracle: automatic differentiation of ⟨h − h', h'⟩ with the difference fixed; convolutions, pooling and skips."""
    net, twin = (network(kind, norm="none", activation="linear") for _ in range(2))
    X, y = small_examples(kind)
    estimators = build(net)
    outcome = compute_gradients(net, estimators, X, y, watch=True)
    h = twin.input(X)
    e = twin(X).softmax(dim=1).detach() - F.one_hot(y, CLASSES)
    again = h + (e @ estimators[1].feedback).view(h.shape)
    for k, segment in zip(twin.boundaries, twin.segments, strict=False):
        h, again = segment(h).detach(), segment(again.detach())
        torch.testing.assert_close(outcome.gradients[k], (h - again).detach(), rtol=0, atol=1e-12)
        (again * (h - again).detach()).sum().div(N).backward()
        assert_close(held_gradients(net.segments[k - 1]), held_gradients(segment))


def test_gains_and_shifts_of_norms_learn_from_the_difference() -> None:
    net, (X, y) = network("mlp"), small_examples("mlp")
    outcome = compute_gradients(net, build(net), X, y, watch=True)
    shift = net.segments[1].norm.bias
    active = shift.grad / outcome.gradients[2].mean(dim=0)
    assert shift.grad.any()
    assert active.isfinite().all()


def test_a_sequence_of_plain_layers_has_the_update_of_a_segment() -> None:
    net, (X, y) = network("mlp", norm="none"), small_examples("mlp")
    layers = [nn.Sequential(segment.affine, nn.ReLU()) for segment in net.segments[:2]]
    plain = Chain.of(nn.Sequential(*layers[0], *layers[1], net.output), example=X)
    grads = []
    for each in (net, plain):
        each.zero_grad(set_to_none=True)
        compute_gradients(each, build(net), X, y)
        grads.append([parameter.grad for parameter in each.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_the_matrix_is_uniform_fixed_and_saved() -> None:
    rule = Pepita(Site((5,), 50, n_features=600), generator=seeded(), scale=0.5)
    limit = 0.5 * math.sqrt(6 / 600)
    assert rule.feedback.abs().max() <= limit
    assert rule.feedback.std() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert list(rule.state_dict()) == ["feedback"]
    assert not list(rule.parameters())


def test_pepita_waits_for_the_output_but_not_for_a_backward_pass() -> None:
    assert locks(Pepita(SITE)) == {"update"}


def test_an_input_of_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^PEPITA projects the error to the input, whose number of values is unknown"):
        Pepita(Site((5,), CLASSES))


def test_segments_with_weights_inside_are_refused() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.gate = nn.Linear(6, 5), nn.Linear(6, 5)

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            return self.one(X) * self.gate(X).sigmoid()

    X, y = randn(N, 6).float(), torch.arange(N) % CLASSES
    refusal = r"^PEPITA at boundary 1 learns at the output of affine maps, .* Gated with weig"
    chain = Chain.of([Gated(), nn.Linear(5, CLASSES)], example=X)
    with pytest.raises(ValueError, match=refusal):
        Learner.with_rule(chain, "pepita")
    with pytest.raises(ValueError, match=refusal):
        compute_gradients(chain, {1: Pepita(site_of(chain, 1, n_outputs=CLASSES))}, X, y)


def test_blocks_of_transformers_are_refused_when_the_learner_is_built() -> None:
    config = TrainingConfig(network="transformer", depth=2, width=8, rule="pepita@2")
    with pytest.raises(ValueError, match=r"^PEPITA at boundary 2 learns at the output of affine maps, but segment 2"):
        build_learner(config, SHAPES["transformer"], CLASSES)


def test_pepita_learns_digits_better_than_the_output_layer_alone() -> None:
    alone, learned = (digits_accuracy(rule, depth=3) for rule in ("noise:scale=0", "pepita"))
    assert learned > max(0.9, alone + 0.1)
