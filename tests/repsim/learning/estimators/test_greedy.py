from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning import DecoupledGreedy, Signals, Site, compute_gradients, mlp
from tests.repsim.small_chains import randn, seeded

N, CLASSES = 7, 3
VECTORS, MAPS = Site((5,), CLASSES), Site((2, 6, 5), CLASSES)


def rule_at(site: Site, **options: int) -> DecoupledGreedy:
    return DecoupledGreedy(site, generator=seeded(), **options).double()


@pytest.mark.parametrize("hidden_layers", [0, 2])
@pytest.mark.parametrize("site", [VECTORS, MAPS], ids=["vectors", "maps"])
@pytest.mark.parametrize(
    ("loss", "y"), [("log_loss", torch.arange(N) % CLASSES), ("mse", torch.arange(N) % CLASSES), ("mse", randn(N, 3))]
)
def test_gradient_is_the_slope_of_the_local_loss_of_each_example(
    loss: str, y: Tensor, site: Site, hidden_layers: int
) -> None:
    """Oracle: central differences of the rule's own mean loss, times N."""
    rule = rule_at(replace(site, loss=loss), hidden_layers=hidden_layers)
    h, direction, step = randn(N, *site.shape, seed=1), randn(N, *site.shape, seed=2), 1e-6
    g = rule.gradient(Signals(h, y))
    up, down = (rule.loss(g, Signals(h + s * direction, y)).item() for s in (step, -step))
    assert float((g * direction).sum()) == pytest.approx(N * (up - down) / (2 * step), rel=1e-6)
    assert not g.requires_grad


def test_a_linear_local_classifier_follows_its_formula() -> None:
    rule, h, y = rule_at(VECTORS), randn(N, 5, seed=1), torch.arange(N) % CLASSES
    (layer,) = rule.classifier
    e = (h @ layer.weight.T + layer.bias).softmax(dim=1) - F.one_hot(y, CLASSES)
    torch.testing.assert_close(rule.gradient(Signals(h, y)), (e @ layer.weight).detach(), rtol=0, atol=1e-14)


def test_the_local_classifier_of_the_output_layer_is_backprop() -> None:
    """With the output's own weights as A at the last boundary, the local loss is the loss."""
    X, y = randn(N, 6, seed=1), torch.arange(N) % CLASSES
    nets = [mlp(6, CLASSES, depth=2, width=5, generator=seeded()).double() for _ in "ab"]
    rule = rule_at(VECTORS)
    rule.classifier[0].load_state_dict(nets[0].output.state_dict())
    outcome = compute_gradients(nets[0], {2: rule}, X, y)
    compute_gradients(nets[1], {}, X, y)
    for ours, theirs in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-13)
    torch.testing.assert_close(rule.classifier[0].weight.grad, nets[0].output.weight.grad, rtol=0, atol=1e-14)
    assert outcome.estimator_losses[2].item() == pytest.approx(outcome.loss.item())


@pytest.mark.parametrize("hidden_layers", [0, 1])
def test_the_classifier_learns_from_its_own_loss_alone(hidden_layers: int) -> None:
    X, y = randn(N, 6, seed=1), torch.arange(N) % CLASSES
    net, rule = (
        mlp(6, CLASSES, depth=3, width=5, generator=seeded()).double(),
        rule_at(VECTORS, hidden_layers=hidden_layers),
    )
    compute_gradients(net, {2: rule}, X, y)
    h = net.hidden["2"](net.hidden["1"](X)).detach()
    expected = torch.autograd.grad(F.cross_entropy(rule.classifier(h), y), list(rule.parameters()))
    for parameter, theirs in zip(rule.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, theirs, rtol=0, atol=1e-13)


def shapes_of(site: Site, **options: Any) -> list[tuple[int, ...]]:
    return [tuple(layer.weight.shape) for layer in rule_at(site, **options).modules() if isinstance(layer, nn.Linear)]


def test_the_classifier_sees_means_of_maps_and_has_the_declared_layers() -> None:
    assert shapes_of(VECTORS) == [(3, 5)]
    assert shapes_of(VECTORS, hidden_layers=2, hidden_width=9) == [(9, 5), (9, 9), (3, 9)]
    assert shapes_of(MAPS) == [(3, 2 * 4 * 4)]
    assert shapes_of(MAPS, pool=5, hidden_layers=1) == [(2, 2 * 5 * 5), (3, 2)]
    assert shapes_of(Site((2, 3, 3), CLASSES), pool=4) == [
        (3, 2 * 3 * 3)
    ]  # a map smaller than the pool is not enlarged


def test_a_pool_of_one_sees_the_mean_of_each_map() -> None:
    rule, h, y = rule_at(MAPS, pool=1), randn(N, *MAPS.shape, seed=1), torch.arange(N) % CLASSES
    layer = rule.classifier[0].affine
    expected = F.cross_entropy(layer(h.mean(dim=(2, 3))), y)
    assert rule.loss(h, Signals(h, y)).item() == pytest.approx(expected.item(), rel=1e-12)
