"""Stimuli from inputs and the columns that a user gives of labels, ids and split, with defaults for the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints import Stimuli
from checkpoints.conversion import as_label_vector
from checkpoints.errors import UnreadableInputs
from checkpoints.stimulus_inputs.input_source import Arrays, InputSource, by_name

__all__ = ["ABOUT", "UserStimuli", "stimuli_of"]

ABOUT = ("y", "ids", "split")  # columns about the stimuli; all others are shown to the network


@dataclass(frozen=True)
class UserStimuli:
    """Stimuli of a user, with a name for messages and for the run.

    Without labels all labels are 0, and ``stimuli.classes`` is empty.
    """

    stimuli: Stimuli
    name: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes 0, 1, ..."""
        return self.stimuli.classes


def stimuli_of(
    inputs: Arrays | InputSource, columns: Mapping[str, Any], name: str, classes: Sequence[str] | None = None
) -> UserStimuli:
    """Return stimuli of inputs, with default ids and split where ``columns`` has none.

    Ids are row numbers by default. Of each five consecutive stimuli of a class three are for training probes, one for
    validation and one for testing; without labels all are "test".

    Parameters
    ----------
    inputs : array, mapping of str to array, or InputSource
    columns : mapping of str to array, shape (n,)
        ``y`` (labels as numbers or text), ``ids`` and ``split``, each if known.
    name : str
        For messages.
    classes : sequence of str, optional
        Names of all classes, in the order of their numbers in ``y``.

    Raises
    ------
    ValueError
        If values are not finite, or as ``Stimuli.of``; the message begins with the name.
    """
    n = len(inputs) if isinstance(inputs, InputSource) else len(next(iter(by_name(inputs).values())))
    try:
        labels, names = _labels(columns.get("y"), n, classes)
        ids = columns.get("ids", np.char.mod("%08d", np.arange(n)))
        split = columns.get("split", _split(labels) if names else np.full(n, "test"))
        given = FiniteInputs(inputs) if isinstance(inputs, InputSource) else inputs
        return UserStimuli(Stimuli.of(ids, labels, split, given, classes=names or None), name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


class FiniteInputs(InputSource):
    """Inputs of another source, after checking that no value is NaN or infinite."""

    def __init__(self, source: InputSource) -> None:
        self._source = source

    def __len__(self) -> int:
        """Return the number of stimuli."""
        return len(self._source)

    def take(self, rows: Sequence[int]) -> Arrays:
        """Return the inputs of some stimuli."""
        return self._checked(self._source.take(rows), rows)

    def blocks(self, rows: Sequence[int], size: int) -> Iterator[Arrays]:
        """Yield the inputs of ``rows``, ``size`` at a time."""
        for k, block in enumerate(self._source.blocks(rows, size)):
            yield self._checked(block, rows[k * size : (k + 1) * size])

    def _checked(self, block: Arrays, rows: Sequence[int]) -> Arrays:
        for name, part in by_name(block).items():
            if part.dtype.kind == "f" and not (finite := np.isfinite(part)).all():
                first = int(np.flatnonzero(~finite.reshape(len(part), -1).all(axis=1))[0])
                what = f"Input '{name}'" if name else "The input"
                raise UnreadableInputs(
                    f"{what} of stimulus {rows[first]} has values that are NaN or infinite; replace them, or leave it "
                    "out."
                )
        return block


def _labels(y: Any, n: int, classes: Sequence[str] | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if y is None:
        return np.zeros(n, dtype=np.int64), ()
    y = np.asarray(y)
    if y.dtype.kind in "cOV":
        raise ValueError(f"y has type {y.dtype}; expected labels, as numbers or text.")
    found, labels = np.unique(as_label_vector(y), return_inverse=True)
    if classes is not None and found.dtype.kind in "iu" and found.min() >= 0 and found.max() < len(classes):
        return found[labels].astype(np.int64), tuple(classes)
    return labels, tuple(map(str, found.astype(str) if found.dtype.kind == "S" else found))


def _split(labels: NDArray[np.int64]) -> NDArray[Any]:
    """Assign the stimuli of each class to the parts of the split in turn, in the order of the file."""
    parts = np.full(labels.shape, "validation")
    turns = np.array(["train", "test", "train", "validation", "train"])
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        parts[members] = turns[np.arange(len(members)) % len(turns)]
    return parts
