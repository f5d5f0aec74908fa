from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import squareform

from repsim.similarity import rdm


@pytest.fixture
def signals() -> Callable[..., tuple[dict, dict]]:
    """Make model RDMs, one of them with ties, and noisy data RDMs that agree with the first."""

    def make(rng: np.random.Generator, n: int = 14, networks: int = 4) -> tuple[dict, dict]:
        X = rng.normal(size=(n, 6))
        labels = np.arange(n) % 3
        models = {
            "true": rdm(X, "sqeuclidean"),
            "classes": squareform((labels[:, None] != labels).astype(float)),
            "other": rdm(rng.normal(size=(n, 6)), "sqeuclidean"),
        }
        data = {f"seed {k}": rdm(X + rng.normal(size=X.shape), "sqeuclidean") for k in range(networks)}
        return models, data

    return make
