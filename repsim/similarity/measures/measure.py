"""What a measure of similarity declares about itself, and how one is evaluated; the tests hold it to every word."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import ArrayLike

from repsim.similarity import checks
from repsim.similarity.precision import FloatArray

INVARIANCES = frozenset({"permutation", "orthogonal", "invertible linear", "isotropic scaling", "translation"})

Prepare = Callable[[FloatArray, str], Any]
Compare = Callable[[Any, Any], float]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One way of comparing two representations of the same stimuli.

    A measure is evaluated in two steps, so that of many representations each is prepared once and only what depends on
    two of them is done for every pair.

    Parameters
    ----------
    name : str
        Its key in `MEASURES`.
    label : str, optional
        Its name in figures and summaries, such as "SVCCA"; ``name`` by default.
    function : callable
        The documented function: takes X (n, d1) and Y (n, d2), returns a float.
    prepare : callable
        Takes a checked X (n, d) and the name that messages call it by; returns all that ``compare`` needs of it, or
        None if the measure is not defined for it. Raises ValueError if X has too few stimuli.
    compare : callable
        Takes what ``prepare`` returned for X and for Y, returns a float; NaN where it is not defined.
    formula : str
        In plain characters, as the table of measures shows it.
    range : (float, float)
        Smallest and largest value it can take.
    direction : {"similarity", "distance"}
        A similarity grows with likeness, a distance falls.
    is_metric : bool
        Whether it is symmetric, zero between representations that differ by what it is invariant to, and obeys the
        triangle inequality.
    is_symmetric : bool, default True
        Whether X and Y may change places.
    invariances : frozenset of str
        The transformations of X alone that leave the value as it is, out of "permutation" (of the features),
        "orthogonal" (rotation and reflection), "invertible linear", "isotropic scaling" (by a positive factor) and
        "translation". What is not named here does change it.
    undefined : str, default "are constant"
        What is to be said of representations for which it is not defined.
    cost : str
        In n stimuli and d features, for one pair, as the table of measures shows it.
    use : str
        When to choose it.
    reference : str
        The paper, with its equation.
    together : callable, optional
        All pairs at once, faster than one by one: takes a sequence of what ``prepare`` returned (none of it None), the
        pairs (i, j), i <= j, that are asked for, among them all (i, i), and the keywords ``memory`` in bytes and
        ``device``; returns an array that is right at those pairs.

    Raises
    ------
    ValueError
        If a range is empty, if an invariance or a direction is unknown, or if invariances imply others that are not
        named.

    Examples
    --------
    >>> gap = Measure(name="gap", function=lambda X, Y: 0.0, prepare=lambda X, name: X, compare=lambda x, y: 0.0,
    ...               formula="0", range=(0, 1), direction="distance", is_metric=False, cost="1", use="never",
    ...               invariances=frozenset({"translation"}), reference="none")
    >>> gap.direction
    'distance'
    """

    name: str
    label: str = ""
    function: Callable[..., float]
    prepare: Prepare
    compare: Compare
    formula: str
    range: tuple[float, float]
    direction: Literal["similarity", "distance"]
    is_metric: bool
    is_symmetric: bool = True
    invariances: frozenset[str]
    undefined: str = "are constant"
    cost: str
    use: str
    reference: str
    together: Callable[..., FloatArray] | None = None

    def __post_init__(self) -> None:
        """Check the declaration, and fill in the label."""
        object.__setattr__(self, "label", self.label or self.name)
        if self.direction not in ("similarity", "distance"):
            raise ValueError(f"Unknown direction {self.direction!r}. Choose one of: distance, similarity.")
        if unknown := self.invariances - INVARIANCES:
            raise ValueError(f"Unknown invariances {sorted(unknown)}. Choose among: {', '.join(sorted(INVARIANCES))}.")
        if self.range[0] >= self.range[1]:
            raise ValueError(f"The range {self.range} is empty; expected (smallest, largest).")
        for one, implied in _IMPLIED:
            if one in self.invariances and implied not in self.invariances:
                raise ValueError(f"A measure invariant to {one} transformations is so to {implied}; name both.")
        if self.is_metric and not self.is_symmetric:
            raise ValueError("A metric is symmetric.")


_IMPLIED = (
    ("orthogonal", "permutation"),
    ("invertible linear", "orthogonal"),
    ("invertible linear", "isotropic scaling"),
)


def evaluate(
    X: ArrayLike, Y: ArrayLike, prepare: Prepare, compare: Compare, *, what: str, undefined: str = "are constant"
) -> float:
    """Check two representations, prepare them and compare them; the body of the documented functions.

    Parameters
    ----------
    X : array-like (n, d1)
    Y : array-like (n, d2)
    prepare, compare, undefined
        As in `Measure`.
    what : str
        What the warning calls the value: "CKA".

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If X or Y is not a finite real matrix, if their numbers of rows (or, where they carry them, ids of stimuli)
        differ, or as ``prepare`` does.

    Warns
    -----
    RuntimeWarning
        If the value is NaN.

    Examples
    --------
    >>> evaluate([[1], [2]], [[3], [5]], lambda X, name: X.sum(), lambda x, y: x - y, what="difference")
    -5.0
    """
    checks.same_ids({"X": X, "Y": Y})
    representations = {"X": checks.representation(X, "X"), "Y": checks.representation(Y, "Y")}
    checks.same_stimuli({name: len(representation) for name, representation in representations.items()})
    prepared = {name: prepare(representation, name) for name, representation in representations.items()}
    value = math.nan if any(each is None for each in prepared.values()) else float(compare(*prepared.values()))
    if math.isnan(value):
        warn_undefined(prepared, compare, what=what, undefined=undefined, stacklevel=4)
    return value


def warn_undefined(
    prepared: Mapping[str, Any], compare: Compare, *, what: str, undefined: str, stacklevel: int
) -> None:
    """Warn once of the representations for which a measure is not defined.

    Parameters
    ----------
    prepared : mapping
        From what the message calls a representation to what ``prepare`` returned.
    compare, what, undefined
        As in `evaluate`.
    stacklevel : int
        As in `warnings.warn`.

    Warns
    -----
    RuntimeWarning
        With the names of those that are None, or NaN beside themselves.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_undefined({"X": None, "Y": 1.0}, lambda x, y: x, what="product", undefined="are zero", stacklevel=2)
    >>> print(caught[0].message)
    1 of 2 representations (X) are zero. Their product is NaN.
    """
    names = [name for name, each in prepared.items() if each is None or math.isnan(compare(each, each))]
    if names:
        warnings.warn(
            f"{len(names)} of {len(prepared)} representations ({', '.join(names)}) {undefined}. Their {what} is NaN.",
            RuntimeWarning,
            stacklevel=stacklevel,
        )
    else:
        warnings.warn(f"The {what} of some pairs is not defined, and NaN.", RuntimeWarning, stacklevel=stacklevel)
