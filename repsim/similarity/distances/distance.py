"""What a distance between stimuli declares about itself, and what it is computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repsim.similarity.precision import FloatArray

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Patterns:
    """The patterns to compare, one row per condition, and what else a distance may need of the data.

    Attributes
    ----------
    X : array (n, d), or anything of that shape that gives rows by slices
        float32 or float64.
    name : str
        What messages call the representation.
    folds : array (n_folds, n, d), optional
        The patterns of each fold alone.
    whiten : callable, optional
        Takes patterns (k, d), returns them with unit noise covariance.
    prior : (float, float)
        Rate and weight of what is mixed into rates (Poisson).
    out : array-like (n * (n - 1) / 2,)
        Where the distances go.
    memory : int
        Bound in bytes on what is held beside X and out.
    """

    X: Any
    name: str
    out: Any
    memory: int
    folds: FloatArray | None = None
    whiten: Callable[[FloatArray], FloatArray] | None = None
    prior: tuple[float, float] = (1.0, 0.1)


@dataclass(frozen=True, kw_only=True)
class Distance:
    """One way of saying how far apart two stimuli are.

    Parameters
    ----------
    name : str
        Its key in `DISTANCES`.
    compute : callable
        Takes `Patterns`, writes the condensed distances to ``out``. Returns which of them are not defined, and NaN, as
        the text of a warning; None if all are defined.
    formula : str
        In plain characters, for patterns x and y, as the table of distances shows it.
    range : (float, float)
        Smallest and largest value it can take.
    needs : frozenset of str
        What must be given beside X, out of "labels" and "folds".
    takes_noise : bool
        Whether it is relative to a noise covariance.
    reads_blocks : bool
        Whether X may be something that is read block by block.
    reference : str
    """

    name: str
    compute: Callable[[Patterns], str | None]
    formula: str
    range: tuple[float, float]
    needs: frozenset[str] = frozenset()
    takes_noise: bool = False
    reads_blocks: bool = False
    reference: str = ""
