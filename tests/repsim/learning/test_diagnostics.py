import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from repsim.learning import (
    NETWORKS,
    Chain,
    Diagnosis,
    SyntheticGradient,
    compute_gradients,
    diagnose,
    site_of,
    stack,
    true_gradients,
)
from tests.repsim.small_chains import randn

N, CLASSES = 7, 3
SHAPES = {"mlp": (6,), "conv": (1, 8, 8), "residual": (1, 8, 8)}


def network(kind: str, seed: int = 0) -> Chain:
    generator = torch.Generator().manual_seed(seed)
    return NETWORKS[kind](SHAPES[kind], CLASSES, depth=3, width=4, generator=generator).double()


def examples(kind: str) -> tuple[Tensor, Tensor]:
    return randn(N, 6 if kind == "mlp" else 64, seed=1), torch.arange(N) % CLASSES


# Comparison


def test_gradients_are_compared_at_every_boundary() -> None:
    (X, y), net = examples("mlp"), network("mlp")
    S = SyntheticGradient(site_of(net, 2, n_outputs=CLASSES)).double()
    true = true_gradients(net, X, y)
    found = diagnose(compute_gradients(net, {2: S}, X, y, watch=True).gradients, true)
    assert found[2][0].norm == 0.0  # S starts at zero
    assert math.isnan(found[2][0].cosine)
    assert found[3][0].relative_error < 1e-12
    assert found[3][0].angle < 1e-4


def compare(g: list[list[float]], t: list[list[float]]) -> Diagnosis:
    return diagnose({1: torch.tensor(g)}, {1: torch.tensor(t)})[1][0]


def test_norms_are_root_mean_squares_over_examples() -> None:
    """Golden: ‖(3, 4)‖ = 5 and ‖(0, 0)‖ = 0, so that the root mean square is 5 / √2."""
    found = compare([[3, 4], [0, 0]], [[6.0, 8], [0, 0]])
    assert found.norm == pytest.approx(5 / math.sqrt(2))
    assert found.true_norm == pytest.approx(10 / math.sqrt(2))
    assert found.relative_error == pytest.approx(0.5)
    assert (found.cosine, found.angle) == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize(
    ("g", "cosine", "angle", "error"),
    [
        ([[1.0, 2.0]], 1.0, 0.0, 0.0),
        ([[-1.0, -2.0]], -1.0, 180.0, 2.0),
        ([[2.0, -1.0]], 0.0, 90.0, math.sqrt(2)),
        ([[3.0, 1.0]], math.sqrt(0.5), 45.0, 1.0),
        ([[1e-30, 2e-30]], 1.0, 0.0, 1.0),
    ],
)
def test_cosines_angles_and_errors_of_hand_made_cases(
    g: list[list[float]], cosine: float, angle: float, error: float
) -> None:
    found = compare(g, [[1.0, 2.0]])
    assert found.cosine == pytest.approx(cosine, abs=1e-12)
    assert found.angle == pytest.approx(angle, abs=1e-5)
    assert found.relative_error == pytest.approx(error)


def test_zero_gradients_have_no_angle() -> None:
    nothing, something = [[0.0, 0.0]], [[1.0, 2.0]]
    found = compare(nothing, something)
    assert (found.norm, found.relative_error) == (0.0, 1.0)
    assert math.isnan(found.cosine)
    assert math.isnan(found.angle)
    found = compare(something, nothing)
    assert found.true_norm == 0.0
    assert all(math.isnan(value) for value in (found.relative_error, found.cosine, found.angle))


@pytest.mark.parametrize("scale", [1e-25, 1e15])
def test_cosines_do_not_depend_on_scale_in_single_precision(scale: float) -> None:
    """Squares of such numbers leave the range of float32."""
    g, t = (randn(N, 4, seed=seed) for seed in (1, 2))
    expected = diagnose({1: g}, {1: t})[1][0]
    found = diagnose({1: (scale * g).float()}, {1: (scale * t).float()})[1][0]
    assert found.cosine == pytest.approx(expected.cosine, rel=1e-5)
    assert found.relative_error == pytest.approx(expected.relative_error, rel=1e-5)


def test_maps_are_compared_as_flat_vectors() -> None:
    g, t = randn(N, 2, 3, 4, seed=1), randn(N, 2, 3, 4, seed=2)
    (of_maps,), (of_vectors,) = (diagnose({1: a}, {1: b})[1] for a, b in ((g, t), (g.flatten(1), t.flatten(1))))
    assert of_maps == of_vectors
    assert of_maps.cosine == pytest.approx(F.cosine_similarity(g.flatten(), t.flatten(), dim=0).item())


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_stack_of_networks_is_diagnosed_one_by_one(kind: str) -> None:
    (X, y), nets = examples(kind), [network(kind, seed) for seed in (0, 1, 2)]
    together = true_gradients(stack(nets), X.expand(3, *X.shape), y.expand(3, N))
    alone = [true_gradients(net, X, y) for net in nets]
    for k in nets[0].boundaries:
        torch.testing.assert_close(together[k], torch.stack([each[k] for each in alone]), rtol=0, atol=1e-12)
    chosen = {k: g + 0.1 for k, g in together.items()}
    found = diagnose(chosen, together, lead=1)
    for i in range(3):
        one = diagnose({k: g[i] for k, g in chosen.items()}, {k: g[i] for k, g in together.items()})
        assert {k: several[i] for k, several in found.items()} == {k: each for k, (each,) in one.items()}


def test_an_infinite_gradient_has_no_angle() -> None:
    found = compare([[math.inf, 1.0]], [[1.0, 1.0]])
    assert math.isnan(found.cosine)
    assert math.isnan(found.angle)
