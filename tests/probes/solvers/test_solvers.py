import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from probes.solvers import SOLVERS, Fit
from probes.solvers.certificate import certify

EACH_SOLVER = pytest.mark.parametrize("solver", list(SOLVERS))


def problem(relu_digits: tuple[NDArray, NDArray], n_classes: int) -> tuple[NDArray, NDArray]:
    X, y = relu_digits
    rows = np.flatnonzero(y < n_classes)[:400]
    return X[rows], y[rows]


def newton(X: NDArray, y: NDArray, C: float) -> Fit:
    """Return a solution from another method, exact to rounding."""
    model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=200).fit(X, y)
    proof = certify(X, y, C, model.coef_, model.intercept_)
    return Fit(**vars(proof), coef=model.coef_, n_iter=int(model.n_iter_[0]), converged=True)


@EACH_SOLVER
def test_certificate_holds_where_the_fit_was_cut_short(relu_digits: tuple[NDArray, NDArray], solver: str) -> None:
    X, y = problem(relu_digits, 10)
    fit, optimum = SOLVERS[solver](X, y, 1.0, max_iter=5), newton(X, y, 1.0)
    assert not fit.converged
    assert fit.n_iter == 5
    assert fit.relative_gap > 1e-6
    assert 0.0 < fit.objective - optimum.objective <= fit.gap
    assert np.linalg.norm(fit.coef - optimum.coef) <= np.sqrt(2.0 * fit.gap)


@EACH_SOLVER
def test_a_tolerance_below_rounding_ends_unconverged(relu_digits: tuple[NDArray, NDArray], solver: str) -> None:
    fit = SOLVERS[solver](*problem(relu_digits, 3), 0.1, tol=1e-40)
    assert not fit.converged
    assert fit.relative_gap < 1e-12


@EACH_SOLVER
def test_iterations_are_counted_and_limited_over_the_whole_fit(
    relu_digits: tuple[NDArray, NDArray], solver: str
) -> None:
    X, y = problem(relu_digits, 10)
    fit = SOLVERS[solver](X, y, 100.0)
    again, short = (SOLVERS[solver](X, y, 100.0, max_iter=n) for n in (fit.n_iter, fit.n_iter - 1))
    assert (again.converged, again.n_iter) == (True, fit.n_iter)
    assert short.n_iter < fit.n_iter


@EACH_SOLVER
def test_a_fit_continues_while_only_the_gap_falls(relu_digits: tuple[NDArray, NDArray], solver: str) -> None:
    # Here the objective is exact to rounding well before the gap is small.
    assert SOLVERS[solver](*problem(relu_digits, 3), 100.0, tol=1e-10).converged


@EACH_SOLVER
def test_coefficients_and_intercepts_sum_to_zero_over_classes(
    relu_digits: tuple[NDArray, NDArray], solver: str
) -> None:
    fit = SOLVERS[solver](*problem(relu_digits, 10), 1.0)
    np.testing.assert_allclose(fit.coef.sum(axis=0), 0.0, atol=1e-10)
    assert fit.intercept.sum() == pytest.approx(0.0, abs=1e-10)


@EACH_SOLVER
def test_features_without_variation_leave_the_intercept(solver: str) -> None:
    fit = SOLVERS[solver](np.zeros((4, 2)), np.array([0, 1, 1, 1]), 1.0)
    assert (fit.n_iter, fit.gap, fit.converged) == (0, 0.0, True)
    np.testing.assert_array_equal(fit.coef, np.zeros((1, 2)))
    np.testing.assert_allclose(fit.intercept, [np.log(3.0)], rtol=1e-12)


@EACH_SOLVER
def test_two_points_have_the_solution_found_by_hand(solver: str) -> None:
    # For x = -1, 1 the optimum has b = 0 and w (1 + exp w) = 2 C; so C = (1 + e) / 2 gives w = 1.
    fit = SOLVERS[solver](np.array([[-1.0], [1.0]]), np.array([0, 1]), (1.0 + np.e) / 2.0, tol=1e-14)
    np.testing.assert_allclose(fit.coef, [[1.0]], rtol=1e-6)
    np.testing.assert_allclose(fit.intercept, [0.0], atol=1e-12)


def test_relative_gap_is_the_gap_over_the_objective() -> None:
    fit = Fit(coef=np.zeros((1, 1)), intercept=np.zeros(1), objective=8.0, gap=2.0, n_iter=0, converged=False)
    assert fit.relative_gap == 0.25
