import tracemalloc
from importlib import import_module
from itertools import pairwise as neighbours

import numpy as np
import pytest
import torch

from repsim.similarity import MEASURES, pairwise

Layers = dict[str, np.ndarray]


class Lazy:
    """An array that is read when it is asked for, and counts how often."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.reads = 0

    def __array__(self, dtype: type | None = None, copy: bool | None = None) -> np.ndarray:
        self.reads += 1
        return self.array


def network(rng: np.random.Generator, n: int, widths: list[int]) -> Layers:
    """Layers of random weights, each fed by the one before."""
    layers = [rng.normal(size=(n, widths[0])) + 3]
    for before, after in neighbours(widths):
        layers.append(np.tanh(layers[-1] @ rng.normal(size=(before, after)) / before**0.5))
    return {f"layer.{k}": layer for k, layer in enumerate(layers)}


def each_pair(X: Layers, Y: Layers, measure: str) -> np.ndarray:
    return np.array([[MEASURES[measure](x, y) for y in Y.values()] for x in X.values()])


LINEAR = ("cka", "cka_biased")  # test_measures.py has all

# Many narrow layers go by their features, wide ones by tiles of their Gram matrices.
NETWORKS = {"features": (200, [5, 10, 7, 3]), "grams": (60, [100, 300, 64, 150])}


@pytest.fixture(params=NETWORKS)
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The route a network takes; the other one fails."""
    other = {"features": "from_tiles", "grams": "from_features"}[request.param]
    monkeypatch.delattr(import_module("repsim.similarity.measures.hsic_pairs"), other)
    return request.param


@pytest.mark.parametrize("measure", LINEAR)
def test_pairwise_equals_the_measure_of_each_pair(rng: np.random.Generator, route: str, measure: str) -> None:
    X = network(rng, *NETWORKS[route])
    result = pairwise(X, measure=measure)
    np.testing.assert_allclose(result.values, each_pair(X, X, measure), atol=1e-10)
    assert result.rows == result.columns == tuple(X)
    assert result.measure == measure


@pytest.mark.parametrize("measure", LINEAR)
def test_pairwise_of_two_networks_equals_the_measure_of_each_pair(
    rng: np.random.Generator, route: str, measure: str
) -> None:
    n, widths = NETWORKS[route]
    X, Y = network(rng, n, widths), network(rng, n, widths[:2])
    result = pairwise(X, Y, measure=measure)
    np.testing.assert_allclose(result.values, each_pair(X, Y, measure), atol=1e-10)
    assert (result.rows, result.columns) == (tuple(X), tuple(Y))


def test_pairwise_with_itself_is_symmetric_with_ones_on_the_diagonal(rng: np.random.Generator, route: str) -> None:
    values = pairwise(network(rng, *NETWORKS[route])).values
    np.testing.assert_array_equal(values, values.T)
    np.testing.assert_array_equal(np.diagonal(values), 1)


@pytest.mark.parametrize("memory", [4 * 8 * 1, 4 * 8 * 7**2, 4 * 8 * 30**2, 2**30])
@pytest.mark.parametrize("measure", LINEAR)
def test_pairwise_is_the_same_in_tiles_of_any_size(rng: np.random.Generator, measure: str, memory: int) -> None:
    X = network(rng, *NETWORKS["grams"])
    np.testing.assert_allclose(
        pairwise(X, measure=measure, memory=memory).values, pairwise(X, measure=measure).values, atol=1e-12
    )


@pytest.mark.parametrize("memory", [8 * 10 * 10, 8 * 220 * 12, 8 * 220 * 15, 2**30])
@pytest.mark.parametrize("n_rows", [2, 4])
def test_pairwise_is_the_same_with_any_number_of_layers_side_by_side(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, memory: int, n_rows: int
) -> None:
    Y = network(rng, *NETWORKS["features"])
    X = dict(list(Y.items())[:n_rows])
    monkeypatch.delattr(import_module("repsim.similarity.measures.hsic_pairs"), "from_tiles")
    np.testing.assert_allclose(pairwise(X, Y, memory=memory).values, each_pair(X, Y, "cka"), atol=1e-12)
    np.testing.assert_allclose(pairwise(Y, memory=memory).values, each_pair(Y, Y, "cka"), atol=1e-12)


def test_pairwise_stays_within_its_memory(rng: np.random.Generator) -> None:
    X = network(rng, 600, [300] * 8)
    inputs, bound = sum(layer.nbytes for layer in X.values()), 2**20

    def peak(memory: int) -> int:
        tracemalloc.start()
        pairwise(X, memory=memory)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    one_layer = inputs // len(X)
    assert peak(bound) < inputs + 3 * one_layer + bound
    assert peak(2**30) > inputs + 3 * one_layer + bound  # so the bound was felt


def test_pairwise_forms_no_product_of_features_beyond_its_memory(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = network(rng, *NETWORKS["features"])
    expected = pairwise(X).values
    monkeypatch.delattr(import_module("repsim.similarity.measures.hsic_pairs"), "from_features")
    np.testing.assert_allclose(pairwise(X, memory=8 * 10 * 10 - 1).values, expected, atol=1e-12)


def test_pairwise_reads_every_representation_once(rng: np.random.Generator) -> None:
    X, Y = (network(rng, 30, [4, 5]) for _ in range(2))
    lazy_x, lazy_y = ({name: Lazy(layer) for name, layer in layers.items()} for layers in (X, Y))
    np.testing.assert_array_equal(pairwise(lazy_x, lazy_y).values, pairwise(X, Y).values)
    assert [layer.reads for lazy in (lazy_x, lazy_y) for layer in lazy.values()] == [1, 1, 1, 1]


def test_pairwise_takes_single_precision_with_a_large_mean(rng: np.random.Generator) -> None:
    X = {f"{d}": (100 + 1e-3 * rng.normal(size=(40, d))).astype(np.float32) for d in (3, 200)}
    centred = {name: layer.astype(np.float64) - 100 for name, layer in X.items()}
    np.testing.assert_allclose(pairwise(X).values, pairwise(centred).values, atol=1e-10)


def test_a_plain_function_is_evaluated_in_both_orders_of_every_pair(rng: np.random.Generator) -> None:
    def width_ratio(X: np.ndarray, Y: np.ndarray) -> float:
        return X.shape[1] / Y.shape[1]

    layers = {"a": rng.normal(size=(6, 2)), "b": rng.normal(size=(6, 4))}
    result = pairwise(layers, measure=width_ratio)
    assert result.values.tolist() == [[1, 0.5], [2, 1]]
    assert result.measure == "width_ratio"
    assert list(result.frame().columns) == ["row", "column", "width_ratio"]
    np.testing.assert_array_equal(pairwise(layers, measure=MEASURES["cka"]).values, pairwise(layers).values)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X": {}}, r"^X has no representations; expected at least 1"),
        ({"Y": {}}, r"^Y has no representations; expected at least 1"),
        ({"Y": {"b": np.eye(5)}}, r"^X\['a'\] has 9 samples and Y\['b'\] has 5; both must come from the same stimuli"),
        ({"Y": {"b": [[1, 2], [3, np.nan]]}}, r"^Y\['b'\] has 1 of 4 values that are NaN or infinite"),
        ({"X": dict.fromkeys("abcd", np.eye(9)), "memory": 31}, r"^memory is 31 bytes; 4 representations need at leas"),
        ({"measure": "Procrustes"}, r"^Unknown measure 'Procrustes'\. Did you mean 'procrustes'\? Choose one of: angu"),
        ({"measure": "mean_cca", "device": "cpu"}, r"^mean_cca does not use a device\."),
        ({"device": "abacus"}, r"device 'abacus' \("),
        ({"X": {"net": {"layer": [[1.0]]}}}, r"^X\['net'\] is a mapping; expected an array\. Put nested layers into o"),
        ({"X": {"a": torch.eye(4).to_sparse()}}, r"^X\['a'\] is a sparse tensor; expected a dense one\."),
    ],
)
def test_pairwise_refuses(rng: np.random.Generator, given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pairwise(**({"X": {"a": rng.normal(size=(9, 2))}} | given))
    with pytest.raises(TypeError, match=r"^X is a ndarray; expected a mapping .* compare two arrays with the function"):
        pairwise(np.eye(5))


def test_pairwise_accepts_tensors_of_any_dtype_and_with_gradients(rng: np.random.Generator) -> None:
    X = torch.from_numpy(rng.normal(size=(9, 3))).float()
    expected = pairwise({"x": X.numpy(), "y": X.numpy() ** 2}).values
    kinds = {"graph": X.clone().requires_grad_(), "half": X.half(), "brain": X.bfloat16()}
    for name, tensor in kinds.items():
        values = pairwise({"x": tensor, "y": tensor**2}).values
        np.testing.assert_allclose(values, expected, atol=1e-6 if name == "graph" else 0.05)
