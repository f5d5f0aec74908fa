"""What follows from sums of products over stimuli: one function a measure, from sums to all pairs of layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from repsim.similarity.measures.cka import alignment
from repsim.similarity.precision import FloatArray

# Singular values of a covariance below this, relative to the largest, are rounding: its square root is that of float64.
RANK = 1e-12


class Sums(Protocol):
    """What is known of layers after all stimuli have passed, see `Moments`."""

    n: int
    names: tuple[str, ...]

    def products(self, i: int, j: int) -> FloatArray:
        """Return the sum of products of the features of two layers about their means."""

    def hsic_in_units(self, *, unbiased: bool) -> FloatArray:
        """Return HSIC with linear kernels, of layers in the units of `products`."""


def _cka(moments: Sums, *, unbiased: bool) -> FloatArray:
    hsic = moments.hsic_in_units(unbiased=unbiased)
    sizes = np.sqrt([np.trace(moments.products(i, i)) for i in range(len(moments.names))])
    with np.errstate(divide="ignore", invalid="ignore"):
        hsic = hsic * np.square(moments.n**0.5 / sizes)[:, None] * np.square(moments.n**0.5 / sizes)
    own = np.where(sizes > 0, np.diagonal(hsic), 0.0)
    return alignment(hsic, own, own)


def _of_pairs(
    moments: Sums,
    *,
    prepare: Callable[[FloatArray, int, str], Any],
    compare: Callable[[Any, Any, FloatArray], float],
) -> FloatArray:
    """Return a measure of each pair from what is prepared of each layer, and the products of the two."""
    values = np.full((len(moments.names),) * 2, np.nan)
    prepared = [prepare(moments.products(i, i), moments.n, name) for i, name in enumerate(moments.names)]
    for i, x in enumerate(prepared):
        for j, y in enumerate(prepared[i:], start=i):
            if x is not None and y is not None:
                values[i, j] = values[j, i] = compare(x, y, moments.products(i, j))
    return values


def _whitener(own: FloatArray, n: int, name: str) -> FloatArray | None:
    """Return what makes a layer's features orthonormal, (d, rank)."""
    d = np.count_nonzero(np.diagonal(own))  # constant features do not count
    if d == 0:
        return None
    if n <= d:
        raise ValueError(
            f"{name} has {n} stimuli and {d} features that vary; CCA needs more stimuli than features. "
            "Record more stimuli, or take CKA."
        )
    values, vectors = np.linalg.eigh(own)
    kept = values > RANK * values[-1]
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))


def _mean_cca(x: FloatArray, y: FloatArray, cross: FloatArray) -> float:
    return float(np.clip(np.linalg.svd(x.T @ cross @ y, compute_uv=False), 0.0, 1.0).mean())


def _covariance(own: FloatArray, n: int, name: str) -> FloatArray | None:
    return own if own.any() else None


def _pls(x: FloatArray, y: FloatArray, cross: FloatArray) -> float:
    U, s, V = np.linalg.svd(cross, full_matrices=False)
    lengths = np.sqrt(np.vecdot(U.T, U.T @ x) * np.vecdot(V, V @ y))
    shared = s > RANK * s[0]
    return float(np.clip((s[shared] ** 2 / lengths[shared]).sum() / s[shared].sum(), 0.0, 1.0))


def _length(own: FloatArray, n: int, name: str) -> float | None:
    return float(np.sqrt(np.trace(own))) or None


def _cosine(x: float, y: float, cross: FloatArray) -> float:
    """Cosine of the angular Procrustes distance: the nuclear norm of the products of both, scaled to length one."""
    return float(np.clip(np.linalg.svd(cross / (x * y), compute_uv=False).sum(), 0.0, 1.0))


def _procrustes(x: float, y: float, cross: FloatArray) -> float:
    return float(np.sqrt(2 - 2 * _cosine(x, y, cross)))


def _angular_procrustes(x: float, y: float, cross: FloatArray) -> float:
    return float(np.arccos(_cosine(x, y, cross)))


STREAMED: dict[str, Callable[[Sums], FloatArray]] = {
    "cka": partial(_cka, unbiased=True),
    "cka_biased": partial(_cka, unbiased=False),
    "mean_cca": partial(_of_pairs, prepare=_whitener, compare=_mean_cca),
    "pls": partial(_of_pairs, prepare=_covariance, compare=_pls),
    "procrustes": partial(_of_pairs, prepare=_length, compare=_procrustes),
    "angular_procrustes": partial(_of_pairs, prepare=_length, compare=_angular_procrustes),
}
