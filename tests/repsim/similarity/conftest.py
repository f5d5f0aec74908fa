import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def rsatoolbox() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn of deprecations that are not ours
        return pytest.importorskip("rsatoolbox")


@pytest.fixture
def related() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Makes two representations that share part of what is in them, of unequal scales and offsets."""

    def make(rng: np.random.Generator, n: int = 30, d1: int = 6, d2: int = 9) -> tuple[np.ndarray, np.ndarray]:
        X = rng.normal(size=(n, d1)) * np.linspace(1, 3, d1)
        return X, X @ rng.normal(size=(d1, d2)) + 4 * rng.normal(size=(n, d2)) + 1

    return make


@pytest.fixture
def transforms() -> dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]]:
    """One example of each transformation that a measure or a statistic may be invariant to."""

    def square(rng: np.random.Generator, X: np.ndarray) -> np.ndarray:
        return rng.normal(size=2 * X.shape[1:])

    return {
        "permutation": lambda X, rng: X[:, np.roll(np.arange(X.shape[1]), 1)],
        "orthogonal": lambda X, rng: X @ np.linalg.qr(square(rng, X))[0],
        "isotropic scaling": lambda X, rng: 2.5 * X,
        "translation": lambda X, rng: X + 3 * rng.normal(size=X.shape[1]),
        "invertible linear": lambda X, rng: X @ square(rng, X),
    }
