"""Arrays that are not in memory: their rows are read from a memory-mapped or an HDF5 file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.errors import UnreadableInputs
from checkpoints.stimulus_inputs.input_source import InputSource

__all__ = ["ArrayInputs"]


class ArrayInputs(InputSource):
    """Rows of one array that is opened for each block, so that no file stays open and no page of it in memory.

    Parameters
    ----------
    what : str
        Plural noun for messages.
    shape : tuple of int
    dtype : dtype
    opened : callable () -> context manager
        Gives an array of that shape, whose slices along the first axis are read.
    """

    def __init__(
        self,
        what: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        opened: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._what, self.shape, self.dtype, self._opened = what, shape, dtype, opened

    @classmethod
    def of(cls, values: Any, what: str) -> ArrayInputs:
        """Return the rows of an array that is open already."""
        if not values.shape:
            raise ValueError(f"{what} have no axis of stimuli; expected an array of shape (n, ...).")
        return cls(what, tuple(values.shape), np.dtype(values.dtype), lambda: nullcontext(values))

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def take(self, rows: Sequence[int]) -> NDArray[Any]:
        """Return some rows; those that are neighbours in the file are read together."""
        wanted, places = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        try:
            with self._opened() as values:
                for start, stop in _runs(wanted):
                    found[start:stop] = values[int(wanted[start]) : int(wanted[stop - 1]) + 1]
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            described = " ".join(str(error).split()) or type(error).__name__
            raise UnreadableInputs(f"{self._what} cannot be read ({described}).") from error
        return found if np.array_equal(places, np.arange(len(wanted))) else found[places]


def _runs(rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the start and stop of each run of consecutive numbers."""
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    yield from zip([0, *ends.tolist()], [*ends.tolist(), len(rows)], strict=True)
