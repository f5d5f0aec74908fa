import math
from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from repsim.similarity.measures.neighbourhoods import knn_jaccard, rank_similarity, second_order_cosine
from tests.repsim.similarity.synthetic import related

MEASURES = [knn_jaccard, second_order_cosine, rank_similarity]
module = import_module("repsim.similarity.measures.neighbourhoods")

# Slow twins


def cosines(X: np.ndarray) -> np.ndarray:
    Z = X / np.linalg.norm(X, axis=1, keepdims=True)
    return Z @ Z.T


def neighbours(X: np.ndarray, k: int) -> list[list[int]]:
    S = cosines(X).round(10)
    others = [[j for j in range(len(X)) if j != i] for i in range(len(X))]
    return [sorted(js, key=lambda j: (-S[i, j], j))[:k] for i, js in enumerate(others)]


def slow_jaccard(X: np.ndarray, Y: np.ndarray, *, k: int) -> float:
    both = zip(neighbours(X, k), neighbours(Y, k), strict=True)
    return float(np.mean([len({*a} & {*b}) / len({*a} | {*b}) for a, b in both]))


def slow_second_order(X: np.ndarray, Y: np.ndarray, *, k: int) -> float:
    S, T, values = cosines(X), cosines(Y), []
    for i, (a, b) in enumerate(zip(neighbours(X, k), neighbours(Y, k), strict=True)):
        union = sorted({*a} | {*b})
        s, t = S[i, union], T[i, union]
        values.append(s @ t / math.sqrt((s @ s) * (t @ t)))
    return float(np.mean(values))


def slow_rank(X: np.ndarray, Y: np.ndarray, *, k: int) -> float:
    values = []
    for a, b in zip(neighbours(X, k), neighbours(Y, k), strict=True):
        common = {*a} & {*b}
        ranks = [(a.index(j) + 1, b.index(j) + 1) for j in common]
        score = sum(2 / ((1 + abs(r - s)) * (r + s)) for r, s in ranks)
        values.append(score / sum(1 / m for m in range(1, len(common) + 1)) if common else 0)
    return float(np.mean(values))


TWINS = list(zip(MEASURES, [slow_jaccard, slow_second_order, slow_rank], strict=True))


@pytest.mark.parametrize(("measure", "twin"), TWINS)
@pytest.mark.parametrize("k", [1, 3, 28])
def test_neighbourhood_measures_equal_their_slow_twins(
    rng: np.random.Generator, measure: Callable, twin: Callable, k: int
) -> None:
    X, Y = related(rng)
    assert measure(X, Y, k=k) == pytest.approx(twin(X, Y, k=k), abs=1e-12)


@pytest.mark.parametrize(("measure", "twin"), TWINS)
def test_neighbourhood_measures_do_not_depend_on_the_blocks(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, measure: Callable, twin: Callable
) -> None:
    for name in ("pair_distances", "measures.neighbourhoods"):
        monkeypatch.setattr(f"repsim.similarity.{name}.PAIRS_AT_ONCE", 70)
    X, Y = related(rng)
    assert measure(X, Y, k=5) == pytest.approx(twin(X, Y, k=5), abs=1e-12)


@pytest.mark.parametrize(("measure", "twin"), TWINS)
def test_ties_go_to_the_smaller_index(rng: np.random.Generator, measure: Callable, twin: Callable) -> None:
    # Few values, so that patterns are duplicates and cosines tie everywhere, at the k-th place too.
    X, Y = (rng.integers(1, 3, size=(40, 3)).astype(float) for _ in range(2))
    for k in (1, 4, 10):
        assert measure(X, Y, k=k) == pytest.approx(twin(X, Y, k=k), abs=1e-12)


def test_neighbours_equal_those_of_sklearn(rng: np.random.Generator) -> None:
    X = rng.normal(size=(60, 5))
    prepared = module._prepare(X, "X", k=7)
    expected = NearestNeighbors(n_neighbors=7, metric="cosine").fit(X).kneighbors(return_distance=False)
    np.testing.assert_array_equal(prepared.nearest, expected)


# Golden numbers: patterns in the plane, given by their angles, worked out by hand


def at(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)])


def test_golden_numbers_of_four_stimuli() -> None:
    X = at(0, 10, 25, 60)  # nearest: 1, 0, 1, 2
    Y = at(0, 40, 25, 60)  # nearest: 2, 2, 1, 1
    assert knn_jaccard(X, Y, k=1) == 1 / 4
    assert rank_similarity(X, Y, k=1) == 1 / 4
    # Two nearest: X 12 02 10 21, Y 21 23 10 12; the common ones are both, 2, both, both.
    # One after the other in exchanged ranks: 2 * 2 / (2 * 3) = 2/3, divided by 3/2: 4/9.
    assert knn_jaccard(X, Y, k=2) == pytest.approx((1 + 1 / 3 + 1 + 1) / 4)
    # Stimulus 1 has 2 second in X and first in Y: 2 / (2 * 3) = 1/3.
    assert rank_similarity(X, Y, k=2) == pytest.approx((4 / 9 + 1 / 3 + 1 + 4 / 9) / 4)


def test_golden_second_order_cosine() -> None:
    X, Y = at(0, 60, 180, 240), at(0, 60, 180, 240)[:, :1]
    # Nearest in X: 1 0 3 2, cosine 1/2 each. In Y every pattern is 1 or -1, signs + + - -: the same, cosine 1.
    assert second_order_cosine(X, Y, k=1) == pytest.approx(1)
    # Two nearest in X: 13 02 31 20; cosines 1/2 and -1/2. Y: 12 02 30 20, whose cosines are 1 and -1.
    # Stimulus 0: union 1 2 3, (1/2, -1, -1/2) and (1, -1, -1): 2 / sqrt(3/2 * 3); 1: union 0 2, (1/2, -1/2), (1, -1).
    expected = (2 / math.sqrt(4.5) + 1 + 2 / math.sqrt(4.5) + 1) / 4
    assert second_order_cosine(X, Y, k=2) == pytest.approx(expected)


# Numerical traps


@pytest.mark.parametrize("measure", MEASURES)
def test_duplicates_are_neighbours_and_a_stimulus_is_not_its_own(rng: np.random.Generator, measure: Callable) -> None:
    X = np.repeat(rng.normal(size=(10, 4)), 2, axis=0)
    prepared = module._prepare(X, "X", k=1)
    np.testing.assert_array_equal(prepared.nearest.ravel(), np.arange(20) ^ 1)
    assert measure(X, X, k=3) == pytest.approx(1, abs=1e-12)


def test_neighbours_survive_a_large_mean(rng: np.random.Generator) -> None:
    Z = rng.normal(size=(50, 5))
    Z -= Z.mean(axis=1, keepdims=True)  # so that all patterns lie on a flat piece of the sphere around the mean
    X = 1e6 + Z
    expected = np.argsort(((Z[:, None] - Z) ** 2).sum(axis=2), axis=1)[:, 1:4]
    np.testing.assert_array_equal(module._prepare(X, "X", k=3).nearest, expected)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("bad", ["zero", "constant", "direction"])
def test_representations_without_directions_have_no_neighbours(
    rng: np.random.Generator, measure: Callable, bad: str
) -> None:
    X = rng.normal(size=(12, 3))
    Y = X.copy()
    if bad == "zero":
        Y[4] = 0
    else:
        Y[:] = [0.1, 0.2, 0.3]
        Y *= rng.uniform(1, 2, size=(12, 1)) if bad == "direction" else 1
    with pytest.warns(RuntimeWarning, match=r"^1 of 2 representations \(Y\) have patterns of one direction") as caught:
        assert math.isnan(measure(X, Y))
    assert len(caught) == 1


def test_second_order_cosine_of_orthogonal_patterns_is_nan(rng: np.random.Generator) -> None:
    with pytest.warns(RuntimeWarning, match=r"^1 of 2 .* \(X\) .* or orthogonal to all its neighbours\. .* NaN\.$"):
        assert math.isnan(second_order_cosine(np.eye(8), rng.normal(size=(8, 3))))
    assert 0 <= knn_jaccard(np.eye(8), rng.normal(size=(8, 3))) <= 1


# The number of neighbours


@pytest.mark.parametrize("measure", MEASURES)
def test_the_default_number_of_neighbours_fits_the_stimuli(rng: np.random.Generator, measure: Callable) -> None:
    for n, k in [(3, 1), (4, 1), (5, 2), (20, 9), (21, 10), (40, 10)]:
        X, Y = related(rng, n=n)
        assert measure(X, Y) == measure(X, Y, k=k)


@pytest.mark.parametrize("measure", MEASURES)
def test_too_many_or_too_few_neighbours_are_refused(rng: np.random.Generator, measure: Callable) -> None:
    X = rng.normal(size=(12, 3))
    message = r"^X has 12 stimuli; at least 13 are needed to tell 11 nearest neighbours from the rest\. .* lower k\.$"
    with pytest.raises(ValueError, match=message):
        measure(X, X, k=11)
    assert measure(X, X, k=10) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"^k is 0; expected at least 1 neighbour\."):
        measure(X, X, k=0)
    with pytest.raises(ValueError, match=r"^X has 2 stimuli; at least 3 are needed to tell 1 nearest"):
        measure(X[:2], X[:2])


@pytest.mark.parametrize("measure", [knn_jaccard, rank_similarity, second_order_cosine])
def test_rounding_breaks_no_ties_of_neighbours(rng: np.random.Generator, measure: Callable) -> None:
    for kind in [np.float32, np.float64]:
        for offset in [0.0, 3.0]:
            for far in [1.0, 1000.0]:
                codes = (
                    rng.integers(0, 2, size=(60, 6)).astype(float) + offset
                )  # most stimuli have several neighbours equally near
                codes[~codes.any(axis=1), 0] = 1
                codes[7] *= far
                rotated = codes @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
                assert measure(codes, rotated.astype(kind)) == pytest.approx(1, abs=1e-6)
