import pytest
import torch
from torch import Tensor

from repsim.learning.optimizers import OPTIMIZERS

RATE = 0.1


def path(name: str, gradients: list[float]) -> list[float]:
    """Return where one weight, first at 0, is after each update."""
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = OPTIMIZERS[name]([{"params": [weight], "lr": RATE}])
    places = []
    for gradient in gradients:
        weight.grad = Tensor([gradient]).double()
        optimizer.step()
        places.append(weight.item())
    return places


def test_sgd_moves_by_rate_times_gradient() -> None:
    assert path("sgd", [1.0, -2.0, 4.0]) == pytest.approx([-0.1, 0.1, -0.3])


def test_momentum_remembers_nine_tenths() -> None:
    """Golden: velocities 1, 1.9, 2.71."""
    assert path("momentum", [1.0, 1.0, 1.0]) == pytest.approx([-0.1, -0.29, -0.561])


def test_adam_moves_by_its_rate_under_a_constant_gradient() -> None:
    assert path("adam", [3.0, 3.0, 3.0]) == pytest.approx([-0.1, -0.2, -0.3], rel=1e-6)
