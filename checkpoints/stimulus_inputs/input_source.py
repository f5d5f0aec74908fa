"""The protocol of inputs that are read when they are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.errors import UnreadableInputs

__all__ = ["Arrays", "InputSource", "NamedInputs", "by_name", "from_names", "reading_size"]

Arrays = NDArray[Any] | dict[str, NDArray[Any]]

_BLOCK_BYTES = 2**22  # of inputs that are read at once
_MOST_ROWS = 512


class InputSource(ABC):
    """Inputs of which some rows are read at a time; the rows are numbered from 0 in an order that stays the same."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of stimuli."""

    @abstractmethod
    def take(self, rows: Sequence[int]) -> Arrays:
        """Return the inputs of some stimuli in the order of ``rows``, as one array or as several by name.

        Raises
        ------
        UnreadableInputs
            If they cannot be read, or differ in shape or type from the others.
        """

    def blocks(self, rows: Sequence[int], size: int) -> Iterator[Arrays]:
        """Yield the inputs of ``rows``, ``size`` at a time; raises as ``take`` does."""
        for start in range(0, len(rows), size):
            yield self.take(rows[start : start + size])

    def labels(self) -> NDArray[Any] | None:
        """Return the label of each stimulus if the source has labels beside the inputs, otherwise None."""
        return None


class NamedInputs(InputSource):
    """Several inputs by name, each from a source of its own and with as many rows."""

    def __init__(self, parts: Mapping[str, InputSource]) -> None:
        self._parts = dict(parts)
        lengths = {name: len(part) for name, part in parts.items()}
        if len(set(lengths.values())) > 1:
            sizes = ", ".join(f"{name} {n}" for name, n in lengths.items())
            raise ValueError(f"Inputs differ in their numbers of stimuli ({sizes}); expected as many rows in each.")

    def __len__(self) -> int:
        """Return the number of stimuli."""
        return len(next(iter(self._parts.values())))

    def take(self, rows: Sequence[int]) -> Arrays:
        """Return the inputs of some stimuli by name."""
        taken = {name: part.take(rows) for name, part in self._parts.items()}
        if nested := [name for name, part in taken.items() if isinstance(part, dict)]:
            raise UnreadableInputs(
                f"Inputs '{nested[0]}' are dicts, one for each stimulus; give that data set as the inputs themselves."
            )
        return {name: np.asarray(part) for name, part in taken.items()}


def by_name(block: Arrays) -> dict[str, NDArray[Any]]:
    """Return a block as arrays by name; a single input has the name ""."""
    return block if isinstance(block, dict) else {"": block}


def from_names(named: dict[str, NDArray[Any]]) -> Arrays:
    """Return what ``by_name`` was given."""
    return named[""] if list(named) == [""] else named


def reading_size(source: InputSource) -> int:
    """Return the number of stimuli to read at once: about 4 MiB, at most 512 stimuli."""
    row_bytes = sum(part.nbytes for part in by_name(source.take([0])).values())
    return max(1, min(_MOST_ROWS, _BLOCK_BYTES // max(1, row_bytes)))
