import math
from importlib import import_module

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from repsim.similarity import linear_cka, pairwise, rbf_cka
from tests.repsim.similarity.slow_hsic import hsic_of_kernels, ratio
from tests.repsim.similarity.synthetic import related


def slow_kernel(X: np.ndarray, bandwidth: float) -> np.ndarray:
    distances = pdist(X)
    return np.exp(-np.square(squareform(distances)) / (2 * (bandwidth * np.median(distances)) ** 2))


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("bandwidth", [0.3, 1.0, 2.0])
def test_rbf_cka_equals_its_slow_twin(rng: np.random.Generator, bandwidth: float, unbiased: bool) -> None:
    X, Y = related(rng)
    K, L = slow_kernel(X, bandwidth), slow_kernel(Y, bandwidth)
    expected = ratio(hsic_of_kernels, K, L, unbiased)
    assert rbf_cka(X, Y, bandwidth=bandwidth, unbiased=unbiased) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("n", [4, 5, 6, 7, 8])
@pytest.mark.parametrize("unbiased", [True, False])
def test_the_bandwidth_is_the_median_of_the_distances(rng: np.random.Generator, n: int, unbiased: bool) -> None:
    """Where the number of pairs is even, the square of the median is not the median of the squares."""
    for bandwidth in (0.5, 1.0, 2.0):
        X, Y = rng.normal(size=(2, n, 3))
        K, L = slow_kernel(X, bandwidth), slow_kernel(Y, bandwidth)
        expected = ratio(hsic_of_kernels, K, L, unbiased)
        assert rbf_cka(X, Y, bandwidth=bandwidth, unbiased=unbiased) == pytest.approx(expected, abs=1e-9)


def test_a_wide_kernel_is_a_linear_one(rng: np.random.Generator) -> None:
    X, Y = related(rng)
    assert rbf_cka(X, Y, bandwidth=1e3, unbiased=False) == pytest.approx(linear_cka(X, Y, unbiased=False), abs=1e-5)


def test_rbf_cka_of_unrelated_representations_is_near_zero_only_if_unbiased() -> None:
    values = []
    for seed in range(30):
        X, Y = np.random.default_rng(seed).normal(size=(2, 30, 20))
        values.append((rbf_cka(X, Y), rbf_cka(X, Y, unbiased=False)))
    assert abs(np.mean(values, axis=0)[0]) < 0.03
    assert np.mean(values, axis=0)[1] > 0.3


def test_many_tiles_give_the_same(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = dict(zip("xy", related(rng), strict=True))
    whole = pairwise(layers, measure="cka_rbf").values
    monkeypatch.setattr(import_module("repsim.similarity.measures.rbf"), "LARGEST_TILE", 7)
    monkeypatch.setattr(import_module("repsim.similarity.measures.hsic_pairs"), "LARGEST_TILE", 11)
    np.testing.assert_allclose(pairwise(layers, measure="cka_rbf").values, whole, atol=1e-12)


def test_mostly_equal_stimuli_have_no_bandwidth(rng: np.random.Generator) -> None:
    X = np.zeros((20, 3))
    X[:3] = rng.normal(size=(3, 3))
    with pytest.warns(
        RuntimeWarning, match=r"\(Y\) .* or more than half of all pairs are equal\. Their RBF CKA is NaN"
    ):
        assert math.isnan(rbf_cka(rng.normal(size=(20, 3)), X))


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, math.nan])
def test_rbf_cka_refuses_a_bandwidth(bandwidth: float) -> None:
    with pytest.raises(ValueError, match=r"^bandwidth is .*; expected a positive number of median distances\.$"):
        rbf_cka(np.eye(5), np.eye(5), bandwidth=bandwidth)


def test_unbiased_rbf_cka_refuses_fewer_than_four_stimuli() -> None:
    with pytest.raises(ValueError, match=r"^X has 3 stimuli; unbiased CKA needs at least 4\."):
        rbf_cka(np.eye(3), np.eye(3))
