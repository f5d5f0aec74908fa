"""Protocol of comparators of RDMs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from repsim.similarity.comparators.resampled import Weighted
from repsim.similarity.entries import About, Entry
from repsim.similarity.precision import FloatArray

__all__ = ["TRANSFORMATIONS", "About", "Comparator"]

TRANSFORMATIONS = frozenset({"scale", "offset", "monotone maps"})

Prepare = Callable[[FloatArray], Any]
Compare = Callable[[Any, Any], float]


@dataclass(frozen=True, kw_only=True)
class Comparator(Entry):
    """One way of comparing two RDMs of the same stimuli; larger values mean more alike. All are symmetric.

    Each of many RDMs is prepared once, and only what depends on two of them is computed for every pair.

    Parameters
    ----------
    name : str
        Its key in `COMPARATORS`.
    prepare : callable
        Takes a condensed RDM (m,) without NaN; returns all that ``compare`` needs of it, or None if the comparator is
        not defined for it.
    compare : callable
        Takes what ``prepare`` returned for two RDMs, returns a float.
    pool : callable
        Takes RDMs (k, m) for which the comparator is defined, returns the RDM (m,) with the largest mean value: the
        upper bound of a noise ceiling.
    is_exact_pool : bool, default False
        Whether no RDM has a larger mean value than that of ``pool``; otherwise ``pool`` is an approximation.
    range : (float, float), default (-inf, inf)
        Smallest and largest value.
    ignores : frozenset of str
        The transformations of one RDM that do not change the value: "scale" (by a positive factor), "offset" (the same
        number added to every distance) and "monotone maps" (strictly increasing). Any other of these changes it.
    undefined : str, default "has no two distances that differ"
        What the warning says of an RDM for which the comparator is not defined.
    needs_all_pairs : bool, default False
        Whether it needs the whole matrix, so that stimuli can be left out of an RDM but not single pairs.
    about : About
        Its documentation; costs are of preparing, then of comparing.
    together : callable, optional
        Takes two sequences of p and q results of ``prepare`` (none of them None), returns all values (p, q).
    linear : callable, optional
        If the value is a cosine after a linear map of the RDMs: that map, (m,) to (m,).
    weighted : callable, optional
        Its weighted form, for the bootstrap: as `resampled.weighted_cosines`. Without one, the jackknife is used.

    Raises
    ------
    ValueError
        If the range is empty, if a transformation is unknown, or if a transformation implies others that are missing.

    Examples
    --------
    >>> gap = Comparator(name="gap", prepare=lambda d: d[0], compare=lambda a, b: -abs(a - b), pool=lambda d: d[0],
    ...                  range=(-9, 0))
    >>> gap.compare(3.0, 1.0)
    -2.0
    """

    takes: ClassVar[str] = "two condensed RDMs"

    prepare: Prepare
    compare: Compare
    pool: Callable[[FloatArray], FloatArray]
    is_exact_pool: bool = False
    ignores: frozenset[str] = frozenset()
    undefined: str = "has no two distances that differ"
    needs_all_pairs: bool = False
    together: Callable[[Sequence[Any], Sequence[Any]], FloatArray] | None = None
    linear: Callable[[FloatArray], FloatArray] | None = None
    weighted: Callable[..., Weighted] | None = None

    def __post_init__(self) -> None:
        """Check the declaration."""
        super().__post_init__()
        if unknown := self.ignores - TRANSFORMATIONS:
            raise ValueError(
                f"Unknown transformations {sorted(unknown)}. Choose among: {', '.join(sorted(TRANSFORMATIONS))}."
            )
        if "monotone maps" in self.ignores and self.ignores != TRANSFORMATIONS:
            raise ValueError("A comparator that ignores monotone maps ignores scale and offset; name all three.")

    @classmethod
    def from_function(cls, name: str, function: Callable[[FloatArray, FloatArray], float]) -> Self:
        """Return a comparator that a plain symmetric function of two RDMs defines; it pools by the mean RDM."""
        return cls(name=name, prepare=lambda rdm: rdm, compare=function, pool=lambda rdms: rdms.mean(axis=0))
