import tracemalloc
import warnings
from importlib import import_module
from types import ModuleType

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.spatial.distance import pdist, squareform

from repsim.similarity import rdm
from repsim.similarity.rdm import condensed, n_stimuli
from tests.repsim.similarity.synthetic import rotation

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=40)
METHODS = ("correlation", "cosine", "euclidean", "sqeuclidean")  # those of test_distances.py need more than X
BOUNDED = ("correlation", "cosine")
MATRICES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(2, 8), st.integers(2, 5)),
    elements=st.floats(-1e6, 1e6).map(lambda x: x if abs(x) > 1e-100 else 0.0),  # squares of smaller ones vanish
)


# Oracles


@pytest.mark.parametrize("method", METHODS)
def test_rdm_equals_scipy(rng: np.random.Generator, method: str) -> None:
    for shape in [(2, 2), (3, 7), (60, 5), (40, 200)]:
        X = rng.normal(size=shape) + 2
        np.testing.assert_allclose(rdm(X, method), pdist(X, method), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_rdm_is_the_same_in_blocks(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    X = rng.normal(size=(23, 4))
    whole = rdm(X, method)
    monkeypatch.setattr(import_module("repsim.similarity.distances.tiles"), "TILE", 5 * 23)  # the last one is short
    monkeypatch.setattr(import_module("repsim.similarity.distances.reading"), "CHUNK", 7 * 4)
    np.testing.assert_allclose(rdm(X, method), whole, rtol=1e-12)


def test_rdm_correlation_equals_rsatoolbox(rng: np.random.Generator, rsatoolbox: ModuleType) -> None:
    X = rng.normal(size=(12, 9))
    theirs = rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(X), method="correlation")
    np.testing.assert_allclose(rdm(X), theirs.get_vectors()[0], rtol=1e-10)


def test_rdm_sqeuclidean_is_the_euclidean_of_rsatoolbox_times_its_channels(
    rng: np.random.Generator, rsatoolbox: ModuleType
) -> None:
    X = rng.normal(size=(12, 9))
    theirs = rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(X), method="euclidean")
    np.testing.assert_allclose(rdm(X, "sqeuclidean"), 9 * theirs.get_vectors()[0], rtol=1e-10)


def test_rdm_of_a_right_triangle() -> None:
    X = [[0, 0], [3, 0], [0, 4]]
    np.testing.assert_allclose(rdm(X, "euclidean"), [3, 4, 5])
    np.testing.assert_allclose(rdm(X, "sqeuclidean"), [9, 16, 25])
    np.testing.assert_allclose(rdm(X[1:], "cosine"), [1])
    np.testing.assert_allclose(rdm(X[1:], "correlation"), [2])


# Theorems


@pytest.mark.parametrize("method", METHODS)
@given(X=MATRICES)
@REPEATABLE
def test_rdm_stays_in_range(method: str, X: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X: .* zero (variance|norm)")
        D = rdm(X, method)
    D = D[~np.isnan(D)]
    assert (D >= 0).all()
    assert method not in BOUNDED or (D <= 2).all()


@given(X=MATRICES)
@REPEATABLE
def test_rdm_euclidean_obeys_the_triangle_inequality(X: np.ndarray) -> None:
    D = squareform(rdm(X, "euclidean"))
    assert (D[:, :, None] <= D[:, None, :] + D.T[None, :, :] + 1e-9 * D.max()).all()


# method -> what leaves it alone; what is not named must change it
INVARIANCES = {
    "correlation": {"pattern offset", "pattern scale"},
    "cosine": {"pattern scale", "rotation"},
    "euclidean": {"pattern offset to all", "rotation"},
    "sqeuclidean": {"pattern offset to all", "rotation"},
}
TRANSFORMS = {
    "pattern offset": lambda X, rng: X + rng.normal(size=(len(X), 1)),
    "pattern scale": lambda X, rng: X * rng.uniform(1, 3, size=(len(X), 1)),
    "pattern offset to all": lambda X, rng: X + rng.normal(size=X.shape[1]),
    "rotation": lambda X, rng: X @ rotation(rng, X.shape[1]),
}


@pytest.mark.parametrize("method", METHODS)
def test_rdm_has_its_invariances_and_no_others(rng: np.random.Generator, method: str) -> None:
    for transform in TRANSFORMS:
        X = rng.normal(size=(10, 6))
        changed = TRANSFORMS[transform](X, rng)
        same = np.allclose(rdm(X, method), rdm(changed, method), rtol=1e-9, atol=1e-9)
        assert same == (transform in INVARIANCES[method])


@pytest.mark.parametrize("method", METHODS)
def test_rdm_follows_the_order_of_the_stimuli(rng: np.random.Generator, method: str) -> None:
    X, order = rng.normal(size=(9, 4)), rng.permutation(9)
    expected = squareform(rdm(X, method))[np.ix_(order, order)]
    np.testing.assert_allclose(squareform(rdm(X[order], method)), expected, atol=1e-12)


# Numerical traps


@pytest.mark.parametrize("method", ["correlation", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize(("kind", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-7)])
def test_rdm_is_accurate_for_a_large_mean(rng: np.random.Generator, method: str, kind: type, tolerance: float) -> None:
    X = (100 + 1e-3 * rng.normal(size=(40, 30))).astype(kind)
    np.testing.assert_allclose(rdm(X, method), pdist(X.astype(np.float64), method), rtol=tolerance)


@pytest.mark.parametrize("method", BOUNDED)
def test_rdm_neither_overflows_nor_vanishes(rng: np.random.Generator, method: str) -> None:
    for scale, kind in ((1e-200, np.float64), (1e200, np.float64), (1e-30, np.float32), (1e30, np.float32)):
        X = (scale * rng.normal(size=(20, 6))).astype(kind)
        np.testing.assert_allclose(rdm(X, method), pdist(X.astype(np.float64) / scale, method), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_rdm_of_equal_stimuli_is_exactly_zero(rng: np.random.Generator, method: str) -> None:
    X = np.repeat(rng.normal(size=(1, 50)), 4, axis=0)
    X = np.vstack([X, rng.normal(size=(1, 50))])
    assert (squareform(rdm(X, method))[:4, :4] == 0).all()


@pytest.mark.parametrize("method", [*METHODS, "cityblock", "mahalanobis"])
def test_rdm_is_in_double_precision_where_single_does_not_hold_it(rng: np.random.Generator, method: str) -> None:
    for scale in [1e19, 1e36, 1e-20, 1e-30]:
        X = (scale * rng.normal(size=(12, 4))).astype(np.float32)
        D = rdm(X, method)
        assert D.dtype == np.float64
        np.testing.assert_allclose(D, rdm(X.astype(np.float64), method), rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_rdm_of_single_precision_holds_small_and_large_distances(rng: np.random.Generator, method: str) -> None:
    X = rng.normal(size=(12, 4)).astype(np.float32)
    X[:4] *= np.float32(1e-22)
    np.testing.assert_allclose(rdm(X, method), rdm(X.astype(np.float64), method), rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_rdm_takes_half_precision(rng: np.random.Generator, method: str) -> None:
    for kind in [torch.bfloat16, torch.float16]:
        X = torch.from_numpy(1e4 * rng.normal(size=(12, 4))).to(kind).requires_grad_()
        np.testing.assert_allclose(rdm(X, method), rdm(X.detach().double(), method), rtol=1e-5)


@pytest.mark.parametrize(("scale", "size"), [(1e200, "large"), (1e-200, "small")])
def test_rdm_rejects_values_beyond_double_precision(rng: np.random.Generator, scale: float, size: str) -> None:
    X = scale * rng.normal(size=(5, 4))
    message = rf"^X has values that are up to .* from their median; their squared distances are too {size} for float64"
    with pytest.raises(ValueError, match=message):
        rdm(X, "sqeuclidean")
    with pytest.raises(ValueError, match=r"^X has values up to .* from the means of their conditions"):
        rdm(X, "mahalanobis")
    np.testing.assert_allclose(rdm(X, "euclidean") / scale, pdist(X / scale), rtol=1e-12)


def test_rdm_rejects_values_beyond_the_dtype_of_out(rng: np.random.Generator) -> None:
    X = 1e20 * rng.normal(size=(5, 4))
    with pytest.raises(ValueError, match=r"their squared distances are too large for float32\. Divide it by"):
        rdm(X, "sqeuclidean", out=np.empty(10, dtype=np.float32))
    with pytest.raises(ValueError, match=r"^X has values up to .*; their minkowski distances are too large for float6"):
        rdm(1e180 * X, "minkowski")


@pytest.mark.parametrize("method", [*METHODS, "cityblock"])
def test_rdm_of_a_layer_constant_up_to_rounding_is_zero(rng: np.random.Generator, method: str) -> None:
    for kind in [np.float32, np.float64]:
        bias = rng.uniform(500, 1500, size=6)
        X = (bias + 1e-4 * rng.normal(size=(12, 6))).astype(np.float32).astype(kind)
        assert not rdm(X, method).any()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_pattern_constant_up_to_rounding_has_no_variance(rng: np.random.Generator, kind: type) -> None:
    X = rng.normal(size=(10, 40)).astype(np.float32)
    X[3] = 1e3 + 1e-4 * rng.normal(size=40)
    with pytest.warns(RuntimeWarning, match=r"^X: 1 of 10 stimuli have zero variance \(rows 3\)"):
        D = squareform(rdm(X.astype(kind)))
    assert np.isnan(D[3, [0, 1, 2, 4]]).all()
    assert not np.isnan(np.delete(np.delete(D, 3, 0), 3, 1)).any()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_distances_are_exact_up_to_the_rounding_of_their_own_patterns(rng: np.random.Generator, kind: type) -> None:
    """An outlier or distant patterns do not add to the error of a small distance."""
    for method in ["euclidean", "sqeuclidean"]:
        for outlier in [1e3, 1e6]:
            X = rng.normal(size=(60, 20)).astype(kind)
            X[7] *= outlier
            X[30:45] = X[30] + 1e-3 * X[30:45]
            lengths = np.linalg.norm(X.astype(np.float64), axis=1)
            rounding = np.finfo(kind).eps * squareform(np.add.outer(lengths, lengths), checks=False)
            found, exact = (
                np.sqrt(D) if method == "sqeuclidean" else D
                for D in (rdm(X, method), pdist(X.astype(np.float64), method))
            )
            assert (np.abs(found - exact) <= 4 * rounding).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_many_near_patterns_keep_their_digits(rng: np.random.Generator, kind: type) -> None:
    classes = np.repeat(rng.normal(size=(4, 60)), 40, axis=0)
    X = (classes + 0.1 * rng.normal(size=classes.shape)).astype(kind)
    for method in METHODS:
        exact = pdist(X.astype(np.float64), method)
        np.testing.assert_allclose(rdm(X, method), exact, rtol=2e-5 if kind is np.float32 else 1e-11)


def test_rdm_leaves_its_input_alone(rng: np.random.Generator) -> None:
    X = rng.normal(size=(6, 3))
    before = X.copy()
    for method in METHODS:
        rdm(X, method)
    np.testing.assert_array_equal(X, before)


def test_rdm_does_not_hold_a_square_matrix(rng: np.random.Generator) -> None:
    X = rng.normal(size=(3000, 4))
    tracemalloc.start()
    D = rdm(X, "euclidean")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < D.nbytes + 24 * 2**20  # a square matrix would take 69 MiB more


# What cannot be computed


@pytest.mark.parametrize(("method", "value", "length"), [("correlation", 0.1, "variance"), ("cosine", 0.0, "norm")])
def test_rdm_marks_stimuli_without_a_pattern(rng: np.random.Generator, method: str, value: float, length: str) -> None:
    X = rng.normal(size=(10, 7))
    X[[2, 5]] = value
    message = rf"^Layer 'fc1': 2 of 10 stimuli have zero {length} \(rows 2, 5\); their distances are NaN\.$"
    with pytest.warns(RuntimeWarning, match=message) as record:
        D = squareform(rdm(X, method, name="fc1"))
    assert len(record) == 1
    assert record[0].filename == __file__
    expected = np.zeros((10, 10), dtype=bool)
    expected[[2, 5]] = expected[:, [2, 5]] = True
    np.fill_diagonal(expected, False)
    np.testing.assert_array_equal(np.isnan(D), expected)


def test_rdm_names_only_the_first_of_many_stimuli_without_a_pattern() -> None:
    with pytest.warns(RuntimeWarning, match=r"^X: 8 of 8 stimuli have zero variance \(rows 0, 1, 2, 3, 4, \.\.\.\)"):
        assert np.isnan(rdm(np.ones((8, 3)))).all()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((3, 2, 2)), r"^X has shape \(3, 2, 2\); expected two dimensions .* Flatten each stimulus"),
        (np.zeros(3), r"^X has shape \(3,\); expected two dimensions"),
        (np.zeros((1, 3)), r"^X has 1 stimuli; at least 2 are needed to compare"),
        (np.zeros((3, 0)), r"^X has no features; expected at least 1"),
        ([[1, np.nan], [np.inf, 2]], r"^X has 2 of 4 values that are NaN or infinite, first in row 0; all must be fin"),
        ([[1j, 2], [3, 4]], r"^X has dtype complex128; expected real numbers"),
        ([["a", "b"], ["c", "d"]], r"^X has dtype <U1; expected real numbers"),
        ([[1], [2]], r"^X has 1 feature; a correlation between patterns needs at least 2\. Use method='euclidean'\.$"),
    ],
)
def test_rdm_refuses(X: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rdm(X)


def test_rdm_names_the_layer_it_refuses() -> None:
    with pytest.raises(ValueError, match=r"^Layer 'conv1' has shape \(2, 3, 3\)"):
        rdm(np.zeros((2, 3, 3)), name="conv1")


def test_rdm_lists_its_methods() -> None:
    message = r"^Unknown method 'corr'\. Choose one of: braycurtis, canberra, .*sqeuclidean, yule\.$"
    with pytest.raises(ValueError, match=message):
        rdm(np.eye(3), "corr")


# Condensed and square


def test_condensed_is_the_inverse_of_squareform(rng: np.random.Generator) -> None:
    D = rng.uniform(size=45)
    D[3] = np.nan
    np.testing.assert_array_equal(condensed(squareform(D)), D)
    assert condensed(D) is D
    assert n_stimuli(D) == 10


def test_condensed_takes_a_single_precision_matrix() -> None:
    D = np.array([[0, 0.3], [0.3, 1e-8]], dtype=np.float32)
    D[1, 0] += np.float32(3e-8)
    np.testing.assert_allclose(condensed(D), [0.3])


@pytest.mark.parametrize(
    ("D", "message"),
    [
        (np.zeros((2, 3)), r"^D has shape \(2, 3\); a square RDM has as many rows as columns"),
        ([[0, 1], [2, 0]], r"^D is not symmetric; D\[i, j\] and D\[j, i\] must be equal"),
        ([[1, 0.5], [0.5, 1]], r"^D has a diagonal that is not zero; .* Pass distances"),
        (np.zeros((2, 2, 2)), r"^D has 3 dimensions; expected 1 \(condensed\) or 2 \(square\)"),
        (1.0, r"^D has 0 dimensions"),
        (np.zeros(4), r"^D has 4 distances; a condensed RDM of n >= 2 stimuli has n \* \(n - 1\) / 2"),
        ([], r"^D has 0 distances"),
        ([[0]], r"^D has 0 distances"),
        ([1, np.inf, 2], r"^D has 1 infinite distances; expected finite ones, or NaN"),
        (np.zeros(3, dtype=complex), r"^D has dtype complex128; expected real numbers"),
        (["1", "2", "3"], r"^D has dtype <U1; expected real numbers"),
        ([1, None, 2], r"^D has dtype object; expected real numbers"),
        ([[0, 1], [1]], r"^D is ragged: its rows have different lengths"),
        ({"a": 1}, r"^D is a mapping; expected an array"),
        (np.ma.masked_greater([1.0, 2, 3], 2), r"^D is a masked array with masked values; expected no masked values"),
    ],
)
def test_condensed_refuses(D: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        condensed(D)
