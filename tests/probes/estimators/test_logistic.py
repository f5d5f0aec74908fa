from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probes import LogisticProbe


def iris(n_classes: int = 3) -> tuple[NDArray, NDArray]:
    X, y = load_iris(return_X_y=True)
    return X[y < n_classes], y[y < n_classes]


@pytest.mark.parametrize(("n_classes", "C"), [(2, 0.01), (3, 1.0), (3, 100.0)])
def test_probabilities_equal_those_of_an_exact_newton_pipeline(n_classes: int, C: float) -> None:
    X, y = iris(n_classes)
    newton = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=200)
    oracle = make_pipeline(StandardScaler(), newton).fit(X, y)
    probe = LogisticProbe(C, tol=1e-11).fit(X, y)
    np.testing.assert_allclose(probe.predict_proba(X), oracle.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(probe.decision_function(X), oracle.decision_function(X), atol=1e-4)
    np.testing.assert_array_equal(probe.predict(X), oracle.predict(X))


def test_order_of_features_and_rows_does_not_matter() -> None:
    X, y = iris()
    rng = np.random.default_rng(0)
    rows, features = rng.permutation(len(X)), rng.permutation(4)
    p = LogisticProbe(tol=1e-12).fit(X, y).predict_proba(X)
    q = LogisticProbe(tol=1e-12).fit(X[rows][:, features], y[rows]).predict_proba(X[:, features])
    np.testing.assert_allclose(p, q, atol=1e-6)


@pytest.mark.parametrize("standardize", [True, False])
def test_features_that_are_all_constant_leave_the_class_rates(standardize: bool) -> None:
    y = np.repeat([0, 1, 2], [10, 20, 70])
    with pytest.warns(UserWarning, match=r"^All 2 features are constant on the training rows; the probe predicts"):
        probe = LogisticProbe(standardize=standardize).fit(np.tile([0.1, -3.0], (100, 1)), y)
    np.testing.assert_array_equal(probe.coef_, np.zeros((3, 2)))
    assert probe.n_constant_ == 2
    np.testing.assert_allclose(probe.predict_proba([[0.1, -3.0]]), [[0.1, 0.2, 0.7]], rtol=1e-9)


def test_features_that_vary_only_where_weights_are_zero_are_counted_as_constant() -> None:
    X, y = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 5.0]]), [0, 1, 1]
    assert LogisticProbe().fit(X, y).n_constant_ == 0
    assert LogisticProbe().fit(X, y, sample_weight=[1.0, 1.0, 0.0]).n_constant_ == 1


def test_confident_binary_probabilities_keep_their_small_side() -> None:
    X, y = np.array([[-1.0], [1.0]]), np.array([0, 1])
    p = LogisticProbe().fit(X, y).predict_proba([[-500.0], [500.0]])
    assert 0.0 < p[1, 0] < 1e-100
    assert p[0, 1] == pytest.approx(p[1, 0], rel=1e-9)


def test_fit_states_its_certificate() -> None:
    probe = LogisticProbe(tol=1e-3).fit(*iris())
    assert probe.converged_
    assert probe.duality_gap_ > 0.0
    assert 0.0 < probe.relative_gap_ <= 1e-3
    assert probe.n_iter_ >= 1


def test_unconverged_fit_warns() -> None:
    probe = LogisticProbe(C=100.0, max_iter=3)
    with pytest.warns(ConvergenceWarning, match=r"stopped after 3 iterations at relative duality gap .* tol=1.0e-06"):
        probe.fit(*iris())
    assert not probe.converged_


@pytest.mark.parametrize(
    ("class_weight", "weights"),
    [(None, [0.0, 1.0, 1.0]), ({"b": 0.0, "a": 0.0, "c": 1.0}, None), ({"a": 0.0, "b": 1.0, "c": 1.0}, [1.0] * 3)],
)
def test_class_of_weight_zero_is_an_error(class_weight: Any, weights: list[float] | None) -> None:
    with pytest.raises(ValueError, match="The examples of class 'a' have weight 0; leave them out or"):
        LogisticProbe(class_weight=class_weight).fit(np.eye(3), ["a", "b", "c"], weights)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"C": 0.0}, r"C is 0\.0; expected a positive, finite number"),
        ({"solver": "sgd"}, "Unknown solver 'sgd'"),
    ],
)
def test_parameter_out_of_range_is_an_error_in_fit(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogisticProbe(**parameters).fit(*iris())
