import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from scipy.linalg import helmert, orthogonal_procrustes
from scipy.spatial import procrustes as scipy_procrustes

from repsim.similarity.measures.cca import mean_cca
from repsim.similarity.measures.procrustes import (
    NEAR,
    angular_procrustes,
    in_row_space,
    permutation_procrustes,
    procrustes,
    shape_distance,
)
from tests.repsim.similarity.synthetic import related

# Slow twins


def unit(X: np.ndarray) -> np.ndarray:
    X = X - X.mean(0)
    return X / np.linalg.norm(X)


def padded(X: np.ndarray, Y: np.ndarray, extra: int = 0) -> tuple[np.ndarray, np.ndarray]:
    d = max(X.shape[1], Y.shape[1]) + extra
    return tuple(np.hstack([Z, np.zeros((len(Z), d - Z.shape[1]))]) for Z in (X, Y))


def slow_procrustes(X: np.ndarray, Y: np.ndarray) -> float:
    X, Y = padded(unit(X), unit(Y))
    Q, _ = orthogonal_procrustes(Y, X)
    return float(np.linalg.norm(X - Y @ Q))


def slow_shape(X: np.ndarray, Y: np.ndarray, alpha: float) -> float:
    """The paper's definition on centred X of norm sqrt(rank): whiten partially, rotate, take the angle."""
    whitened = []
    for Z in (X, Y):
        Z = unit(Z) * math.sqrt(np.linalg.matrix_rank(Z - Z.mean(0)))
        lam, V = np.linalg.eigh(Z.T @ Z)
        whitened.append(unit(Z @ V @ np.diag(alpha + (1 - alpha) * lam**-0.5) @ V.T))
    A, B = padded(*whitened)
    Q, _ = orthogonal_procrustes(B, A)
    return math.acos(np.sum(A * (B @ Q)))


def slow_permutation(X: np.ndarray, Y: np.ndarray) -> float:
    X, Y = padded(unit(X), unit(Y), extra=min(X.shape[1], Y.shape[1]))
    return min(float(np.linalg.norm(X - Y[:, list(order)])) for order in permutations(range(X.shape[1])))


@pytest.mark.parametrize("shape", [(30, 6, 9), (30, 9, 2), (12, 40, 50), (12, 4, 50), (5, 1, 1)])
def test_procrustes_equals_scipys_rotation(rng: np.random.Generator, shape: tuple) -> None:
    X, Y = related(rng, *shape)
    assert procrustes(X, Y) == pytest.approx(slow_procrustes(X, Y), abs=1e-10)


def test_scipys_disparity_follows_from_the_angle(rng: np.random.Generator) -> None:
    X, Y = rng.normal(size=(2, 20, 4))
    assert math.sin(angular_procrustes(X, Y)) ** 2 == pytest.approx(scipy_procrustes(X, Y)[2], abs=1e-12)


@pytest.mark.parametrize("shape", [(30, 6, 9), (30, 9, 2)])
def test_shape_distance_equals_its_slow_twin(rng: np.random.Generator, shape: tuple) -> None:
    for alpha in [0, 0.1, 0.5, 0.9, 1]:
        X, Y = related(rng, *shape)
        assert shape_distance(X, Y, alpha=alpha) == pytest.approx(slow_shape(X, Y, alpha), abs=1e-10)


def test_permutation_procrustes_equals_trying_all() -> None:
    for d1, d2 in [(3, 3), (2, 4), (4, 2), (1, 1)]:
        for seed in range(5):
            rng = np.random.default_rng(seed)
            X, Y = rng.normal(size=(10, d1)), rng.normal(size=(10, d2))
            assert permutation_procrustes(X, Y) == pytest.approx(slow_permutation(X, Y), abs=1e-12)


def test_permutation_procrustes_of_alike_features_is_over_permutation_matrices(rng: np.random.Generator) -> None:
    X = rng.normal(size=(20, 4))
    Y = X[:, [2, 0, 3, 1]] + 0.5 * rng.normal(size=(20, 4))
    expected = min(np.linalg.norm(unit(X) - unit(Y)[:, list(order)]) for order in permutations(range(4)))
    assert permutation_procrustes(X, Y) == pytest.approx(expected, abs=1e-12)


# Theorems


@pytest.mark.parametrize("shape", [(30, 6, 9), (12, 40, 50)])
def test_cosine_of_the_angle_is_the_bures_similarity_of_gram_matrices(rng: np.random.Generator, shape: tuple) -> None:
    X, Y = related(rng, *shape)
    K, L = (Z @ Z.T for Z in (unit(X), unit(Y)))
    values, vectors = np.linalg.eigh(K)
    root = vectors @ np.diag(np.sqrt(np.clip(values, 0, None))) @ vectors.T
    fidelity = np.sqrt(np.clip(np.linalg.eigvalsh(root @ L @ root), 0, None)).sum()
    assert math.cos(angular_procrustes(X, Y)) == pytest.approx(fidelity, abs=1e-6)


def test_the_chord_belongs_to_the_angle(rng: np.random.Generator) -> None:
    X, Y = related(rng)
    nuclear = np.linalg.svdvals(unit(X).T @ unit(Y)).sum()
    assert math.cos(angular_procrustes(X, Y)) == pytest.approx(nuclear, abs=1e-12)
    assert procrustes(X, Y) == pytest.approx(2 * math.sin(angular_procrustes(X, Y) / 2), abs=1e-12)


def test_shape_distance_ends_at_cca_and_at_procrustes(rng: np.random.Generator) -> None:
    X, Y = related(rng, d1=6, d2=6)
    assert shape_distance(X, Y, alpha=0) == pytest.approx(math.acos(mean_cca(X, Y)), abs=1e-12)
    assert shape_distance(X, Y, alpha=1) == pytest.approx(angular_procrustes(X, Y), abs=1e-12)
    assert shape_distance(X, Y, alpha=0) == pytest.approx(shape_distance(X @ rng.normal(size=(6, 6)), Y, alpha=0))


@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_shape_distance_is_a_metric_at_any_alpha(rng: np.random.Generator, alpha: float) -> None:
    for _ in range(30):
        A, B = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
        C = B + 0.3 * rng.normal(size=(12, 2))
        ab, bc, ac = (shape_distance(*pair, alpha=alpha) for pair in ((A, B), (B, C), (A, C)))
        assert ac <= ab + bc + 1e-12
        assert ab <= ac + bc + 1e-12


def test_permutation_procrustes_is_a_metric_between_unequal_widths() -> None:
    # With only the narrower one padded, b and -b are 2 apart, and each 0.77 from the pair of them.
    b = np.array([[1.0], [-1.0]])
    both = np.hstack([b, -b])
    assert permutation_procrustes(b, both) == pytest.approx(math.sqrt(2 - math.sqrt(2)), abs=1e-12)
    assert permutation_procrustes(b, -b) == pytest.approx(math.sqrt(2), abs=1e-12)
    assert permutation_procrustes(b, -b) <= permutation_procrustes(b, both) + permutation_procrustes(both, -b)


def test_a_rotation_is_never_worse_than_a_permutation(rng: np.random.Generator) -> None:
    for _ in range(20):
        X, Y = rng.normal(size=(10, 4)), rng.normal(size=(10, 3))
        assert procrustes(X, Y) <= permutation_procrustes(X, Y) + 1e-12


@pytest.mark.parametrize("shape", [(5, 20), (5, 5), (20, 5)])
def test_row_space_keeps_inner_products(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    X = rng.normal(size=shape)
    reduced = in_row_space(X)
    assert reduced.shape == (shape[0], min(shape))
    np.testing.assert_allclose(reduced @ reduced.T, X @ X.T, atol=1e-12)


# Golden numbers


def test_procrustes_of_orthogonal_signals_is_largest() -> None:
    x, y = [[1], [-1], [0]], [[1], [1], [-2]]
    assert procrustes(x, y) == pytest.approx(math.sqrt(2), abs=1e-15)
    assert angular_procrustes(x, y) == pytest.approx(math.pi / 2, abs=1e-15)
    assert permutation_procrustes(x, y) == pytest.approx(math.sqrt(2), abs=1e-15)


def test_procrustes_of_a_square_and_its_diagonal() -> None:
    # Squared lengths 1/2 and 1/2 of the two axes against 1 of one: the nuclear norm is sqrt(1/2), the angle 45 degrees.
    square = [[1, 1], [1, -1], [-1, -1], [-1, 1]]
    line = [[1], [1], [-1], [-1]]
    assert angular_procrustes(square, line) == pytest.approx(math.pi / 4, abs=1e-12)


def test_permutation_procrustes_leaves_a_feature_alone_rather_than_match_it_worse() -> None:
    # Inner products [[5, 2], [2, -2]]: of matchings of both features 2 + 2 is best, but 5 alone is better.
    contrasts = helmert(8).T[:, :2]  # orthonormal columns that sum to zero
    X, Y = contrasts, contrasts @ [[5, 2], [2, -2]]
    assert permutation_procrustes(X, Y) == pytest.approx(math.sqrt(2 - 2 * 5 / math.sqrt(2 * 37)), abs=1e-12)


# Numerical traps


@pytest.mark.parametrize("measure", [procrustes, angular_procrustes, permutation_procrustes])
def test_small_distances_keep_their_digits(rng: np.random.Generator, measure: Callable) -> None:
    # A displacement at right angles to X and to all its rotations: |X - Z| is tan of the angle, up to scale.
    for step in [1e-2, 1e-5, 1e-9, 1e-12]:
        basis = np.linalg.qr(np.column_stack([np.ones(20), rng.normal(size=(20, 2))]))[0][:, 1:]
        X, Z = basis[:, :1], basis[:, :1] + step * basis[:, 1:]
        angle = math.atan(step)
        expected = angle if measure is angular_procrustes else 2 * math.sin(angle / 2)
        assert measure(X, Z) == pytest.approx(expected, rel=1e-3 if step < 1e-10 else 1e-6)


def test_both_ways_to_a_distance_agree_where_they_meet(rng: np.random.Generator) -> None:
    X, noise = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    sums = []
    for step in np.geomspace(5e-3, 5e-2, 20):
        Y = X + step * noise
        sums.append(np.linalg.svdvals(unit(X).T @ unit(Y)).sum())
        assert procrustes(X, Y) == pytest.approx(math.sqrt(2 - 2 * sums[-1]), rel=1e-9)
    assert min(sums) < NEAR < max(sums)


# What they refuse


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_shape_distance_refuses_an_alpha(alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"^alpha is {alpha}; expected a number from 0 \(CCA\) to 1 \(Procrustes\)"):
        shape_distance(np.eye(5), np.eye(5), alpha=alpha)


def test_fully_whitened_shapes_need_more_stimuli_than_features(rng: np.random.Generator) -> None:
    X, Y = rng.normal(size=(2, 10, 40))
    with pytest.raises(ValueError, match=r"^X has 10 stimuli and 40 features; full whitening needs more stimuli: thes"):
        shape_distance(X, Y, alpha=0)
    assert 0 < shape_distance(X, Y) < math.pi / 2
