import numpy as np
import pytest
from scipy.spatial.distance import squareform

from repsim.similarity import COMPARATORS, compare_rdm_pairs, compare_rdms


@pytest.mark.parametrize("method", COMPARATORS)
def test_pairs_of_one_set_equal_single_comparisons(rng: np.random.Generator, method: str) -> None:
    rdms = dict(zip("abc", rng.uniform(size=(3, 15)), strict=True))
    expected = [[compare_rdms(A, B, method) for B in rdms.values()] for A in rdms.values()]
    for pairs in (compare_rdm_pairs(rdms, None, method), compare_rdm_pairs(rdms, rdms, method)):
        np.testing.assert_allclose(pairs.values, expected, atol=1e-12)
        assert pairs.rows == pairs.columns == ("a", "b", "c")
        assert pairs.measure == method


@pytest.mark.parametrize("method", ["pearson", "tau-a", "bures"])
def test_pairs_of_two_sets_equal_single_comparisons(rng: np.random.Generator, method: str) -> None:
    rows = {"a": rng.uniform(size=15), "b": rng.uniform(size=15)}
    columns = {"a": squareform(rng.uniform(size=15)), "c": rng.uniform(size=15), "d": rng.uniform(size=15)}
    pairs = compare_rdm_pairs(rows, columns, method)
    expected = [[compare_rdms(A, B, method) for B in columns.values()] for A in rows.values()]
    np.testing.assert_allclose(pairs.values, expected, atol=1e-12)
    assert (pairs.rows, pairs.columns, pairs.measure) == (("a", "b"), ("a", "c", "d"), method)


@pytest.mark.parametrize("method", ["pearson", "tau-b"])
def test_pairs_with_a_constant_rdm_are_nan_with_one_warning(method: str) -> None:
    rdms = {"one": [1, 2, 3], "flat": [1, 1, 1], "two": [1, 2, 4]}
    message = r"^A\['flat'\] has no two distances that differ, over 3 pairs; the comparison is NaN\.$"
    with pytest.warns(RuntimeWarning, match=message) as record:
        values = compare_rdm_pairs(rdms, method=method).values
    assert len(record) == 1
    assert record[0].filename == __file__
    np.testing.assert_array_equal(np.isnan(values), [[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def test_pairs_of_constant_rdms_alone_are_nan() -> None:
    with pytest.warns(RuntimeWarning, match=r"^A\['flat'\] has no two"):
        assert np.isnan(compare_rdm_pairs({"flat": [1, 1, 1]}).values).all()


@pytest.mark.parametrize(
    ("sides", "error", "message"),
    [
        (({"a": [np.nan, 1, 2]}, {"b": [1, 2, 3]}), ValueError, r"^1 pairs are NaN only in A\['a'\] and 0 only in B\["),
        (({"a": [1, 2, 3]}, [[1, 2, 3]]), TypeError, r"^B is a list; expected a mapping from names to RDMs\. .*compar"),
        (({},), ValueError, r"^A has no RDMs; expected at least 1\."),
    ],
)
def test_compare_rdm_pairs_refuses(sides: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compare_rdm_pairs(*sides)
