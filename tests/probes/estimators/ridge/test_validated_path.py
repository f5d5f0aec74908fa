from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from probes import features
from probes.estimators.ridge.validated_path import RidgeFits, validated_path

RNG = np.random.default_rng(0)


def data(n: int, d: int, dtype: type = np.float64) -> tuple[NDArray, NDArray]:
    X = (RNG.normal(size=(n, d)) + 3).astype(dtype)
    return X, X[:, :2].astype(np.float64) @ [1.0, -0.5] + RNG.normal(size=n)


@pytest.mark.parametrize("d", [5, 39, 40, 41, 200])
@pytest.mark.parametrize("C", [1e-4, 1.0, 1e4])
def test_fits_are_those_of_scikit_learn(d: int, C: float) -> None:
    X, y = data(40, d)
    T = np.column_stack([y, y**2])
    fit, ridge = RidgeFits(X, T).fit(C), Ridge(alpha=1 / C, solver="svd").fit(X, T)
    np.testing.assert_allclose(fit.coef, ridge.coef_, atol=1e-9)
    np.testing.assert_allclose(fit.intercept, ridge.intercept_, atol=1e-8)
    np.testing.assert_allclose(fit.logits(X), ridge.predict(X), atol=1e-8)


@pytest.mark.parametrize("d", [6, 90])
def test_layers_in_single_precision_are_read_in_blocks(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data(50, d, np.float32)
    whole = RidgeFits(X.astype(np.float64), y[:, np.newaxis]).fit(0.1)
    monkeypatch.setattr(features, "BLOCK", 8 * d * 7)
    np.testing.assert_allclose(RidgeFits(X, y[:, np.newaxis]).fit(0.1).coef, whole.coef, atol=1e-10)


def test_repeated_features_and_constants_share_the_least_coefficients() -> None:
    X, y = data(30, 3)
    fit = RidgeFits(np.column_stack([X, X, np.ones(30)]), y[:, np.newaxis]).fit(1e6)
    np.testing.assert_allclose(fit.coef[0, :3], fit.coef[0, 3:6])
    assert fit.coef[0, 6] == pytest.approx(0.0, abs=1e-12)


def judged(predict: Callable[[float], NDArray], z: NDArray, Cs: list[float]) -> list[float]:
    return [float(np.mean((predict(C) - z) ** 2)) for C in Cs]


def test_the_smallest_validation_error_is_chosen() -> None:
    (X, y), (Z, z) = data(60, 40), data(500, 40)
    Cs = [1e-3, 1e-2, 1e-1, 1.0, 10.0]
    errors = judged(lambda C: Ridge(alpha=1 / C).fit(X, y).predict(Z), z, Cs)
    path = validated_path((X, y), (Z, z), Cs)
    np.testing.assert_allclose(np.array(path.losses) * y.var(), errors[: len(path.Cs)])
    assert path.Cs[path.best] == Cs[int(np.argmin(errors))]
    assert (path.side, path.n_extended, path.fit.converged) == (0, 0, True)


def test_the_grid_is_extended_where_less_or_more_penalty_is_better() -> None:
    X, _ = data(50, 3)
    exact = X @ [1.0, 2.0, 3.0]
    less = validated_path((X, exact), (X, exact), [0.001, 0.01], most_decades=6)
    assert (less.n_extended, less.side) == (len(less.Cs) - 2, 0)
    assert less.Cs[-1] > 0.01
    assert validated_path((X, exact), (X, exact), [0.001, 0.01]).side == 1
    noise = RNG.normal(size=(2, 50))
    apart = validated_path((X, noise[0]), (X[::-1], noise[1]), [100.0, 1000.0], most_decades=6)
    assert apart.Cs[0] < 100.0


def test_targets_too_large_for_double_precision_are_an_error() -> None:
    X, y = data(20, 3)
    with pytest.raises(ValueError, match=r"The targets reach .* from their mean, too large for float64"):
        RidgeFits(X, y[:, np.newaxis] * 1e120)
