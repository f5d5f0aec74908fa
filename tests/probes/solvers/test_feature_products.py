from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from probes.solvers.feature_products import FeatureProducts, SharedFeatures, StackedLayers, on_cpu
from tests.probes.small_layers import Sliced

N, D, P, R = 23, 5, 3, 2
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}
rng = np.random.default_rng(0)
LAYERS = rng.normal(size=(P, N, D)) * np.array([1.0, 10.0, 0.1])[:, np.newaxis, np.newaxis]
W, B, RESIDUALS = rng.normal(size=(P, R, D)), rng.normal(size=(P, R)), rng.normal(size=(P, R, N))


def given(rows: FeatureProducts, values: NDArray) -> Tensor:
    return rows.tensor(values)


def assert_products(rows: FeatureProducts, layers: NDArray, which: list[int] | None = None) -> None:
    """Check the products of some problems against einsum, with the layer of each."""
    which = list(range(P)) if which is None else which
    close: Callable[[Any, Any], None] = lambda found, expected: np.testing.assert_allclose(  # noqa: E731
        on_cpu(found), expected, rtol=0.0, atol=TOLERANCE[rows.dtype] * np.abs(expected).max()
    )
    W_, B_, residuals, X = W[which], B[which], RESIDUALS[which], layers[which]
    close(rows.logits(given(rows, W_), given(rows, B_)), np.einsum("prd,pnd->prn", W_, X) + B_[:, :, np.newaxis])
    close(rows.back(given(rows, residuals)), np.einsum("prn,pnd->prd", residuals, X))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("of", [np.float32, np.float64])
def test_products_of_shared_rows_are_those_of_numpy(dtype: torch.dtype, of: Any) -> None:
    X = LAYERS[0].astype(of)
    assert_products(SharedFeatures(X, dtype, "cpu", P * R), np.broadcast_to(X, LAYERS.shape))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows_a_block", [1, 4, N - 1, N, 100])
def test_products_by_blocks_are_those_of_numpy(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, rows_a_block: int
) -> None:
    monkeypatch.setattr("probes.features.BLOCK", 8 * D * rows_a_block)
    X = Sliced(LAYERS[0])
    shared = SharedFeatures(X, dtype, "cpu", P * R)
    assert_products(shared, np.broadcast_to(LAYERS[0], LAYERS.shape))
    assert len(X.reads) == 2 * -(-N // rows_a_block)  # a pass each way, and none to set up


def test_a_copy_too_large_to_hold_is_made_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def spy(X: NDArray, dtype: Any) -> Any:
        made.append(len(X))
        return [(slice(0, 10), X[:10].astype(dtype)), (slice(10, N), X[10:].astype(dtype))]

    monkeypatch.setattr("probes.solvers.feature_products.row_blocks", spy)
    X, size = LAYERS[0], 4 * N * D
    for resident, passes in ((size, 0), (size - 1, 2)):
        monkeypatch.setattr("probes.solvers.feature_products.RESIDENT", resident)
        made.clear()
        assert_products(SharedFeatures(X, torch.float32, "cpu", P * R), np.broadcast_to(X, LAYERS.shape))
        assert len(made) == passes
    made.clear()
    assert_products(SharedFeatures(X, torch.float64, "cpu", P * R), np.broadcast_to(X, LAYERS.shape))
    assert not made  # no copy is needed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_of_stacked_rows_are_those_of_numpy_layer_by_layer(dtype: torch.dtype) -> None:
    assert_products(StackedLayers(list(LAYERS), dtype, "cpu", R), LAYERS)
    single = [layer.astype(np.float32) for layer in LAYERS]
    assert_products(StackedLayers(single, dtype, "cpu", R), np.stack(single))


@pytest.mark.parametrize("left", [[0, 1, 2], [0, 2], [2, 1], [1, 2], [2], [1]])
def test_stacked_layers_keep_the_remaining_problems(left: list[int]) -> None:
    rows = StackedLayers(list(LAYERS), torch.float64, "cpu", R)
    assert rows.flatten()
    U = rows.tensor(W)
    outwards, inwards = on_cpu(rows.outwards(U))[left], on_cpu(rows.inwards(U))[left]
    rows.only(np.array(left))
    assert_products(rows, LAYERS, left)
    np.testing.assert_array_equal(on_cpu(rows.outwards(U[left])), outwards)
    np.testing.assert_array_equal(on_cpu(rows.inwards(U[left])), inwards)


def test_stacked_layers_shrink_repeatedly_without_changing_the_given_layers() -> None:
    layers = [layer.copy() for layer in LAYERS]
    rows = StackedLayers(layers, torch.float64, "cpu", R)
    rows.only(np.array([2, 1]))
    rows.only(np.array([1]))
    assert_products(rows, LAYERS, [1])
    np.testing.assert_array_equal(layers, LAYERS)


def test_shared_features_keep_the_remaining_problems() -> None:
    rows = SharedFeatures(LAYERS[0], torch.float64, "cpu", P * R)
    rows.only(np.array([2, 1]))
    assert_products(rows, np.broadcast_to(LAYERS[0], LAYERS.shape), [2, 1])


# Unknowns


def flattened() -> list[tuple[FeatureProducts, NDArray]]:
    found = [
        (SharedFeatures(LAYERS[1], torch.float64, "cpu", P * R), np.broadcast_to(LAYERS[1], LAYERS.shape)),
        (StackedLayers(list(LAYERS), torch.float64, "cpu", R), LAYERS),
    ]
    for rows, _ in found:
        assert rows.flatten()
        assert rows.is_flattened
    return found


def test_inwards_and_outwards_are_adjoint() -> None:
    # A slope along coefficients, <G, outwards(U)>, is that along unknowns, <inwards(G), U>.
    G, U = torch.tensor(W), torch.tensor(rng.normal(size=W.shape))
    for rows, _ in flattened():
        assert not torch.allclose(rows.outwards(U), U)
        one, other = (rows.inwards(G) * U).sum((1, 2)), (G * rows.outwards(U)).sum((1, 2))
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-12)


def test_the_norm_of_the_unknowns_is_that_of_coefficients_and_logits_together() -> None:
    # U = W L with L L' = I + X'X / mean eigenvalue, so ||U||^2 = ||W||^2 + ||W X'||^2 / mean eigenvalue.
    U = torch.tensor(W)
    for rows, layers in flattened():
        coefficients = rows.outwards(U).numpy()
        mean = np.sum(np.square(layers), axis=(1, 2)) / D
        logits = np.einsum("prd,pnd->prn", coefficients, layers)
        length = np.sum(np.square(coefficients), axis=(1, 2)) + np.sum(np.square(logits), axis=(1, 2)) / mean
        np.testing.assert_allclose(length, np.sum(np.square(W), axis=(1, 2)), rtol=1e-12)


def test_the_norm_of_the_unknowns_includes_the_given_curvatures_of_the_examples() -> None:
    given = torch.tensor(rng.uniform(size=(P, N)))
    (shared, _), (stacked, _) = flattened()
    assert not shared.flatten(given)  # each problem has others
    for rows, n_problems, layers in ((shared, 1, LAYERS[1:2]), (stacked, P, LAYERS)):
        U, curvatures = W[:n_problems], given[:n_problems]
        assert rows.flatten(curvatures)
        coefficients = rows.outwards(torch.tensor(U)).numpy()
        logits = np.einsum("prd,pnd->prn", coefficients, layers)
        mean = np.einsum("pnd,pn->p", np.square(layers), curvatures.numpy()) / D
        length = np.sum(np.square(coefficients), axis=(1, 2))
        length += np.einsum("prn,pn->p", np.square(logits), curvatures.numpy()) / mean
        np.testing.assert_allclose(length, np.sum(np.square(U), axis=(1, 2)), rtol=1e-12)


def test_unknowns_of_many_rows_are_chosen_from_a_regular_sample_of_them() -> None:
    X = np.repeat(LAYERS[0], 8, axis=0)  # more than four rows a feature; each step meets other rows
    rows = SharedFeatures(X, torch.float64, "cpu", R)
    assert rows.flatten()
    step = len(X) // (4 * D)
    some = X[::step]
    mean = np.sum(np.square(some)) / D
    coefficients = rows.outwards(torch.tensor(W)).numpy()
    length = np.square(coefficients).sum() + np.square(coefficients @ some.T).sum() / mean
    assert length == pytest.approx(np.square(W).sum(), rel=1e-12)


@pytest.mark.parametrize("kind", ["wide", "by blocks", "zero"])
def test_unknowns_are_coefficients_where_flattening_does_not_pay(kind: str) -> None:
    X: Any = {"wide": np.ones((3, 400)), "by blocks": Sliced(LAYERS[0]), "zero": np.zeros((N, D))}[kind]
    U = torch.tensor(np.random.default_rng(1).normal(size=(1, 1, X.shape[1])))
    rows: list[FeatureProducts] = [SharedFeatures(X, torch.float64, "cpu", 1)]
    rows += [] if isinstance(X, Sliced) else [StackedLayers([X], torch.float64, "cpu", 1)]
    for each in rows:
        assert each.flatten() == (kind == "zero")
        np.testing.assert_array_equal(each.outwards(U), U)
        np.testing.assert_array_equal(each.inwards(U), U)


def test_unknowns_stay_where_choosing_them_again_costs_more_than_it_saves() -> None:
    for rows, _ in flattened():
        before = rows.outwards(torch.tensor(W))
        assert not rows.flatten(torch.ones(P, N, dtype=torch.float64), passes=0)
        np.testing.assert_array_equal(rows.outwards(torch.tensor(W)), before)
