"""What a statistic of one representation declares about itself, and what it says where it has no value."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from repsim.similarity.measures.measure import INVARIANCES

# What leaves patterns with their lengths and angles as they are; and what leaves shapes.
ROTATION = frozenset({"permutation", "orthogonal"})
SIMILARITY = ROTATION | {"isotropic scaling", "translation"}

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
    >>> from repsim.similarity.statistics import STATISTICS
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


def undefined(statistic: str, why: str) -> float:
    """Warn, in the name of the caller of the statistic, and return NaN.

    Parameters
    ----------
    statistic : str
        What the warning calls it.
    why : str
        What about X leaves it without a value.

    Returns
    -------
    float

    Warns
    -----
    RuntimeWarning

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     value = undefined("magnitude", "there is none")
    >>> value, str(caught[0].message)
    (nan, 'X: there is none. Its magnitude is NaN.')
    """
    warnings.warn(f"X: {why}. Its {statistic} is NaN.", RuntimeWarning, stacklevel=3)
    return math.nan
