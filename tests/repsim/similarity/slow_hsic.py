"""HSIC by its definitions, for tests of CKA and of streams."""

import math
from collections.abc import Callable

import numpy as np


def ratio(twin: Callable[..., float], X: np.ndarray, Y: np.ndarray, *options: object) -> float:
    """Return a bilinear measure divided by its geometric mean for each of both with itself."""
    return twin(X, Y, *options) / math.sqrt(twin(X, X, *options) * twin(Y, Y, *options))


def hsic_of_kernels(K: np.ndarray, L: np.ndarray, unbiased: bool) -> float:
    """Song's equation 5, or Gretton's trace with the centering matrix written out."""
    n, one = len(K), np.ones(len(K))
    if not unbiased:
        H = np.eye(n) - np.ones((n, n)) / n
        return float(np.trace(K @ H @ L @ H)) / (n - 1) ** 2
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    sums = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    return float(np.trace(K @ L) + sums - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3))


def dense_biased(X: np.ndarray, Y: np.ndarray) -> float:
    return hsic_of_kernels(X @ X.T, Y @ Y.T, unbiased=False)


def three_terms_unbiased(X: np.ndarray, Y: np.ndarray) -> float:
    return hsic_of_kernels(X @ X.T, Y @ Y.T, unbiased=True)
