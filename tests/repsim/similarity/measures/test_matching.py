import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest

from repsim.similarity.measures.matching import hard_matching, soft_matching
from tests.repsim.similarity.synthetic import related

MEASURES = [hard_matching, soft_matching]


def correlations(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    return np.corrcoef(X.T, Y.T)[: X.shape[1], X.shape[1] :]


def slow_hard(X: np.ndarray, Y: np.ndarray) -> float:
    """All assignments, one after another."""
    R = correlations(X, Y)
    R = R if len(R) <= len(R.T) else R.T
    return max(np.mean([R[i, j] for i, j in enumerate(chosen)]) for chosen in permutations(range(len(R.T)), len(R)))


@pytest.mark.parametrize(("d1", "d2"), [(3, 3), (2, 5), (5, 2), (1, 4), (1, 1)])
def test_matching_equals_its_slow_twins(rng: np.random.Generator, d1: int, d2: int) -> None:
    X, Y = related(rng, 20, d1, d2)
    assert hard_matching(X, Y) == pytest.approx(slow_hard(X, Y), abs=1e-12)
    soft = np.mean([max(row) for row in correlations(X, Y)])
    assert soft_matching(X, Y) == pytest.approx(soft, abs=1e-12)


def test_matching_finds_a_planted_permutation(rng: np.random.Generator) -> None:
    X = rng.normal(size=(40, 8))
    Y = np.hstack([rng.normal(size=(40, 3)), X[:, rng.permutation(8)]])
    assert hard_matching(X, Y) == pytest.approx(1, abs=1e-12)
    assert soft_matching(X, Y) == pytest.approx(1, abs=1e-12)
    assert soft_matching(Y, X) < 0.9


def test_features_may_be_scaled_one_by_one(rng: np.random.Generator) -> None:
    X, Y = related(rng)
    changed = Y * rng.uniform(1, 5, size=9) + rng.normal(size=9)
    for measure in MEASURES:
        assert measure(X, changed) == pytest.approx(measure(X, Y), abs=1e-12)


def test_a_semi_matching_is_at_least_the_matching_of_no_more_features(rng: np.random.Generator) -> None:
    for _ in range(20):
        X, Y = rng.normal(size=(10, 4)), rng.normal(size=(10, 6))
        assert soft_matching(X, Y) >= hard_matching(X, Y)


# Orthogonal, centred features: correlations can be read off.
A, B, C = np.array([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])


def test_golden_matching() -> None:
    X = np.column_stack([A, B])
    Y = np.column_stack([3 * A + 4 * B, 4 * A - 3 * B, C])
    # Correlations [[.6, .8, 0], [.8, -.6, 0]]: the best is .8 + .8.
    assert hard_matching(X, Y) == pytest.approx(0.8)
    assert soft_matching(X, Y) == pytest.approx(0.8)
    # From Y each chooses the larger: .8, .8, 0.
    assert soft_matching(Y, X) == pytest.approx(1.6 / 3)


def test_the_sign_of_a_correlation_counts() -> None:
    X = np.column_stack([A, B])
    assert hard_matching(X, -X) == pytest.approx(0)  # A with -B, not with -A
    assert hard_matching(A[:, None], -A[:, None]) == pytest.approx(-1)
    assert soft_matching(A[:, None], -A[:, None]) == pytest.approx(-1)


def test_the_best_pair_is_not_always_matched() -> None:
    X = np.column_stack([A, 0.9 * A + math.sqrt(1 - 0.81) * B])
    Y = np.column_stack([A, 0.9 * A - math.sqrt(1 - 0.81) * B])
    # Correlations [[1, .9], [.9, .62]]: greedily 1 + .62, at best .9 + .9.
    assert hard_matching(X, Y) == pytest.approx(0.9)
    assert soft_matching(X, Y) == pytest.approx(0.95)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
@pytest.mark.parametrize("measure", MEASURES)
def test_constant_features_are_left_out(rng: np.random.Generator, measure: Callable, value: float) -> None:
    X, Y = related(rng)
    padded = np.insert(X, [0, 3], value, axis=1), np.insert(Y, 9, value, axis=1)
    assert measure(*padded) == pytest.approx(measure(X, Y), abs=1e-12)
    assert measure(padded[0], padded[0]) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_matching_refuses_two_stimuli(measure: Callable) -> None:
    with pytest.raises(ValueError, match=r"^X has 2 stimuli; a correlation between features needs at least 3 "):
        measure(np.eye(2), np.eye(2))
