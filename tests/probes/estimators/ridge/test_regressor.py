import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probes import RegressionProbe


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


@pytest.mark.parametrize("sample_weight", [[1.0, 0.0, 0.0], [1e20, 1.0, 1.0]])
def test_weight_on_one_row_is_an_error(sample_weight: list[float]) -> None:
    message = "All weight is on 1 sample; leave-one-out errors need 2 or more samples"
    with pytest.raises(ValueError, match=message):
        RegressionProbe().fit(np.eye(3), [1.0, 2.0, 3.0], sample_weight=sample_weight)


@pytest.mark.parametrize(("scale", "name"), [((1e300, 1.0), "features"), ((1.0, 1e300), "targets")])
def test_values_too_large_to_square_are_an_error(scale: tuple[float, float], name: str) -> None:
    X, y = np.array([[scale[0]], [0.0]]), np.array([0.0, scale[1]])
    with pytest.raises(ValueError, match=rf"The {name} reach 5\.0e\+299 from their mean, too large for float64"):
        RegressionProbe(standardize=False).fit(X, y)
