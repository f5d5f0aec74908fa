"""Stimuli from inputs and the columns that a user gives of labels, ids, split and groups, with defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.config.stimulus_files import StimulusConfig
from analysis.config.target_table import TargetValues
from analysis.training.user_stimuli.default_split import default_split
from checkpoints import Stimuli
from checkpoints.conversion import as_label_vector, as_texts
from checkpoints.errors import UnreadableInputs
from checkpoints.stimulus_inputs.input_source import Arrays, InputSource, by_name
from checkpoints.stimulus_inputs.token_rows import as_token_mask, per_token

__all__ = ["ABOUT", "GivenStimuli", "UserStimuli", "stimuli_of"]

_TOKEN_MASK = "token_mask"
ABOUT = ("y", "ids", "split", "groups", _TOKEN_MASK)  # columns about the stimuli; all others are shown to the network


@dataclass(frozen=True)
class GivenStimuli:
    """Inputs of stimuli, and what is known about them.

    Attributes
    ----------
    inputs : array, mapping of str to array, or InputSource
    columns : mapping of str to array, shape (n,)
        ``y`` (labels as numbers or text), ``ids``, ``split`` and ``groups``, each if known; and ``token_mask``, of
        shape (n, n_positions).
    name : str
        For messages, and for the run.
    classes : sequence of str, optional
        Names of all classes, in the order of their numbers in ``y``.
    """

    inputs: Arrays | InputSource
    columns: Mapping[str, Any]
    name: str
    classes: Sequence[str] | None = None

    def __len__(self) -> int:
        """Return the number of stimuli, or of sequences."""
        if isinstance(self.inputs, InputSource):
            return len(self.inputs)
        return len(next(iter(by_name(self.inputs).values())))

    @property
    def ids(self) -> NDArray[Any]:
        """Id of each stimulus; its row number by default."""
        return as_texts(self.columns.get("ids", np.char.mod("%08d", np.arange(len(self)))), "Ids")

    @property
    def finite_inputs(self) -> Arrays | InputSource:
        """The inputs; those that are read in blocks are checked when they are read."""
        return FiniteInputs(self.inputs) if isinstance(self.inputs, InputSource) else self.inputs

    def is_per_position(self, values: NDArray[Any]) -> bool:
        """Return whether an array has one value for each position of sequences: the second axis of an input."""
        first = self.inputs.take([0]) if isinstance(self.inputs, InputSource) else self.inputs
        return any(part.shape[1:2] == values.shape[1:] for part in by_name(first).values() if part.ndim > 1)


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


def stimuli_of(given: GivenStimuli, config: StimulusConfig) -> UserStimuli:
    """Return stimuli, with default ids and split where none are given, and with further targets of a table.

    Ids are row numbers by default. Of the stimuli of a class, three fifths are for training probes, one for validation
    and one for testing, at random; groups stay whole, and their classes are divided as evenly as that allows. Without
    labels and targets all are "test".

    Raises
    ------
    ValueError
        If values are not finite, or as ``Stimuli.of``; the message begins with the name.
    """
    try:
        return UserStimuli((_tokens if config.rows == "tokens" else _stimuli)(given, config), given.name)
    except ValueError as error:
        raise ValueError(f"{given.name}: {error}") from error


def _stimuli(given: GivenStimuli, config: StimulusConfig) -> Stimuli:
    columns = given.columns
    _check_not_of_tokens(given)
    labels, names = _labels(columns.get("y"), len(given), given.classes)
    table = config.target_table
    found = TargetValues({}, None) if table is None else table.values_of(given.ids.tolist())
    groups = columns.get("groups") if found.groups is None else found.groups
    split = columns.get("split")
    if split is None:
        is_probed = bool(names or found.targets)
        split = default_split(labels, groups) if is_probed else np.full(len(given), "test")
    about: dict[str, Any] = {"classes": names or None, "targets": found.targets, "groups": groups}
    return Stimuli.of(given.ids, labels, split, given.finite_inputs, **about)


def _check_not_of_tokens(given: GivenStimuli) -> None:
    """Raise ValueError if there is a label for each position of sequences, or a mask of tokens, and rows are not."""
    if _TOKEN_MASK in given.columns:
        raise ValueError(f"{_TOKEN_MASK} says which tokens are rows. Give --rows tokens, or leave it out.")
    y = np.asarray(given.columns.get("y", ()))
    if y.ndim != 2 or y.shape[1] == 1 or (y.dtype.kind in "fiub" and (y.sum(axis=1) == 1).all()):
        return
    if len(y) == len(given) and given.is_per_position(y):
        raise ValueError(
            f"Labels have shape {y.shape}; expected one label for each stimulus, shape (n,). If y has one for each "
            "position of a sequence, give --rows tokens."
        )


def _tokens(given: GivenStimuli, config: StimulusConfig) -> Stimuli:
    """Return stimuli whose rows are tokens, in the order of the sequences."""
    columns = given.columns
    if "groups" in columns or config.groups is not None:
        raise ValueError("Rows that are tokens are grouped by their sequence. Leave other groups out.")
    usual = "attention_mask" if _has_input(given, "attention_mask") else None
    mask = as_token_mask(columns.get(_TOKEN_MASK, usual), given.inputs, given.ids)
    y = None if "y" not in columns else per_token(columns["y"], mask, "Labels")
    numbers, names = _labels(y, int(mask.sum()), given.classes)
    labels = np.zeros(mask.shape, dtype=np.int64)
    labels[mask] = numbers
    split = columns.get("split")
    if split is None:
        is_probed = bool(names) or config.targets is not None
        split = default_split(np.zeros(len(given), dtype=np.int64)) if is_probed else np.full(len(given), "test")
    stimuli = Stimuli.of_tokens(given.ids, labels, split, given.finite_inputs, mask=mask, classes=names or None)
    table = config.target_table
    return stimuli if table is None else table.added_to(stimuli)


def _has_input(given: GivenStimuli, name: str) -> bool:
    return name in by_name(given.inputs.take([0]) if isinstance(given.inputs, InputSource) else given.inputs)


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
    if found.dtype.kind == "f" and (quantities := found[found % 1 != 0]).size:
        raise ValueError(
            f"Label {quantities[0]:g} is no class; expected text or whole numbers. Give a quantity as a column of "
            "--targets."
        )
    if found.dtype.kind in "US" and not found[0]:
        raise ValueError(f"{int((labels == 0).sum())} of {len(labels)} labels are empty; leave out these stimuli.")
    if classes is not None and found.dtype.kind in "iu" and found.min() >= 0 and found.max() < len(classes):
        return found[labels].astype(np.int64), tuple(classes)
    return labels, tuple(map(str, found.astype(str) if found.dtype.kind == "S" else found))
