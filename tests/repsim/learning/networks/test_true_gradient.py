import copy

import pytest
import torch
from torch import Tensor

from repsim.learning import (
    LOSSES,
    NETWORKS,
    Chain,
    Estimator,
    Signals,
    compute_gradients,
    site_of,
    stack,
    true_gradients,
)
from tests.repsim.small_chains import build_estimator, randn

N, CLASSES = 7, 3
SHAPES = {"mlp": (6,), "conv": (1, 8, 8), "residual": (1, 8, 8), "transformer": (1, 8, 8)}


def network(kind: str, seed: int = 0) -> Chain:
    generator = torch.Generator().manual_seed(seed)
    return NETWORKS[kind](SHAPES[kind], CLASSES, depth=3, width=4, generator=generator).double()


def examples(kind: str) -> tuple[Tensor, Tensor]:
    return randn(N, 6 if kind == "mlp" else 64, seed=1), torch.arange(N) % CLASSES


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", NETWORKS)
def test_true_gradients_are_those_of_autograd_per_example(kind: str, loss: str) -> None:
    (X, y), net = examples(kind), network(kind)
    true = true_gradients(net, X, y, loss=loss)
    plain, activations = copy.deepcopy(net), []
    for segment in plain.hidden.values():
        segment.register_forward_hook(lambda module, args, out: activations.append(out))
    total = LOSSES[loss](plain(X), y).mean() * N
    for k, expected in zip(net.boundaries, torch.autograd.grad(total, activations), strict=True):
        assert true[k].shape == (N, *net.shapes[k - 1])
        torch.testing.assert_close(true[k], expected, rtol=0, atol=1e-13)
    assert list(true) == list(net.boundaries)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", NETWORKS)
def test_true_gradients_change_nothing(kind: str, training: bool) -> None:
    (X, y), net = examples(kind), network(kind).train(training)
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    true = true_gradients(net, X, y)
    assert not any(g.requires_grad for g in true.values())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert net.training is training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_watched_gradients_of_backprop_are_the_true_ones(kind: str) -> None:
    (X, y), net = examples(kind), network(kind)
    true = true_gradients(net, X, y)
    for k, g in compute_gradients(net, {}, X, y, watch=True).gradients.items():
        torch.testing.assert_close(g, true[k], rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", NETWORKS)
def test_true_gradients_of_a_stack_are_those_of_each_network(kind: str) -> None:
    (X, y), nets = examples(kind), [network(kind, seed) for seed in (0, 1, 2)]
    together = true_gradients(stack(nets), X.expand(3, *X.shape), y.expand(3, N))
    alone = [true_gradients(net, X, y) for net in nets]
    for k in nets[0].boundaries:
        torch.testing.assert_close(together[k], torch.stack([each[k] for each in alone]), rtol=0, atol=1e-12)


# As a signal


class Remembering(Estimator):
    """g_k = 0, while the true gradient that it saw is kept."""

    needs = frozenset({"true_gradient"})

    def gradient(self, signals: Signals) -> Tensor:
        self.seen = signals.true_gradient
        return torch.zeros_like(signals.activation)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", NETWORKS)
def test_estimators_see_the_true_gradient_whatever_rules_act_above(kind: str, loss: str, training: bool) -> None:
    (X, y), net = examples(kind), network(kind).train(training)
    twin = copy.deepcopy(net)
    true = true_gradients(twin, X, y, loss=loss)
    observers = {k: Remembering(site_of(net, k, n_outputs=CLASSES)) for k in (1, 2)}
    compute_gradients(net, observers | {3: build_estimator("feedback-alignment", net, 3)}, X, y, loss=loss)
    compute_gradients(twin, {}, X, y, loss=loss)
    for k, observer in observers.items():
        assert not observer.seen.requires_grad
        torch.testing.assert_close(observer.seen, true[k], rtol=0, atol=1e-13)
    for (name, ours), theirs in zip(net.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, theirs), name  # running statistics are updated once
