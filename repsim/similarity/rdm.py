"""Representational dissimilarity matrices: how far apart a layer holds every two stimuli."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repsim.similarity import checks
from repsim.similarity.arrays import FloatArray, centred

# Products are formed for this many pairs at a time (8 MiB), so that no n x n matrix is ever held.
PAIRS_AT_ONCE = 2**20
# A squared distance this small beside the squared norms it was subtracted from has lost digits, and is summed anew.
NEAR = 1e-6
# How far from symmetric, relative to its largest entry, a square matrix may be: single precision.
SYMMETRY = 1e-6


def rdm(X: ArrayLike, method: str = "correlation", *, name: str | None = None) -> FloatArray:
    r"""Dissimilarity of every two stimuli in one representation.

    ============  =========================================================  ========
    method        distance of x and y                                        range
    ============  =========================================================  ========
    correlation   :math:`1 - r(x, y)`, each pattern centred over features    [0, 2]
    cosine        :math:`1 - x^T y / (|x| |y|)`, nothing is centred          [0, 2]
    euclidean     :math:`|x - y|`                                            [0, inf)
    sqeuclidean   :math:`|x - y|^2`, a sum that is not divided by d          [0, inf)
    ============  =========================================================  ========

    All are computed in float64 from matrix products, in blocks: the peak of memory is the result, a few float64 copies
    of X and some 20 MiB.

    Parameters
    ----------
    X : array-like (n, d)
        One row a stimulus, one column a feature; n >= 2, and d >= 2 for correlation.
    method : str, default "correlation"
        A key of `DISTANCES`.
    name : str, optional
        The name of the layer, for messages.

    Returns
    -------
    array (n * (n - 1) / 2,)
        The upper triangle row by row, the order of `scipy.spatial.distance.pdist`; `squareform` there makes it square.
        Pairs with a stimulus of zero variance (correlation) or zero norm (cosine) are NaN.

    Raises
    ------
    ValueError
        If X is not a finite real matrix with at least 2 rows, if there is no such method, or if patterns of one
        feature are to be correlated.

    Warns
    -----
    RuntimeWarning
        Once, with their number, if some stimuli have zero variance or zero norm.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008). Representational similarity analysis - connecting the branches of systems
    neuroscience. Frontiers in Systems Neuroscience 2:4.

    Examples
    --------
    >>> rdm([[0, 0], [3, 4], [0, 1]], method="euclidean").round(2)
    array([5.  , 1.  , 4.24])
    """
    distance = checks.choice(method, DISTANCES, "method")
    label = "X" if name is None else f"Layer {name!r}"
    return distance(checks.representation(X, label), label)


def class_structure(D: ArrayLike, labels: ArrayLike) -> float:
    r"""How much further apart stimuli of different classes are than stimuli of the same class.

    .. math:: \mathrm{mean}_{c_i \neq c_j} D_{ij} - \mathrm{mean}_{c_i = c_j} D_{ij}

    in the unit of D. Pairs whose distance is NaN are left out. It is not divided by the spread of D: between layers it
    compares only for a distance that does not depend on their scale (correlation, cosine).

    Parameters
    ----------
    D : array-like (n * (n - 1) / 2,) or (n, n)
        A condensed or square RDM.
    labels : array-like (n,)
        The class of every stimulus: numbers or strings.

    Returns
    -------
    float
        Zero without class structure, positive where classes form clusters; within [-max D, max D]. NaN if all the
        distances within classes, or all those between them, are NaN.

    Raises
    ------
    ValueError
        If D is no RDM, if there is not one label a stimulus, if there is only one class, or if no class has two
        members.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    Examples
    --------
    >>> class_structure([1, 4, 4, 4, 4, 3], labels=["cat", "cat", "dog", "dog"])
    2.0
    """
    distances = condensed(D)
    same = _same_class(labels, n_stimuli(distances))
    defined = ~np.isnan(distances)
    within, between = distances[same & defined], distances[~same & defined]
    if not (within.size and between.size):
        warnings.warn(
            f"All distances {'between' if within.size else 'within'} classes are NaN; the class structure is NaN.",
            RuntimeWarning,
            stacklevel=2,
        )
        return math.nan
    return float(between.mean() - within.mean())


def condensed(D: ArrayLike, name: str = "D") -> FloatArray:
    """Upper triangle of an RDM that is given condensed or square.

    Parameters
    ----------
    D : array-like (n * (n - 1) / 2,) or (n, n)
        NaN marks a distance that is not defined.
    name : str, default "D"
        What the messages call it.

    Returns
    -------
    array (n * (n - 1) / 2,)
        Float64; the same memory where D already is such an array.

    Raises
    ------
    ValueError
        If the length belongs to no number of stimuli; if a matrix is not square, not symmetric or has a diagonal that
        is not zero; if a distance is infinite.

    Examples
    --------
    >>> condensed([[0, 1, 2], [1, 0, 3], [2, 3, 0]])
    array([1., 2., 3.])
    """
    array = np.asarray(D, dtype=np.float64)
    if np.isinf(array).any():
        raise ValueError(f"{name} has {np.isinf(array).sum()} infinite distances; expected finite ones, or NaN.")
    if array.ndim == 2:
        array = _upper_triangle(array, name)
    if array.ndim != 1:
        raise ValueError(
            f"{name} has {array.ndim} dimensions; expected 1 (condensed) or 2 (square). Compute it with rdm()."
        )
    n_stimuli(array, name)
    return array


def n_stimuli(condensed: NDArray[Any], name: str = "D") -> int:
    """Count the stimuli of a condensed RDM.

    Parameters
    ----------
    condensed : array (n * (n - 1) / 2,)
    name : str, default "D"
        What the message calls it.

    Returns
    -------
    int
        n, at least 2.

    Raises
    ------
    ValueError
        If no number of stimuli has that many pairs.

    Examples
    --------
    >>> n_stimuli(np.zeros(10))
    5
    """
    m = len(condensed)
    n = (1 + math.isqrt(1 + 8 * m)) // 2
    if m == 0 or n * (n - 1) // 2 != m:
        raise ValueError(
            f"{name} has {m} distances; a condensed RDM of n >= 2 stimuli has n * (n - 1) / 2. Compute it with rdm()."
        )
    return n


def _correlation(X: FloatArray, name: str) -> FloatArray:
    if X.shape[1] == 1:
        raise ValueError(
            f"{name} has 1 feature; a correlation between patterns needs at least 2. Use method='euclidean'."
        )
    return _one_minus_cosine(centred(X, axis=1), "variance", name)


def _cosine(X: FloatArray, name: str) -> FloatArray:
    return _one_minus_cosine(X, "norm", name)


def _euclidean(X: FloatArray, name: str) -> FloatArray:
    D = _sqeuclidean(X, name)
    return np.sqrt(D, out=D)


def _sqeuclidean(X: FloatArray, name: str) -> FloatArray:
    return _squared_distances(centred(X, axis=0))


def _one_minus_cosine(Z: FloatArray, length: str, name: str) -> FloatArray:
    zero = np.flatnonzero(~Z.any(axis=1))
    if zero.size:
        _warn_undefined(zero, len(Z), length, name)
    # |x - y|^2 = 2 - 2 cos for rows of unit length; as a sum of squares it keeps its digits when x is close to y.
    D = _squared_distances(_unit_rows(Z))
    D /= 2
    return np.minimum(D, 2.0, out=D)


def _warn_undefined(stimuli: NDArray[np.intp], n: int, length: str, name: str) -> None:
    first = ", ".join(map(str, stimuli[:5])) + (", ..." if len(stimuli) > 5 else "")
    warnings.warn(
        f"{name}: {len(stimuli)} of {n} stimuli have zero {length} (rows {first}); their distances are NaN.",
        RuntimeWarning,
        stacklevel=5,  # the caller of rdm
    )


def _unit_rows(Z: FloatArray) -> FloatArray:
    """Rows scaled to length one; a row of zeros becomes NaN."""
    with np.errstate(invalid="ignore"):
        Z = Z / np.abs(Z).max(axis=1, keepdims=True)  # so that no square overflows or vanishes
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    return Z


def _squared_distances(Z: FloatArray) -> FloatArray:
    """Condensed squared distances between rows; never negative, and zero between equal rows."""
    n = len(Z)
    squares = np.einsum("ij,ij->i", Z, Z)
    distances = np.empty(n * (n - 1) // 2)
    rows, end = max(1, PAIRS_AT_ONCE // n), 0
    for start in range(0, n, rows):
        products = Z[start : start + rows] @ Z[start:].T  # (rows, n - start)
        for i, row in enumerate(products, start):
            begin, end = end, end + n - 1 - i
            distances[begin:end] = _distances_after(i, Z, squares, row[i - start + 1 :])
    return distances


def _distances_after(i: int, Z: FloatArray, squares: FloatArray, products: FloatArray) -> FloatArray:
    """Squared distances of row i to every row after it, given its products with them."""
    scale = squares[i] + squares[i + 1 :]
    distances = scale - 2 * products
    near = np.flatnonzero(distances < NEAR * scale)
    distances[near] = np.square(Z[i + 1 + near] - Z[i]).sum(axis=1)
    return distances


def _same_class(labels: ArrayLike, n: int) -> NDArray[np.bool_]:
    """For each pair of a condensed RDM, whether its two stimuli share their class."""
    array = np.asarray(labels)
    if array.shape != (n,):
        raise ValueError(
            f"D has {n} stimuli and labels has shape {array.shape}; expected shape ({n},). "
            "Give one label for each stimulus, in the same order."
        )
    classes, codes, counts = np.unique(array, return_inverse=True, return_counts=True)
    if len(classes) == 1:
        raise ValueError(
            f"All {n} labels are {classes[0]}; at least 2 classes are needed. Record stimuli of more classes."
        )
    if counts.max() == 1:
        raise ValueError(f"Each of the {n} classes has 1 member; one needs at least 2. Record more stimuli of a class.")
    return np.concatenate([codes[i + 1 :] == code for i, code in enumerate(codes)])


def _upper_triangle(D: FloatArray, name: str) -> FloatArray:
    n, columns = D.shape
    if n != columns:
        raise ValueError(
            f"{name} has shape {D.shape}; a square RDM has as many rows as columns. Compute it with rdm()."
        )
    tolerance = SYMMETRY * np.nanmax(np.abs(D), initial=0.0)
    if not np.allclose(D, D.T, rtol=0, atol=tolerance, equal_nan=True):
        raise ValueError(
            f"{name} is not symmetric; D[i, j] and D[j, i] must be equal. Average D and its transpose first."
        )
    if (np.abs(np.diagonal(D)) > tolerance).any():
        raise ValueError(
            f"{name} has a diagonal that is not zero; a stimulus is at distance 0 from itself. "
            "Pass distances (1 - similarity), not similarities."
        )
    return np.concatenate([row[i + 1 :] for i, row in enumerate(D)])


DISTANCES: dict[str, Callable[[FloatArray, str], FloatArray]] = {
    "correlation": _correlation,
    "cosine": _cosine,
    "euclidean": _euclidean,
    "sqeuclidean": _sqeuclidean,
}
