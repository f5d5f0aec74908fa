"""Networks with their weights, and stimuli, that the user brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from analysis.training.model_spec import build_model
from checkpoints import Stimuli
from checkpoints.conversion import as_label_vector
from checkpoints.storage.weights import WeightFile
from checkpoints.training_state.weight_fitting import fit_weights
from repsim.learning import read_npz

__all__ = ["ForeignStimuli", "load_model", "load_stimuli"]

_ABOUT = ("y", "ids", "split")  # arrays about the stimuli; all others are shown to the network


def load_model(
    spec: str,
    weights: str | Path | None = None,
    *,
    key: str | None = None,
    say: Callable[[str], None] | None = None,
) -> nn.Module:
    """Return the network that ``module:factory`` builds, with weights from a file if they are given.

    Parameters
    ----------
    spec : str
        See ``analysis.training.model_spec.build_model``.
    weights : path, optional
        A file or folder; see ``checkpoints.read_weights``. Of tied weights it may hold one name only.
    key : str, optional
        Where the file holds the weights; by default where those are that fit the network.
    say : callable, optional
        Called with each sentence about what was chosen, renamed or left out.

    Raises
    ------
    ValueError
        If the network cannot be built, or the weights cannot be read or do not fit it.
    """
    model = build_model(spec)
    if weights is None:
        if key is not None:
            raise ValueError(f"key '{key}' was given without weights; give the file that it is in.")
        return model
    for note in fit_weights(model, WeightFile.read(weights), key):
        if say is not None:
            say(note)
    return model


@dataclass(frozen=True)
class ForeignStimuli:
    """Stimuli from a user's file.

    Without labels in the file, all labels are 0 and ``classes`` is empty.
    """

    stimuli: Stimuli
    classes: tuple[str, ...]


def load_stimuli(path: str | Path) -> ForeignStimuli:
    """Return the stimuli of an ``.npz`` file.

    Parameters
    ----------
    path : path
        Holds an array ``X``, the network's only argument, or its arguments by name, such as ``input_ids`` and
        ``attention_mask``, with one row for each stimulus. Optional arrays are ``y`` (labels as numbers or text, of
        shape (n,) or (n, 1), or one-hot rows), ``ids`` (text; row numbers by default) and ``split`` ("train",
        "validation" or "test"). By default, of each five consecutive stimuli of a class three are for training probes,
        one for validation and one for testing; without labels all are "test".
    """
    path = Path(path)
    names, arrays = read_npz(path)
    parts = {name: array for name, array in arrays.items() if name not in _ABOUT}
    if not parts:
        found = ", ".join(names) or "nothing"
        raise ValueError(f"{path} holds no stimuli (found: {found}). Save them with numpy.savez(path, X=X, y=y).")
    if unusable := [name for name, part in parts.items() if part.dtype.kind not in "fiub" or part.ndim == 0]:
        array = parts[unusable[0]]
        raise ValueError(
            f"{unusable[0]} in {path} has type {array.dtype} and shape {array.shape}; expected real numbers, one row "
            "for each stimulus."
        )
    if infinite := [name for name, part in parts.items() if not np.isfinite(part).all()]:
        raise ValueError(f"{infinite[0]} in {path} has values that are NaN or infinite.")
    n = len(next(iter(parts.values())))
    inputs = parts["X"] if list(parts) == ["X"] else parts
    try:
        labels, classes = _labels(arrays.get("y"), n)
        ids = arrays.get("ids", np.char.mod("%08d", np.arange(n)))
        split = arrays.get("split", _split(labels) if classes else np.full(n, "test"))
        return ForeignStimuli(Stimuli.of(ids, labels, split, inputs), classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _labels(y: NDArray[Any] | None, n: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if y is None:
        return np.zeros(n, dtype=np.int64), ()
    if y.dtype.kind in "cOV":
        raise ValueError(f"y has type {y.dtype}; expected labels, as numbers or text.")
    classes, labels = np.unique(as_label_vector(y), return_inverse=True)
    return labels, tuple(map(str, classes.astype(str) if classes.dtype.kind == "S" else classes))


def _split(labels: NDArray[np.int64]) -> NDArray[Any]:
    """Assign the stimuli of each class to the parts of the split in turn, in the order of the file."""
    parts = np.full(labels.shape, "validation")
    turns = np.array(["train", "test", "train", "validation", "train"])
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        parts[members] = turns[np.arange(len(members)) % len(turns)]
    return parts
