"""Data sets in memory: examples and their classes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dataset"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and their classes, as arrays.

    Attributes
    ----------
    name : str
    X : float32 array, shape (n, n_features)
        One example per row. Images are flattened and scaled to [0, 1]; values of the user's own data are not changed.
        Of data that a factory of the user returns, whole numbers, such as tokens, are an int64 array.
    y : int64 array, shape (n,)
        Class of each example, as an index into ``classes``.
    classes : tuple of str
        Labels, sorted.
    held_out : bool array, shape (n,), optional
        True for examples that the data set reserves for testing.
    image_shape : tuple of int, optional
        (channels, height, width), if the rows of X are flattened images, or another shape of one example, such as
        (steps, features) of a sequence.
    targets : array, optional
        What a recurrent network learns in place of y: classes, int64 (n, n_scored), at the time steps ``scored``; or
        regression targets, float32 (n, n_outputs), after the last time step. y then only describes the examples.
    outputs : tuple of str
        Names of the outputs for ``targets``; empty if there are none.
    scored : tuple of int, optional
        Time steps, from 1, at which ``targets`` are classes.
    """

    name: str
    X: NDArray[np.float32] | NDArray[np.int64]
    y: NDArray[np.int64]
    classes: tuple[str, ...]
    held_out: NDArray[np.bool_] | None = None
    image_shape: tuple[int, ...] | None = None
    targets: NDArray[np.int64] | NDArray[np.float32] | None = None
    outputs: tuple[str, ...] = ()
    scored: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example: that of an image, or (n_features,)."""
        return self.image_shape or (int(self.X.shape[1]),)

    @property
    def n_outputs(self) -> int:
        """The number of outputs of a network for these data."""
        return len(self.outputs or self.classes)

    @property
    def learned(self) -> NDArray[np.int64] | NDArray[np.float32]:
        """What a network learns: the targets, or y where there are none."""
        return self.y if self.targets is None else self.targets

    @cached_property
    def sha256(self) -> str:
        """Hash of examples, classes, their names, which are held out, and targets."""
        held_out = np.zeros(0, dtype=bool) if self.held_out is None else self.held_out
        digest = hashlib.sha256(repr([self.classes, self.image_shape]).encode())
        for array in (self.X, self.y, held_out):
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        if self.targets is not None:
            digest.update(repr([self.outputs, self.scored, self.targets.dtype.str, self.targets.shape]).encode())
            digest.update(np.ascontiguousarray(self.targets).data)
        return digest.hexdigest()
