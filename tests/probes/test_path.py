from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from probes.certificate import certify
from probes.path import fit_path
from probes.reduction import Reduction, pays
from probes.scores import log_loss
from probes.solvers import Fit, lbfgs, newton

CS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


@pytest.fixture(scope="module")
def parts(relu_digits: tuple[NDArray, NDArray]) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    X, y = relu_digits
    return X[:400], y[:400], X[400:700], y[400:700]


def judge_on(Z: NDArray, y: NDArray) -> Callable[[Fit], float]:
    return lambda fit: log_loss(fit.logits(Z), y)


def test_a_path_chooses_what_exact_fits_would_choose(parts: tuple[NDArray, ...]) -> None:
    X, y, Z, z = parts
    losses = [log_loss(newton(X, y, C).logits(Z), z) for C in CS]
    path = fit_path(X, y, CS[::-1], judge_on(Z, z))
    assert path.Cs[path.best] == CS[int(np.argmin(losses))]
    np.testing.assert_allclose(path.losses, losses[: len(path.losses)], rtol=1e-2)
    assert path.fit.converged
    assert path.fit.relative_gap <= 1e-6


def test_a_path_ends_after_two_rises_in_a_row() -> None:
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.resize([0, 1, 2], 40)
    told = iter([3.0, 2.0, 2.5, 2.4, 2.6, 2.7, 0.0])
    path = fit_path(X, y, (*CS, 1000.0), lambda fit: next(told))
    assert path.losses == (3.0, 2.0, 2.5, 2.4, 2.6, 2.7)
    assert path.Cs[path.best] == 0.01


def test_a_single_C_is_fitted_as_alone(parts: tuple[NDArray, ...]) -> None:
    X, y, Z, z = parts
    path, alone = fit_path(X, y, [0.1], judge_on(Z, z), solver="lbfgs"), lbfgs(X, y, 0.1)
    np.testing.assert_array_equal(path.fit.coef, alone.coef)
    assert path.n_iter == alone.n_iter


def test_a_warm_start_saves_iterations_and_changes_no_optimum(parts: tuple[NDArray, ...]) -> None:
    X, y, Z, z = parts
    later = X + 0.02 * np.random.default_rng(0).normal(size=X.shape)
    earlier = lbfgs(X, y, 0.1)
    cold, warm = (fit_path(later, y, [0.1], judge_on(Z, z), solver="lbfgs", start=start) for start in (None, earlier))
    assert warm.n_iter < cold.n_iter
    bound = np.sqrt(2 * cold.fit.gap) + np.sqrt(2 * warm.fit.gap)
    assert np.linalg.norm(warm.fit.coef - cold.fit.coef) <= bound


def test_fits_that_are_cut_short_are_named(parts: tuple[NDArray, ...]) -> None:
    X, y, Z, z = parts
    path = fit_path(X, y, (1e-6, 1.0), judge_on(Z, z), solver="lbfgs", max_iter=3)
    assert [C for C, _ in path.unfinished] == [1.0]


# In the space of the examples


@pytest.fixture(scope="module")
def wide() -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 300)), rng.integers(3, size=60)


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2.0, 60)])
def test_the_reduction_has_the_same_optimum(wide: tuple[NDArray, NDArray], weights: NDArray | None) -> None:
    X, y = wide
    reduction = Reduction(X)
    small = newton(reduction.X, y, 0.1, sample_weight=weights)
    fit = reduction.expanded(small, y, 0.1, weights, tol=1e-6)
    assert fit.objective == pytest.approx(small.objective, rel=1e-10)
    assert fit.relative_gap < 1e-10
    full = lbfgs(X, y, 0.1, sample_weight=weights, tol=1e-12)
    assert np.linalg.norm(full.coef - fit.coef) <= np.sqrt(2 * full.gap) + np.sqrt(2 * fit.gap) + 1e-10
    again = reduction.reduced(fit)
    np.testing.assert_allclose(again.coef, small.coef, atol=1e-10)


def test_a_path_of_wide_features_goes_by_the_reduction(wide: tuple[NDArray, NDArray]) -> None:
    X, y = wide
    assert pays(X, 2)
    path = fit_path(X, y, (0.01, 0.1), lambda fit: -fit.objective, solver="lbfgs")
    proof = certify(X, y, 0.1, path.fit.coef, path.fit.intercept)
    assert proof.gap <= 1e-6 * proof.objective


def test_duplicates_among_wide_examples_lose_nothing(wide: tuple[NDArray, NDArray]) -> None:
    X, y = np.repeat(wide[0][:30], 2, axis=0), np.repeat(wide[1][:30], 2)
    assert Reduction(X).X.shape == (60, 30)
    assert fit_path(X, y, (0.01, 0.1), lambda fit: -fit.objective).fit.converged
