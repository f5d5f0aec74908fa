"""Comparison of all pairs of representations, each of which is prepared once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_info, threadpool_limits

from repsim.similarity import checks
from repsim.similarity.entries import choose
from repsim.similarity.measures import MEASURES, Measure
from repsim.similarity.measures.measure import undefined_among, warn_undefined
from repsim.similarity.precision import FloatArray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairwise:
    """Values of a measure for every pair of a row's and a column's representation.

    Parameters
    ----------
    values : array (n_rows, n_columns)
    rows, columns : tuple of str
        Names of the representations.
    measure : str
        Name of the measure.
    direction : {"similarity", "distance"}
        Whether a larger value means more alike.
    """

    values: FloatArray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    measure: str
    direction: str

    def frame(self) -> pd.DataFrame:
        """Return one row per ordered pair: ``row``, ``column`` and a column of values with the name of the measure.

        Examples
        --------
        >>> X = np.random.default_rng(0).normal(size=(50, 3))
        >>> print(pairwise({"input": X}, {"scaled": 2 * X}).frame().to_string())
             row  column  cka
        0  input  scaled  1.0
        """
        import pandas as pd

        rows, columns = np.meshgrid(
            np.array(self.rows, dtype=object), np.array(self.columns, dtype=object), indexing="ij"
        )
        return pd.DataFrame({"row": rows.ravel(), "column": columns.ravel(), self.measure: self.values.ravel()})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the values as a heat map, the first row at the top; on new axes by default."""
        from repsim.similarity.drawing.result_figures import heat_map

        return heat_map(self.values, self.rows, self.columns, self.measure, ax)

    def _repr_html_(self) -> str:
        """Return a table of the values, for notebooks."""
        import pandas as pd

        from repsim.similarity.drawing.notebook import titled

        return titled(self.measure, pd.DataFrame(self.values, index=self.rows, columns=self.columns), index=True)


def pairwise(
    X: Mapping[str, ArrayLike],
    Y: Mapping[str, ArrayLike] | None = None,
    *,
    measure: str | Measure | Callable[[FloatArray, FloatArray], float] = "cka",
    memory: int = 256 * 2**20,
    device: str | None = None,
) -> Pairwise:
    """Compare every representation in X with every representation in Y.

    The values are those of the measure for two representations, up to rounding. Each representation is converted to
    float64 and prepared once (centred, whitened or reduced, depending on the measure). The prepared representations are
    held in memory, and at most ``memory`` bytes of products beside them.

    Parameters
    ----------
    X : mapping from str to array-like (n, d_i)
        Layer name to the activations of the layer for n stimuli: arrays, or anything that `numpy.asarray` reads. The
        d_i may differ.
    Y : mapping from str to array-like (n, d_j), optional
        The same stimuli in the same order; X itself by default. The ids of stimuli are compared if both have ids.
    measure : str, Measure or callable, default "cka"
        A key of `MEASURES`, a measure of your own, or a function of two arrays (n, d1) and (n, d2), which is evaluated
        for both orders of every pair.
    memory : int, default 256 MiB
        Bound in bytes on the products held at a time. The values do not depend on it; a smaller bound takes longer.
    device : str, optional
        Device on which torch multiplies, such as ``"cuda"``; only for measures whose pairs share products (the CKA
        family). By default numpy multiplies on the CPU.

    Returns
    -------
    Pairwise
        Values (len(X), len(Y)), with the row's representation as X of the measure and the column's as Y. NaN where the
        measure is not defined.

    Raises
    ------
    TypeError
        If X or Y is not a mapping, or the measure is neither a name, a `Measure` nor callable.
    ValueError
        If there are no representations, if one is not a finite real matrix, if their numbers or ids of stimuli differ,
        if there are too few stimuli for the measure, if the measure is unknown, or if ``memory`` is too small.

    Warns
    -----
    RuntimeWarning
        Once, with their names, if the measure is not defined for some representations.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> pairwise({"input": X, "scaled": 2 * X, "first": X[:, :1]}).values.round(2)
    array([[1.  , 1.  , 0.78],
           [1.  , 1.  , 0.78],
           [0.78, 0.78, 1.  ]])
    """
    chosen = choose(measure, MEASURES, Measure, "measure")
    if device is not None:
        checks.device(device, chosen.name, can_use_it=chosen.together is not None)
    layers = checks.representations(_named(X, "X") | ({} if Y is None else _named(Y, "Y")))
    names = list(layers)
    prepared = dict(zip(names, _in_threads(lambda name: chosen.prepare(layers.pop(name), name), names), strict=True))
    first_y = 0 if Y is None else len(X)
    pairs = _pairs(len(X), first_y, len(prepared), symmetric=chosen.is_symmetric)
    values = _values(chosen, list(prepared.values()), pairs, memory, device)
    values = values[: len(X), first_y:]
    if np.isnan(values).any():
        warn_undefined(chosen, undefined_among(chosen, prepared), stacklevel=3)
    columns = tuple(X if Y is None else Y)
    return Pairwise(values=values, rows=tuple(X), columns=columns, measure=chosen.name, direction=chosen.direction)


def _named(layers: Mapping[str, ArrayLike], side: str) -> dict[str, ArrayLike]:
    advice = (
        "Pass {layer name: array} and name the measure by measure=, or compare two arrays with the function of a "
        "measure, such as linear_cka(X, Y)."
    )
    return checks.mapping(layers, side, "representations", advice)


def _pairs(p: int, first_y: int, total: int, *, symmetric: bool) -> list[tuple[int, int]]:
    """Return the required pairs (i, j), and each representation with itself; i <= j if symmetric."""
    required = {(i, j) for i in range(p) for j in range(first_y, total) if i < j or not symmetric}
    return sorted(required | {(i, i) for i in range(total)})


def _values(
    measure: Measure, prepared: Sequence[Any], pairs: Sequence[tuple[int, int]], memory: int, device: str | None
) -> FloatArray:
    """Return the measure at the pairs, and at their mirror images if it is symmetric; NaN elsewhere."""
    values = np.full((len(prepared), len(prepared)), np.nan)
    defined = [i for i, each in enumerate(prepared) if each is not None]
    if measure.together is not None and defined:
        place = {i: k for k, i in enumerate(defined)}
        pairs = [(place[i], place[j]) for i, j in pairs if i in place and j in place]
        values[np.ix_(defined, defined)] = measure.together(
            [prepared[i] for i in defined], pairs, memory=memory, device=device
        )
        return values
    pairs = [(i, j) for i, j in pairs if prepared[i] is not None and prepared[j] is not None]
    compared = _in_threads(lambda pair: measure.compare(prepared[pair[0]], prepared[pair[1]]), pairs)
    for (i, j), value in zip(pairs, compared, strict=True):
        values[i, j] = value
        if measure.is_symmetric:
            values[j, i] = value
    return values


def _in_threads(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Map items in as many threads as BLAS may use; a decomposition gains little from a second BLAS thread."""
    threads = max((library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"), default=1)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
