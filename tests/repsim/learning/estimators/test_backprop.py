import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from repsim.learning import LOSSES, NETWORKS, Backprop, Chain, Signals, Site, compute_gradients
from tests.repsim.small_chains import cut_at_all, randn

N, CLASSES = 7, 3


def network(kind: str, **settings: Any) -> Chain:
    shape = (6,) if kind == "mlp" else (1, 8, 9)
    generator = torch.Generator().manual_seed(0)
    return NETWORKS[kind](shape, CLASSES, depth=3, width=4, generator=generator, **settings).double()


def assert_equals_autograd(net: Chain, everywhere: bool, loss: str, y: Tensor) -> None:
    X = randn(N, 72 if net.input(torch.zeros(1, 72)).ndim > 2 else 6, seed=1)
    plain = copy.deepcopy(net)
    estimators = {k: Backprop(Site(net.shapes[k - 1], CLASSES, k)) for k in net.boundaries}
    outcome = compute_gradients(net, cut_at_all(estimators) if everywhere else estimators, X, y, loss=loss)
    expected = LOSSES[loss](plain(X), y).mean()
    expected.backward()
    torch.testing.assert_close(outcome.loss, expected.detach(), rtol=0, atol=1e-13)
    for (name, ours), theirs in zip(net.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12, msg=name)
        assert ours.grad.any(), name
    for (name, ours), theirs in zip(net.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs), name


def test_backprop_returns_the_target_and_learns_nothing() -> None:
    rule, signals = Backprop(Site((4,), CLASSES)), Signals(randn(N, 4), target=randn(N, 4, seed=1))
    assert rule.gradient(signals) is signals.target
    assert rule.loss(signals.target, signals) is None
    assert not rule.state_dict()


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("kind", ["mlp", "conv", "residual"])  # transformers are tested with their blocks
def test_backprop_is_autograd(kind: str, norm: str, loss: str, everywhere: bool) -> None:
    assert_equals_autograd(network(kind, norm=norm), everywhere, loss, torch.arange(N) % CLASSES)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "linear"])
@pytest.mark.parametrize("kind", ["mlp", "conv", "residual"])  # transformers are tested with their blocks
def test_backprop_is_autograd_for_regression(kind: str, activation: str, everywhere: bool) -> None:
    assert_equals_autograd(network(kind, activation=activation), everywhere, "mse", randn(N, CLASSES, seed=5))
