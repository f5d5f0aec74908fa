from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_iris

from probes.estimators.nearest_neighbours import METRICS, NeighbourProbe

EACH_METRIC = pytest.mark.parametrize("metric", METRICS)


def iris() -> tuple[NDArray, NDArray]:
    X, y = load_iris(return_X_y=True)
    return X, y


@EACH_METRIC
@pytest.mark.parametrize("k", [1, 20, 150])
def test_shares_are_counted_from_the_distances(metric: str, k: int) -> None:
    X, y = iris()
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    queries = np.random.default_rng(0).normal(size=(10, 4))
    units, directions = (A / np.linalg.norm(A, axis=1, keepdims=True) for A in (Z, queries))
    squared = np.sum((queries[:, np.newaxis] - Z) ** 2, axis=2)
    nearest = np.argsort(squared if metric == "euclidean" else -directions @ units.T, axis=1)[:, :k]
    shares = np.eye(3)[y[nearest]].mean(axis=1)
    probe = NeighbourProbe(k, metric=metric).fit(X, y)
    raw = queries * X.std(axis=0) + X.mean(axis=0)
    np.testing.assert_allclose(probe.predict_proba(raw), shares, atol=1e-12)
    np.testing.assert_array_equal(probe.predict(raw), np.argmax(shares, axis=1))


@EACH_METRIC
def test_constant_feature_does_not_change_the_neighbours(metric: str) -> None:
    X, y = iris()
    probe = NeighbourProbe(k=5, metric=metric)
    without = probe.fit(X, y).predict_proba(X)
    probe.fit(np.column_stack([X, np.full(150, 0.1)]), y)
    assert (probe.mean_[-1], probe.scale_[-1]) == (0.1, 1.0)
    np.testing.assert_array_equal(probe.predict_proba(np.column_stack([X, np.full(150, 0.6)])), without)


def test_cosine_ignores_the_length_of_a_row() -> None:
    X = np.array([[1.0, 0.1], [9.0, 0.0], [0.0, 1.0], [0.1, 9.0]])
    probe = NeighbourProbe(k=2, metric="cosine", standardize=False).fit(X, [0, 0, 1, 1])
    np.testing.assert_array_equal(probe.predict([[0.1, 0.01], [1e6, 1.0], [0.02, 0.1], [1.0, 1e6]]), [0, 0, 1, 1])


def test_equal_votes_go_to_the_first_label() -> None:
    probe = NeighbourProbe(k=2).fit([[0.0], [1.0]], ["b", "a"])
    np.testing.assert_array_equal(probe.predict([[0.0], [1.0]]), ["a", "a"])


def test_more_neighbours_than_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"k is 20 and X has 3 rows; .* Lower k"):
        NeighbourProbe().fit(np.eye(3), [0, 1, 1])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"k": 0}, "k is 0; expected a positive integer"),
        ({"k": 1.5}, r"k is 1\.5; expected a positive integer"),
        ({"metric": "manhattan"}, r"Unknown metric 'manhattan'\. Choose one of: cosine, euclidean\."),
    ],
)
def test_parameter_out_of_range_is_an_error_in_fit(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NeighbourProbe(**parameters).fit(*iris())
