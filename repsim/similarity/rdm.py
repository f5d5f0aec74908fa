"""Representational dissimilarity matrices (RDMs): distances between all pairs of stimuli in one layer."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repsim.similarity import checks
from repsim.similarity.conditions import averaged, check_labels, noise_of, split_into_folds
from repsim.similarity.distances import DISTANCES, Distance, Patterns
from repsim.similarity.distances.noise_covariance import whitening
from repsim.similarity.distances.reading import Blocks, in_safe_precision
from repsim.similarity.entries import choose
from repsim.similarity.precision import FloatArray
from repsim.similarity.rdm_array import RDM

# Largest asymmetry of a square matrix, relative to its largest entry: that of single precision.
SYMMETRY = 1e-6


def rdm(
    X: ArrayLike,
    method: str | Distance | Callable[[FloatArray, FloatArray], float] = "correlation",
    *,
    labels: ArrayLike | None = None,
    folds: ArrayLike | None = None,
    noise: ArrayLike | None = None,
    out: Any = None,
    memory: int = 256 * 2**20,
    name: str | None = None,
) -> Any:
    r"""Compute the distance of every pair of stimuli, or conditions, in one representation.

    ============  ==========================================================  =============
    method        distance of x and y                                         range
    ============  ==========================================================  =============
    correlation   :math:`1 - r(x, y)`, each pattern centred over features     [0, 2]
    cosine        :math:`1 - x^T y / (|x| |y|)`, nothing is centred           [0, 2]
    euclidean     :math:`|x - y|`                                             [0, inf)
    sqeuclidean   :math:`|x - y|^2`, a sum that is not divided by d           [0, inf)
    mahalanobis   :math:`\sqrt{(x - y)^T \Sigma^{-1} (x - y)}`                [0, inf)
    crossnobis    its square, cross-validated over folds                      (-inf, inf)
    poisson       :math:`(x - y)^T (\log x - \log y)`, of rates               [0, inf)
    poisson_cv    the same, cross-validated over folds                        (-inf, inf)
    ============  ==========================================================  =============

    and the metrics of `scipy.spatial.distance.pdist` by their names. The first five are computed from matrix products
    in tiles; the peak of memory is the result, one copy of X in its precision and about 20 MiB.

    Parameters
    ----------
    X : array-like (n, d)
        One row per stimulus, one column per feature; n >= 2, and d >= 2 for correlation. Features that are constant up
        to rounding are treated as constant. Single precision stays single (means, norms and small distances are
        computed in double precision), unless the squares of the largest value of a row would overflow or vanish;
        other types become double. Objects with a shape, a dtype and slices that are not arrays, such as HDF5 datasets,
        are read in blocks by the first five methods.
    method : str, Distance or callable, default "correlation"
        A key of `DISTANCES`, a distance of your own or one with other options (`poisson_distance`), or a symmetric
        function of two patterns (d,).
    labels : array-like (n,), optional
        The condition of every row. Rows of one condition are averaged, and the result has the conditions in the order
        of `numpy.unique`. The cross-validated distances need labels.
    folds : array-like (n,), optional
        The fold (such as the run or the session) of every row; every condition must occur in every fold. Only for the
        cross-validated distances, which need folds. Noise must be independent between folds.
    noise : array-like (d, d) or (d,), optional
        Covariance, or variances, of the noise, for mahalanobis and crossnobis. By default the shrunk covariance of the
        deviations from the mean of each condition (each condition in each fold if there are folds; the mean of all
        rows if there are no labels).
    out : array-like (n * (n - 1) / 2,), optional
        Array, memory map or HDF5 dataset in which the result is written slice by slice.
    memory : int, default 256 MiB
        Bound in bytes on the rows of an X that is read in blocks, and on their distances.
    name : str, optional
        Name of the layer in messages.

    Returns
    -------
    RDM (n * (n - 1) / 2,)
        An array of the upper triangle row by row, in the order of `scipy.spatial.distance.pdist`, that knows its
        stimuli (ids and labels of a recorded layer, or the conditions); ``square()`` makes it square and ``plot()``
        draws it. This is ``out`` if given. Pairs with a stimulus of zero variance (correlation) or zero norm (cosine)
        are NaN.

    Raises
    ------
    ValueError
        If X is not a finite real matrix with at least 2 rows; if the method is unknown; if labels, folds, noise or out
        have a wrong shape, are missing or are not used by the method; if X has one feature (correlation) or negative
        values (Poisson distances); if (squared) distances overflow or vanish in the precision of the result.

    Warns
    -----
    RuntimeWarning
        Once, with the number of stimuli, if some have zero variance or zero norm.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008). Representational similarity analysis - connecting the branches of systems
    neuroscience. Frontiers in Systems Neuroscience 2:4.
    Walther, Nili, Ejaz, Alink, Kriegeskorte & Diedrichsen (2016). Reliability of dissimilarity measures for multi-voxel
    pattern analysis. NeuroImage 137 (crossnobis).

    Examples
    --------
    >>> rdm([[0, 0], [3, 4], [0, 1]], method="euclidean").round(2)
    array([5.  , 1.  , 4.24])
    """
    distance = choose(method, DISTANCES, Distance, "method")
    label = "X" if name is None else f"Layer {name!r}"
    distances, undefined = compute_rdm(
        X, distance, label, labels=labels, folds=folds, noise=noise, out=out, memory=memory
    )
    if undefined is not None:
        warnings.warn(undefined, RuntimeWarning, stacklevel=2)
    if out is not None:
        return distances
    ids, classes = _stimuli_of(X) if labels is None else (np.unique(np.asarray(labels)), None)
    return RDM.of(distances, ids, classes, distance.name)


def _stimuli_of(X: Any) -> tuple[Any, Any]:
    """Return the ids and the labels of the stimuli of a recorded layer; None for what X does not know."""
    ids = getattr(X, "stimulus_ids", None)
    labels = getattr(getattr(X, "stimuli", None), "labels", None)
    has_labels = ids is not None and labels is not None and np.shape(labels) == np.shape(ids)
    return ids, labels if has_labels else None


def compute_rdm(
    X: ArrayLike,
    distance: Distance,
    label: str,
    *,
    labels: ArrayLike | None = None,
    folds: ArrayLike | None = None,
    noise: ArrayLike | None = None,
    out: Any = None,
    memory: int = 256 * 2**20,
) -> tuple[Any, str | None]:
    """Compute an RDM and return the text of its warning, or None, for callers in several threads.

    Arguments are those of `rdm`, and ``label``, the name of X in messages.
    """
    _check_given(distance, labels, folds, noise)
    activations: Any
    if distance.reads_blocks and labels is None and checks.is_read_in_blocks(X):
        checks.check_shape(X, label)
        activations = Blocks(X, label)
    else:
        activations = in_safe_precision(checks.representation(X, label, keep_single=True))
    codes = None if labels is None else check_labels(labels, len(activations), label)
    by_fold = None if folds is None or codes is None else split_into_folds(activations, codes, folds, label)
    whiten = None
    if distance.takes_noise:
        covariance = noise_of(activations, codes, folds, label) if noise is None else noise
        whiten = whitening(covariance, activations.shape[1])
    if codes is not None:
        activations = averaged(activations, codes)
    room = _output(out, activations)
    undefined = distance.compute(
        Patterns(X=activations, name=label, out=room, memory=memory, folds=by_fold, whiten=whiten)
    )
    return room, undefined


def _check_given(
    distance: Distance, labels: ArrayLike | None, folds: ArrayLike | None, noise: ArrayLike | None
) -> None:
    """Check that all required arguments are given, and none that the distance would ignore."""
    for what, given in (("labels", labels), ("folds", folds)):
        if what in distance.needs and given is None:
            raise ValueError(f"method '{distance.name}' needs {what}. Pass one for each row of X.")
    if folds is not None and "folds" not in distance.needs:
        raise ValueError(f"method '{distance.name}' does not use folds. Omit them, or choose crossnobis or poisson_cv.")
    if noise is not None and not distance.takes_noise:
        raise ValueError(f"method '{distance.name}' does not use noise. Omit it, or choose mahalanobis or crossnobis.")


def _output(out: Any, X: Any) -> Any:
    size = len(X) * (len(X) - 1) // 2
    if out is None:
        return np.empty(size, dtype=np.float32 if X.dtype == np.float32 else np.float64)
    if not (hasattr(out, "shape") and hasattr(out, "dtype")):
        raise ValueError(f"out is a {type(out).__name__}; expected an array, a memory map or an HDF5 dataset.")
    if tuple(out.shape) != (size,):
        raise ValueError(f"out has shape {tuple(out.shape)}; {len(X)} stimuli have ({size},) distances.")
    if np.dtype(out.dtype).kind != "f":
        raise ValueError(f"out is of {out.dtype}, which cannot hold distances; expected float32 or float64.")
    return out


def condensed(D: ArrayLike, name: str = "D") -> FloatArray:
    """Return the upper triangle of an RDM that is given condensed or square.

    NaN marks a distance that is not defined. The result is float64, and D itself if D already is such an array.
    """
    array = checks.real_array(D, name).astype(np.float64, copy=False)
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
    """Count the stimuli of a condensed RDM."""
    m = len(condensed)
    n = (1 + math.isqrt(1 + 8 * m)) // 2
    if m == 0 or n * (n - 1) // 2 != m:
        raise ValueError(
            f"{name} has {m} distances; a condensed RDM of n >= 2 stimuli has n * (n - 1) / 2. Compute it with rdm()."
        )
    return n


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
