"""The fixed stimulus set of a run: the recorded examples and their order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.conversion import as_array, as_texts
from checkpoints.errors import Damaged
from checkpoints.html_tables import MOST_NUMBERS, table
from checkpoints.stimulus_targets import as_groups, as_target, class_numbers, read_targets_group, write_targets_group
from checkpoints.storage.hdf5_files.hdf5 import created, opened, read_column, set_attributes, write_column
from checkpoints.storage.hdf5_files.hdf5_attributes import attribute

__all__ = ["Inputs", "Stimuli"]

Inputs = NDArray[Any] | dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Stimuli:
    """Examples that every checkpoint of a run records, ordered by label.

    Attributes
    ----------
    ids : str array, shape (n,)
        Unique name of each example, e.g. its index in the data set.
    labels : int64 array, shape (n,)
        Ascending, so that classes are blocks of a dissimilarity matrix.
    split : str array, shape (n,)
        ``"train"``, ``"validation"`` or ``"test"``.
    content_hash : str
        SHA-256 of inputs and labels.
    inputs : array, shape (n, …), mapping of str to array, or None
        One input of the network, or several by argument name, such as token ids and their mask. Floats are float32;
        whole numbers have their own type. Inputs are held in memory only; ``stimuli.h5`` contains their hash.
    classes : tuple of str
        Names of the classes 0, 1, ...; empty if they have none.
    targets : dict of str to array, shape (n,)
        Other values to predict: classes as str or int64, or continuous quantities as float64.
    groups : str array, shape (n,), or None
        Stimuli of one group, such as a speaker, resemble one another and are in one part of the split.
    positions : int64 array, shape (n,), or None
        If rows are tokens: the position of each in its sequence, which is its group.
    """

    ids: NDArray[Any]
    labels: NDArray[np.int64]
    split: NDArray[Any]
    content_hash: str
    inputs: Inputs | None = field(default=None, repr=False)
    classes: tuple[str, ...] = ()
    targets: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    groups: NDArray[Any] | None = field(default=None, repr=False)
    positions: NDArray[np.int64] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        ids: Any,
        labels: Any,
        split: Any,
        inputs: Any,
        *,
        classes: Any = None,
        targets: Mapping[str, Any] | None = None,
        groups: Any = None,
    ) -> Stimuli:
        """Return a stimulus set, ordered by label, from columns in any order.

        Parameters
        ----------
        ids : sequence or array, shape (n,)
            Converted to str.
        labels : sequence, array or tensor, shape (n,) or (n, 1), or one-hot (n, n_classes)
            Text, or whole numbers of any type; one-hot rows (zeros and a single one) are replaced by the column of the
            one. Text is numbered in the order of ``classes``, by default in alphabetical order.
        split : sequence of str, shape (n,)
            ``"train"``, ``"validation"`` or ``"test"``.
        inputs : array, tensor, sequence or map-style data set, shape (n, …), or mapping of str to such
            Numbers, one row per stimulus. Tensors are copied to the CPU without their gradient. A sequence or data set
            has one array, tensor or image per stimulus, all of the same shape.
        classes : sequence of str, optional
            Names of the classes 0, 1, ...
        targets : mapping of str to sequence, array or tensor, shape (n,), optional
            Other values to predict, by name: text or whole numbers are classes, floats are continuous quantities.
        groups : sequence or array, shape (n,), optional
            Converted to str. Stimuli of one group must be in one part of the split.

        Raises
        ------
        ValueError
            If there are no stimuli; if inputs are not real numbers, exceed the range of float32, differ in shape (pad
            sequences to one length), are pairs of input and label, or have no length (iterators and data loaders); if
            labels are not one class per stimulus; if sizes differ; if ids repeat; if a split is unknown; if a class has
            no name although others have; if a target has no value for a stimulus; or if a group is in several parts of
            the split.
        """
        ids, split = as_texts(ids, "Ids"), as_texts(split, "Splits")
        labels, names = class_numbers(labels, classes)
        named = {name: _plain(part, name, ids.size) for name, part in _by_name(inputs).items()}
        lengths = {part.shape[:1] for part in named.values()}
        if not ids.shape == labels.shape == split.shape or lengths != {ids.shape} or not ids.size:
            shapes = ", ".join(str(part.shape) for part in named.values()) or "none"
            raise ValueError(
                f"Stimuli have ids of shape {ids.shape}, labels {labels.shape}, split {split.shape} and inputs "
                f"{shapes}; expected one of each per stimulus, and one stimulus or more."
            )
        if len(set(ids.tolist())) != len(ids):
            raise ValueError("Stimulus ids repeat; give every stimulus a unique id.")
        if unknown := sorted(set(split.tolist()) - {"train", "validation", "test"}):
            raise ValueError(f"Unknown split '{unknown[0]}'. Choose one of: train, validation, test.")
        order = np.argsort(labels, kind="stable")
        ordered: Inputs = {name: np.ascontiguousarray(part[order]) for name, part in named.items()}
        ordered = ordered if isinstance(inputs, Mapping) else ordered[""]
        grouped = as_groups(groups, split)
        return cls(
            ids[order],
            labels[order],
            split[order],
            _content_hash(ordered, labels[order]),
            ordered,
            names,
            {name: as_target(values, name, ids.size)[order] for name, values in (targets or {}).items()},
            None if grouped is None else grouped[order],
        )

    def __len__(self) -> int:
        """Return the number of stimuli."""
        return len(self.ids)

    def _repr_html_(self) -> str:
        """Return a table of the number of stimuli per split and label as HTML, for a notebook."""
        labels = np.unique(self.labels)
        shown = labels[:MOST_NUMBERS].tolist()
        rows = [
            (part, *(int(((self.split == part) & (self.labels == label)).sum()) for label in shown))
            for part in np.unique(self.split).tolist()
        ]
        rest = f"; of {len(labels)} labels the first {len(shown)}" if len(shown) < len(labels) else ""
        return f"<b>Stimuli</b>: {len(self)}{rest}{table(rows, ['part', *(f'label {label}' for label in shown)])}"

    def first_inputs(self, n: int) -> Inputs:
        """Return the inputs of the first ``n`` stimuli.

        Raises
        ------
        ValueError
            If the set was read from a run, which does not store inputs.
        """
        if self.inputs is None:
            raise ValueError("These stimuli were read from a run, which stores no inputs; create them with Stimuli.of.")
        if isinstance(self.inputs, dict):
            return {name: part[:n] for name, part in self.inputs.items()}
        return self.inputs[:n]

    def is_same_as(self, other: Stimuli) -> bool:
        """Return whether two sets have the same inputs, labels, ids and split in the same order."""
        same = np.array_equal(other.ids, self.ids) and np.array_equal(other.split, self.split)
        return same and other.content_hash == self.content_hash

    def with_inputs(self, other: Stimuli) -> Stimuli:
        """Return ``other``, which has inputs, after checking that it is the same set.

        Raises
        ------
        ValueError
            If inputs, labels, ids or splits differ.
        """
        if not self.is_same_as(other):
            raise ValueError(
                f"These {len(other)} stimuli are not the {len(self)} that the run records; give the same data set, "
                "seed and stimulus numbers as when the run was created."
            )
        return other

    def write(self, path: Path) -> None:
        """Write ``stimuli.h5``; an OSError names the path."""
        with created(path) as (file, _):
            header = {"format": "repsim-stimuli", "format_version": 1, "content_hash": self.content_hash}
            set_attributes(file, header)
            write_column(file, "stimulus_id", self.ids)
            write_column(file, "label", self.labels)
            write_column(file, "split", self.split)
            optional = {"class": np.array(self.classes), "group": self.groups, "position": self.positions}
            for name, values in optional.items():
                if values is not None and values.size:
                    write_column(file, name, values)
            write_targets_group(file, self.targets)

    @classmethod
    def read(cls, path: Path) -> Stimuli:
        """Read ``stimuli.h5``.

        Raises
        ------
        Damaged
            If the file is missing or of another format.
        """
        with opened(path, "repsim-stimuli") as file:
            ids = read_column(path, file, "stimulus_id", "|S")
            labels = read_column(path, file, "label", "<i8")
            split = read_column(path, file, "split", "|S")
            content_hash = attribute(path, file, "content_hash", "text")
            optional = {"class": "|S", "group": "|S", "position": "<i8"}
            found = {name: read_column(path, file, name, kind) for name, kind in optional.items() if name in file}
            targets = read_targets_group(path, file, len(ids))
        classes, groups, positions = (found.get(name) for name in optional)
        columns = [labels, split, *(each for each in (groups, positions) if each is not None)]
        if any(column.shape != ids.shape for column in columns):
            raise Damaged(f"{path} has columns of different lengths.")
        names = () if classes is None else tuple(classes.tolist())
        return cls(ids, labels, split, content_hash, None, names, targets, groups, positions)


def _by_name(inputs: Any) -> Mapping[str, Any]:
    if not isinstance(inputs, Mapping):
        return {"": inputs}
    if unnamed := [name for name in inputs if not isinstance(name, str) or not name]:
        raise ValueError(f"An input is named {unnamed[0]!r}; expected the name of one of the network's arguments.")
    return inputs


def _plain(values: Any, name: str, n: int) -> NDArray[Any]:
    """Return an input as an array: floats as float32, whole numbers in their own type."""
    what = f"Inputs '{name}'" if name else "Inputs"
    array = as_array(values, what, n)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what} are of type {array.dtype}; expected real numbers.")
    if array.dtype.kind != "f":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):
        plain = array.astype(np.float32)
    if (np.isinf(plain) & np.isfinite(array)).any():
        raise ValueError(
            f"{what} hold {np.abs(array[np.isfinite(array)]).max():.6g}, which exceeds the range of float32."
        )
    return plain


def _content_hash(inputs: Inputs, labels: NDArray[np.int64]) -> str:
    digest = hashlib.sha256()
    parts = sorted(inputs.items()) if isinstance(inputs, dict) else [("", inputs)]
    for name, part in parts:
        digest.update(f"{name and name + ' '}{part.dtype.str} {part.shape}".encode())
        digest.update(part.data)
    digest.update(labels.tobytes())
    return digest.hexdigest()
