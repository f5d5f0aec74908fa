"""All pairs of representations at once: each is prepared once, and the pairs share a few large products."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_info, threadpool_limits

from repsim.similarity import checks
from repsim.similarity.measures import MEASURES, Measure
from repsim.similarity.measures.measure import warn_undefined
from repsim.similarity.precision import FloatArray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairwise:
    """Every row's representation compared with every column's.

    Parameters
    ----------
    values : array (n_rows, n_columns)
    rows, columns : tuple of str
        Names of the representations.
    measure : str
        The key of `MEASURES` that was computed.
    """

    values: FloatArray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    measure: str

    def frame(self) -> pd.DataFrame:
        """Return one row an ordered pair: ``row``, ``column`` and a column of the values, named after the measure.

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
        """Draw the values as a heat map, the first row at the top; needs no pyplot.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Of a new figure by default.
        """
        from repsim.similarity.drawing.figures import heat_map

        return heat_map(self.values, self.rows, self.columns, self.measure, ax)

    def _repr_html_(self) -> str:
        """Show the values in a notebook."""
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
    """Compare every representation in X with every one in Y.

    The values are those of the measure's own function, to rounding. Each representation is converted to float64 and
    prepared once (centred, whitened, reduced, whatever the measure needs of it alone), and that is held; beside it no
    more than `memory`.

    Parameters
    ----------
    X : mapping from str to array-like (n, d_i)
        Layer name to what the layer did on n stimuli: arrays, or anything `numpy.asarray` reads. The d_i may differ.
    Y : mapping from str to array-like (n, d_j), optional
        The same stimuli in the same order; X itself by default. Of recorded layers the ids of stimuli are compared.
    measure : str, Measure or callable, default "cka"
        A key of `MEASURES`; or a measure of your own, or just a function of two arrays (n, d1) and (n, d2), which is
        asked for both orders of every pair.
    memory : int, default 256 MiB
        Bound in bytes on the products held at a time. A smaller one takes longer, and gives the same.
    device : str, optional
        Where torch is to multiply, such as ``"cuda"``, for the measures whose pairs share products (the CKA family);
        by default numpy does, on the CPU. Others refuse it.

    Returns
    -------
    Pairwise
        Values (len(X), len(Y)), in the measure's range: that of the row's representation as X and the column's as Y.
        NaN where the measure is undefined.

    Raises
    ------
    TypeError
        If X or Y is not a mapping, or the measure is none of the three.
    ValueError
        If there are no representations, or one is not a finite real matrix, or their numbers of stimuli (or, where
        they carry them, ids of stimuli) differ, or are too few for the measure; if there is no such measure; if
        `memory` is too small.

    Warns
    -----
    RuntimeWarning
        Once, with their names, if the measure is undefined for some representations.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> pairwise({"input": X, "scaled": 2 * X, "first": X[:, :1]}).values.round(2)
    array([[1.  , 1.  , 0.78],
           [1.  , 1.  , 0.78],
           [0.78, 0.78, 1.  ]])
    """
    chosen = _chosen(measure)
    if device is not None:
        checks.device(device, chosen.name, can_use_it=chosen.together is not None)
    given = _labelled(X, "X") | ({} if Y is None else _labelled(Y, "Y"))
    checks.same_ids(given)
    layers = {name: checks.representation(layer, name) for name, layer in given.items()}
    checks.same_stimuli({name: len(layer) for name, layer in layers.items()})
    names = list(layers)
    prepared = dict(zip(names, _in_threads(lambda name: chosen.prepare(layers.pop(name), name), names), strict=True))
    first_y = 0 if Y is None else len(X)
    pairs = _pairs(len(X), first_y, len(prepared), symmetric=chosen.is_symmetric)
    values = _values(chosen, list(prepared.values()), pairs, memory, device)
    asked = values[: len(X), first_y:]
    if np.isnan(asked).any():
        warn_undefined(prepared, chosen.compare, what=chosen.name, undefined=chosen.undefined, stacklevel=3)
    return Pairwise(values=asked, rows=tuple(X), columns=tuple(X if Y is None else Y), measure=chosen.name)


def _chosen(measure: str | Measure | Callable[[FloatArray, FloatArray], float]) -> Measure:
    if isinstance(measure, Measure):
        return measure
    if isinstance(measure, str):
        return checks.choice(measure, MEASURES, "measure")
    if not callable(measure):
        raise TypeError(f"measure is {measure!r}; expected a name, a Measure, or a function of two arrays.")
    return Measure(
        name=getattr(measure, "__name__", "own measure"),
        function=measure,
        prepare=lambda X, name: X,
        compare=measure,
        formula="-",
        range=(-math.inf, math.inf),
        direction="similarity",
        is_metric=False,
        is_symmetric=False,
        invariances=frozenset(),
        undefined="have no value with themselves",
        cost="-",
        use="-",
        reference="-",
    )


def _labelled(layers: Mapping[str, ArrayLike], side: str) -> dict[str, ArrayLike]:
    if not isinstance(layers, Mapping):
        raise TypeError(
            f"{side} is a {type(layers).__name__}; expected a mapping from layer names to arrays (name the measure by "
            "measure=). Compare two arrays with the function of the measure, such as linear_cka(X, Y)."
        )
    if not layers:
        raise ValueError(f"{side} has no representations; expected at least 1. Check which layers were recorded.")
    return {f"{side}[{name!r}]": layer for name, layer in layers.items()}


def _pairs(p: int, first_y: int, total: int, *, symmetric: bool) -> list[tuple[int, int]]:
    """Positions (i, j): the pairs asked for, and each representation with itself; i <= j if symmetric."""
    asked = {(i, j) for i in range(p) for j in range(first_y, total) if i < j or not symmetric}
    return sorted(asked | {(i, i) for i in range(total)})


def _values(
    measure: Measure, prepared: Sequence[Any], pairs: Sequence[tuple[int, int]], memory: int, device: str | None
) -> FloatArray:
    """Return the measure at the pairs, and at their mirror images if it is symmetric; NaN elsewhere."""
    values = np.full((len(prepared), len(prepared)), np.nan)
    defined = [i for i, each in enumerate(prepared) if each is not None]
    if measure.together is not None and defined:
        place = {i: k for k, i in enumerate(defined)}
        kept = [(place[i], place[j]) for i, j in pairs if i in place and j in place]
        values[np.ix_(defined, defined)] = measure.together(
            [prepared[i] for i in defined], kept, memory=memory, device=device
        )
        return values
    kept = [(i, j) for i, j in pairs if prepared[i] is not None and prepared[j] is not None]
    compared = _in_threads(lambda pair: measure.compare(prepared[pair[0]], prepared[pair[1]]), kept)
    for (i, j), value in zip(kept, compared, strict=True):
        values[i, j] = value
        if measure.is_symmetric:
            values[j, i] = value
    return values


def _in_threads(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Map items, as many side by side as BLAS may use threads: a decomposition makes little use of a second one."""
    threads = max((library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"), default=1)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
