from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning import Segment, residual_net, stack
from repsim.learning.networks.affine import affine_maps, apply_with_feedback
from tests.repsim.small_chains import randn

N = 5


def randomised(layer: nn.Module) -> nn.Module:
    layer = layer.double()
    with torch.no_grad():
        for i, parameter in enumerate(layer.parameters()):
            parameter.copy_(randn(*parameter.shape, seed=50 + i))
    return layer


def linear(bias: bool = True) -> nn.Module:
    return randomised(nn.utils.skip_init(nn.Linear, 4, 3, bias=bias))


def conv(bias: bool = True, **geometry: int) -> nn.Module:
    return randomised(nn.utils.skip_init(nn.Conv2d, 4, 6, 3, bias=bias, **({"padding": 1} | geometry)))


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (linear, (N, 4)),
    "linear without bias": (lambda: linear(False), (N, 4)),
    "conv": (conv, (N, 4, 7, 6)),
    "conv without bias": (lambda: conv(False), (N, 4, 7, 6)),
    "strided conv": (lambda: conv(stride=2), (N, 4, 7, 6)),
    "dilated conv without padding": (lambda: conv(dilation=2, padding=0), (N, 4, 7, 6)),
    "grouped conv": (lambda: conv(groups=2), (N, 4, 7, 6)),
    "stacked linear": (lambda: stack([linear(), linear()]), (2, N, 4)),
    "stacked conv": (lambda: stack([conv(), conv()]), (2, N, 4, 7, 6)),
    "stacked grouped conv": (lambda: stack([conv(groups=2), conv(groups=2)]), (2, N, 4, 7, 6)),
    "stack of stacks of linear": (lambda: stack([stack([linear(), linear()])] * 3), (3, 2, N, 4)),
}


def slopes(layer: nn.Module, X: Tensor, feedback: Tensor | None) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Return the output, and the gradients of a random linear functional of it."""
    X = X.clone().requires_grad_()
    Y = layer(X) if feedback is None else apply_with_feedback(layer, X, feedback)
    Y.backward(randn(*Y.shape, seed=9))
    grads = {"X": X.grad} | {name: parameter.grad for name, parameter in layer.named_parameters()}
    layer.zero_grad(set_to_none=True)
    return Y.detach(), grads


@pytest.mark.parametrize("name", LAYERS)
def test_feedback_by_the_weight_is_backprop(name: str) -> None:
    make, shape = LAYERS[name]
    layer, X = make(), randn(*shape, seed=1)
    ours, theirs = slopes(layer, X, layer.weight.detach()), slopes(layer, X, None)
    assert torch.equal(ours[0], theirs[0])
    for key in theirs[1]:
        torch.testing.assert_close(ours[1][key], theirs[1][key], rtol=0, atol=1e-11, msg=key)


@pytest.mark.parametrize("name", LAYERS)
def test_feedback_changes_only_the_gradient_of_the_input(name: str) -> None:
    """Oracle: the same map with B for its weight gives the gradient of the input."""
    make, shape = LAYERS[name]
    layer, other, X = make(), make(), randn(*shape, seed=1)
    B = randn(*layer.weight.shape, seed=2)
    with torch.no_grad():
        other.weight.copy_(B)
    (_, ours), (_, plain), (_, by_B) = slopes(layer, X, B), slopes(layer, X, None), slopes(other, X, None)
    torch.testing.assert_close(ours["X"], by_B["X"], rtol=0, atol=1e-11)
    assert not torch.allclose(ours["X"], plain["X"])
    for key in set(plain) - {"X"}:
        torch.testing.assert_close(ours[key], plain[key], rtol=0, atol=1e-11, msg=key)


@pytest.mark.parametrize("name", LAYERS)
def test_feedback_that_requires_a_gradient_gets_that_of_the_weight(name: str) -> None:
    make, shape = LAYERS[name]
    layer, X = make(), randn(*shape, seed=1)
    B = nn.Parameter(randn(*layer.weight.shape, seed=2))
    Y = apply_with_feedback(layer, X, B)
    Y.backward(randn(*Y.shape, seed=9))
    assert torch.equal(B.grad, layer.weight.grad)
    assert B.grad is not layer.weight.grad
    still = make().requires_grad_(False)
    again = nn.Parameter(B.detach().clone())
    apply_with_feedback(still, X, again).backward(randn(*Y.shape, seed=9))  # a weight that is held still
    assert torch.equal(again.grad, B.grad)


def test_affine_maps_are_found_in_the_order_of_registration() -> None:
    block = residual_net((1, 8, 8), 3, depth=2, width=2, generator=torch.Generator()).hidden["2"]
    assert affine_maps(block) == [block.first.affine, block.affine]
    layer = nn.Linear(3, 3)
    assert affine_maps(layer) == [layer]
    assert affine_maps(Segment(layer, nn.BatchNorm1d(3), nn.ReLU())) == [layer]
    assert affine_maps(nn.BatchNorm1d(3)) == []
    double = stack([Segment(nn.Linear(3, 3), nn.Identity(), nn.ReLU()) for _ in "ab"])
    assert affine_maps(double) == [double.affine]


@pytest.mark.parametrize("settings", [{"padding_mode": "circular", "padding": 1}, {"padding": "same"}])
def test_convolutions_without_zero_padding_have_no_feedback(settings: dict[str, Any]) -> None:
    assert affine_maps(nn.Conv2d(2, 2, 3, **settings)) == []
    assert len(affine_maps(nn.Conv2d(2, 2, 3, padding=1))) == 1


def test_no_gradient_is_computed_for_an_input_that_requires_none() -> None:
    layer, X = linear(), randn(N, 4)
    Y = apply_with_feedback(layer, X, randn(3, 4, seed=2))
    Y.sum().backward()
    assert X.grad is None
    torch.testing.assert_close(layer.weight.grad, torch.ones(3, N).double() @ X, rtol=0, atol=1e-13)
    torch.testing.assert_close(Y.detach(), F.linear(X, layer.weight, layer.bias).detach())
