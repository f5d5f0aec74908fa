"""Default split of stimuli into parts for training, validating and testing probes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.conversion import as_texts

__all__ = ["default_split"]

_TURNS = ("train", "test", "train", "validation", "train")  # of stimuli of a class, in random order
_SEED = 0
_SHARES = {part: _TURNS.count(part) / len(_TURNS) for part in ("train", "validation", "test")}


def default_split(labels: NDArray[np.int64], groups: Any = None) -> NDArray[Any]:
    """Return the part of each stimulus: "train", "validation" or "test".

    Parameters
    ----------
    labels : int64 array, shape (n,)
        0 or more. The stimuli of each class, in a random order that is always the same, are assigned to the parts in
        turn; in their own order, conditions that alternate would fall into different parts.
    groups : sequence or array, shape (n,), optional
        Whole groups are assigned to the parts, the largest first, each where the classes then fit the shares best.

    Raises
    ------
    ValueError
        If there are fewer groups than parts, or not one group per stimulus.
    """
    if groups is not None:
        return _split_groups(labels, groups)
    parts = np.full(labels.shape, "validation")
    turns, generator = np.array(_TURNS), np.random.default_rng(_SEED)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        parts[members] = turns[np.arange(len(members)) % len(turns)]
    return parts


def _split_groups(labels: NDArray[np.int64], groups: Any) -> NDArray[Any]:
    names, codes = np.unique(as_texts(groups, "Groups"), return_inverse=True)
    if codes.shape != labels.shape:
        raise ValueError(f"Groups have shape {codes.shape} for {len(labels)} stimuli; expected one per stimulus.")
    if len(names) < len(_SHARES):
        raise ValueError(
            f"{len(names)} groups cannot be divided into {', '.join(_SHARES)} without dividing one; give three or more "
            "groups, or an array split."
        )
    counts = np.zeros((len(names), int(labels.max()) + 1))  # (n_groups, n_classes)
    np.add.at(counts, (codes, labels), 1)
    lacking = np.outer(list(_SHARES.values()), counts.sum(axis=0))  # (n_parts, n_classes)
    chosen = np.zeros(len(names), dtype=int)
    empty = set(range(len(_SHARES)))
    for left, group in zip(range(len(names), 0, -1), np.argsort(-counts.sum(axis=1), kind="stable"), strict=True):
        gains = lacking**2 - (lacking - counts[group]) ** 2
        allowed = sorted(empty) if left == len(empty) else list(range(len(_SHARES)))
        chosen[group] = max(allowed, key=lambda part: gains[part].sum())
        lacking[chosen[group]] -= counts[group]
        empty.discard(int(chosen[group]))
    return np.array(list(_SHARES))[chosen[codes]]
