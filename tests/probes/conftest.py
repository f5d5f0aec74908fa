from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Probes are small products, for which waiting for a second thread costs more than it gives."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="package")
def relu_digits() -> tuple[NDArray, NDArray]:
    """Standardised random ReLU features of the digits: (1797, 48), ten classes."""
    X, y = load_digits(return_X_y=True)
    features = np.maximum((X - X.mean(axis=0)) @ np.random.default_rng(0).normal(size=(64, 48)), 0.0)
    return (features - features.mean(axis=0)) / features.std(axis=0), y
