"""Representations and RDMs with known relations, and transformations of representations."""

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import squareform

from repsim.similarity import rdm

Pair = tuple[np.ndarray, np.ndarray]


def related(rng: np.random.Generator, n: int = 30, d1: int = 6, d2: int = 9) -> Pair:
    """Return two representations that share part of their variance, of unequal scales and offsets."""
    X = rng.normal(size=(n, d1)) * np.linspace(1, 3, d1)
    return X, X @ rng.normal(size=(d1, d2)) + 4 * rng.normal(size=(n, d2)) + 1


def signals(rng: np.random.Generator, n: int = 14, networks: int = 4) -> tuple[dict, dict]:
    """Return model RDMs, one of them with ties, and noisy data RDMs that agree with the first."""
    X = rng.normal(size=(n, 6))
    labels = np.arange(n) % 3
    models = {
        "true": rdm(X, "sqeuclidean"),
        "classes": squareform((labels[:, None] != labels).astype(float)),
        "other": rdm(rng.normal(size=(n, 6)), "sqeuclidean"),
    }
    data = {f"seed {k}": rdm(X + rng.normal(size=X.shape), "sqeuclidean") for k in range(networks)}
    return models, data


def rotation(rng: np.random.Generator, d: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


# One example of each transformation that a measure or a statistic may be invariant to.
TRANSFORMS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "permutation": lambda X, rng: X[:, np.roll(np.arange(X.shape[1]), 1)],
    "orthogonal": lambda X, rng: X @ rotation(rng, X.shape[1]),
    "isotropic scaling": lambda X, rng: 2.5 * X,
    "translation": lambda X, rng: X + 3 * rng.normal(size=X.shape[1]),
    "invertible linear": lambda X, rng: X @ rng.normal(size=2 * X.shape[1:]),
}
