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
from checkpoints.hdf5 import attribute, checked_dataset, image, opened, set_attributes

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
    inputs : float32 array, shape (n, …), or None
        Kept in memory only; a run's ``stimuli.h5`` holds the hash.
    """

    ids: NDArray[Any]
    labels: NDArray[np.int64]
    split: NDArray[Any]
    content_hash: str
    inputs: NDArray[np.float32] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, ids: Any, labels: Any, split: Any, inputs: Any) -> Stimuli:
        """Return a stimulus set ordered by label from arrays in any order.

        Raises
        ------
        ValueError
            If lengths differ, ids repeat, or a part is not one of train, validation, test.
        """
        ids, labels, split = (
            np.asarray(ids, dtype=str),
            np.asarray(labels, dtype=np.int64),
            np.asarray(split, dtype=str),
        )
        inputs = np.asarray(inputs, dtype=np.float32)
        lengths = {len(ids), len(labels), len(split), len(inputs)}
        if len(lengths) != 1:
            raise ValueError(
                f"Stimuli have {len(ids)} ids, {len(labels)} labels, {len(split)} split entries and {len(inputs)} "
                "inputs; there must be one of each for every stimulus."
            )
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

    def with_inputs(self, other: Stimuli) -> Stimuli:
        """Return ``other`` if it is this set with its inputs at hand.

        Raises
        ------
        ValueError
            If it has other inputs, labels or ids.
        """
        if other.content_hash != self.content_hash or not np.array_equal(other.ids, self.ids):
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
            file["stimulus_id"] = np.char.encode(self.ids, "utf-8")
            file["label"] = self.labels
            file["split"] = np.char.encode(self.split, "utf-8")

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
            ids, labels, split = (checked_dataset(path, file, name)[()] for name in ("stimulus_id", "label", "split"))
            content_hash = str(attribute(file, "content_hash"))
        if not ids.shape == labels.shape == split.shape:
            raise Damaged(f"{path} has columns of different lengths.")
        return cls(np.char.decode(ids, "utf-8"), labels, np.char.decode(split, "utf-8"), content_hash)


def _content_hash(inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(repr(inputs.shape).encode())
    digest.update(inputs.tobytes())
    digest.update(labels.tobytes())
    return digest.hexdigest()
