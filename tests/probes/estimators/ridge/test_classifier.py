from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probes import RidgeProbe


def iris(n_classes: int = 3) -> tuple[NDArray, NDArray]:
    X, y = load_iris(return_X_y=True)
    return X[y < n_classes], y[y < n_classes]


@pytest.mark.parametrize(("n_classes", "alpha"), [(2, 1e-3), (3, 0.1), (2, 10.0), (3, 1e4)])
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


def test_class_weights_are_row_weights_in_the_fit_but_not_in_the_leave_one_out_error() -> None:
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


def test_standardisation_is_that_of_the_weighted_rows() -> None:
    X, y = iris()
    weight = np.random.default_rng(0).uniform(0.0, 3.0, size=len(X))
    probe = RidgeProbe().fit(X, y, sample_weight=weight)
    scaler = StandardScaler().fit(X, sample_weight=weight)
    np.testing.assert_allclose(probe.mean_, scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose(probe.scale_, scaler.scale_, rtol=1e-12)


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
def test_predictions_have_the_given_string_labels(n_classes: int) -> None:
    X, y = iris(n_classes)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    probe = RidgeProbe(class_weight={"versicolor": 2.0}).fit(X, names)
    assert probe.classes_.tolist() == ["setosa", "versicolor", "virginica"][:n_classes]
    assert probe.score(X, names) == RidgeProbe(class_weight={1: 2.0}).fit(X, y).score(X, y) > 0.8


def test_single_class_of_positive_weight_is_an_error() -> None:
    with pytest.raises(ValueError, match="y has one class, 7"):
        RidgeProbe().fit(np.eye(3), [7, 7, 8], sample_weight=[1, 1, 0])


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ("equal", "class_weight is 'equal'; expected None, 'balanced' or a dict of class to weight"),
        (2.0, r"class_weight is 2\.0; expected None, 'balanced' or a dict"),
        ({"a": 1.0}, r"class_weight has 'a', which is not a class of y\. Choose one of: \[0, 1, 2\]"),
        ({1: 0.0}, r"class_weight gives class 1 0\.0; expected a positive, finite number"),
        ({1: "much"}, "class_weight gives class 1 'much'; expected a positive, finite number"),
    ],
)
def test_invalid_class_weight_is_an_error(class_weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RidgeProbe(class_weight=class_weight).fit(*iris())
