"""Statistics of one representation: where its patterns lie, how they spread, and how its classes separate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from repsim.similarity import checks
from repsim.similarity.arrays import FloatArray, centred
from repsim.similarity.conditions import averaged
from repsim.similarity.measures.measure import INVARIANCES

# Products are formed for this many pairs at a time (8 MiB), so that no n x n matrix is ever held.
PAIRS_AT_ONCE = 2**20
# A length this small beside those it is the difference of is nothing but rounding.
NOTHING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """One number that describes one representation.

    Parameters
    ----------
    name : str
        Its key in `STATISTICS`.
    function : callable
        The documented function: takes X (n, d), and labels (n,) if it needs them, returns a float.
    formula : str
        In plain characters.
    range : (float, float)
        Smallest and largest value it can take.
    needs_labels : bool, default False
        Whether it goes by classes of stimuli.
    invariances : frozenset of str
        The transformations of X that leave the value as it is, by the names that `Measure` has for them. What is not
        named here does change it.
    cost : str
        In n stimuli, d features and c classes.
    use : str
        When to choose it.
    reference : str
        The paper.

    Raises
    ------
    ValueError
        If the range is empty or an invariance is unknown.

    Examples
    --------
    >>> STATISTICS["magnitude"].range
    (0.0, inf)
    """

    name: str
    function: Callable[..., float]
    formula: str
    range: tuple[float, float]
    needs_labels: bool = False
    invariances: frozenset[str]
    cost: str
    use: str
    reference: str

    def __post_init__(self) -> None:
        """Check the declaration."""
        if unknown := self.invariances - INVARIANCES:
            raise ValueError(f"Unknown invariances {sorted(unknown)}. Choose among: {', '.join(sorted(INVARIANCES))}.")
        if self.range[0] >= self.range[1]:
            raise ValueError(f"The range {self.range} is empty; expected (smallest, largest).")


def magnitude(X: ArrayLike) -> float:
    r"""Length of the mean pattern.

    .. math:: |\bar x|, \quad \bar x = \frac{1}{n} \sum_i x_i

    in the unit of X. It is not the mean length of the patterns, which may be large where their mean is zero.

    Parameters
    ----------
    X : array-like (n, d)

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    ValueError
        If X is not a finite real matrix.

    References
    ----------
    Klabunde, Schumacher, Strohmaier & Lemmerich (2023). Similarity of neural network models: a survey of functional and
    representational measures. arXiv:2305.06329, section 3.

    Examples
    --------
    >>> magnitude([[3, 0], [3, 8]])
    5.0
    """
    return float(np.linalg.norm(checks.representation(X).mean(axis=0)))


def concentricity(X: ArrayLike) -> float:
    r"""Mean cosine of the patterns with the mean pattern.

    .. math:: \frac{1}{n} \sum_i \frac{x_i^T \bar x}{|x_i| \, |\bar x|}

    Parameters
    ----------
    X : array-like (n, d)

    Returns
    -------
    float
        Within [-1, 1]; 1 if all patterns point in one direction, near 0 if they point in all. NaN if a pattern, or the
        mean pattern, is all zeros.

    Raises
    ------
    ValueError
        If X is not a finite real matrix.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    References
    ----------
    Klabunde, Schumacher, Strohmaier & Lemmerich (2023). Similarity of neural network models: a survey of functional and
    representational measures. arXiv:2305.06329, section 3.

    Examples
    --------
    >>> round(concentricity([[1, 0], [0, 1]]), 4)
    0.7071
    """
    array = checks.representation(X)
    if zeros := _n_zeros(array):
        return _undefined("concentricity", f"{zeros} of {len(array)} patterns are all zeros")
    mean = (array / np.abs(array).max()).mean(axis=0)
    length = np.linalg.norm(mean)
    if length <= NOTHING:
        return _undefined("concentricity", "the mean pattern is all zeros, up to rounding")
    return float(np.clip(_directions(array).mean(axis=0) @ mean / length, -1.0, 1.0))


def uniformity(X: ArrayLike, *, t: float = 2.0) -> float:
    r"""How unevenly the directions of the patterns fill the sphere.

    .. math:: \log \frac{2}{n (n - 1)} \sum_{i < j} e^{-t |u_i - u_j|^2}, \quad u_i = x_i / |x_i|

    over pairs of different stimuli: no pattern is compared with itself. Wang and Isola call it the uniformity loss: it
    is lower, not higher, for more uniform directions.

    Parameters
    ----------
    X : array-like (n, d)
    t : float, default 2.0
        Above 0; how near directions must be to count.

    Returns
    -------
    float
        Within [-4 t, 0]; 0 if all patterns point in one direction. About -2 t for uniform directions in many
        dimensions. NaN if a pattern is all zeros.

    Raises
    ------
    ValueError
        If X is not a finite real matrix, or if t is not above 0 and finite.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    References
    ----------
    Wang & Isola (2020). Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere. ICML, section 4.

    Examples
    --------
    >>> round(uniformity([[1, 0], [0, 1]]), 4)
    -4.0
    """
    if not 0 < t < math.inf:
        raise ValueError(f"t is {t}; expected a finite number above 0. The usual one is 2.")
    array = checks.representation(X)
    n = len(array)
    if zeros := _n_zeros(array):
        return _undefined("uniformity", f"{zeros} of {n} patterns are all zeros")
    total = logsumexp([logsumexp(-t * distances) for _, distances in _blocks(_directions(array))])
    return float(np.clip(total - math.log(n * (n - 1)), -4.0 * t, 0.0))


def intrinsic_dimension(X: ArrayLike) -> float:
    r"""Dimension of the manifold near which the patterns lie, by two nearest neighbours (TwoNN).

    .. math:: \frac{n - 1}{\sum_i \log (r_{i2} / r_{i1})}

    with the Euclidean distances :math:`r_{i1} \leq r_{i2}` of each stimulus to its two nearest. Where the density is
    even over that range, the ratios follow a Pareto law whose exponent is the dimension; this is its estimator of
    maximum likelihood with n - 1 for n, which makes it unbiased. (Facco et al. fit a line to the distribution instead,
    without its largest ratios.) Stimuli with a duplicate have no ratio and are left out of sum and n. High dimensions
    are underestimated unless n is very large.

    Parameters
    ----------
    X : array-like (n, d)
        n >= 3.

    Returns
    -------
    float
        Above 0. NaN if fewer than 2 stimuli have no duplicate, or if the two nearest of each are equally far.

    Raises
    ------
    ValueError
        If X is not a finite real matrix, or has fewer than 3 rows.

    Warns
    -----
    RuntimeWarning
        Once, with their number, if stimuli have duplicates; or if the result is NaN.

    References
    ----------
    Facco, d'Errico, Rodriguez & Laio (2017). Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information. Scientific Reports 7:12140.

    Examples
    --------
    >>> round(intrinsic_dimension([[0], [1], [3]]), 4)
    0.9102
    """
    array = checks.representation(X)
    n = len(array)
    if n < 3:
        raise ValueError(f"X has {n} stimuli; the two nearest of each need at least 3. Record more stimuli.")
    nearest = _two_nearest(array)
    nearest = nearest[nearest[:, 0] > 0]
    if len(nearest) < 2:
        return _undefined("intrinsic dimension", f"{n - len(nearest)} of {n} stimuli have a duplicate")
    total = float(np.log(nearest[:, 1] / nearest[:, 0]).sum())
    if total <= NOTHING * len(nearest):
        return _undefined("intrinsic dimension", "the two nearest of each stimulus are equally far")
    if len(nearest) < n:
        warnings.warn(
            f"X: {n - len(nearest)} of {n} stimuli have a duplicate and are left out of the intrinsic dimension.",
            RuntimeWarning,
            stacklevel=2,
        )
    return (len(nearest) - 1) / total


def participation_ratio(X: ArrayLike) -> float:
    r"""Effective number of dimensions that the variance is spread over.

    .. math:: \frac{(\sum_k \lambda_k)^2}{\sum_k \lambda_k^2} = \frac{(\mathrm{tr} \, C)^2}{|C|_F^2}

    with the eigenvalues of the covariance C of the features. It is a biased estimator: of n stimuli it cannot exceed
    n - 1, and noise raises it.

    Parameters
    ----------
    X : array-like (n, d)

    Returns
    -------
    float
        Within [1, min(n - 1, d)]; the latter if all variances are equal. NaN if X is constant.

    Raises
    ------
    ValueError
        If X is not a finite real matrix.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    References
    ----------
    Gao, Trautmann, Yu, Santhanam, Ryu, Shenoy & Ganguli (2017). A theory of multineuronal dimensionality, dynamics and
    measurement. bioRxiv 214262.

    Examples
    --------
    >>> round(participation_ratio([[1, 0], [-1, 0], [0, 1], [0, -1]]), 6)
    2.0
    """
    Z = centred(checks.representation(X), axis=0)
    n, d = Z.shape
    largest = np.abs(Z).max()
    if largest == 0:
        return _undefined("participation ratio", "all patterns are equal")
    Z /= largest
    products = (Z.T @ Z if d <= n else Z @ Z.T).ravel()  # the same eigenvalues, but for zeros
    total = float(np.vdot(Z, Z))
    return float(np.clip(total**2 / (products @ products), 1.0, min(n - 1, d)))


def class_separation(X: ArrayLike, labels: ArrayLike) -> float:
    r"""How much nearer, in cosine distance, stimuli of one class are than stimuli at large.

    .. math:: R^2 = 1 - \frac{\bar d_\text{within}}{\bar d_\text{total}}

    where :math:`\bar d_\text{within}` is the mean of :math:`1 - \cos(x_i, x_j)` over all pairs in a class, averaged
    over classes, and :math:`\bar d_\text{total}` that over all pairs of classes, a class with itself among them. Every
    class counts the same, whatever its size; pairs of a stimulus with itself are among the pairs, as in the paper, so
    that the value of unrelated classes is above zero, about one over the members of a class.

    Parameters
    ----------
    X : array-like (n, d)
    labels : array-like (n,)
        The class of every stimulus: numbers or strings.

    Returns
    -------
    float
        Within [0, 1]; 1 if all patterns of a class point in one direction, 0 if the classes have the same mean
        direction. NaN if a pattern is all zeros, or if all point in one direction.

    Raises
    ------
    ValueError
        If X is not a finite real matrix, if there is not one label a stimulus, if there is only one class, or if no
        class has two members.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    References
    ----------
    Kornblith, Chen, Lee & Norouzi (2021). Why do better loss functions lead to less transferable features? NeurIPS,
    section 4.

    Examples
    --------
    >>> round(class_separation([[1, 0], [0, 1], [-1, 0], [0, -1]], ["cat", "cat", "dog", "dog"]), 6)
    0.5
    """
    array = checks.representation(X)
    codes = _classes(labels, len(array))
    if zeros := _n_zeros(array):
        return _undefined("class separation", f"{zeros} of {len(array)} patterns are all zeros")
    # Of directions u, the mean of 1 - u.v over pairs is their mean squared distance from their mean.
    within, means = _within_and_between(_directions(array), codes)
    spread, separation = float(np.vdot(within, within)), float(np.vdot(means, means))
    if spread + separation <= NOTHING**2:
        return _undefined("class separation", "all patterns point in one direction")
    return separation / (separation + spread)


def neural_collapse(X: ArrayLike, labels: ArrayLike) -> float:
    r"""How much patterns vary within classes, beside the differences of the class means (NC1).

    .. math:: \frac{1}{C} \mathrm{tr}(\Sigma_W \Sigma_B^+), \quad
              \Sigma_W = \frac{1}{C} \sum_c \frac{1}{n_c} \sum_{i \in c} (x_i - \mu_c) (x_i - \mu_c)^T, \quad
              \Sigma_B = \frac{1}{C} \sum_c (\mu_c - \mu) (\mu_c - \mu)^T

    with the means :math:`\mu_c` of the C classes, their mean :math:`\mu`, and the pseudo-inverse. Every class counts
    the same, whatever its size. Variation within classes counts only along directions in which their means differ.

    Parameters
    ----------
    X : array-like (n, d)
    labels : array-like (n,)
        The class of every stimulus: numbers or strings.

    Returns
    -------
    float
        At least 0; lower is more collapsed, 0 if all stimuli of a class have the same pattern (along those
        directions). NaN if all class means are equal.

    Raises
    ------
    ValueError
        If X is not a finite real matrix, if there is not one label a stimulus, if there is only one class, or if no
        class has two members.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    References
    ----------
    Papyan, Han & Donoho (2020). Prevalence of neural collapse during the terminal phase of deep learning training.
    PNAS 117, figure 6 (NC1).

    Examples
    --------
    >>> round(neural_collapse([[0], [2], [4], [6]], ["cat", "cat", "dog", "dog"]), 6)
    0.125
    """
    array = checks.representation(X)
    codes = _classes(labels, len(array))
    Z = centred(array, axis=0)
    Z /= np.abs(Z).max() or 1.0
    within, means = _within_and_between(Z, codes)
    _, s, Vt = np.linalg.svd(means, full_matrices=False)
    if s[0] <= NOTHING * np.linalg.norm(within) or s[0] == 0:
        return _undefined("neural collapse", "the means of all classes are equal")
    rank = np.count_nonzero(s > max(means.shape) * np.finfo(s.dtype).eps * s[0])
    along = within @ Vt[:rank].T / s[:rank]
    return float(np.vdot(along, along)) / len(means)


def _undefined(statistic: str, why: str) -> float:
    """Warn, in the name of the caller of the statistic, and return NaN."""
    warnings.warn(f"X: {why}. Its {statistic} is NaN.", RuntimeWarning, stacklevel=3)
    return math.nan


def _n_zeros(X: FloatArray) -> int:
    return len(X) - int(np.count_nonzero(X.any(axis=1)))


def _directions(X: FloatArray) -> FloatArray:
    """Patterns scaled to unit length; none may be all zeros."""
    Z = X / np.abs(X).max(axis=1, keepdims=True)  # so that no square overflows or vanishes
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    return Z


def _blocks(Z: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    """Squared distances of some rows to all, infinite to themselves, and the first of these rows."""
    squares = np.vecdot(Z, Z)
    rows = max(1, PAIRS_AT_ONCE // len(Z))
    for start in range(0, len(Z), rows):
        distances = Z[start : start + rows] @ Z.T  # (rows, n)
        distances *= -2
        distances += squares
        distances += squares[start : start + rows, None]
        itself = np.arange(len(distances))
        distances[itself, start + itself] = np.inf
        yield start, distances


def _two_nearest(X: FloatArray) -> FloatArray:
    """Distances of each stimulus to its two nearest others, up to a common factor; (n, 2)."""
    Z = centred(X, axis=0)
    Z /= np.abs(Z).max() or 1.0
    nearest = np.empty((len(Z), 2))
    for start, distances in _blocks(Z):
        both = np.argpartition(distances, 1, axis=1)[:, :2]
        block = slice(start, start + len(both))
        for k in range(2):
            # Anew, as sums of squares: small differences of large squares have lost their digits.
            nearest[block, k] = np.linalg.norm(Z[block] - Z[both[:, k]], axis=1)
    nearest.sort(axis=1)
    return nearest


def _classes(labels: ArrayLike, n: int) -> NDArray[np.intp]:
    """Check labels, and number the classes."""
    array = np.asarray(labels)
    if array.shape != (n,):
        raise ValueError(
            f"X has {n} stimuli and labels has shape {array.shape}; expected shape ({n},). "
            "Give one label for each stimulus, in the same order."
        )
    classes, codes, counts = np.unique(array, return_inverse=True, return_counts=True)
    if len(classes) == 1:
        raise ValueError(
            f"All {n} labels are {classes[0]}; at least 2 classes are needed. Record stimuli of more classes."
        )
    if counts.max() == 1:
        raise ValueError(f"Each of the {n} classes has 1 member; one needs at least 2. Record more stimuli of a class.")
    return codes


def _within_and_between(Z: FloatArray, codes: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
    """Deviations from class means (n, d), and of class means from their mean (C, d).

    They are weighted so that their squares sum to means over the members of a class, and over classes.
    """
    means = averaged(Z, codes)
    within = Z - means[codes]
    within /= np.sqrt(len(means) * np.bincount(codes)[codes])[:, None]
    return within, centred(means, axis=0) / math.sqrt(len(means))


ROTATION = frozenset({"permutation", "orthogonal"})
SIMILARITY = ROTATION | {"isotropic scaling", "translation"}

STATISTICS: dict[str, Statistic] = {
    statistic.name: statistic
    for statistic in (
        Statistic(
            name="magnitude",
            function=magnitude,
            formula="|mean pattern|",
            range=(0.0, math.inf),
            invariances=ROTATION,
            cost="n d",
            use="how far from the origin the patterns lie, in the unit of X",
            reference="Klabunde et al. (2023), section 3",
        ),
        Statistic(
            name="concentricity",
            function=concentricity,
            formula="mean of cos(pattern, mean pattern)",
            range=(-1.0, 1.0),
            invariances=ROTATION | {"isotropic scaling"},
            cost="n d",
            use="whether all patterns point the same way",
            reference="Klabunde et al. (2023), section 3",
        ),
        Statistic(
            name="uniformity",
            function=uniformity,
            formula="log mean of exp(−2 |u − v|²), u and v two patterns scaled to unit length",
            range=(-8.0, 0.0),
            invariances=ROTATION | {"isotropic scaling"},
            cost="n² d",
            use="how evenly directions fill the sphere: lower is more even",
            reference="Wang & Isola (2020), section 4",
        ),
        Statistic(
            name="intrinsic_dimension",
            function=intrinsic_dimension,
            formula="(n − 1) / Σ log(r₂ / r₁), distances to the two nearest stimuli",
            range=(0.0, math.inf),
            invariances=SIMILARITY,
            cost="n² d",
            use="dimension of a curved manifold, by its finest scale",
            reference="Facco et al. (2017)",
        ),
        Statistic(
            name="participation_ratio",
            function=participation_ratio,
            formula="(Σ λ)² / Σ λ², eigenvalues of the covariance",
            range=(1.0, math.inf),
            invariances=SIMILARITY,
            cost="n d min(n, d)",
            use="linear dimension, by the spread of the variance",
            reference="Gao et al. (2017)",
        ),
        Statistic(
            name="class_separation",
            function=class_separation,
            formula="1 − mean cosine distance within classes / mean cosine distance",
            range=(0.0, 1.0),
            needs_labels=True,
            invariances=ROTATION | {"isotropic scaling"},
            cost="n d",
            use="how far classes are apart, beside how wide they are",
            reference="Kornblith et al. (2021), section 4",
        ),
        Statistic(
            name="neural_collapse",
            function=neural_collapse,
            formula="tr(Σw Σb⁺) / C, covariances within classes and of the C class means",
            range=(0.0, math.inf),
            needs_labels=True,
            invariances=SIMILARITY,
            cost="n d c",
            use="whether classes shrink to points at the end of training: lower is more collapsed",
            reference="Papyan, Han & Donoho (2020), NC1",
        ),
    )
}
