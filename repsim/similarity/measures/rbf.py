"""Centered kernel alignment (CKA) with radial basis function (RBF) kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.measures.cka import UNDEFINED, alignment, check_enough
from repsim.similarity.measures.hsic import degrees, normalised, squared_norms, u_centred
from repsim.similarity.measures.hsic_pairs import LARGEST_TILE, Pairs, from_tiles
from repsim.similarity.measures.measure import ISOMETRY, About, Measure, evaluate
from repsim.similarity.precision import FloatArray
from repsim.similarity.rdm import rdm


@complete_docstring("n >= 4, or n >= 2 if biased.")
def rbf_cka(X: ArrayLike, Y: ArrayLike, *, bandwidth: float = 1.0, unbiased: bool = True) -> float:
    r"""Compute the centered kernel alignment of two representations with Gaussian kernels.

    .. math:: K_{ij} = \exp\left(-\frac{|x_i - x_j|^2}{2 \sigma^2}\right), \quad
              \sigma = \mathrm{bandwidth} \cdot \mathrm{median}_{i < j} |x_i - x_j|

    and CKA of these kernels as in `linear_cka`. The median is over pairs of different stimuli. With a small bandwidth
    only near neighbours matter; with a large one the value approaches linear CKA.

    Parameters
    ----------
    bandwidth : float, default 1.0
        In median distances; positive.
    unbiased : bool, default True
        Whether to use the unbiased estimator of HSIC.

    Returns
    -------
    float
        Within [0, 1] if biased, [-1, 1] if not. 1 if Y is X up to rotation, isotropic scaling and translation. NaN,
        with a warning, if the HSIC of X or Y with itself is zero, or if more than half of all pairs of stimuli are
        equal.

    References
    ----------
    Kornblith, Norouzi, Lee & Hinton (2019). Similarity of neural network representations revisited. ICML, section 3.
    Song, Smola, Gretton, Bedo & Borgwardt (2012). Feature selection via dependence maximization. JMLR 13, eq. 5.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(rbf_cka(X, 2 * X[:, ::-1] + 1), 6)
    1.0
    """
    if not (np.isfinite(bandwidth) and bandwidth > 0):
        raise ValueError(f"bandwidth is {bandwidth}; expected a positive number of median distances.")
    measure = UNBIASED if unbiased else BIASED
    return evaluate(replace(measure, prepare=partial(_prepare, bandwidth=bandwidth, unbiased=unbiased)), X, Y)


@dataclass(frozen=True, eq=False)
class _Kernel:
    """Gram matrix of one representation, centred for the estimator of HSIC and computed tile by tile."""

    Z: FloatArray
    squares: FloatArray
    inverse_width: float  # 1 / (2 sigma^2)
    sums: FloatArray  # of rows, without the diagonal
    unbiased: bool

    def tile(self, rows: slice, columns: slice, out: Any) -> Any:
        """Write a tile of the centred Gram matrix."""
        arrays: list[Any] = [self.Z, self.squares, self.sums]
        if isinstance(out, torch.Tensor):
            arrays = [torch.from_numpy(array).to(out.device) for array in arrays]
        Z, squares, sums = arrays
        K = _gaussian(Z, squares, self.inverse_width, rows, columns, out)
        if self.unbiased:
            return u_centred(K, rows, columns, sums)
        means = (sums + 1) / len(sums)
        effects = means - means.mean() / 2
        K -= effects[rows, None]
        K -= effects[columns]
        return K


def _gaussian(Z: Any, squares: Any, inverse_width: float, rows: slice, columns: slice, out: Any) -> Any:
    library: Any = torch if isinstance(Z, torch.Tensor) else np
    library.matmul(Z[rows], Z[columns].T, out=out)
    out *= 2
    out -= squares[rows, None]
    out -= squares[columns]  # minus the squared distance
    out *= inverse_width
    library.exp(out, out=out)
    if rows == columns:
        diagonal = range(len(out))
        out[diagonal, diagonal] = 1.0
    return out


def _prepare(X: FloatArray, name: str, *, bandwidth: float, unbiased: bool) -> _Kernel | None:
    check_enough(X, name, unbiased=unbiased)
    Z = normalised(X)
    median = float(np.median(rdm(Z, "euclidean")))
    if median <= 0:
        return None
    squares, inverse_width = squared_norms(Z), 1 / (2 * (bandwidth * median) ** 2)
    blocks = [slice(start, start + LARGEST_TILE) for start in range(0, len(Z), LARGEST_TILE)]
    room = np.empty((LARGEST_TILE, len(Z)))
    everything = slice(0, len(Z))
    sums = [
        _gaussian(Z, squares, inverse_width, block, everything, room[: len(Z[block])]).sum(axis=1) for block in blocks
    ]
    return _Kernel(Z, squares, inverse_width, np.concatenate(sums) - 1.0, unbiased)


def _compare(x: _Kernel, y: _Kernel, *, unbiased: bool) -> float:
    return float(_together([x, y], [(0, 0), (0, 1), (1, 1)], unbiased=unbiased, memory=2**26, device=None)[0, 1])


def _together(
    kernels: Sequence[_Kernel], pairs: Pairs, *, unbiased: bool, memory: int, device: str | None
) -> FloatArray:
    n = len(kernels[0].Z)
    hsic = from_tiles([kernel.tile for kernel in kernels], n, memory, device) / degrees(n, unbiased=unbiased)
    # A wide kernel deviates from one by about its inverse width.
    sizes = np.array([min(kernel.inverse_width, 1.0) for kernel in kernels])
    hsic = hsic / np.multiply.outer(sizes, sizes)
    own = np.diagonal(hsic)
    return alignment(hsic, own, own)


def _measure(name: str, label: str, *, unbiased: bool, **fields: Any) -> Measure:
    return Measure(
        name=name,
        label=label,
        prepare=partial(_prepare, bandwidth=1.0, unbiased=unbiased),
        compare=partial(_compare, unbiased=unbiased),
        together=partial(_together, unbiased=unbiased),
        invariances=ISOMETRY,
        undefined=UNDEFINED + ", or more than half of all pairs are equal",
        **fields,
    )


_COST = "n² d, and n² / 2 numbers once for the median"
_REFERENCE = "Kornblith et al. (2019), section 3"

UNBIASED = _measure(
    "cka_rbf",
    "RBF CKA",
    unbiased=True,
    range=(-1.0, 1.0),
    about=About(
        formula="CKA of exp(−|x − y|² / 2σ²), σ the median distance, unbiased HSIC",
        cost=_COST,
        use="neighbourhoods matter",
        reference=_REFERENCE,
    ),
)

BIASED = _measure(
    "cka_rbf_biased",
    "biased RBF CKA",
    unbiased=False,
    range=(0.0, 1.0),
    about=About(
        formula="CKA of exp(−|x − y|² / 2σ²), σ the median distance",
        cost=_COST,
        use="to compare with published values",
        reference=_REFERENCE,
    ),
)

FAMILY = (UNBIASED, BIASED)
