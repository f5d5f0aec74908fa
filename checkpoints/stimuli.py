"""The fixed stimulus set of a run: which examples are recorded, in which order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.errors import Damaged
from checkpoints.hdf5 import attribute, image, opened, read_column, set_attributes, write_column

__all__ = ["Stimuli"]


@dataclass(frozen=True)
class Stimuli:
    """Examples that every checkpoint of a run records, ordered by label.

    Attributes
    ----------
    ids : str array, shape (n,)
        Names each example, e.g. its index in the data set; unique.
    labels : int64 array, shape (n,)
        Ascending, so that a dissimilarity matrix shows classes as blocks.
    split : str array, shape (n,)
        ``"train"``, ``"validation"`` or ``"test"``.
    content_hash : str
        SHA-256 of inputs and labels.
    inputs : array, shape (n, …), or None
        Floats as float32; whole numbers, such as token ids, as they are.
        Kept in memory only; a run's ``stimuli.h5`` holds the hash.
    """

    ids: NDArray[Any]
    labels: NDArray[np.int64]
    split: NDArray[Any]
    content_hash: str
    inputs: NDArray[Any] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, ids: Any, labels: Any, split: Any, inputs: Any) -> Stimuli:
        """Return a stimulus set ordered by label from arrays in any order.

        Raises
        ------
        ValueError
            If there are none, shapes differ, labels are not whole numbers, ids repeat, or a part is not one of train,
            validation, test.
        """
        ids, labels, split = np.asarray(ids, dtype=str), np.asarray(labels), np.asarray(split, dtype=str)
        inputs = np.asarray(inputs)
        if inputs.dtype.kind == "f":
            inputs = inputs.astype(np.float32)
        if not ids.shape == labels.shape == split.shape == inputs.shape[:1] or not ids.size:
            raise ValueError(
                f"Stimuli have ids of shape {ids.shape}, labels {labels.shape}, split {split.shape} and inputs "
                f"{inputs.shape}; there must be one of each for every stimulus, and one stimulus or more."
            )
        if labels.dtype.kind not in "iub":
            raise ValueError(f"Labels are of type {labels.dtype}; expected whole numbers, one class each.")
        labels = labels.astype(np.int64)
        if len(set(ids.tolist())) != len(ids):
            raise ValueError("Stimulus ids repeat; every stimulus needs an id of its own.")
        if unknown := sorted(set(split.tolist()) - {"train", "validation", "test"}):
            raise ValueError(f"Unknown split '{unknown[0]}'. Choose one of: train, validation, test.")
        order = np.argsort(labels, kind="stable")
        ids, labels, split, inputs = ids[order], labels[order], split[order], np.ascontiguousarray(inputs[order])
        return cls(ids, labels, split, _content_hash(inputs, labels), inputs)

    def __len__(self) -> int:
        """Return the number of stimuli."""
        return len(self.ids)

    def is_same_as(self, other: Stimuli) -> bool:
        """Tell whether two sets hold the same inputs, labels, ids and split in the same order."""
        same = np.array_equal(other.ids, self.ids) and np.array_equal(other.split, self.split)
        return same and other.content_hash == self.content_hash

    def with_inputs(self, other: Stimuli) -> Stimuli:
        """Return ``other`` if it is this set with its inputs at hand.

        Raises
        ------
        ValueError
            If it has other inputs, labels, ids or another split.
        """
        if not self.is_same_as(other):
            raise ValueError(
                f"These {len(other)} stimuli are not the {len(self)} that the run records; give the same data set, "
                "seed and stimulus numbers as when the run was created."
            )
        return other

    def encode(self) -> bytes:
        """Return the content of ``stimuli.h5``."""

        def fill(file: h5py.File) -> None:
            header = {"format": "repsim-stimuli", "format_version": 1, "content_hash": self.content_hash}
            set_attributes(file, header)
            write_column(file, "stimulus_id", self.ids)
            write_column(file, "label", self.labels)
            write_column(file, "split", self.split)

        return image(fill)

    @classmethod
    def read(cls, path: Path) -> Stimuli:
        """Read ``stimuli.h5``.

        Raises
        ------
        Damaged
            If it is missing or not of this format.
        """
        with opened(path, "repsim-stimuli") as file:
            ids = read_column(path, file, "stimulus_id", "|S")
            labels = read_column(path, file, "label", "<i8")
            split = read_column(path, file, "split", "|S")
            content_hash = attribute(path, file, "content_hash", "text")
        if not ids.shape == labels.shape == split.shape:
            raise Damaged(f"{path} has columns of different lengths.")
        return cls(ids, labels, split, content_hash)


def _content_hash(inputs: NDArray[Any], labels: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(f"{inputs.dtype.str} {inputs.shape}".encode())
    digest.update(inputs.tobytes())
    digest.update(labels.tobytes())
    return digest.hexdigest()
