from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import Ridge, RidgeClassifier, RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from probes.ridge import RegressionProbe, RidgeProbe, ridge_path

ALPHAS = np.array([1e-3, 0.1, 1.0, 10.0, 1e4])
EACH_SHAPE = pytest.mark.parametrize(("n", "d"), [(24, 5), (24, 23), (24, 24), (24, 25), (24, 60), (2, 3), (3, 1)])


@parametrize_with_checks([RidgeProbe(), RidgeProbe(alphas=1.0, standardize=False), RegressionProbe()])
def test_probe_is_a_scikit_learn_estimator(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def problem(n: int, d: int, seed: int = 0) -> tuple[NDArray, NDArray, NDArray]:
    """Return features off centre, two targets that they explain in part, and weights below and above one."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 3.0
    T = X @ rng.normal(size=(d, 2)) + rng.normal(size=(n, 2)) - 5.0
    return X, T, rng.uniform(0.2, 4.0, size=n)


def iris(n_classes: int = 3) -> tuple[NDArray, NDArray]:
    X, y = load_iris(return_X_y=True)
    return X[y < n_classes], y[y < n_classes]


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
@pytest.mark.parametrize("alpha", ALPHAS)
def test_fit_equals_ridge_of_scikit_learn(n: int, d: int, alpha: float) -> None:
    X, T, weight = problem(n, d)
    for sample_weight in (None, weight):
        oracle = Ridge(alpha, solver="svd").fit(X, T, sample_weight=sample_weight)
        path = ridge_path(X, T, np.array([alpha]), sample_weight)
        np.testing.assert_allclose(path.coef, oracle.coef_, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(path.intercept, oracle.intercept_, rtol=1e-7, atol=1e-8)


@EACH_SHAPE
def test_leave_one_out_error_is_that_of_n_refits(n: int, d: int) -> None:
    X, T, _ = problem(n, d)
    ones = np.ones(n)
    refitted = [refitted_loo(X, T, alpha, ones, ones) for alpha in ALPHAS]
    np.testing.assert_allclose(ridge_path(X, T, ALPHAS).loo_error, refitted, rtol=1e-7)


@EACH_SHAPE
def test_weighted_leave_one_out_error_is_that_of_refits_without_one_occurrence(n: int, d: int) -> None:
    X, T, counts = problem(n, d)
    importance = np.random.default_rng(1).uniform(0.1, 9.0, size=n)
    refitted = [refitted_loo(X, T, alpha, counts, importance) for alpha in ALPHAS]
    np.testing.assert_allclose(ridge_path(X, T, ALPHAS, counts, importance=importance).loo_error, refitted, rtol=1e-7)


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


@pytest.mark.parametrize("seed", range(10))
def test_a_penalty_lost_in_rounding_is_not_chosen(seed: int) -> None:
    # Ten rows have features of their own, so that what the fit leaves of them is all rounding.
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


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_decisions_equal_those_of_a_scikit_learn_pipeline(n_classes: int, alpha: float) -> None:
    X, y = iris(n_classes)
    oracle = make_pipeline(StandardScaler(), RidgeClassifier(alpha)).fit(X, y)
    probe = RidgeProbe(alpha).fit(X, y)
    np.testing.assert_allclose(probe.decision_function(X), oracle.decision_function(X), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(probe.coef_, np.atleast_2d(oracle[-1].coef_), rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(probe.predict(X), oracle.predict(X))


@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0, 2: 0.5}])
def test_class_weights_equal_those_of_scikit_learn(class_weight: Any) -> None:
    X, y = (array[:120] for array in iris())  # 50, 50 and 20 flowers
    oracle = RidgeClassifier(class_weight=class_weight).fit(X, y)
    probe = RidgeProbe(1.0, standardize=False, class_weight=class_weight).fit(X, y)
    np.testing.assert_allclose(probe.decision_function(X), oracle.decision_function(X), rtol=1e-9, atol=1e-9)


def test_class_weights_are_row_weights_in_the_fit_but_a_row_leaves_whole() -> None:
    X, y = iris()
    by_class, by_row = RidgeProbe(1.0, class_weight={1: 4.0}), RidgeProbe(1.0)
    by_class.fit(X, y)
    by_row.fit(X, y, sample_weight=np.where(y == 1, 4.0, 1.0))
    np.testing.assert_allclose(by_class.coef_, by_row.coef_, rtol=1e-9)
    np.testing.assert_allclose(by_class.scale_, by_row.scale_, rtol=1e-12)
    assert by_class.loo_error_[0] > by_row.loo_error_[0]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("n", [6, 40])
def test_choice_of_penalty_equals_that_of_scikit_learn(
    relu_digits: tuple[NDArray, NDArray], n_classes: int, n: int
) -> None:
    X, y = relu_digits
    rows = np.flatnonzero(y < n_classes)[:n]
    alphas = np.logspace(-3, 6, 10)
    oracle = RidgeClassifierCV(alphas).fit(X[rows], y[rows])
    probe = RidgeProbe(alphas, standardize=False).fit(X[rows], y[rows])
    assert probe.alpha_ == oracle.alpha_
    assert probe.loo_error_.min() == pytest.approx(-oracle.best_score_, rel=1e-8)
    np.testing.assert_allclose(probe.coef_, np.atleast_2d(oracle.coef_), rtol=1e-6, atol=1e-9)


def test_default_grid_reads_ten_digits(relu_digits: tuple[NDArray, NDArray]) -> None:
    X, y = relu_digits
    probe = RidgeProbe().fit(X[:900], y[:900])
    assert probe.score(X[900:], y[900:]) > 0.85
    assert probe.loo_error_.shape == (10,)
    assert not probe.alpha_at_edge_


@pytest.mark.parametrize(
    ("alphas", "chosen", "at_edge"),
    [
        ((1.0, 1e3, 1e6), 1.0, True),
        ((1e-3, 1.0, 1e3), 1.0, False),
        ((1e-4, 1e-3, 1.0), 1.0, True),
        (1.0, 1.0, False),
        ([1], 1.0, False),
    ],
)
def test_choice_at_the_edge_of_the_grid_is_flagged(alphas: Any, chosen: float, at_edge: bool) -> None:
    probe = RidgeProbe(alphas).fit(*iris())
    assert (probe.alpha_, probe.alpha_at_edge_) == (chosen, at_edge)


def test_scale_and_offset_of_a_feature_matter_only_without_standardisation() -> None:
    X, y = iris()
    stretched = X * np.array([3.0, 1.0, 0.3, 1.0]) + np.array([0.0, 5.0, 0.0, -5.0])
    for standardize, same in ((True, True), (False, False)):
        probe = RidgeProbe(100.0, standardize=standardize)
        before, after = (probe.fit(Z, y).decision_function(Z) for Z in (X, stretched))
        assert np.allclose(before, after, atol=1e-9) == same
    np.testing.assert_array_equal(probe.mean_, np.zeros(4))
    np.testing.assert_array_equal(probe.scale_, np.ones(4))


def test_standardisation_is_that_of_the_weighted_rows() -> None:
    X, y = iris()
    weight = np.random.default_rng(0).uniform(0.0, 3.0, size=len(X))
    probe = RidgeProbe().fit(X, y, sample_weight=weight)
    scaler = StandardScaler().fit(X, sample_weight=weight)
    np.testing.assert_allclose(probe.mean_, scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose(probe.scale_, scaler.scale_, rtol=1e-12)


@pytest.mark.parametrize("n", [3, 50])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e12])
def test_constant_feature_gets_scale_one_and_coefficient_zero(constant: float, n: int) -> None:
    X, y = (array[48 : 48 + n] for array in iris())
    probe = RidgeProbe().fit(np.column_stack([X, np.full(n, constant)]), y)
    assert (probe.scale_[-1], probe.mean_[-1]) == (1.0, constant)
    np.testing.assert_array_equal(probe.coef_[:, -1], 0.0)
    np.testing.assert_allclose(probe.coef_[:, :-1], RidgeProbe().fit(X, y).coef_, rtol=1e-7)


def test_variation_too_small_to_square_counts_as_constant() -> None:
    probe = RidgeProbe().fit([[0.0], [1e-200], [0.0]], [0, 1, 1])
    assert (probe.scale_[0], probe.coef_.tolist()) == (1.0, [[0.0]])


@pytest.mark.parametrize("probe", [RidgeProbe(), RegressionProbe()])
def test_rows_of_weight_zero_are_not_there(probe: RidgeProbe | RegressionProbe) -> None:
    X, y = iris()
    # The feature varies, the values are wild and the class is new only where the weight is zero.
    alone = probe.fit(np.column_stack([X, np.ones(len(X))]), y, sample_weight=np.ones(len(X))).__dict__.copy()
    probe.fit(
        np.vstack([np.column_stack([X, np.ones(len(X))]), np.full((2, 5), 1e250)]),
        np.append(y, [7, 8]),
        sample_weight=np.append(np.ones(len(X)), [0.0, 0.0]),
    )
    assert set(alone) == set(vars(probe))
    for name, value in vars(probe).items():
        np.testing.assert_array_equal(value, alone[name], err_msg=name)


@pytest.mark.parametrize("d", [5, 40])
def test_balanced_probe_of_weighted_rows_is_that_of_repeated_rows(relu_digits: tuple[NDArray, NDArray], d: int) -> None:
    X, y = relu_digits[0][:30, :d], relu_digits[1][:30] % 3
    counts = np.resize([1, 3, 2, 0], 30)
    weighted = RidgeProbe(class_weight="balanced").fit(X, y, sample_weight=counts)
    repeated = RidgeProbe(class_weight="balanced").fit(X.repeat(counts, axis=0), y.repeat(counts))
    assert weighted.alpha_ == repeated.alpha_
    np.testing.assert_allclose(weighted.loo_error_, repeated.loo_error_, rtol=1e-8)
    np.testing.assert_allclose(weighted.decision_function(X), repeated.decision_function(X), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_string_labels_come_back(n_classes: int) -> None:
    X, y = iris(n_classes)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    probe = RidgeProbe(class_weight={"versicolor": 2.0}).fit(X, names)
    assert probe.classes_.tolist() == ["setosa", "versicolor", "virginica"][:n_classes]
    assert probe.score(X, names) == RidgeProbe(class_weight={1: 2.0}).fit(X, y).score(X, y) > 0.8


def test_regression_equals_a_scikit_learn_pipeline_and_scores_r_squared() -> None:
    X, y = load_diabetes(return_X_y=True)
    probe = RegressionProbe(10.0).fit(X, y)
    oracle = make_pipeline(StandardScaler(), Ridge(10.0)).fit(X, y)
    np.testing.assert_allclose(probe.predict(X), oracle.predict(X), rtol=1e-9)
    assert probe.score(X, y) == pytest.approx(oracle.score(X, y), rel=1e-9)
    assert (probe.coef_.shape, np.shape(probe.intercept_), probe.predict(X).shape) == ((10,), (), (442,))


def test_regression_on_several_targets_is_one_fit_for_each_at_the_common_penalty() -> None:
    X, y = load_diabetes(return_X_y=True)
    Y = np.column_stack([y, -2.0 * y + 1.0, X[:, 0] ** 2])
    probe = RegressionProbe().fit(X, Y)
    assert (probe.coef_.shape, probe.intercept_.shape, probe.predict(X).shape) == ((3, 10), (3,), (442, 3))
    for column, coef, intercept in zip(Y.T, probe.coef_, probe.intercept_, strict=True):
        single = RegressionProbe(probe.alpha_).fit(X, column)
        np.testing.assert_allclose(coef, single.coef_, rtol=1e-9, atol=1e-12)
        assert intercept == pytest.approx(single.intercept_, rel=1e-9)


def test_a_column_of_targets_stays_a_column() -> None:
    X, y = load_diabetes(return_X_y=True)
    flat, column = RegressionProbe().fit(X, y), RegressionProbe().fit(X, y[:, np.newaxis])
    np.testing.assert_array_equal(column.predict(X), flat.predict(X)[:, np.newaxis])


def test_chosen_penalty_is_in_the_grid_that_was_given_and_parameters_stay_as_they_are() -> None:
    alphas = [1, 100]
    probe = RegressionProbe(alphas).fit(*load_diabetes(return_X_y=True))
    assert probe.alphas is alphas
    assert isinstance(probe.alpha_, float)


def test_single_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="y has one class, 7; a probe needs two or more classes"):
        RidgeProbe().fit(np.eye(3), [7, 7, 7])
    with pytest.raises(ValueError, match="y has one class, 7"):
        RidgeProbe().fit(np.eye(3), [7, 7, 8], sample_weight=[1, 1, 0])


@pytest.mark.parametrize("sample_weight", [[1.0, 0.0, 0.0], [1e20, 1.0, 1.0]])
def test_weight_on_one_row_is_an_error(sample_weight: list[float]) -> None:
    message = "All weight is on 1 sample; leave-one-out errors need 2 or more samples"
    with pytest.raises(ValueError, match=message):
        RegressionProbe().fit(np.eye(3), [1.0, 2.0, 3.0], sample_weight=sample_weight)


@pytest.mark.parametrize(
    ("X", "y", "standardize", "message"),
    [
        ([[1e300], [0.0]], [0.0, 1.0], True, r"X reaches 1\.0e\+300, too large to standardise in float64\. Rescale"),
        (
            [[1e300], [0.0]],
            [0.0, 1.0],
            False,
            r"The features reach 5\.0e\+299 from their mean, too large for float64\. Rescale them",
        ),
        (
            [[1.0], [0.0]],
            [0.0, 1e300],
            True,
            r"The targets reach 5\.0e\+299 from their mean, too large for float64\. Rescale them",
        ),
    ],
)
def test_values_too_large_to_square_are_an_error(X: Any, y: Any, standardize: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RegressionProbe(standardize=standardize).fit(X, y)


@pytest.mark.parametrize("probe", [RidgeProbe(), RegressionProbe()])
@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        (np.ones(149), r"sample_weight has shape \(149,\); expected one weight a row, shape \(150,\)"),
        (np.ones((150, 1)), r"sample_weight has shape \(150, 1\); expected one weight a row"),
        (np.where(np.arange(150) == 3, -1.0, 1.0), r"sample_weight has -1\.0 at row 3; expected finite numbers >= 0"),
        (np.where(np.arange(150) == 4, np.nan, 1.0), "sample_weight has nan at row 4"),
        (np.zeros(150), "sample_weight is zero for every row; give one or more rows a positive weight"),
    ],
)
def test_unfit_weights_are_an_error(probe: Any, sample_weight: NDArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probe.fit(*iris(), sample_weight=sample_weight)


@pytest.mark.parametrize("kind", [RidgeProbe, RegressionProbe])
@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        ((), "alphas is empty; give one or more positive numbers"),
        ((1.0, 0.0), r"alphas has 0\.0; expected positive, finite numbers"),
        (-1.0, r"alphas has -1\.0; expected positive, finite numbers"),
        (np.array([1.0, np.inf]), "alphas has .*inf.*; expected positive, finite numbers"),
        ("big", "alphas has 'big'; expected positive, finite numbers"),
        (None, "alphas has None; expected positive, finite numbers"),
    ],
)
def test_penalty_out_of_range_is_an_error_in_fit(kind: Any, alphas: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(alphas).fit(*iris())


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ("equal", "class_weight is 'equal'; expected None, 'balanced' or a dict of class to weight"),
        (2.0, r"class_weight is 2\.0; expected None, 'balanced' or a dict"),
        ({"a": 1.0}, r"class_weight has 'a', which is no class of y\. The classes are: \[0, 1, 2\]"),
        ({1: 0.0}, r"class_weight gives class 1 0\.0; expected a positive, finite number"),
        ({1: "much"}, "class_weight gives class 1 'much'; expected a positive, finite number"),
    ],
)
def test_unfit_class_weight_is_an_error(class_weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RidgeProbe(class_weight=class_weight).fit(*iris())
