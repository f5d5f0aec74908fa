"""Protocol of measures of similarity, and their evaluation on two representations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from numpy.typing import ArrayLike

from repsim.similarity import checks
from repsim.similarity.entries import About, Entry, check_invariances
from repsim.similarity.measures.streamed import Streamed
from repsim.similarity.precision import FloatArray

__all__ = ["ISOMETRY", "SHAPE", "About", "Measure", "Streamed", "evaluate", "warn_undefined"]

# Invariances of measures of single features, and of measures of the arrangement of stimuli.
SHAPE = frozenset({"permutation", "isotropic scaling", "translation"})
ISOMETRY = SHAPE | {"orthogonal"}

Prepare = Callable[[FloatArray, str], Any]
Compare = Callable[[Any, Any], float]

_IMPLIED = (
    ("orthogonal", "permutation"),
    ("invertible linear", "orthogonal"),
    ("invertible linear", "isotropic scaling"),
)


@dataclass(frozen=True, kw_only=True)
class Measure(Entry):
    """One way of comparing two representations of the same stimuli.

    A measure is evaluated in two steps: each of many representations is prepared once, and only what depends on two of
    them is computed for every pair. Called with X (n, d1) and Y (n, d2), a measure returns its value.

    Parameters
    ----------
    name : str
        Its key in `MEASURES`.
    label : str, optional
        Its name in figures and summaries, such as "SVCCA"; ``name`` by default.
    prepare : callable
        Takes a checked X (n, d) and the name of X for messages; returns all that ``compare`` needs of X, or None if the
        measure is not defined for it. Raises ValueError if X has too few stimuli.
    compare : callable
        Takes what ``prepare`` returned for X and for Y, returns a float; NaN where the measure is not defined.
    range : (float, float), default (-inf, inf)
        Smallest and largest value.
    direction : {"similarity", "distance"}, default "similarity"
        A similarity grows with likeness, a distance falls.
    is_metric : bool, default False
        Whether it is symmetric, zero between representations that differ by an invariance, and obeys the triangle
        inequality.
    is_symmetric : bool, default True
        Whether X and Y may be exchanged.
    invariances : frozenset of str
        The transformations of X alone that do not change the value: "permutation" (of the features), "orthogonal"
        (rotation and reflection), "invertible linear", "isotropic scaling" (by a positive factor) and "translation".
        Any other of these changes it.
    undefined : str, default "are constant"
        What the warning says of representations for which the measure is not defined.
    about : About
        Its documentation.
    together : callable, optional
        Computes all pairs at once, faster than one by one. Takes a sequence of what ``prepare`` returned (none of it
        None), the required pairs (i, j), i <= j, among them all (i, i), and the keywords ``memory`` in bytes and
        ``device``; returns an array that is correct at those pairs.
    streamed : Streamed, optional
        Its form for stimuli that are read in blocks.

    Raises
    ------
    ValueError
        If the range is empty, if an invariance or the direction is unknown, or if an invariance implies another that is
        missing.

    Examples
    --------
    >>> gap = Measure(name="gap", prepare=lambda X, name: X.mean(), compare=lambda x, y: abs(x - y),
    ...               range=(0, math.inf), direction="distance", invariances=frozenset({"permutation"}))
    >>> gap([[1], [2]], [[3], [5]])
    2.5
    """

    takes: ClassVar[str] = "two arrays"

    label: str = ""
    prepare: Prepare
    compare: Compare
    direction: Literal["similarity", "distance"] = "similarity"
    is_metric: bool = False
    is_symmetric: bool = True
    invariances: frozenset[str] = frozenset()
    undefined: str = "are constant"
    together: Callable[..., FloatArray] | None = None
    streamed: Streamed | None = None

    def __post_init__(self) -> None:
        """Check the declaration, and fill in the label."""
        super().__post_init__()
        object.__setattr__(self, "label", self.label or self.name)
        if self.direction not in ("similarity", "distance"):
            raise ValueError(f"Unknown direction {self.direction!r}. Choose one of: distance, similarity.")
        check_invariances(self.invariances)
        for one, implied in _IMPLIED:
            if one in self.invariances and implied not in self.invariances:
                raise ValueError(f"Invariance to {one} transformations implies invariance to {implied}; name both.")
        if self.is_metric and not self.is_symmetric:
            raise ValueError("A metric is symmetric; set is_symmetric=True or is_metric=False.")

    def __call__(self, X: ArrayLike, Y: ArrayLike) -> float:
        """Return the value for two representations; see `evaluate`."""
        return evaluate(self, X, Y)

    @classmethod
    def from_function(cls, name: str, function: Callable[[FloatArray, FloatArray], float]) -> Self:
        """Return a measure that a plain function of two arrays defines; it is evaluated in both orders."""
        return cls(
            name=name,
            prepare=lambda X, name: X,
            compare=function,
            is_symmetric=False,
            undefined="have no value with themselves",
        )


def evaluate(measure: Measure, X: ArrayLike, Y: ArrayLike) -> float:
    """Check two representations of the same stimuli, prepare them and compare them.

    If the value is NaN, a warning is attributed to the caller of the function that calls this one.
    """
    prepared = {name: measure.prepare(each, name) for name, each in checks.representations({"X": X, "Y": Y}).items()}
    is_defined = all(each is not None for each in prepared.values())
    value = float(measure.compare(prepared["X"], prepared["Y"])) if is_defined else math.nan
    if math.isnan(value):
        warn_undefined(measure, undefined_among(measure, prepared), stacklevel=4)
    return value


def undefined_among(measure: Measure, prepared: Mapping[str, Any]) -> dict[str, bool]:
    """Return for which prepared representations a measure is not defined: those that are None, or NaN by themselves."""
    return {name: each is None or math.isnan(measure.compare(each, each)) for name, each in prepared.items()}


def warn_undefined(measure: Measure, is_undefined: Mapping[str, bool], *, stacklevel: int) -> None:
    """Warn once of the representations for which a measure is not defined.

    ``stacklevel`` is counted from this function.
    """
    names = [name for name, each in is_undefined.items() if each]
    if names:
        message = (
            f"{len(names)} of {len(is_undefined)} representations ({', '.join(names)}) {measure.undefined}. "
            f"Their {measure.label} is NaN."
        )
    else:
        message = f"The {measure.label} of some pairs is not defined, and NaN."
    warnings.warn(message, RuntimeWarning, stacklevel=stacklevel)
