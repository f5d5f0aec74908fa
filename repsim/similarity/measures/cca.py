"""Canonical correlation analysis (CCA) of two representations, plain, of principal components, and weighted."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.measures.measure import ISOMETRY, SHAPE, About, Measure, Streamed, evaluate
from repsim.similarity.measures.streamed import RANK, values_of_pairs
from repsim.similarity.precision import FloatArray, centred, rounding_of


@complete_docstring("The rank of X after centring must be smaller than n - 1.")
def mean_cca(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Compute the mean of the canonical correlations of two representations.

    .. math:: \bar\rho(X, Y) = \frac{|U_X^T U_Y|_*}{\min(r_X, r_Y)}

    where the columns of :math:`U_X` (n, r_X) are an orthonormal basis of the centred columns of X, and the nuclear norm
    sums the singular values, which are the canonical correlations. All directions have the same weight, however little
    of X varies along them, so that noise counts as much as signal; `svcca` and `pwcca` avoid this. The value is not
    corrected for chance: for unrelated representations it grows with the number of features, and it is 1 if one of them
    has n - 1 linearly independent features, as many as n centred stimuli have dimensions. Such representations are
    refused.

    The rank of X counts the singular values above max(n, d) times machine epsilon times the largest.

    Returns
    -------
    float
        Within [0, 1]; 1 if Y is X up to an invertible linear map and translation. NaN, with a warning, if X or Y is
        constant.

    References
    ----------
    Hotelling (1936). Relations between two sets of variates. Biometrika 28.
    Kornblith, Norouzi, Lee & Hinton (2019). Similarity of neural network representations revisited. ICML, table 1.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(mean_cca(X, X @ [[1, 2, 0], [0, 1, 0], [0, 0, 9]]), 6)
    1.0
    """
    return evaluate(MEAN, X, Y)


@complete_docstring("Fewer than n - 1 principal components must reach the fraction; d1 may be larger than n.")
def svcca(X: ArrayLike, Y: ArrayLike, *, variance: float = 0.99) -> float:
    r"""Compute singular vector CCA (SVCCA): mean CCA of the leading principal components.

    Each representation is reduced to the smallest number k of principal components whose squared singular values reach
    a fraction of the total,

    .. math:: \sum_{i \leq k} s_i^2 \geq \text{variance} \cdot \sum_i s_i^2

    and the value is `mean_cca` of these components. Some implementations use :math:`s_i` instead of its square, and
    keep more components.

    Parameters
    ----------
    variance : float in (0, 1], default 0.99
        The fraction. With 1 the value is that of mean CCA.

    Returns
    -------
    float
        Within [0, 1]; 1 if Y is X up to rotation, isotropic scaling and translation. NaN, with a warning, if X or Y is
        constant.

    References
    ----------
    Raghu, Gilmer, Yosinski & Sohl-Dickstein (2017). SVCCA: singular vector canonical correlation analysis for deep
    learning dynamics and interpretability. NeurIPS, section 2.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(svcca(X, np.hstack([X, 1e-3 * X**2])), 3)
    1.0
    """
    if not 0 < variance <= 1:
        raise ValueError(
            f"variance is {variance}; expected a fraction above 0 and at most 1. The usual one is 0.99, not 99."
        )
    return evaluate(replace(LEADING, prepare=partial(_prepare_leading, variance=variance)), X, Y)


@complete_docstring("The rank of X after centring must be smaller than n - 1.")
def pwcca(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Compute projection weighted CCA: canonical correlations weighted by how much of X they account for.

    .. math:: \sum_i \frac{\alpha_i}{\sum_k \alpha_k} \rho_i, \qquad \alpha_i = \sum_j |\langle h_i, x_j \rangle|

    with the canonical correlations :math:`\rho_i`, the canonical variates :math:`h_i` of X (n,), of unit length, and
    the centred features :math:`x_j` of X. The value is not symmetric: the weights are those of X. Variates of equal
    correlations are not unique; where X and Y share two dimensions exactly, the weights depend on the choice that the
    singular value decomposition makes.

    Returns
    -------
    float
        Within [0, 1]; 1 if Y is X up to an invertible linear map and translation. NaN, with a warning, if X or Y is
        constant.

    References
    ----------
    Morcos, Raghu & Bengio (2018). Insights on representational similarity in neural networks with canonical
    correlation. NeurIPS.
    Kornblith, Norouzi, Lee & Hinton (2019). Similarity of neural network representations revisited. ICML, table 1.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(pwcca(X, X @ [[1, 2, 0], [0, 1, 0], [0, 0, 9]]), 6)
    1.0
    """
    return evaluate(WEIGHTED, X, Y)


class SVD(NamedTuple):
    """Singular value decomposition of a centred representation, up to its rank."""

    U: FloatArray  # (n, r)
    s: FloatArray  # (r,)
    Vt: FloatArray  # (r, d)


def centred_svd(X: FloatArray) -> SVD:
    """Decompose a representation after centring, without the directions that are rounding error."""
    U, s, Vt = np.linalg.svd(centred(X, axis=0), full_matrices=False)
    varying = X[:, (X[0] != X).any(axis=0)]  # a constant feature, however large, adds no rounding to deviations
    rank = np.count_nonzero(s > rounding_of(varying)) if varying.size else 0
    return SVD(U[:, :rank], s[:rank], Vt[:rank])


def refuse_saturated(
    X_shape: tuple[int, ...], rank: int, name: str, what: str, advice: str = "take svcca or cka"
) -> None:
    """Raise ValueError if a representation spans all n - 1 dimensions of n centred stimuli and so fits anything."""
    n, d = X_shape
    if rank >= n - 1:
        raise ValueError(
            f"{name} has {n} stimuli and {d} features; {what} needs more stimuli: these features span all {rank} "
            f"dimensions in which {n} stimuli can differ, and fit anything exactly. Record more stimuli, or "
            f"{advice}."
        )


def _prepare_mean(X: FloatArray, name: str) -> FloatArray | None:
    U = centred_svd(X).U
    refuse_saturated(X.shape, U.shape[1], name, "CCA")
    return U if U.size else None


def _prepare_leading(X: FloatArray, name: str, *, variance: float) -> FloatArray | None:
    n, _ = X.shape
    U, s, _ = centred_svd(X)
    k = _n_leading(s, variance)
    if k >= n - 1:
        raise ValueError(
            f"{name} has {n} stimuli, and {variance:g} of its variance takes {k} principal components; SVCCA needs at "
            "least two more stimuli than components, or these fit anything exactly. Record more stimuli, keep less of "
            "the variance, or take cka."
        )
    return U[:, :k] if k else None


def _n_leading(s: FloatArray, variance: float) -> int:
    """Count the leading components whose variance reaches the fraction."""
    # From the sum of the rest, not of the leading ones: at variance 1 every component is counted, however small.
    rest = np.cumsum((s[::-1] / s[:1]) ** 2)[::-1]
    return int(np.count_nonzero(rest > (1 - variance) * rest[:1]))


def _mean(x: FloatArray, y: FloatArray) -> float:
    return float(np.clip(np.linalg.svdvals(x.T @ y), 0.0, 1.0).mean())


class _Weighted(NamedTuple):
    basis: FloatArray  # (n, r)
    features: FloatArray  # (r, d), in the coordinates of the basis


def _prepare_weighted(X: FloatArray, name: str) -> _Weighted | None:
    U, s, Vt = centred_svd(X)
    refuse_saturated(X.shape, len(s), name, "CCA")
    return _Weighted(U, s[:, None] * Vt) if len(s) else None


def _weighted(x: _Weighted, y: _Weighted) -> float:
    variates, correlations, _ = np.linalg.svd(x.basis.T @ y.basis, full_matrices=False)  # (r_x, k), (k,)
    weights = np.abs(variates.T @ x.features).sum(axis=1)
    return float(np.clip(weights @ correlations / weights.sum(), 0.0, 1.0))


def _whitener(own: FloatArray, n: int, name: str) -> FloatArray | None:
    """Return the matrix (d, rank) that makes the features of a layer orthonormal."""
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


def _mean_of_streams(x: FloatArray, y: FloatArray, cross: FloatArray) -> float:
    return float(np.clip(np.linalg.svd(x.T @ cross @ y, compute_uv=False), 0.0, 1.0).mean())


MEAN = Measure(
    name="mean_cca",
    label="mean CCA",
    prepare=_prepare_mean,
    compare=_mean,
    streamed=Streamed(from_sums=partial(values_of_pairs, prepare=_whitener, compare=_mean_of_streams)),
    range=(0.0, 1.0),
    invariances=ISOMETRY | {"invertible linear"},
    about=About(
        formula="|UₓᵀUᵧ|₊ / min(rₓ, rᵧ), nuclear norm, U orthonormal bases of the centred columns",
        cost="n d²",
        use="to compare what is linearly decodable, however small it is; needs n well above d",
        reference="Kornblith et al. (2019), table 1",
    ),
)

LEADING = Measure(
    name="svcca",
    label="SVCCA",
    prepare=partial(_prepare_leading, variance=0.99),
    compare=_mean,
    range=(0.0, 1.0),
    invariances=ISOMETRY,
    about=About(
        formula="mean CCA of the principal components that hold 99% of the variance",
        cost="n d min(n, d)",
        use="CCA of representations with noise directions or more features than stimuli",
        reference="Raghu et al. (2017), section 2",
    ),
)

WEIGHTED = Measure(
    name="pwcca",
    label="PWCCA",
    prepare=_prepare_weighted,
    compare=_weighted,
    range=(0.0, 1.0),
    is_symmetric=False,
    invariances=SHAPE,
    about=About(
        formula="Σᵢ αᵢ ρᵢ / Σᵢ αᵢ, canonical correlations ρᵢ, αᵢ = Σⱼ |⟨hᵢ, xⱼ⟩|, variates hᵢ and features xⱼ of X",
        cost="n d²",
        use="CCA whose directions are weighted by how much of X they account for",
        reference="Morcos et al. (2018)",
    ),
)

FAMILY = (MEAN, LEADING, WEIGHTED)
