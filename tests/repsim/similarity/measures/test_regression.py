import math

import numpy as np
import pytest
from scipy.linalg import helmert
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from repsim.similarity import pairwise
from repsim.similarity.measures.cca import mean_cca
from repsim.similarity.measures.regression import linear_regression
from tests.repsim.similarity.synthetic import related


@pytest.mark.parametrize("shape", [(30, 6, 9), (30, 9, 2), (12, 4, 50), (5, 1, 1)])
def test_linear_regression_equals_scikit_learn(rng: np.random.Generator, shape: tuple) -> None:
    X, Y = related(rng, *shape)
    residual = LinearRegression().fit(X, Y).predict(X) - Y
    expected = 1 - np.sum(residual**2) / np.sum((Y - Y.mean(0)) ** 2)
    assert linear_regression(X, Y) == pytest.approx(expected, abs=1e-10)


def test_linear_regression_is_the_score_of_scikit_learn_weighted_by_variance(rng: np.random.Generator) -> None:
    X, Y = related(rng)
    predicted = LinearRegression().fit(X, Y).predict(X)
    expected = r2_score(Y, predicted, multioutput="variance_weighted")
    assert linear_regression(X, Y) == pytest.approx(expected, abs=1e-12)


def test_linear_regression_of_a_linear_function_is_one_but_not_the_reverse(rng: np.random.Generator) -> None:
    X = rng.normal(size=(40, 5))
    Y = X @ rng.normal(size=(5, 2)) + 3
    assert linear_regression(X, Y) == pytest.approx(1, abs=1e-12)
    assert linear_regression(Y, X) < 0.9


def test_linear_regression_explains_the_mean_squared_canonical_correlation_of_a_whitened_y(
    rng: np.random.Generator,
) -> None:
    X, Y = related(rng)
    Y = np.linalg.qr(Y - Y.mean(0))[0][:, :1]
    assert linear_regression(X, Y) == pytest.approx(mean_cca(X, Y) ** 2, abs=1e-12)


def test_linear_regression_weights_by_the_variance_of_y() -> None:
    # Explained entirely with variance 9, and by 0.36 with variance 1.
    contrasts = helmert(8).T
    Y = np.column_stack([3 * contrasts[:, 0], 0.6 * contrasts[:, 1] + 0.8 * contrasts[:, 2]])
    assert linear_regression(contrasts[:, :2], Y) == pytest.approx((9 + 0.36) / 10, abs=1e-12)


def test_unrelated_predictors_explain_their_rank_over_n_minus_1(rng: np.random.Generator) -> None:
    values = [linear_regression(rng.normal(size=(21, 5)), rng.normal(size=(21, 30))) for _ in range(50)]
    assert np.mean(values) == pytest.approx(5 / 20, abs=0.02)


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_linear_regression_does_not_depend_on_the_unit(rng: np.random.Generator, factor: float) -> None:
    X, Y = related(rng)
    assert linear_regression(X, factor * Y) == pytest.approx(linear_regression(X, Y), abs=1e-10)


def test_linear_regression_refuses_as_many_predictors_as_stimuli(rng: np.random.Generator) -> None:
    narrow, wide = rng.normal(size=(10, 3)), rng.normal(size=(10, 40))
    message = "^X has 10 stimuli and 40 features; linear regression needs more stimuli: these"
    with pytest.raises(ValueError, match=message):
        linear_regression(wide, narrow)
    assert 0 < linear_regression(narrow, wide) < 1


def test_all_pairs_name_the_layer_with_too_many_predictors(rng: np.random.Generator) -> None:
    layers = {"narrow": rng.normal(size=(10, 3)), "wide": rng.normal(size=(10, 40))}
    with pytest.raises(ValueError, match=r"^X\['wide'\] has 10 stimuli and 40 features; linear regression needs"):
        pairwise(layers, measure="linear_regression")
    narrow, wide = ({name: layer} for name, layer in layers.items())
    expected = linear_regression(layers["narrow"], layers["wide"])
    assert pairwise(narrow, wide, measure="linear_regression").values.item() == pytest.approx(expected, abs=1e-12)


def test_a_wide_y_of_a_constant_x_is_nan(rng: np.random.Generator) -> None:
    with pytest.warns(RuntimeWarning, match=r"^1 of 2 representations \(X\) are constant\. Their R² .* is NaN\.$"):
        assert math.isnan(linear_regression(np.ones((10, 1)), rng.normal(size=(10, 40))))
