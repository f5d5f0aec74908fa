"""RDM as an array that knows its stimuli."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import squareform

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RDM"]

_MOST_SHOWN = 2000  # stimuli of an RDM that a notebook draws by itself


class RDM(np.ndarray[Any, np.dtype[Any]]):
    """A condensed RDM, as `rdm` returns it: an array (n * (n - 1) / 2,) that knows its stimuli.

    It can be used wherever an array can. What is computed or selected from it (``D * 2``, ``D[:10]``, ``D.round(2)``)
    is a plain array, which knows no stimuli.

    Attributes
    ----------
    stimulus_ids : array (n,) or None
        Ids of the stimuli, of a recorded layer; or the conditions, if rows were averaged. Comparisons of RDMs refuse
        RDMs of different stimuli.
    labels : array (n,) or None
        Classes of the stimuli, if the run of a recorded layer has them.
    method : str
        Name of the distance.

    Examples
    --------
    >>> from repsim import rdm
    >>> D = rdm([[0, 0], [0, 0], [3, 4], [0, 1]], method="euclidean", labels=["a", "a", "b", "c"])
    >>> D
    RDM of 3 stimuli (euclidean): [5.         1.         4.24264069]
    >>> D.between("a", "b"), D.select(["c", "a"]).square().tolist()
    (5.0, [[0.0, 1.0], [1.0, 0.0]])
    """

    stimulus_ids: NDArray[Any] | None = None
    labels: NDArray[Any] | None = None
    method: str = ""

    @classmethod
    def of(cls, distances: NDArray[Any], stimulus_ids: ArrayLike | None, labels: ArrayLike | None, method: str) -> RDM:
        """Return an RDM of condensed distances, without a copy."""
        made: RDM = distances.view(cls)
        made.stimulus_ids = None if stimulus_ids is None else np.asarray(stimulus_ids)
        made.labels = None if labels is None else np.asarray(labels)
        made.method = method
        return made

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """Return what is computed from an RDM as a plain array."""
        plain = np.asarray(array)
        return plain[()] if return_scalar else plain

    def __getitem__(self, selection: Any) -> Any:
        """Return distances by position, as a plain array; `between` and `select` take ids."""
        return np.asarray(self)[selection]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the stimuli."""
        return RDM.of, (np.asarray(self), self.stimulus_ids, self.labels, self.method)

    def __repr__(self) -> str:
        """Return the number of stimuli, the method and the distances."""
        if not self._is_whole():
            return repr(np.asarray(self))
        method = f" ({self.method})" if self.method else ""
        return f"RDM of {self.n_stimuli} stimuli{method}: {np.asarray(self)}"

    def _repr_png_(self) -> bytes | None:
        """Return a picture for a notebook, unless there are very many stimuli."""
        if not self._is_whole() or self.n_stimuli > _MOST_SHOWN:
            return None
        picture: bytes = self.plot()._repr_png_()  # type: ignore[attr-defined]
        return picture

    def _is_whole(self) -> bool:
        return self.ndim == 1 and len(self) == self.n_stimuli * (self.n_stimuli - 1) // 2 > 0

    @property
    def n_stimuli(self) -> int:
        """Number of stimuli."""
        return int((1 + np.sqrt(1 + 8 * self.size)) // 2)

    def condensed(self) -> NDArray[Any]:
        """Return the upper triangle row by row as a plain array, without a copy."""
        return np.asarray(self)

    def square(self) -> NDArray[Any]:
        """Return the symmetric matrix (n, n), with zeros on the diagonal, in the precision of the distances."""
        return np.asarray(squareform(np.asarray(self), checks=False))

    def between(self, first: Any, second: Any) -> float:
        """Return the distance of two stimuli, by their ids."""
        i, j = self._positions([first, second])
        return float(self.square()[i, j])

    def select(self, ids: Sequence[Any] | NDArray[Any]) -> RDM:
        """Return the RDM of some stimuli, by their ids, in the order of these.

        Raises
        ------
        ValueError
            If the stimuli of this RDM have no ids; or if an id is unknown or given twice, or fewer than 2 are given.
        """
        positions = self._positions(ids)
        if len(positions) < 2 or len(set(positions)) < len(positions):
            raise ValueError(f"{len(positions)} ids were given; expected 2 or more, each once.")
        chosen = self.square()[np.ix_(positions, positions)]
        labels = None if self.labels is None else self.labels[positions]
        assert self.stimulus_ids is not None  # otherwise there are no positions
        upper = np.asarray(squareform(chosen, checks=False))
        return RDM.of(upper, self.stimulus_ids[positions], labels, self.method)

    def _positions(self, ids: Sequence[Any] | NDArray[Any]) -> list[int]:
        if self.stimulus_ids is None:
            raise ValueError(
                "The stimuli of this RDM have no ids. Compute it from a recorded layer, or choose rows of square()."
            )
        known = {each: place for place, each in enumerate(self.stimulus_ids.tolist())}
        asked = np.asarray(ids).tolist()
        if unknown := [each for each in asked if each not in known]:
            raise ValueError(f"There is no stimulus {unknown[0]!r}; ids are such as {next(iter(known))!r}.")
        return [known[each] for each in asked]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the square matrix, stimuli sorted by their class if it is known; on new axes by default."""
        from repsim.similarity.drawing.result_figures import stimulus_map

        return stimulus_map(self.square(), self.stimulus_ids, self.labels, f"{self.method} distance".strip(), ax)
