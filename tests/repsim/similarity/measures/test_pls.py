import numpy as np
import pytest
from scipy.linalg import helmert
from sklearn.cross_decomposition import PLSSVD

from repsim.similarity.measures.cca import mean_cca
from repsim.similarity.measures.pls import pls
from tests.repsim.similarity.synthetic import related

# Orthonormal columns that sum to zero.
CONTRASTS = helmert(8).T  # (8, 7)


def slow_pls(X: np.ndarray, Y: np.ndarray) -> float:
    """From the scores of scikit-learn, one pair at a time."""
    k = min(X.shape + Y.shape)
    x, y = PLSSVD(n_components=k, scale=False).fit(X, Y).transform(X, Y)
    pairs = list(zip(x.T, y.T, strict=True))
    # Centred stimuli have n - 1 dimensions: what is left of the last pair where n <= d is rounding, not scores.
    scale = np.cov(x[:, 0], y[:, 0])[0, 1]
    pairs = [(a, b) for a, b in pairs if np.cov(a, b)[0, 1] > 1e-12 * scale]
    covariances = [np.cov(a, b)[0, 1] for a, b in pairs]
    return float(np.average([np.corrcoef(a, b)[0, 1] for a, b in pairs], weights=covariances))


@pytest.mark.parametrize("shape", [(30, 6, 9), (30, 9, 2), (12, 40, 50), (12, 4, 50), (5, 1, 1)])
def test_pls_equals_scikit_learns_scores(rng: np.random.Generator, shape: tuple) -> None:
    X, Y = related(rng, *shape)
    assert pls(X, Y) == pytest.approx(slow_pls(X, Y), abs=1e-10)


def test_pls_of_one_feature_each_is_the_absolute_correlation(rng: np.random.Generator) -> None:
    X, Y = rng.normal(size=(2, 20, 1))
    assert pls(X, Y) == pytest.approx(abs(np.corrcoef(X[:, 0], Y[:, 0])[0, 1]), abs=1e-12)


def test_pls_weights_by_covariance() -> None:
    # Two pairs of features: correlation 1 with covariance 6, and correlation 0.6 with covariance 0.6.
    X = CONTRASTS[:, :2] * [3, 1]
    Y = np.column_stack([2 * CONTRASTS[:, 0], 0.6 * CONTRASTS[:, 1] + 0.8 * CONTRASTS[:, 2]])
    assert pls(X, Y) == pytest.approx((6 * 1 + 0.6 * 0.6) / 6.6, abs=1e-12)
    assert mean_cca(X, Y) == pytest.approx(0.8, abs=1e-12)


def test_pls_of_whitened_representations_is_cca_weighted_by_its_correlations(rng: np.random.Generator) -> None:
    X, Y = (np.linalg.qr(Z - Z.mean(0))[0] for Z in rng.normal(size=(2, 30, 4)))
    rho = np.linalg.svdvals(X.T @ Y)
    assert pls(X, Y) == pytest.approx(np.average(rho, weights=rho), abs=1e-12)


@pytest.mark.parametrize("factor", [1e-200, 1.0, 1e200])
def test_pls_of_representations_that_do_not_covary_is_zero(factor: float) -> None:
    assert pls(factor * CONTRASTS[:, :3], CONTRASTS[:, 3:]) == pytest.approx(0, abs=1e-7)
    assert pls([[1], [-1], [0], [0]], [[0], [0], [factor], [-factor]]) == 0


def test_pls_ignores_directions_that_are_rounding(rng: np.random.Generator) -> None:
    X = rng.normal(size=(20, 2))
    Y = X + rng.normal(size=(20, 2))
    mix = rng.normal(size=(2, 7))
    mix = np.linalg.qr(mix.T)[0].T
    assert pls(X @ mix, Y @ mix) == pytest.approx(pls(X, Y), abs=1e-10)
