from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from probes.estimators.ridge import ridge_path

ALPHAS = np.array([1e-3, 0.1, 1.0, 10.0, 1e4])
EACH_SHAPE = pytest.mark.parametrize(("n", "d"), [(24, 5), (24, 23), (24, 24), (24, 25), (24, 60), (2, 3), (3, 1)])


def problem(n: int, d: int, seed: int = 0) -> tuple[NDArray, NDArray, NDArray]:
    """Return features off centre, two targets that they explain in part, and weights below and above one."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 3.0
    T = X @ rng.normal(size=(d, 2)) + rng.normal(size=(n, 2)) - 5.0
    return X, T, rng.uniform(0.2, 4.0, size=n)


def refitted_loo(X: NDArray, T: NDArray, alpha: float, counts: NDArray, importance: NDArray) -> float:
    """Return the error from its definition: a fit for each row, without one occurrence of it."""
    weight, squares = counts * importance, np.empty(len(X))
    for i in range(len(X)):
        rest = weight.copy()
        rest[i] -= min(counts[i], 1.0) * importance[i]
        seen = rest > 0.0
        model = Ridge(alpha, solver="cholesky").fit(X[seen], T[seen], sample_weight=rest[seen])
        squares[i] = np.sum((T[i] - model.predict(X[i : i + 1])) ** 2)
    return float(np.average(squares, weights=weight) / T.shape[1])


@EACH_SHAPE
def test_fit_equals_ridge_of_scikit_learn(n: int, d: int) -> None:
    X, T, weight = problem(n, d)
    for alpha, sample_weight in product(ALPHAS, (None, weight)):
        oracle = Ridge(alpha, solver="svd").fit(X, T, sample_weight=sample_weight)
        path = ridge_path(X, T, np.array([alpha]), sample_weight)
        np.testing.assert_allclose(path.coef, oracle.coef_, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(path.intercept, oracle.intercept_, rtol=1e-7, atol=1e-8)


@EACH_SHAPE
@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_error_is_that_of_refits_without_one_occurrence(n: int, d: int, weighted: bool) -> None:
    X, T, counts = problem(n, d)
    importance = np.random.default_rng(1).uniform(0.1, 9.0, size=n)
    weights = (counts, importance) if weighted else (np.ones(n), np.ones(n))
    refitted = [refitted_loo(X, T, alpha, *weights) for alpha in ALPHAS]
    path = ridge_path(X, T, ALPHAS, counts, importance=importance) if weighted else ridge_path(X, T, ALPHAS)
    np.testing.assert_allclose(path.loo_error, refitted, rtol=1e-7)


@pytest.mark.parametrize("d", [3, 12, 40])
def test_weights_equal_repetitions_in_the_error_and_the_fit(d: int) -> None:
    X, T, _ = problem(12, d)
    counts = np.resize([1, 2, 3], 12)
    repeated = ridge_path(X.repeat(counts, axis=0), T.repeat(counts, axis=0), ALPHAS)
    weighted = ridge_path(X, T, ALPHAS, counts.astype(float))
    np.testing.assert_allclose(weighted.loo_error, repeated.loo_error, rtol=1e-8)
    np.testing.assert_allclose(weighted.coef, repeated.coef, rtol=1e-7)
    assert weighted.alpha == repeated.alpha


@pytest.mark.parametrize("d", [10, 40])
def test_vanishing_penalty_keeps_its_exact_error(d: int) -> None:
    # A d of 40 interpolates its 20 rows; the error is then a ratio of two numbers near zero.
    X, T, _ = problem(20, d)
    tiny, small = ridge_path(X, T, np.array([1e-13, 1e-6])).loo_error
    assert tiny == pytest.approx(small, rel=1e-5)


def test_a_row_with_a_feature_of_its_own_has_its_exact_error() -> None:
    X, T, ones = *problem(40, 3)[:2], np.ones(40)
    X = np.column_stack([X, np.eye(40)[:, 0]])
    error = ridge_path(X, T, np.array([1e-6])).loo_error
    np.testing.assert_allclose(error, [refitted_loo(X, T, 1e-6, ones, ones)], rtol=1e-7)


def test_a_penalty_lost_in_rounding_is_not_chosen() -> None:
    for seed in range(10):  # ten rows have features of their own, so that what the fit leaves of them is all rounding
        X, T, _ = problem(40, 3, seed)
        path = ridge_path(np.column_stack([X, np.eye(40)[:, :10]]), T, np.array([1e-18, 1e-3]))
        assert np.all(np.isfinite(path.loo_error))
        assert path.alpha == 1e-3


@pytest.mark.parametrize("n", [4, 40])
def test_doubled_features_share_their_coefficient_however_small_the_penalty(n: int) -> None:
    X, T, _ = problem(n, 3)
    single, double = (ridge_path(Z, T, np.array([alpha])) for Z, alpha in ((X, 2e-14), (np.hstack([X, X]), 1e-14)))
    np.testing.assert_allclose(double.coef, np.hstack([single.coef, single.coef]) / 2.0, rtol=1e-6)
    assert double.loo_error == pytest.approx(single.loo_error, rel=1e-6)


def test_three_points_have_the_error_found_by_hand() -> None:
    # Without the first of (-1, -2), (0, 0), (1, 2) the line is 0.8 + 0.4 x; without the second it is x.
    path = ridge_path(np.array([[-1.0], [0.0], [1.0]]), np.array([[-2.0], [0.0], [2.0]]), np.array([2.0]))
    np.testing.assert_allclose(path.loo_error, [(2.4**2 + 0.0 + 2.4**2) / 3.0], rtol=1e-12)


@pytest.mark.parametrize("d", [2, 30])
def test_the_penalty_of_least_error_is_kept(d: int) -> None:
    X, T, _ = problem(20, d)
    T = T + 5.0 * np.random.default_rng(3).normal(size=T.shape)
    path = ridge_path(X, T, ALPHAS)
    assert path.alpha == ALPHAS[np.argmin(path.loo_error)]
    np.testing.assert_array_equal(path.coef, ridge_path(X, T, np.array([path.alpha])).coef)
    backwards = ridge_path(X, T, ALPHAS[::-1])
    assert backwards.alpha == path.alpha
    np.testing.assert_array_equal(backwards.loo_error, path.loo_error[::-1])


@pytest.mark.parametrize("d", [2, 30])
def test_features_without_variation_leave_the_mean_and_the_largest_penalty(d: int) -> None:
    _, T, weight = problem(20, d)
    path = ridge_path(np.ones((20, d)), T, ALPHAS, weight)
    np.testing.assert_allclose(path.coef, 0.0, atol=1e-12)
    np.testing.assert_allclose(path.intercept, np.average(T, axis=0, weights=weight), rtol=1e-12)
    assert path.alpha == ALPHAS[-1]
