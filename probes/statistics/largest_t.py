"""Distribution of the largest |t| over several layers: for normal seeds, and for seeds with their signs flipped."""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from probes.statistics.seed_values import ROUNDING

Array = NDArray[np.float64]


def largest_t_quantile(X: Array, level: float, n_samples: int, rng: np.random.Generator) -> float:
    """Return a quantile of the largest |t| over layers, if seeds are normal and layers correlated as in X."""
    n, n_layers = X.shape  # seeds
    R = np.atleast_2d(np.corrcoef(X, rowvar=False))
    R = R + (np.eye(n_layers) - R) / (n - 1)
    drawn = np.quantile(_largest_t(R, n, n_samples, rng), level)
    one, independent = student.ppf(0.5 + np.array([level, level ** (1 / n_layers)]) / 2, n - 1)
    return float(np.clip(drawn, one, independent))


def _largest_t(R: Array, n: int, n_samples: int, rng: np.random.Generator) -> Array:
    """Draw the largest |t| over layers with correlations R, each t from n normal seeds, (n_samples,)."""
    root = np.linalg.cholesky(R).T
    size = (n_samples, len(R))
    means = rng.standard_normal(size) @ root
    squares = np.zeros(size)
    for _ in range(n - 1):
        squares += (rng.standard_normal(size) @ root) ** 2
    return np.max(np.abs(means) / np.sqrt(squares / (n - 1)), axis=1)


def flipped_p_values(D: Array, n_samples: int, rng: np.random.Generator) -> tuple[Array, float]:
    """Return single-step max-T p-values under sign flips of the rows of D, and the smallest possible one."""
    n = len(D)
    exact = 2 ** (n - 1) <= n_samples
    if exact:  # the first keeps its sign, since flipping all signs does not change |t|
        signs = np.array([(1.0, *rest) for rest in product((1.0, -1.0), repeat=n - 1)])
    else:
        signs = rng.choice([1.0, -1.0], size=(n_samples, n))
    # Flips do not change the sum of squares of a layer. Scaled such that it is n, the sum u of the differences gives t
    # in the same way for all layers: t² = (n - 1) u² / (n² - u²), which grows with |u|.
    scaled = D / np.sqrt(np.mean(D**2, axis=0))
    largest = np.max(np.abs(signs @ scaled), axis=1, keepdims=True)  # (n_flips, 1)
    hits = np.sum(largest >= np.abs(scaled.sum(axis=0)) - ROUNDING * n, axis=0)
    return (hits / len(signs), 1 / len(signs)) if exact else ((hits + 1) / (n_samples + 1), 1 / (n_samples + 1))
