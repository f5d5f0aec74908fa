"""The fixed stimulus set of a run: the recorded examples and their order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from checkpoints.conversion import as_numbers, as_texts
from checkpoints.errors import Damaged
from checkpoints.html_tables import MOST_NUMBERS, table
from checkpoints.row_digests import row_digests
from checkpoints.stimulus_inputs.content_hash import hash_arrays
from checkpoints.stimulus_inputs.input_source import Arrays, InputSource, by_name, from_names
from checkpoints.stimulus_inputs.opening import as_source, input_name
from checkpoints.stimulus_inputs.stored_inputs import StoredInputs
from checkpoints.stimulus_inputs.token_rows import as_token_mask, per_token
from checkpoints.stimulus_targets import as_groups, as_target, class_numbers, read_targets_group, write_targets_group
from checkpoints.storage.hdf5_files.hdf5 import created, opened, read_column, set_attributes, write_column
from checkpoints.storage.hdf5_files.hdf5_attributes import attribute

__all__ = ["Inputs", "Stimuli"]

Inputs = Arrays | InputSource


@dataclass(frozen=True)
class Stimuli:
    """Examples that every checkpoint of a run records, ordered by label.

    Attributes
    ----------
    ids : str array, shape (n,)
        Unique name of each example, e.g. its index in the data set.
    labels : int64 array, shape (n,)
        Ascending, so that classes are blocks of a dissimilarity matrix, unless rows are tokens.
    split : str array, shape (n,)
        ``"train"``, ``"validation"`` or ``"test"``.
    content_hash : str
        SHA-256 of inputs and labels.
    inputs : array, shape (n, …), mapping of str to array, InputSource, or None
        One input of the network, or several by argument name, such as token ids and their mask. Floats are float32;
        whole numbers have their own type. Those of data sets, loaders and memory-mapped arrays are read in blocks when
        they are needed. ``stimuli.h5`` contains the hash of the inputs, not the inputs.
    classes : tuple of str
        Names of the classes 0, 1, ...; empty if they have none.
    targets : dict of str to array, shape (n,)
        Other values to predict: classes as str or int64, or continuous quantities as float64.
    groups : str array, shape (n,), or None
        Stimuli of one group, such as a speaker, resemble one another and are in one part of the split.
    positions : int64 array, shape (n,), or None
        If rows are tokens: the position of each in its sequence, which is its group.
    mask : bool array, shape (n_sequences, n_positions), or None
        If rows are tokens: which ones, in the order of the rows. ``inputs`` then has one entry per sequence. In memory
        only.
    digests : str array, shape (n,), or None
        One digest of the inputs of each stimulus, see ``row_digests``; None in runs of earlier versions.
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
    digests: NDArray[Any] | None = field(default=None, repr=False)
    mask: NDArray[np.bool_] | None = field(default=None, repr=False)

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
        labels : sequence, array or tensor, shape (n,) or (n, 1), or one-hot (n, n_classes), or None
            None takes the labels that a data set or loader gives beside the inputs, in pairs or as ``label`` or
            ``labels`` of a dict. Otherwise text, or whole numbers of any type; one-hot rows (zeros and a single one)
            are replaced by the column of the one. Text is numbered in the order of ``classes``, by default in
            alphabetical order.
        split : sequence of str, shape (n,)
            ``"train"``, ``"validation"`` or ``"test"``.
        inputs : array, tensor, sequence, map-style data set or DataLoader, or mapping of str to such
            Numbers, one row per stimulus. Tensors are copied to the CPU without their gradient. A sequence or data set
            has one array, tensor or image per stimulus, all of the same shape; items of a data set may also be dicts
            of inputs. A data set, a loader, a ``numpy.memmap`` and an ``h5py.Dataset`` are not copied into memory: they
            are read once now, for the hash, and in blocks at each recording, which ends with an error if a row has
            changed. The loader's collate function and worker processes are used, its order is not: row i belongs to
            item i of its data set.
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
            sequences to one length), are pairs of input and label although labels are given, or have no fixed order
            (iterators and iterable data sets); if labels are missing, or not one class per stimulus; if sizes differ;
            if ids repeat; if a split is unknown; if a class has no name although others have; if a target has no value
            for a stimulus; or if a group is in several parts of the split.
        """
        ids, split = as_texts(ids, "Ids"), as_texts(split, "Splits")
        given = _read_or_opened(inputs, ids.size, with_labels=labels is None)
        labels, names = class_numbers(_labels_beside(given) if labels is None else labels, classes)
        shapes = _shapes(given)
        if not ids.shape == labels.shape == split.shape or {each[:1] for each in shapes} != {ids.shape} or not ids.size:
            raise ValueError(
                f"Stimuli have ids of shape {ids.shape}, labels {labels.shape}, split {split.shape} and inputs "
                f"{', '.join(map(str, shapes)) or 'none'}; expected one of each per stimulus, and one stimulus or more."
            )
        if len(set(ids.tolist())) != len(ids):
            raise ValueError("Stimulus ids repeat; give every stimulus a unique id.")
        if unknown := sorted(set(split.tolist()) - {"train", "validation", "test"}):
            raise ValueError(f"Unknown split '{unknown[0]}'. Choose one of: train, validation, test.")
        order = np.argsort(labels, kind="stable")
        ordered, content_hash, digests = _ordered(given, order, ids, labels[order])
        grouped = as_groups(groups, split)
        return cls(
            ids[order],
            labels[order],
            split[order],
            content_hash,
            ordered,
            names,
            {name: as_target(values, name, ids.size)[order] for name, values in (targets or {}).items()},
            None if grouped is None else grouped[order],
            digests=digests,
        )

    @classmethod
    def of_tokens(
        cls,
        ids: Any,
        labels: Any,
        split: Any,
        inputs: Any,
        *,
        mask: Any = None,
        classes: Any = None,
        targets: Mapping[str, Any] | None = None,
    ) -> Stimuli:
        """Return a stimulus set whose rows are the tokens (frames, patches) of sequences.

        A recording then has one row per token, with the id ``"SEQUENCE:POSITION"``, in the order of the sequences and
        of the positions; the position counts padding. Sequences are groups, so that one is in one part of the split.

        Parameters
        ----------
        ids, split, inputs
            As for ``of``, one per sequence. Sequences are padded to one length.
        labels : sequence, array or tensor, shape (n, n_positions) or as for ``of``
            One label per position, whose values for padding are ignored, or one per sequence.
        mask : array or tensor, shape (n, n_positions), or str, optional
            1 for tokens that are rows, and 0 for padding; or the name of an input that is such a mask. By default, all
            positions along the second axis of the inputs. Layers with another number of positions are not recorded.
        classes : sequence of str, optional
            As for ``of``.
        targets : mapping of str to values, shape (n, n_positions) or (n,), optional
            Other values to predict, one per position or one per sequence.

        Raises
        ------
        ValueError
            As for ``of``, and if the mask is not one of zeros and ones per position, or leaves a sequence no token.

        Examples
        --------
        >>> stimuli = Stimuli.of_tokens(["a", "b"], [[0, 1, 9], [1, 0, 1]], ["train", "test"], np.ones((2, 3)),
        ...                             mask=[[1, 1, 0], [1, 1, 1]])
        >>> stimuli.ids.tolist(), stimuli.labels.tolist()
        (['a:0', 'a:1', 'b:0', 'b:1', 'b:2'], [0, 1, 1, 0, 1])
        """
        n = len(as_texts(ids, "Ids"))
        sequences = cls.of(ids, np.zeros(n, dtype=np.int64), split, inputs)  # equal labels keep the order
        shown = as_token_mask(mask, cast("Inputs", sequences.inputs), sequences.ids)
        numbers, names = class_numbers(per_token(labels, shown, "Labels"), classes)
        rows, positions = np.nonzero(shown)
        groups = sequences.ids[rows]
        return cls(
            np.array([f"{group}:{position}" for group, position in zip(groups, positions, strict=True)]),
            numbers,
            sequences.split[rows],
            hashlib.sha256(sequences.content_hash.encode() + numbers.tobytes()).hexdigest(),
            sequences.inputs,
            names,
            {
                name: as_target(per_token(values, shown, f"Values of target '{name}'"), name, len(rows))
                for name, values in (targets or {}).items()
            },
            groups,
            positions.astype(np.int64),
            None if sequences.digests is None else sequences.digests[rows],
            shown,
        )

    def __len__(self) -> int:
        """Return the number of stimuli, which are the rows of a recording."""
        return len(self.ids)

    @property
    def n_inputs(self) -> int:
        """The number of entries of ``inputs``: the number of sequences if rows are tokens."""
        return len(self) if self.mask is None else len(self.mask)

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

    def first_inputs(self, n: int) -> Arrays:
        """Return the first ``n`` inputs; raises as ``inputs_at`` does."""
        return self.inputs_at(range(min(n, self.n_inputs)))

    def inputs_at(self, rows: Sequence[int]) -> Arrays:
        """Return some inputs, in memory; of sequences if rows are tokens.

        Raises
        ------
        ValueError
            If the set was read from a run, which does not store inputs; or if inputs that are read when they are needed
            cannot be read or have changed.
        """
        if self.inputs is None:
            raise ValueError("These stimuli were read from a run, which stores no inputs; create them with Stimuli.of.")
        if isinstance(self.inputs, InputSource):
            return self.inputs.take(rows)
        return from_names({name: part[np.asarray(rows)] for name, part in by_name(self.inputs).items()})

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
            optional["input_digest"] = self.digests
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
            optional = {"class": "|S", "group": "|S", "position": "<i8", "input_digest": "|S"}
            found = {name: read_column(path, file, name, kind) for name, kind in optional.items() if name in file}
            targets = read_targets_group(path, file, len(ids))
        classes, groups, positions, digests = (found.get(name) for name in optional)
        columns = [labels, split, *(each for each in (groups, positions, digests) if each is not None)]
        if any(column.shape != ids.shape for column in columns):
            raise Damaged(f"{path} has columns of different lengths.")
        names = () if classes is None else tuple(classes.tolist())
        return cls(ids, labels, split, content_hash, None, names, targets, groups, positions, digests)


def _read_or_opened(inputs: Any, n: int, *, with_labels: bool) -> Inputs:
    """Return inputs as arrays, or as a source of inputs that are not in memory."""
    if isinstance(inputs, Mapping) and (unnamed := [name for name in inputs if not isinstance(name, str) or not name]):
        raise ValueError(f"An input is named {unnamed[0]!r}; expected the name of one of the network's arguments.")
    source = as_source(inputs, n, with_labels=with_labels)
    if source is None:
        named = inputs if isinstance(inputs, Mapping) else {"": inputs}
        arrays = {name: as_numbers(part, input_name(name), n) for name, part in named.items()}
        return arrays if isinstance(inputs, Mapping) else arrays[""]
    return source


def _labels_beside(inputs: Inputs) -> Any:
    """Return the labels that a source of inputs gives."""
    labels = inputs.labels() if isinstance(inputs, InputSource) else None
    if labels is None:
        raise ValueError("There are no labels: none are given, and the inputs have none beside them.")
    return labels


def _shapes(inputs: Inputs) -> list[tuple[int, ...]]:
    if isinstance(inputs, InputSource):
        return [(len(inputs),)]
    return [part.shape for part in by_name(inputs).values()]


def _ordered(
    inputs: Inputs, order: NDArray[np.int64], ids: NDArray[Any], labels: NDArray[np.int64]
) -> tuple[Inputs, str, NDArray[Any]]:
    """Return inputs in the order of the stimuli, the hash of their content, and the digest of each."""
    if isinstance(inputs, InputSource):
        stored = StoredInputs(inputs, order, ids[order], labels)
        return stored, stored.content_hash, stored.digests
    ordered = from_names({name: np.ascontiguousarray(part[order]) for name, part in by_name(inputs).items()})
    return ordered, hash_arrays(ordered, labels), row_digests(ordered)
