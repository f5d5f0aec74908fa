"""Items of a map-style data set: inputs alone, pairs of input and label, or dicts of inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.conversion import APART, PAD, as_array, read_item
from checkpoints.errors import UnreadableInputs
from checkpoints.generators import preserve_generators
from checkpoints.stimulus_inputs.input_source import Arrays, InputSource, from_names, reading_size
from checkpoints.stimulus_inputs.listed_labels import listed_labels

__all__ = ["NO_ORDER", "ItemInputs", "Part", "arrays_of", "split_labels"]

_LABELS = ("label", "labels")  # names in a dict of inputs that are no arguments of the network

NO_ORDER = (
    "The data set is iterable, so its items have no fixed order; give one with __len__ and __getitem__, or collect the "
    "stimuli in an array first, for example with torch.stack."
)

Part = tuple[Any, Any]  # inputs, and labels or None


class ItemInputs(InputSource):
    """Inputs that a data set returns one by one.

    Global random generators are as before after each block, so that reading does not change a training.

    Parameters
    ----------
    dataset : map-style data set
        Has a length, and an item for each index below it.
    what : str
        Plural noun for messages.
    with_labels : bool
        Whether items may have labels; otherwise they are refused.
    """

    def __init__(self, dataset: Any, what: str, *, with_labels: bool) -> None:
        self.dataset, self.what = dataset, what
        self._with_labels = with_labels
        self._labels: NDArray[Any] | None = None
        self._first: dict[str, NDArray[Any]] = {}  # the row that the others are compared with in shape and type

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.dataset)

    def take(self, rows: Sequence[int]) -> Arrays:
        """Return the inputs of some items."""
        return self._checked(self._read(rows), rows)

    def blocks(self, rows: Sequence[int], size: int) -> Iterator[Arrays]:
        """Yield the inputs of ``rows``, ``size`` at a time."""
        for start, part in enumerate(self._parts(rows, size)):
            yield self._checked(part, rows[start * size : (start + 1) * size])

    def labels(self) -> NDArray[Any] | None:
        """Return the labels of the items, or None if these are inputs alone.

        A list of labels that the data set has beside its items is taken if it agrees with the items; otherwise every
        item is read.
        """
        ends = [0, len(self) - 1]
        _, at_ends = self._read(ends)
        if at_ends is None:
            return None
        listed = listed_labels(self.dataset)
        if listed is None or not _are_same(listed[ends], at_ends):
            parts = [labels for _, labels in self._parts(range(len(self)), reading_size(self))]
            if any(part is None for part in parts):
                raise UnreadableInputs(f"Some items of {self.what} have a label and others have none.")
            listed = np.concatenate(parts)
        self._labels = listed
        return listed

    def _parts(self, rows: Sequence[int], size: int) -> Iterator[Part]:
        """Yield inputs and labels of ``rows``, ``size`` at a time."""
        for start in range(0, len(rows), size):
            yield self._read(rows[start : start + size])

    def _read(self, rows: Sequence[int]) -> Part:
        """Return inputs and labels of some items, read in this process."""
        with preserve_generators():
            items = [read_item(self.dataset, int(row), self.what) for row in rows]
        pairs = [split_labels(item, self.what, with_labels=self._with_labels) for item in items]
        inputs = [arrays_of(given, self.what, f"item {row}") for (given, _), row in zip(pairs, rows, strict=True)]
        for item, row in zip(inputs, rows, strict=True):
            self._check(item, f"item {row}")
        stacked = {name: np.stack([item[name] for item in inputs]) for name in inputs[0]}
        labels = [label for _, label in pairs]
        return stacked, None if any(label is None for label in labels) else as_array(labels, "Labels")

    def _checked(self, part: Part, rows: Sequence[int]) -> Arrays:
        """Return the inputs, after comparing the labels with those that ``labels`` has returned."""
        inputs, labels = part
        if self._labels is None:
            return from_names(inputs)
        known = self._labels[np.asarray(rows)]
        if labels is None or not _are_same(known, labels):
            row = rows[0] if labels is None or len(labels) != len(rows) else _first_other(known, labels, rows)
            raise UnreadableInputs(
                f"Item {row} has another label than when the labels were read, or than in the data set's list of "
                "targets; make the data set return the same label each time."
            )
        return from_names(inputs)

    def _check(self, item: Mapping[str, NDArray[Any]], where: str) -> None:
        """Raise UnreadableInputs unless one row has the names, shapes and types of the first."""
        first = self._first = self._first or dict(item)
        if set(first) != set(item):
            raise UnreadableInputs(
                f"{self.what} have the names {', '.join(first)} and, at {where}, {', '.join(item)}; expected the same."
            )
        for name, part in item.items():
            known = first[name]
            label = f"{self.what} '{name}'" if name else self.what
            if part.shape != known.shape:
                raise UnreadableInputs(
                    f"{label} differ in shape: {known.shape} and, at {where}, {part.shape}; expected the same for all. "
                    f"{PAD}"
                )
            if part.dtype != known.dtype and not part.dtype.kind == known.dtype.kind == "f":
                raise UnreadableInputs(
                    f"{label} differ in type: {known.dtype} and, at {where}, {part.dtype}; expected the same for all."
                )


def split_labels(given: Any, what: str, *, with_labels: bool) -> Part:
    """Return inputs and labels (None if there are none) of an item of a data set, or of a batch of a loader."""
    if isinstance(given, tuple) and len(given) == 1:
        return given[0], None
    labels = None
    if isinstance(given, tuple):
        if len(given) != 2 or not with_labels:
            raise UnreadableInputs(f"{what} give a tuple for each stimulus; {APART}")
        given, labels = given
    if isinstance(given, Mapping) and (names := [name for name in _LABELS if name in given]):
        if labels is not None or len(names) > 1 or not with_labels:
            raise UnreadableInputs(f"{what} hold '{names[0]}' for each stimulus, which is no input; {APART}")
        labels = given[names[0]]
        given = {name: part for name, part in given.items() if name not in _LABELS}
    return given, labels


def arrays_of(given: Any, what: str, where: str) -> dict[str, NDArray[Any]]:
    """Return the inputs of an item or a batch as arrays by name; ``where`` is its place, for messages."""
    named = given if isinstance(given, Mapping) else {"": given}
    if wrong := [name for name in named if not isinstance(name, str) or (given is named and not name)]:
        raise UnreadableInputs(f"An input is named {wrong[0]!r}; expected the name of one of the network's arguments.")
    if any(getattr(part, "mode", None) in ("P", "PA") for part in named.values()):  # numbers of colours in a list
        raise UnreadableInputs(f"{where.capitalize()} is an image with a palette; convert it: image.convert('RGB').")
    return {name: as_array(part, f"{what} '{name}'" if name else what) for name, part in named.items()}


def _are_same(known: NDArray[Any], labels: Any) -> bool:
    return bool(np.array_equal(np.asarray(known), np.asarray(labels)))


def _first_other(known: NDArray[Any], labels: NDArray[Any], rows: Sequence[int]) -> int:
    pairs = zip(rows, known, labels, strict=True)
    return next((row for row, a, b in pairs if not np.array_equal(a, b)), rows[0])
