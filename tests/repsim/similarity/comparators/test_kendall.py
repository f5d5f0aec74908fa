from itertools import combinations

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from scipy.stats import kendalltau

from repsim.similarity import COMPARATORS
from repsim.similarity.comparators.kendall import n_inversions, ranked

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=80)
TWO_VECTORS = st.tuples(st.integers(2, 40), st.sampled_from([2, 5, 1000])).flatmap(
    lambda size: st.tuples(
        *2 * [arrays.arrays(np.float64, size[0], elements=st.integers(0, size[1]).map(float))],
    )
)


def compare(a: np.ndarray, b: np.ndarray, method: str) -> float:
    comparator = COMPARATORS[method]
    return comparator.compare(comparator.prepare(np.array(a, float)), comparator.prepare(np.array(b, float)))


def slow_tau_a(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean([np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i, j in combinations(range(len(a)), 2)]))


@given(vectors=TWO_VECTORS)
@REPEATABLE
def test_tau_b_equals_scipy_and_tau_a_the_definition(vectors: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = vectors
    assume(np.ptp(a) > 0 and np.ptp(b) > 0)
    assert compare(a, b, "tau-b") == pytest.approx(kendalltau(a, b).statistic, abs=1e-12)
    assert compare(a, b, "tau-a") == pytest.approx(slow_tau_a(a, b), abs=1e-12)


@pytest.mark.parametrize("digits", [1, 3, 15])
def test_tau_of_many_pairs_equals_scipy(rng: np.random.Generator, digits: int) -> None:
    a, noise = rng.normal(size=(2, 20_100))
    b = (a + noise).round(digits)
    assert compare(a, b, "tau-b") == pytest.approx(kendalltau(a, b).statistic, abs=1e-12)
    assert compare(b, a, "tau-b") == pytest.approx(kendalltau(a, b).statistic, abs=1e-12)


def test_tau_a_has_the_constants_of_mne_rsa() -> None:
    assert compare([1, 2, 3], [1, 3, 3], "tau-a") == 2 / 3
    assert compare([9, 2, 5, 6], [4, 7, 9, 11], "tau-a") == 0


def test_tau_a_of_a_tied_rdm_with_itself_is_less_than_one_and_tau_b_is_one() -> None:
    assert compare([1, 3, 3], [1, 3, 3], "tau-a") == 2 / 3
    assert compare([1, 3, 3], [1, 3, 3], "tau-b") == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 31, 32, 33])
def test_inversions_equal_the_definition(rng: np.random.Generator, m: int) -> None:
    for sequence in (rng.permutation(m), np.arange(m), np.arange(m)[::-1], rng.integers(0, m, size=m)):
        start = np.searchsorted(np.sort(sequence), np.arange(m + 1))
        expected = sum(sequence[i] > sequence[j] for i, j in combinations(range(m), 2))
        assert n_inversions(sequence, start) == expected


def test_ranked_counts_smaller_and_tied_distances() -> None:
    x = ranked(np.array([5.0, 1.0, 5.0, 7.0, 5.0]))
    np.testing.assert_array_equal(x.below, [1, 0, 1, 4, 1])
    np.testing.assert_array_equal(x.start, [0, 1, 4, 4, 4, 5])
    np.testing.assert_array_equal(x.order, [1, 0, 2, 4, 3])
    assert x.n_tied == 3
