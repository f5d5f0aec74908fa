"""HSIC by its definitions, for tests of CKA and of streams."""

import numpy as np


def dense_biased(X: np.ndarray, Y: np.ndarray) -> float:
    """Gretton's trace, with the centering matrix written out."""
    n = len(X)
    H = np.eye(n) - np.ones((n, n)) / n
    return np.trace(X @ X.T @ H @ Y @ Y.T @ H) / (n - 1) ** 2


def three_terms_unbiased(X: np.ndarray, Y: np.ndarray) -> float:
    """Song's equation 5."""
    n, one = len(X), np.ones(len(X))
    K, L = X @ X.T, Y @ Y.T
    np.fill_diagonal(K, 0)
    np.fill_diagonal(L, 0)
    sums = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    return float((np.trace(K @ L) + sums - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3)))
