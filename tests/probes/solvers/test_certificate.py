import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax, xlogy

from probes.solvers.certificate import certify


def random_problem(n_classes: int, seed: int = 0) -> tuple[NDArray, NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    n_rows = 1 if n_classes == 2 else n_classes
    return rng.normal(size=(60, 5)), rng.integers(n_classes, size=60), rng.normal(size=(n_rows, 5))


def two_column(logits: NDArray) -> NDArray:
    return np.column_stack([np.zeros(len(logits)), logits]) if logits.shape[1] == 1 else logits


def dual_objective(X: NDArray, p: NDArray, targets: NDArray, C: float) -> float:
    """Return D(alpha) from the definition: entropies minus half the squared norm of alpha' X."""
    alpha = C * (p - targets)
    rows = alpha[:, 1:] if alpha.shape[1] == 2 else alpha
    return float(-C * np.sum(xlogy(p, p)) - 0.5 * np.sum((rows.T @ X) ** 2))


@pytest.mark.parametrize(("n_classes", "C"), [(2, 100.0), (3, 1.0), (7, 0.01)])
def test_gap_is_primal_minus_dual_at_any_coefficients(n_classes: int, C: float) -> None:
    X, y, coef = random_problem(n_classes)
    certificate = certify(X, y, C, coef, np.zeros(len(coef)))
    logits = two_column(X @ coef.T + certificate.intercept)
    primal = -C * log_softmax(logits, axis=1)[np.arange(len(y)), y].sum() + 0.5 * np.sum(coef**2)
    dual = dual_objective(X, softmax(logits, axis=1), np.eye(n_classes)[y], C)
    assert certificate.objective == pytest.approx(primal, rel=1e-12)
    assert certificate.gap == pytest.approx(primal - dual, rel=1e-9)


@pytest.mark.parametrize(("n_classes", "size"), [(2, 50.0), (3, 0.0), (3, 1.0), (7, 50.0)])
def test_profiled_intercept_balances_the_residuals_from_any_start(n_classes: int, size: float) -> None:
    X, y, coef = random_problem(n_classes)
    start = np.linspace(-10.0, 10.0, len(coef))
    intercept = certify(X, y, 1.0, size * coef, start).intercept
    p = softmax(two_column(X @ (size * coef).T + intercept), axis=1)
    np.testing.assert_allclose(p.sum(axis=0), np.bincount(y), rtol=1e-9)


def test_without_features_the_intercept_is_the_log_class_rate() -> None:
    y = np.repeat([0, 1, 2], [10, 20, 70])
    intercept = certify(np.zeros((100, 1)), y, 1.0, np.zeros((3, 1)), np.zeros(3)).intercept
    np.testing.assert_allclose(softmax(intercept), [0.1, 0.2, 0.7], rtol=1e-12)
    assert intercept.sum() == pytest.approx(0.0, abs=1e-12)
    two_classes = certify(np.zeros((100, 1)), np.minimum(y, 1), 1.0, np.zeros((1, 1)), np.zeros(1)).intercept
    np.testing.assert_allclose(expit(two_classes), [0.9], rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 7])
def test_certificate_ignores_an_offset_of_the_features(n_classes: int) -> None:
    X, y, coef = random_problem(n_classes)
    centered, shifted = (certify(Z, y, 1.0, coef, np.zeros(len(coef))) for Z in (X, X + 50.0))
    assert shifted.gap == pytest.approx(centered.gap, rel=1e-9)
    assert shifted.objective == pytest.approx(centered.objective, rel=1e-9)


def test_gap_is_infinite_if_the_search_for_the_intercept_fails() -> None:
    X, y = np.array([[-1.0], [-2.0], [-3.0]]), np.array([1, 1, 0])
    assert certify(X, y, 1.0, np.array([[1e5]]), np.zeros(1)).gap == np.inf


def test_wild_coefficients_do_not_overflow() -> None:
    for seed in range(20):
        X, y, coef = random_problem(7, seed)
        assert certify(X, y, 1.0, 700.0 * coef, np.linspace(-700.0, 700.0, 7)).gap > 1e3
