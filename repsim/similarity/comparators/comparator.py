"""What a comparator of RDMs declares about itself; the tests hold it to every word."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from repsim.similarity.precision import FloatArray

TRANSFORMATIONS = frozenset({"scale", "offset", "monotone maps"})

Prepare = Callable[[FloatArray], Any]
Compare = Callable[[Any, Any], float]


@dataclass(frozen=True, kw_only=True)
class Comparator:
    """One way of comparing two RDMs of the same stimuli; the larger its value, the more alike they are.

    Each of many RDMs is prepared once, and only what depends on two of them is done for every pair. All are symmetric.

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
        Takes RDMs (k, m) for which the comparator is defined, returns the RDM (m,) whose mean value with them is best:
        the upper bound of a noise ceiling.
    is_exact_pool : bool
        Whether no RDM has a better mean value than ``pool`` has; otherwise it is the approximation that ``pool`` names.
    formula : str
        In plain characters, of RDMs a and b.
    range : (float, float)
        Smallest and largest value it can take.
    ignores : frozenset of str
        The transformations of one RDM that leave the value as it is, out of "scale" (by a positive factor), "offset"
        (the same number added to every distance) and "monotone maps" (strictly increasing). What is not named here does
        change it.
    undefined : str, default "has no two distances that differ"
        What is to be said of an RDM for which it is not defined.
    needs_all_pairs : bool, default False
        Whether it goes by the whole matrix, so that stimuli can be left out of an RDM but not single pairs.
    cost : str
        In m pairs or n stimuli: of preparing, then of comparing.
    use : str
        When to choose it.
    reference : str
        The paper.
    together : callable, optional
        Two sequences of what ``prepare`` returned (none of it None) to the matrix of values (p, q), in one product.
    linear : callable, optional
        Where the value is a cosine after a linear map of the RDMs: that map, (m,) to (m,).

    Raises
    ------
    ValueError
        If the range is empty, if a transformation is unknown, or if one implies others that are not named.

    Examples
    --------
    >>> gap = Comparator(name="gap", prepare=lambda d: d[0], compare=lambda a, b: -abs(a - b), pool=lambda d: d[0],
    ...                  is_exact_pool=False, formula="-|a₁ - b₁|", range=(-9, 0), ignores=frozenset(), cost="1",
    ...                  use="never", reference="none")
    >>> gap.compare(3.0, 1.0)
    -2.0
    """

    name: str
    prepare: Prepare
    compare: Compare
    pool: Callable[[FloatArray], FloatArray]
    is_exact_pool: bool
    formula: str
    range: tuple[float, float]
    ignores: frozenset[str]
    undefined: str = "has no two distances that differ"
    needs_all_pairs: bool = False
    cost: str
    use: str
    reference: str
    together: Callable[[Sequence[Any], Sequence[Any]], FloatArray] | None = None
    linear: Callable[[FloatArray], FloatArray] | None = None

    def __post_init__(self) -> None:
        """Check the declaration."""
        if unknown := self.ignores - TRANSFORMATIONS:
            raise ValueError(
                f"Unknown transformations {sorted(unknown)}. Choose among: {', '.join(sorted(TRANSFORMATIONS))}."
            )
        if "monotone maps" in self.ignores and self.ignores != TRANSFORMATIONS:
            raise ValueError("A comparator that ignores monotone maps ignores scale and offset; name all three.")
        if self.range[0] >= self.range[1]:
            raise ValueError(f"The range {self.range} is empty; expected (smallest, largest).")
