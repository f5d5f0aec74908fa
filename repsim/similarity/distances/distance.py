"""Protocol of distances between stimuli, and the patterns that they compare."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from repsim.similarity.entries import About, Entry
from repsim.similarity.precision import FloatArray

__all__ = ["About", "Distance", "Floats", "Patterns", "write_pdist"]

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Patterns:
    """Patterns to compare, one row per condition, and other data that distances need.

    Attributes
    ----------
    X : array (n, d), or anything of that shape whose rows are read by slices
        float32 or float64.
    name : str
        Name of the representation in messages.
    folds : array (n_folds, n, d), optional
        The patterns of each fold.
    whiten : callable, optional
        Takes patterns (k, d), returns them with unit noise covariance.
    out : array-like (n * (n - 1) / 2,)
        Where the distances are written.
    memory : int
        Bound in bytes on memory beside X and out.
    """

    X: Any
    name: str
    out: Any
    memory: int
    folds: FloatArray | None = None
    whiten: Callable[[FloatArray], FloatArray] | None = None


@dataclass(frozen=True, kw_only=True)
class Distance(Entry):
    """One way of computing the distance between two stimuli.

    Parameters
    ----------
    name : str
        Its key in `DISTANCES`.
    compute : callable
        Takes `Patterns`, writes the condensed distances to ``out``. Returns the text of a warning if some distances are
        not defined and NaN, otherwise None.
    range : (float, float), default (-inf, inf)
        Smallest and largest value.
    needs : frozenset of str
        Required arguments beside X: "labels", "folds".
    takes_noise : bool, default False
        Whether it is relative to a noise covariance.
    reads_blocks : bool, default False
        Whether X may be something that is read block by block.
    about : About
        Its documentation.
    """

    takes: ClassVar[str] = "two patterns"

    compute: Callable[[Patterns], str | None]
    needs: frozenset[str] = frozenset()
    takes_noise: bool = False
    reads_blocks: bool = False

    @classmethod
    def from_function(cls, name: str, function: Callable[[FloatArray, FloatArray], float]) -> Self:
        """Return a distance that is a symmetric function of two patterns (d,), evaluated for every pair."""
        return cls(name=name, compute=partial(write_pdist, name=name, metric=function))


def write_pdist(patterns: Patterns, *, name: str, metric: str | Callable[..., float]) -> str | None:
    """Write the distances of `scipy.spatial.distance.pdist`, and count those that are not defined."""
    X = np.asarray(patterns.X)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # undefined distances are counted below
        distances = pdist(X, metric)
    if np.isinf(distances).any():
        raise ValueError(
            f"{patterns.name} has values up to {np.abs(X).max():.1e}; their {name} distances are too large for "
            "float64. Divide it by its largest value."
        )
    patterns.out[:] = distances
    undefined = int(np.isnan(distances).sum())
    if not undefined:
        return None
    return f"{patterns.name}: the {name} distance of {undefined} of {len(distances)} pairs is not defined, and NaN."
