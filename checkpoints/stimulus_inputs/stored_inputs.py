"""Inputs in the order of the stored stimuli, compared with what was read first whenever they are read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.conversion import as_numbers
from checkpoints.errors import UnreadableInputs
from checkpoints.row_digests import row_digests
from checkpoints.stimulus_inputs.content_hash import hash_blocks
from checkpoints.stimulus_inputs.input_source import Arrays, InputSource, by_name, from_names, reading_size
from checkpoints.stimulus_inputs.opening import input_name

__all__ = ["StoredInputs"]


class StoredInputs(InputSource):
    """Inputs of a source in another order, of which every row is compared with that of the first reading.

    Everything is read once when this is made.

    Parameters
    ----------
    source : InputSource
    order : int array, shape (n,)
        The row of the source that each stimulus has.
    ids : str array, shape (n,)
        Of the stimuli, for messages.
    labels : int64 array, shape (n,)
        Of the stimuli, for the hash.

    Attributes
    ----------
    content_hash : str
        SHA-256 of inputs and labels.
    digests : str array, shape (n,)
        One digest of the inputs of each stimulus; see ``row_digests``.
    """

    def __init__(
        self, source: InputSource, order: NDArray[np.int64], ids: NDArray[Any], labels: NDArray[np.int64]
    ) -> None:
        self._source, self._order, self._ids = source, order, ids
        digests: list[NDArray[Any]] = []
        self.content_hash = hash_blocks(self._first_reading(digests), labels)
        self.digests = np.concatenate(digests)

    def __len__(self) -> int:
        """Return the number of stimuli."""
        return len(self._order)

    def take(self, rows: Sequence[int]) -> Arrays:
        """Return the inputs of some stimuli: floats as float32, whole numbers in their own type."""
        return self._checked(self._source.take(self._order[np.asarray(rows)].tolist()), np.asarray(rows))

    def blocks(self, rows: Sequence[int], size: int) -> Iterator[Arrays]:
        """Yield the inputs of ``rows``, ``size`` at a time."""
        chosen = np.asarray(rows)
        for k, block in enumerate(self._source.blocks(self._order[chosen].tolist(), size)):
            yield self._checked(block, chosen[k * size : (k + 1) * size])

    def _first_reading(self, digests: list[NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield all inputs by name, and append the digests of their rows."""
        for block in self._source.blocks(self._order.tolist(), reading_size(self._source)):
            plain = _plain(block)
            digests.append(row_digests(plain))
            yield plain

    def _checked(self, block: Arrays, rows: NDArray[np.int64]) -> Arrays:
        plain = _plain(block)
        if (changed := np.flatnonzero(row_digests(plain) != self.digests[rows])).size:
            raise UnreadableInputs(
                "The inputs differ from those that were read when the stimuli were made, first at "
                f"'{self._ids[rows[changed[0]]]}'; switch random transforms off, and leave the files as they are."
            )
        return from_names(plain)


def _plain(block: Arrays) -> dict[str, NDArray[Any]]:
    named = by_name(block).items()
    return {name: np.ascontiguousarray(as_numbers(part, input_name(name))) for name, part in named}
