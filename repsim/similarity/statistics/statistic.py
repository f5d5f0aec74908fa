"""Protocol of statistics of one representation, and the warning where one has no value."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

from repsim.similarity.entries import About, Entry, check_invariances

__all__ = ["NOTHING", "ROTATION", "SIMILARITY", "About", "Statistic", "undefined"]

# Transformations that preserve lengths of patterns and the angles between them; and those that preserve shapes.
ROTATION = frozenset({"permutation", "orthogonal"})
SIMILARITY = ROTATION | {"isotropic scaling", "translation"}

# A difference of lengths below this fraction of them is rounding error.
NOTHING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Statistic(Entry):
    """One number that describes one representation.

    Parameters
    ----------
    name : str
        Its key in `STATISTICS`.
    function : callable
        Takes X (n, d), and labels (n,) if it needs them, returns a float.
    range : (float, float), default (-inf, inf)
        Smallest and largest value.
    needs_labels : bool, default False
        Whether it depends on classes of stimuli.
    invariances : frozenset of str
        The transformations of X that do not change the value, by their names in `Measure`. Any other of these changes
        it.
    about : About
        Its documentation.

    Raises
    ------
    ValueError
        If the range is empty or an invariance is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> Statistic(name="largest", function=np.max, invariances=frozenset({"permutation"})).function(np.eye(2))
    np.float64(1.0)
    """

    takes: ClassVar[str] = "an array"

    function: Callable[..., float]
    needs_labels: bool = False
    invariances: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Check the declaration."""
        super().__post_init__()
        check_invariances(self.invariances)

    @classmethod
    def from_function(cls, name: str, function: Callable[..., float]) -> Self:
        """Return a statistic that a plain function of one array defines."""
        return cls(name=name, function=function)


def undefined(statistic: str, why: str) -> float:
    """Warn that a statistic is not defined and why, attributed to the caller of the statistic, and return NaN.

    Warns
    -----
    RuntimeWarning
    """
    warnings.warn(f"X: {why}. Its {statistic} is NaN.", RuntimeWarning, stacklevel=3)
    return math.nan
