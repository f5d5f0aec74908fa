"""Representational similarity analysis (RSA) as a measure: the RDMs of two representations, compared."""

from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from repsim.similarity import checks
from repsim.similarity.comparators.registry import COMPARATORS
from repsim.similarity.distances import DISTANCES, Distance
from repsim.similarity.measures.measure import Measure, evaluate
from repsim.similarity.precision import FloatArray
from repsim.similarity.rdm import compute_rdm


def rsa(X: ArrayLike, Y: ArrayLike, *, distance: str = "correlation", comparator: str = "pearson") -> float:
    r"""Likeness of the RDMs of two representations.

    By default the correlation, over all pairs of stimuli, of what one minus the correlation of their patterns is in X
    and in Y:

    .. math:: r\left((1 - r(x_i, x_j))_{i < j}, (1 - r(y_i, y_j))_{i < j}\right)

    It is ``compare_rdms(rdm(X, distance), rdm(Y, distance), comparator)``, which is to be preferred where RDMs are used
    again or some of their distances are not defined: here one stimulus without them leaves the value undefined. Pairs
    of stimuli are not independent of one another, so this is no correlation to read a p-value from.

    What it is invariant to depends on the distance and the comparator. By default X may be scaled, and a number added
    to all features of a stimulus; neither a rotation nor an offset of its own for each feature is ignored. With
    Euclidean distances both are.

    Parameters
    ----------
    X : array-like (n, d1)
        n >= 3, and d1 >= 2 for correlation.
    Y : array-like (n, d2)
        The same stimuli in the same order.
    distance : str, default "correlation"
        A key of `DISTANCES`, of a distance that needs neither labels nor folds.
    comparator : str, default "pearson"
        A key of `COMPARATORS`.

    Returns
    -------
    float
        In the range of the comparator, [-1, 1] for pearson; larger for RDMs that are more alike. NaN if the distances
        of X or of Y are all the same, or some are not defined (correlation: a pattern without variance).

    Raises
    ------
    ValueError
        If X or Y is not a finite real matrix, if their numbers of rows differ or are less than 3, if there is no such
        distance or comparator, if the distance needs labels or folds, or if X or Y does not suit it.

    Warns
    -----
    RuntimeWarning
        If the result is NaN.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008). Representational similarity analysis - connecting the branches of systems
    neuroscience. Frontiers in Systems Neuroscience 2:4.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(50, 8))
    >>> round(rsa(X, 2 * X[:, ::-1]), 6), round(rsa(X, X[:, :4], distance="euclidean", comparator="spearman"), 2)
    (1.0, 0.57)
    """
    _check_needs_nothing(checks.choice(distance, DISTANCES, "distance"))
    chosen = checks.choice(comparator, COMPARATORS, "comparator")
    prepare = partial(_prepare, distance=distance, comparator=comparator)
    return evaluate(X, Y, prepare, chosen.compare, what="RSA", undefined=UNDEFINED)


UNDEFINED = "are constant, or their distances are all the same or not all defined"


def _prepare(X: FloatArray, name: str, *, distance: str, comparator: str) -> Any:
    if len(X) < 3:
        raise ValueError(
            f"{name} has {len(X)} stimuli; RSA needs at least 3, for 2 have a single distance. Record more stimuli."
        )
    D, undefined = compute_rdm(X, DISTANCES[distance], name)
    return COMPARATORS[comparator].prepare(D) if undefined is None else None  # callers warn once, of all layers


def _check_needs_nothing(distance: Distance) -> None:
    if distance.needs:
        raise ValueError(
            f"The distance '{distance.name}' needs {' and '.join(sorted(distance.needs))}, which RSA does not take. "
            f"Choose one of: {', '.join(sorted(name for name, each in DISTANCES.items() if not each.needs))}. "
            "Or compare what rdm() makes of them by compare_rdms()."
        )


def _measure(name: str, distance: str, comparator: str, **words: Any) -> Measure:
    return Measure(
        name=name,
        function=partial(rsa, distance=distance, comparator=comparator),
        prepare=partial(_prepare, distance=distance, comparator=comparator),
        compare=COMPARATORS[comparator].compare,
        range=COMPARATORS[comparator].range,
        direction="similarity",
        is_metric=False,
        undefined=UNDEFINED,
        reference="Kriegeskorte, Mur & Bandettini (2008)",
        **words,
    )


FAMILY = (
    _measure(
        "rsa",
        "correlation",
        "pearson",
        label="RSA",
        formula="r(Dₓ, Dᵧ) over pairs of stimuli, D = 1 − r between their patterns",
        invariances=frozenset({"permutation", "isotropic scaling"}),
        cost="n² d once for each representation, of which n²/2 numbers are kept; n² for a pair",
        use="to compare with models of the RDM, and where the mean activity of a stimulus means nothing",
    ),
    _measure(
        "rsa_spearman",
        "euclidean",
        "spearman",
        label="RSA (Spearman)",
        formula="r(rank Dₓ, rank Dᵧ) over pairs of stimuli, D Euclidean distances",
        invariances=frozenset({"permutation", "orthogonal", "isotropic scaling", "translation"}),
        cost="n² (d + log n) once for each representation, of which n²/2 numbers are kept; n² for a pair",
        use="whether the same stimuli are near and far, by any monotone law",
    ),
)
