from itertools import permutations
from types import ModuleType

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from scipy.spatial.distance import cosine
from scipy.stats import pearsonr, rankdata, spearmanr

from repsim.similarity import COMPARATORS, compare_rdms

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=40)


def rho_a(A: np.ndarray, B: np.ndarray) -> float:
    """Mean of spearman over every way of breaking the ties."""
    return float(np.mean([[spearmanr(a, b).statistic for a in untied(A)] for b in untied(B)]))


def untied(A: np.ndarray) -> list[tuple[int, ...]]:
    """All orders of the positions that sort A, as ranks."""
    return [ranks for ranks in permutations(range(len(A))) if (np.diff(A[np.argsort(ranks)]) >= 0).all()]


SLOW = {
    "pearson": lambda A, B: pearsonr(A, B).statistic,
    "spearman": lambda A, B: spearmanr(A, B).statistic,
    "cosine": lambda A, B: 1 - cosine(A, B),
}
# Whole numbers, so that ties are common.
TWO_RDMS = st.integers(3, 7).flatmap(
    lambda n: st.tuples(*2 * [arrays.arrays(np.float64, n * (n - 1) // 2, elements=st.integers(0, 9).map(float))])
)


@pytest.mark.parametrize("method", SLOW)
@given(rdms=TWO_RDMS)
@REPEATABLE
def test_correlations_equal_scipy_stay_in_range_and_are_symmetric(
    method: str, rdms: tuple[np.ndarray, np.ndarray]
) -> None:
    A, B = rdms
    assume(np.ptp(A) > 0 and np.ptp(B) > 0)
    value = compare_rdms(A, B, method)
    assert value == pytest.approx(SLOW[method](A, B), abs=1e-12)
    assert -1 <= value <= 1
    assert value == pytest.approx(compare_rdms(B, A, method), abs=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("pearson", "corr"), ("spearman", "spearman"), ("cosine", "cosine"), ("rho-a", "rho-a")]
)
def test_correlations_equal_rsatoolbox(
    rng: np.random.Generator, rsatoolbox: ModuleType, ours: str, theirs: str
) -> None:
    A, B = rng.uniform(size=(2, 45)).round(1)
    expected = rsatoolbox.rdm.compare(rsatoolbox.rdm.RDMs(A), rsatoolbox.rdm.RDMs(B), method=theirs)
    assert compare_rdms(A, B, ours) == pytest.approx(expected.item(), abs=1e-10)


def test_pearson_does_not_round_beyond_one(rng: np.random.Generator) -> None:
    for A in rng.uniform(size=(100, 45)):
        assert -1 <= compare_rdms(A, -A / 3 + 1) < compare_rdms(A, A / 7 + 1) <= 1


@pytest.mark.parametrize(
    ("A", "B"), [([1, 1, 2, 3, 3, 3], [2, 1, 1, 4, 1, 5]), ([1, 2, 3], [0, 0, 1]), ([1, 1, 2], [2, 1, 1])]
)
def test_rho_a_is_the_mean_of_spearman_over_broken_ties(A: list, B: list) -> None:
    A, B = np.array(A), np.array(B)
    assert compare_rdms(A, B, "rho-a") == pytest.approx(rho_a(A, B), abs=1e-12)


def test_rho_a_is_spearman_without_ties_and_smaller_with_them(rng: np.random.Generator) -> None:
    A, B = rng.uniform(size=(2, 45))
    assert compare_rdms(A, B, "rho-a") == pytest.approx(compare_rdms(A, B, "spearman"), abs=1e-12)
    tied = A.round(1)
    assert compare_rdms(tied, tied, "rho-a") < compare_rdms(tied, tied, "spearman") - 1e-3


def test_rho_a_by_hand() -> None:
    # ranks 1 2 3 and 1.5 1.5 3: 12 (1 * 0.5 + 0 + 1 * 1) / (27 - 3), where spearman divides by sqrt(2 * 1.5)
    assert compare_rdms([1, 2, 3], [0, 0, 1], "rho-a") == pytest.approx(0.75)
    assert compare_rdms([1, 2, 3], [0, 0, 1], "spearman") == pytest.approx(1.5 / np.sqrt(3))


def test_cosine_by_hand() -> None:
    assert compare_rdms([1, 2, 2], [2, 1, 2], "cosine") == pytest.approx(8 / 9)


def test_cosine_is_defined_for_a_constant_rdm() -> None:
    assert compare_rdms([1, 1, 1], [1, 1, 1], "cosine") == pytest.approx(1)


def test_a_pool_weights_by_one_over_length() -> None:
    pool = COMPARATORS["cosine"].pool(np.array([[3.0, 0.0, 4.0], [0.0, 10.0, 0.0]]))
    np.testing.assert_allclose(pool, (np.array([3, 0, 4]) / 5 + [0, 1, 0]) / (1 / 5 + 1 / 10))


def test_a_pool_of_extreme_scales_is_finite() -> None:
    pool = COMPARATORS["pearson"].pool(np.array([[1e200, 2e200, 3e200], [1.0, 2.0, 3.0]]))
    np.testing.assert_allclose(pool, [2, 4, 6])


def test_the_pool_of_spearman_is_best_among_untied_orders_but_not_among_tied_ones() -> None:
    rdms = np.array([[1.0, 2, 3, 4], [1, 2, 4, 3], [1, 2, 3, 4]])
    comparator = COMPARATORS["spearman"]
    assert not comparator.is_exact_pool

    def mean(A: np.ndarray) -> float:
        return float(np.mean([spearmanr(A, B).statistic for B in rdms]))

    best = mean(comparator.pool(rdms))
    assert best >= max(mean(np.array(order)) for order in permutations(range(4))) - 1e-12
    assert mean(np.array([1, 2, 3, 3])) > best + 0.01


def test_the_pool_of_rho_a_is_best_among_all_weak_orders() -> None:
    rdms = np.random.default_rng(0).integers(0, 5, size=(4, 5)).astype(float)
    comparator = COMPARATORS["rho-a"]
    prepared = [comparator.prepare(B) for B in rdms]

    def mean(A: np.ndarray) -> float:
        own = comparator.prepare(A)
        return float(np.mean([comparator.compare(own, B) for B in prepared]))

    orders = np.indices(5 * (5,)).reshape(5, -1).T.astype(float)
    weak = np.unique([rankdata(order) for order in orders if np.ptp(order)], axis=0)
    assert mean(comparator.pool(rdms)) == pytest.approx(max(map(mean, weak)), abs=1e-12)
