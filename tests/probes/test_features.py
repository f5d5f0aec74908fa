import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from probes import features as module
from probes.features import read_features, standardisation
from tests.probes.small_layers import Sliced

ROWS = {"train": np.array([4, 0, 2]), "validation": np.array([1]), "test": np.array([5, 3])}


@pytest.fixture
def layer() -> NDArray:
    return np.random.default_rng(0).normal(3.0, 2.0, size=(6, 4))


@pytest.mark.parametrize(
    ("block", "memory", "dtype"), [(1, 2**20, np.float64), (8 * 4 * 4, 0, np.float32), (2**20, 2**20, np.float64)]
)
def test_parts_are_standardised_by_training_rows(
    layer: NDArray, monkeypatch: pytest.MonkeyPatch, block: int, memory: int, dtype: type
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    source = Sliced(layer)
    parts = read_features(source, ROWS, memory)
    scaler = StandardScaler().fit(layer[ROWS["train"]])
    for part, which in ROWS.items():
        assert parts[part].dtype == dtype
        np.testing.assert_allclose(parts[part], scaler.transform(layer[which]), rtol=1e-5 if memory == 0 else 1e-12)
    assert sum(source.reads) == len(layer)


def test_weights_are_repetitions(layer: NDArray) -> None:
    counts = np.array([0, 2, 1, 3, 0, 1])
    weighted, repeated = standardisation(layer, counts.astype(float)), standardisation(np.repeat(layer, counts, axis=0))
    np.testing.assert_allclose(weighted, repeated, rtol=1e-12)


def test_a_constant_has_scale_one_in_either_precision() -> None:
    for dtype in (np.float32, np.float64):
        mean, scale = standardisation(np.full((7, 1), 0.1, dtype=dtype))
        assert (mean[0], scale[0]) == (dtype(0.1), 1.0)


@pytest.mark.parametrize("size", [1e-30, 1e-145, 1e-300])
def test_features_of_any_small_size_are_standardised(layer: NDArray, size: float) -> None:
    features = layer.copy()
    features[:, 1] *= size
    parts, scaled = read_features(layer, ROWS, 2**20), read_features(features, ROWS, 2**20)
    for part in ROWS:
        np.testing.assert_allclose(scaled[part], parts[part], rtol=1e-12)


def test_single_precision_far_from_zero_is_standardised_exactly() -> None:
    X = (1e4 + np.random.default_rng(0).normal(size=(500, 2))).astype(np.float32)
    mean, scale = standardisation(X)
    np.testing.assert_allclose(mean, X.astype(float).mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(scale, X.astype(float).std(axis=0), rtol=1e-10)


def test_values_too_large_for_single_precision_are_named() -> None:
    layer = np.array([[0.0], [1.0], [1e39]])
    rows = {"train": np.array([0, 1]), "test": np.array([2])}
    with pytest.raises(ValueError, match=r"^1 of 3 values are NaN or infinite in single precision\."):
        read_features(layer, rows, 0)
    assert np.isfinite(read_features(layer, rows, 2**20)["test"]).all()


def test_a_common_offset_costs_no_digits_in_single_precision() -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    rows = {"train": np.arange(30), "test": np.arange(30, 40)}
    held, far = (read_features(Z, rows, 0) for Z in (X, X + 1e9))
    for part in rows:
        np.testing.assert_allclose(far[part], held[part], atol=1e-5)


def test_half_precision_is_computed_with_in_double(layer: NDArray) -> None:
    large = (3e4 + 2e3 * layer).astype(np.float16)  # a sum of a few exceeds this precision
    half, double = (read_features(X, ROWS, 2**20) for X in (large, large.astype(np.float64)))
    for part in ROWS:
        np.testing.assert_array_equal(half[part], double[part])


def test_values_too_large_to_square_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"X reaches 1\.0e\+300, too large to standardise in float64\. Rescale it"):
        standardisation(np.array([[1e300], [0.0]]))
