import numpy as np
import pytest
from scipy.spatial.distance import squareform
from scipy.stats import pearsonr, spearmanr

from repsim.similarity import (
    COMPARATORS,
    class_structure,
    compare_rdm_pairs,
    compare_rdms,
    evaluate_models,
    fit_models,
    mantel_test,
    partial_rsa,
    rdm,
    regression_rsa,
)

SCIPY = {"pearson": pearsonr, "spearman": spearmanr}
WHOLE = [name for name, comparator in COMPARATORS.items() if comparator.needs_all_pairs]
BY_PAIR = [name for name in COMPARATORS if name not in WHOLE]
WITHOUT_OFFSET = [name for name, comparator in COMPARATORS.items() if "offset" in comparator.ignores]


def test_compare_rdms_accepts_condensed_and_square_rdms(rng: np.random.Generator) -> None:
    A, B = rng.uniform(size=(2, 45))
    assert compare_rdms(squareform(A), B) == compare_rdms(A, squareform(B)) == compare_rdms(A, B)


@pytest.mark.parametrize("method", SCIPY)
def test_compare_rdms_leaves_out_pairs_that_are_nan_in_both(rng: np.random.Generator, method: str) -> None:
    A, B = rng.uniform(size=(2, 45))
    kept = np.ones(45, dtype=bool)
    kept[[3, 17]] = False
    expected = SCIPY[method](A[kept], B[kept]).statistic
    A[~kept] = B[~kept] = np.nan
    assert compare_rdms(A, B, method) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("method", SCIPY)
def test_nan_pairwise_leaves_out_pairs_that_are_nan_in_either_rdm(rng: np.random.Generator, method: str) -> None:
    A, B = rng.uniform(size=(2, 45))
    A[3] = B[17] = np.nan
    kept = ~np.isnan(A + B)
    expected = SCIPY[method](A[kept], B[kept]).statistic
    assert compare_rdms(A, B, method, nan="pairwise") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("method", COMPARATORS)
def test_compare_rdms_leaves_out_stimuli_without_any_distance(rng: np.random.Generator, method: str) -> None:
    X, Y = rng.normal(size=(2, 10, 12))
    kept = np.delete(np.arange(10), [2, 7])
    A, B = (squareform(rdm(Z, "sqeuclidean")) for Z in (X, Y))
    expected = compare_rdms(A[np.ix_(kept, kept)], B[np.ix_(kept, kept)], method)
    A[[2, 7]] = A[:, [2, 7]] = B[[2, 7]] = B[:, [2, 7]] = np.nan
    A, B = A[np.triu_indices(10, 1)], B[np.triu_indices(10, 1)]
    assert compare_rdms(A, B, method) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("method", WHOLE)
def test_comparators_of_whole_matrices_refuse_missing_pairs(rng: np.random.Generator, method: str) -> None:
    A, B = rng.uniform(size=(2, 10))
    A[:4] = A[7] = np.nan  # all of stimulus 0, and one other pair
    message = rf"^1 pairs of A and B are NaN between stimuli that have other distances; {method} needs all pairs\."
    with pytest.raises(ValueError, match=message):
        compare_rdms(A, B, method, nan="pairwise")


@pytest.mark.parametrize(
    ("A", "B", "message"),
    [
        ([1, 1, 1], [1, 2, 3], r"^A has no two distances that differ, over 3 pairs; the comparison is NaN"),
        ([1, 2, 3], [0, 0, 0], r"^B has no two distances"),
        ([1, 1, 1 + 1e-15], [0, 0, 0], r"^Each of A and B has no two distances"),
        ([1], [2], r"over 1 pair; "),
    ],
)
def test_compare_rdms_of_a_constant_rdm_is_nan(A: list, B: list, message: str) -> None:
    for method in WITHOUT_OFFSET:
        with pytest.warns(RuntimeWarning, match=message) as record:
            assert np.isnan(compare_rdms(A, B, method))
        assert len(record) == 1


def test_compare_rdms_over_no_pairs_is_nan() -> None:
    for method in COMPARATORS:
        with pytest.warns(RuntimeWarning, match=r"^Each of A and B .*, over 0 pairs; the comparison is NaN") as record:
            assert np.isnan(compare_rdms([np.nan] * 3, [np.nan] * 3, method))
        assert len(record) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"B": np.arange(6.0)}, r"^A has 3 samples and B has 4; both must come from the same stimuli in the same orde"),
        ({"A": [np.nan, np.nan, 1], "B": [1, np.nan, 2]}, r"^1 pairs are NaN only in A and 0 only in B; both must be"),
        ({"A": [1, 2]}, "^A has 2 distances"),
        ({"B": [1, 2]}, "^B has 2 distances"),
        ({"method": "kendall"}, rf"^Unknown method 'kendall'\. Choose one of: {', '.join(sorted(COMPARATORS))}\.$"),
        ({"nan": "omit"}, r"'omit'.* one of: pairwise, raise\.$"),
    ],
)
def test_compare_rdms_refuses(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_rdms(**({"A": [1, 2, 3], "B": [1, 2, 3]} | given))


# What is not an RDM, at every public function that takes one

OTHER = np.array([1.0, 2.0, 4.0, 3.0, 5.0, 7.0])
DOORS = {
    "compare_rdms": lambda D: compare_rdms(D, OTHER),
    "compare_rdms, second": lambda D: compare_rdms(OTHER, D, "tau-b"),
    "compare_rdm_pairs": lambda D: compare_rdm_pairs({"a": D, "b": OTHER}),
    "partial_rsa": lambda D: partial_rsa(OTHER, D, {"c": OTHER[::-1]}),
    "partial_rsa, control": lambda D: partial_rsa(OTHER, OTHER[::-1], {"c": D}),
    "regression_rsa": lambda D: regression_rsa(D, {"m": OTHER}),
    "fit_models": lambda D: fit_models(D, {"m": OTHER}),
    "evaluate_models": lambda D: evaluate_models({"m": OTHER}, {"d": D}),
    "mantel_test": lambda D: mantel_test({"m": D}, OTHER, n_permutations=5),
    "class_structure": lambda D: class_structure(D, [0, 0, 1, 1]),
}
SQUARE = squareform(OTHER)
WRONG = {
    "complex": (SQUARE.astype(complex), "has dtype complex128; expected real numbers"),
    "strings": (SQUARE.astype(str), "has dtype <U32; expected real numbers"),
    "objects": (SQUARE.astype(object), "has dtype object; expected real numbers"),
    "infinite": (np.where(SQUARE == 7, np.inf, SQUARE), "has 2 infinite distances; expected finite ones"),
    "not square": (SQUARE[:3], r"has shape \(3, 4\); a square RDM has as many rows as columns"),
    "asymmetric": (SQUARE + np.triu(np.ones((4, 4)), 1), "is not symmetric"),
    "a similarity": (9 - SQUARE, "has a diagonal that is not zero"),
    "three dimensions": (SQUARE[None], "has 3 dimensions; expected 1"),
    "another length": (OTHER[:5], "has 5 distances; a condensed RDM of n >= 2 stimuli has"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_function_of_rdms_refuses_other_arrays(wrong: str) -> None:
    for door in DOORS:
        D, message = WRONG[wrong]
        with pytest.raises(ValueError, match=rf"^\w+(\['\w'\])? {message}"):
            DOORS[door](D)


def test_rounding_of_symmetry_and_diagonal_is_accepted(rng: np.random.Generator) -> None:
    D = SQUARE + 1e-16 * rng.normal(size=(4, 4))
    assert compare_rdms(D, OTHER) == pytest.approx(1)
    assert compare_rdms(D.astype(np.float32), OTHER, "spearman") == pytest.approx(1)
