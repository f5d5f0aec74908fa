import math
from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist, squareform

from repsim.similarity.measures.distance_correlation import (
    _centre,
    _prepare,
    distance_correlation,
    distance_correlation_unbiased,
)
from tests.repsim.similarity.slow_hsic import ratio
from tests.repsim.similarity.synthetic import related

MEASURES = [distance_correlation, distance_correlation_unbiased]

# Slow twins


def covariance(X: np.ndarray, Y: np.ndarray) -> float:
    """Distance covariance from its expectations over all pairs and triples (Szekely, Rizzo & Bakirov, remark 3)."""
    a, b = cdist(X, X), cdist(Y, Y)
    triples = np.mean([a[i, j] * b[i, k] for i in range(len(X)) for j in range(len(X)) for k in range(len(X))])
    return (a * b).mean() + a.mean() * b.mean() - 2 * triples


def u_centred(X: np.ndarray) -> np.ndarray:
    """Definition 2 of Szekely & Rizzo, entry by entry."""
    a, n = cdist(X, X), len(X)
    U = np.zeros((n, n))
    for i, j in combinations(range(n), 2):
        U[i, j] = a[i, j] - a[i].sum() / (n - 2) - a[:, j].sum() / (n - 2) + a.sum() / ((n - 1) * (n - 2))
        U[j, i] = U[i, j]
    return U


def unbiased_covariance(X: np.ndarray, Y: np.ndarray) -> float:
    n = len(X)
    return (u_centred(X) * u_centred(Y)).sum() / (n * (n - 3))


SHAPES = [(20, 3, 5), (12, 5, 60), (4, 2, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_distance_correlation_equals_its_slow_twins(rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    X, Y = related(rng, *shape)
    assert distance_correlation(X, Y) == pytest.approx(math.sqrt(ratio(covariance, X, Y)), abs=1e-12)
    assert distance_correlation_unbiased(X, Y) == pytest.approx(ratio(unbiased_covariance, X, Y), abs=1e-12)


def test_u_centred_rows_sum_to_zero_and_centred_ones_with_the_diagonal(rng: np.random.Generator) -> None:
    a = cdist(*[rng.normal(size=(9, 3))] * 2)
    for unbiased in (True, False):
        D = squareform(a)
        diagonal = _centre(D, 9, unbiased=unbiased)
        sums = squareform(D).sum(axis=1) + (0 if unbiased else diagonal)
        np.testing.assert_allclose(sums, 0, atol=1e-13)


@pytest.mark.parametrize("d", [1, 3])
def test_distance_correlation_of_two_points_is_one(rng: np.random.Generator, d: int) -> None:
    assert distance_correlation(*rng.normal(size=(2, 2, d))) == pytest.approx(1, abs=1e-12)


def test_distance_correlation_of_binary_features_is_their_correlation(rng: np.random.Generator) -> None:
    x, y = rng.integers(0, 2, size=(2, 50, 1))
    expected = abs(np.corrcoef(x.ravel(), y.ravel())[0, 1])
    assert distance_correlation(x, y) == pytest.approx(expected, abs=1e-12)


def test_distance_correlation_detects_nonlinear_dependence() -> None:
    x = np.linspace(-1, 1, 101)[:, None]
    assert np.corrcoef(x.ravel(), x.ravel() ** 2)[0, 1] == pytest.approx(0, abs=1e-12)
    assert distance_correlation(x, x**2) > 0.4
    assert distance_correlation_unbiased(x, x**2) > 0.15


def test_only_the_unbiased_estimator_is_near_zero_for_unrelated_representations(rng: np.random.Generator) -> None:
    pairs = [rng.normal(size=(2, 20, 30)) for _ in range(100)]
    assert np.mean([distance_correlation_unbiased(X, Y) for X, Y in pairs]) == pytest.approx(0, abs=0.02)
    assert np.mean([distance_correlation(X, Y) for X, Y in pairs]) > 0.7


def test_golden_distance_correlation() -> None:
    # Distances of 0, 1, 3: rows 0 1 3, 1 0 2, 3 2 0, row means 4/3, 1, 5/3, mean 4/3.
    # Centred, times 3: -4 0 4 / 0 -2 2 / 4 2 -6, squares 96. Of 0, 3, 1 likewise with the last two exchanged.
    # Their product, times 9: -4 * -4 + -2 * -6 * 2 + 2 (0 * 4 + 4 * 0 + 2 * 2) = 48.
    X, Y = np.array([[0], [1], [3]]), np.array([[0], [3], [1]])
    assert distance_correlation(X, Y) == pytest.approx(math.sqrt(48 / 96))


def test_golden_unbiased_distance_correlation() -> None:
    # A square walked around, and crosswise. U-centring takes 3.41 / 2 * 2 - 13.66 / 6 from each distance: what is left
    # of a side and a diagonal is s and -2 s, in each row two sides and one diagonal.
    square = np.array([[0, 0], [0, 1], [1, 1], [1, 0]])
    crossed = square[[0, 2, 1, 3]]
    # Sides of both: 2 pairs (s * s); a side of one and diagonal of the other: 4 pairs (-2 s s). 2 - 8 = -6 of 4 + 8.
    assert distance_correlation_unbiased(square, crossed) == pytest.approx(-0.5)


# Numerical traps


def test_half_of_the_matrix_is_kept(rng: np.random.Generator) -> None:
    X = rng.normal(size=(10, 3))
    assert _prepare(X, "X", unbiased=True).shape == (45,)
    assert _prepare(X, "X", unbiased=False).shape == (55,)


def test_unbiased_distance_correlation_of_equal_distances_is_nan(rng: np.random.Generator) -> None:
    with pytest.warns(RuntimeWarning, match=r"^1 of 2 representations \(X\) .* all their stimuli equally far apart\."):
        assert math.isnan(distance_correlation_unbiased(np.eye(9), rng.normal(size=(9, 2))))
    assert distance_correlation(np.eye(9), np.eye(9)) == pytest.approx(1, abs=1e-12)


def test_unbiased_distance_correlation_refuses_three_stimuli(rng: np.random.Generator) -> None:
    X = rng.normal(size=(3, 2))
    with pytest.raises(ValueError, match=r"^X has 3 stimuli; unbiased distance correlation needs at least 4\. "):
        distance_correlation_unbiased(X, X)
    assert distance_correlation(X, X) == pytest.approx(1, abs=1e-12)
