from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from repsim.learning import NETWORKS, Chain, Kickback, Signals, Site, compute_gradients, site_of
from tests.repsim.small_chains import randn

N, CLASSES, WIDTH = 7, 3, 4
SHAPES = {"mlp": (6,), "conv": (1, 8, 8), "residual": (1, 8, 8), "transformer": (1, 8, 8)}


def network(kind: str = "mlp", n_outputs: int = CLASSES, **settings: Any) -> Chain:
    generator = torch.Generator().manual_seed(0)
    settings = {"depth": 3, "width": WIDTH} | settings
    return NETWORKS[kind](SHAPES[kind], n_outputs, generator=generator, **settings).double()


def inputs(kind: str = "mlp") -> Tensor:
    return randn(N, 6 if kind == "mlp" else 64, seed=1)


def place(net: Chain, k: int, loss: str = "log_loss", n_outputs: int = CLASSES, **options: str) -> Kickback:
    return Kickback(site_of(net, k, n_outputs=n_outputs, loss=loss), **options)


def pull_back_of_ones(net: Chain, X: Tensor, k: int) -> Tensor:
    h = net.input(X)
    for segment in net.segments[:k]:
        h = segment(h)
    h = h.detach().requires_grad_()
    above = net.segments[k](h)
    return torch.autograd.grad(above, h, torch.ones_like(above))[0]


@pytest.mark.parametrize("error", ["true-class", "sum"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_kickback_below_the_only_output_of_a_network_is_backprop(kind: str, error: str) -> None:
    X, y = inputs(kind), randn(N, 1, seed=3)
    net, twin = network(kind, n_outputs=1), network(kind, n_outputs=1)
    compute_gradients(net, {3: place(net, 3, "mse", 1, error=error)}, X, y, loss="mse")
    compute_gradients(twin, {}, X, y, loss="mse")
    for (name, ours), theirs in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12, msg=name)
        assert ours.grad.any()


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("loss", "error"), [("log_loss", "true-class"), ("mse", "true-class"), ("mse", "sum")])
def test_kickback_scales_the_pull_back_of_ones_by_a_scalar_error(loss: str, error: str, kind: str, k: int) -> None:
    X, y, net = inputs(kind), torch.arange(N) % CLASSES, network(kind)
    outcome = compute_gradients(net, {k: place(net, k, loss, error=error)}, X, y, loss=loss, watch=True)
    one_hot = F.one_hot(y, CLASSES)
    e = outcome.logits.softmax(dim=1) - one_hot if loss == "log_loss" else 2 * (outcome.logits - one_hot)
    beta = e.sum(dim=1) if error == "sum" else e[torch.arange(N), y]
    influence = pull_back_of_ones(network(kind), X, k)
    expected = beta.view(N, *[1] * (influence.ndim - 1)) * influence
    torch.testing.assert_close(outcome.gradients[k], expected, rtol=0, atol=1e-12)
    assert expected.any()


def test_kickback_at_every_boundary_of_a_linear_chain_follows_its_formula() -> None:
    X, y, net = inputs(), torch.arange(N) % CLASSES, network(norm="none", activation="linear")
    outcome = compute_gradients(net, {k: place(net, k) for k in net.boundaries}, X, y, watch=True)
    beta = outcome.logits.softmax(dim=1)[torch.arange(N), y] - 1
    for k, above in ((1, net.hidden["2"].affine), (2, net.hidden["3"].affine), (3, net.output)):
        expected = beta.outer(above.weight.detach().sum(dim=0))
        torch.testing.assert_close(outcome.gradients[k], expected, rtol=0, atol=1e-13)


def test_sum_of_errors_vanishes_under_the_log_loss_and_is_refused_there() -> None:
    message = r"error=sum cannot be used with the log loss.* Use error=true-class, or the loss 'mse'"
    with pytest.raises(ValueError, match=message):
        Kickback(Site((WIDTH,), CLASSES), error="sum")
    assert Kickback(Site((WIDTH,), CLASSES, loss="mse"), error="sum").needs == {"error", "influence"}
    assert Kickback(Site((WIDTH,), CLASSES)).needs == {"error", "influence", "labels"}


def test_the_error_of_the_true_class_needs_classes() -> None:
    rule = Kickback(Site((WIDTH,), CLASSES, loss="mse"))
    signals = Signals(randn(N, WIDTH), randn(N, CLASSES), error=randn(N, CLASSES), influence=randn(N, WIDTH))
    message = r"error=true-class needs classes, but the labels are floats\. Use error=sum"
    with pytest.raises(ValueError, match=message):
        rule.gradient(signals)
