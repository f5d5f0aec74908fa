from types import ModuleType

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from scipy.spatial.distance import squareform
from scipy.stats import pearsonr, spearmanr

from repsim.similarity import COMPARATORS, compare_rdms, rdm

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=40)
SCIPY = {"pearson": pearsonr, "spearman": spearmanr}
# Whole numbers, so that ties are common.
TWO_RDMS = st.integers(3, 7).flatmap(
    lambda n: st.tuples(*2 * [arrays.arrays(np.float64, n * (n - 1) // 2, elements=st.integers(0, 9).map(float))])
)


@pytest.mark.parametrize("method", COMPARATORS)
@given(rdms=TWO_RDMS)
@REPEATABLE
def test_compare_rdms_equals_scipy_stays_in_range_and_is_symmetric(
    method: str, rdms: tuple[np.ndarray, np.ndarray]
) -> None:
    A, B = rdms
    assume(np.ptp(A) > 0 and np.ptp(B) > 0)
    value = compare_rdms(A, B, method)
    assert value == pytest.approx(SCIPY[method](A, B).statistic, abs=1e-12)
    assert -1 <= value <= 1
    assert value == pytest.approx(compare_rdms(B, A, method), abs=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), [("pearson", "corr"), ("spearman", "spearman")])
def test_compare_rdms_equals_rsatoolbox(
    rng: np.random.Generator, rsatoolbox: ModuleType, ours: str, theirs: str
) -> None:
    A, B = rng.uniform(size=(2, 45)).round(1)
    expected = rsatoolbox.rdm.compare(rsatoolbox.rdm.RDMs(A), rsatoolbox.rdm.RDMs(B), method=theirs)
    assert compare_rdms(A, B, ours) == pytest.approx(expected.item(), abs=1e-10)


@pytest.mark.parametrize("method", COMPARATORS)
def test_compare_rdms_ignores_scale_and_offset(rng: np.random.Generator, method: str) -> None:
    A, B = rng.uniform(size=(2, 45))
    assert compare_rdms(3 * A + 1, B, method) == pytest.approx(compare_rdms(A, B, method), abs=1e-12)
    assert compare_rdms(A, A, method) == 1
    assert compare_rdms(A, 1 - A, method) == pytest.approx(-1)


def test_compare_rdms_does_not_round_beyond_one(rng: np.random.Generator) -> None:
    for A in rng.uniform(size=(100, 45)):
        assert -1 <= compare_rdms(A, -A / 3 + 1) < compare_rdms(A, A / 7 + 1) <= 1


def test_only_spearman_ignores_a_monotone_map(rng: np.random.Generator) -> None:
    A, B = rng.uniform(size=(2, 45))
    assert compare_rdms(A**5, B, "spearman") == pytest.approx(compare_rdms(A, B, "spearman"), abs=1e-12)
    assert abs(compare_rdms(A**5, B) - compare_rdms(A, B)) > 1e-3


@pytest.mark.parametrize("method", COMPARATORS)
def test_compare_rdms_depends_on_the_order_of_the_stimuli(rng: np.random.Generator, method: str) -> None:
    X = rng.normal(size=(15, 4))
    assert compare_rdms(rdm(X), rdm(X[::-1]), method) < 0.9


def test_compare_rdms_takes_condensed_and_square(rng: np.random.Generator) -> None:
    A, B = rng.uniform(size=(2, 45))
    assert compare_rdms(squareform(A), B) == compare_rdms(A, squareform(B)) == compare_rdms(A, B)


@pytest.mark.parametrize("method", COMPARATORS)
def test_compare_rdms_leaves_out_pairs_that_are_nan_in_both(rng: np.random.Generator, method: str) -> None:
    A, B = rng.uniform(size=(2, 45))
    kept = np.ones(45, dtype=bool)
    kept[[3, 17]] = False
    expected = SCIPY[method](A[kept], B[kept]).statistic
    A[~kept] = B[~kept] = np.nan
    assert compare_rdms(A, B, method) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_compare_rdms_neither_overflows_nor_vanishes(rng: np.random.Generator, scale: float) -> None:
    A, B = rng.uniform(size=(2, 45))
    assert compare_rdms(scale * A, B) == pytest.approx(compare_rdms(A, B), abs=1e-12)


@pytest.mark.parametrize("method", COMPARATORS)
@pytest.mark.parametrize(
    ("A", "B", "message"),
    [
        ([1, 1, 1], [1, 2, 3], r"^A has no two distances that differ, over 3 pairs; the comparison is NaN"),
        ([1, 2, 3], [0, 0, 0], r"^B has no two distances"),
        ([1, 1, 1 + 1e-15], [0, 0, 0], r"^A and B has no two distances"),
        ([1], [2], r"over 1 pairs"),
        ([np.nan] * 3, [np.nan] * 3, r"over 0 pairs"),
    ],
)
def test_compare_rdms_of_a_constant_rdm_is_nan(method: str, A: list, B: list, message: str) -> None:
    with pytest.warns(RuntimeWarning, match=message) as record:
        assert np.isnan(compare_rdms(A, B, method))
    assert len(record) == 1


def test_compare_rdms_refuses_different_numbers_of_stimuli() -> None:
    message = r"^A has 5 samples and B has 4; both must come from the same stimuli in the same order\. Record both with"
    with pytest.raises(ValueError, match=message):
        compare_rdms(np.arange(10.0), np.arange(6.0))


def test_compare_rdms_refuses_nan_at_different_pairs() -> None:
    message = (
        r"^1 pairs are NaN only in A and 0 only in B; both must be NaN at the same pairs\. Leave the same stimuli out"
    )
    with pytest.raises(ValueError, match=message):
        compare_rdms([np.nan, np.nan, 1], [1, np.nan, 2])


@pytest.mark.parametrize("name", ["A", "B"])
def test_compare_rdms_names_the_one_that_is_no_rdm(name: str) -> None:
    rdms = {"A": [1, 2, 3], "B": [1, 2, 3]} | {name: [1, 2]}
    with pytest.raises(ValueError, match=f"^{name} has 2 distances"):
        compare_rdms(**rdms)


def test_compare_rdms_lists_its_methods() -> None:
    with pytest.raises(ValueError, match=r"^Unknown method 'kendall'\. Choose one of: pearson, spearman\.$"):
        compare_rdms([1, 2, 3], [1, 2, 3], "kendall")
