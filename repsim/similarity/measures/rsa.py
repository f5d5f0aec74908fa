"""Representational similarity analysis (RSA) as a measure: a comparison of the RDMs of two representations."""

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from repsim.similarity.comparators.comparator import Comparator
from repsim.similarity.comparators.registry import COMPARATORS
from repsim.similarity.distances import DISTANCES, Distance
from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.entries import choose
from repsim.similarity.measures.measure import ISOMETRY, About, Measure, evaluate
from repsim.similarity.precision import FloatArray
from repsim.similarity.rdm import compute_rdm


@complete_docstring("n >= 3, and d1 >= 2 for correlation.")
def rsa(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    distance: str | Distance | Callable[..., float] = "correlation",
    comparator: str | Comparator | Callable[..., float] = "pearson",
) -> float:
    r"""Compute the similarity of the RDMs of two representations.

    By default the RDMs hold correlation distances, and the value is their correlation over all pairs of stimuli:

    .. math:: r\left((1 - r(x_i, x_j))_{i < j}, (1 - r(y_i, y_j))_{i < j}\right)

    It is ``compare_rdms(rdm(X, distance), rdm(Y, distance), comparator)``. Prefer these functions if RDMs are used
    again or if some distances are not defined: here the value is NaN if the distances of one stimulus are not defined.
    As pairs of stimuli are not independent, no p-value follows from this correlation.

    Invariances depend on the distance and the comparator. By default the value does not change if X is scaled or if a
    number is added to all features of a stimulus; it changes if X is rotated or if each feature has an offset of its
    own. With Euclidean distances it is invariant to both.

    Parameters
    ----------
    distance : str, Distance or callable, default "correlation"
        As ``method`` of `rdm`; a distance that needs neither labels nor folds.
    comparator : str, Comparator or callable, default "pearson"
        As ``method`` of `compare_rdms`.

    Returns
    -------
    float
        In the range of the comparator, [-1, 1] for pearson; larger for RDMs that are more alike. NaN, with a warning,
        if the distances of X or of Y are all equal or some are not defined (correlation: a pattern without variance).

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
    chosen = choose(distance, DISTANCES, Distance, "distance")
    _check_needs_nothing(chosen)
    return evaluate(_measure("rsa", "RSA", chosen, choose(comparator, COMPARATORS, Comparator, "comparator")), X, Y)


def _prepare(X: FloatArray, name: str, *, distance: Distance, comparator: Comparator) -> Any:
    if len(X) < 3:
        raise ValueError(
            f"{name} has {len(X)} stimuli; RSA needs at least 3, as 2 have a single distance. Record more stimuli."
        )
    D, undefined = compute_rdm(X, distance, name)
    return comparator.prepare(D) if undefined is None else None  # the caller warns once for all layers


def _check_needs_nothing(distance: Distance) -> None:
    if distance.needs:
        raise ValueError(
            f"The distance '{distance.name}' needs {' and '.join(sorted(distance.needs))}, which RSA does not accept. "
            f"Choose one of: {', '.join(sorted(name for name, each in DISTANCES.items() if not each.needs))}. "
            "Or compute RDMs with rdm() and compare them with compare_rdms()."
        )


def _measure(name: str, label: str, distance: Distance, comparator: Comparator, **fields: Any) -> Measure:
    return Measure(
        name=name,
        label=label,
        prepare=partial(_prepare, distance=distance, comparator=comparator),
        compare=comparator.compare,
        range=comparator.range,
        undefined="are constant, or their distances are all equal or not all defined",
        **fields,
    )


_REFERENCE = "Kriegeskorte, Mur & Bandettini (2008)"

PEARSON = _measure(
    "rsa",
    "RSA",
    DISTANCES["correlation"],
    COMPARATORS["pearson"],
    invariances=frozenset({"permutation", "isotropic scaling"}),
    about=About(
        formula="r(Dₓ, Dᵧ) over pairs of stimuli, D = 1 − r between their patterns",
        cost="n² d and n²/2 stored numbers for each representation; n² for each pair",
        use="to compare with model RDMs, and where the mean activity of a stimulus has no meaning",
        reference=_REFERENCE,
    ),
)

SPEARMAN = _measure(
    "rsa_spearman",
    "RSA (Spearman)",
    DISTANCES["euclidean"],
    COMPARATORS["spearman"],
    invariances=ISOMETRY,
    about=About(
        formula="r(rank Dₓ, rank Dᵧ) over pairs of stimuli, D Euclidean distances",
        cost="n² (d + log n) and n²/2 stored numbers for each representation; n² for each pair",
        use="to ask whether the same stimuli are near and far, under any monotone relation",
        reference=_REFERENCE,
    ),
)

FAMILY = (PEARSON, SPEARMAN)
