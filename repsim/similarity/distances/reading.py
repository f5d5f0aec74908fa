"""Representations in the precision that distances need, in memory or read block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from repsim.similarity import checks
from repsim.similarity.distances.distance import Floats
from repsim.similarity.precision import FeatureRange

# Entries of the rows that are converted at a time (8 MiB in float64).
CHUNK = 2**20
# Single precision (up to 3e38, fewer digits below 1e-38) holds the squared distances of rows whose largest value is
# in this range, and not below the fraction SMALLEST of that of all rows.
SMALLEST, LARGEST = 1e-10, 1e15


def chunks(X: Any) -> list[tuple[int, int]]:
    """Return start and stop of each chunk of rows of X."""
    step = max(1, CHUNK // X.shape[1])
    return [(start, min(start + step, len(X))) for start in range(0, len(X), step)]


def in_safe_precision(X: Floats) -> Floats:
    """Convert X to double precision if single precision does not hold its squared distances."""
    return X if X.dtype == np.float64 or _single_is_safe(_row_sizes(X)) else X.astype(np.float64)


class Blocks:
    """Representation that is read by slices of rows, checked and in a safe precision.

    As in `checks.representation`, features that are constant up to rounding have exactly one value. Their detection
    takes one pass over X.
    """

    def __init__(self, X: Any, name: str) -> None:
        self._X, self._name, self.shape = X, name, tuple(X.shape)
        checks.check_real(np.dtype(X.dtype), name)
        features, sizes = FeatureRange(self.shape[1]), []
        for start, stop in chunks(X):
            block = self._read(slice(start, stop))
            features.update(block)
            sizes.append(_row_sizes(block))
        self._constant, self._values = features.constant(), features.low
        is_single = X.dtype == np.float32 and _single_is_safe(np.concatenate(sizes))
        self.dtype: np.dtype[Any] = np.dtype(np.float32 if is_single else np.float64)

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.shape[0])

    def __getitem__(self, rows: slice) -> Floats:
        """Return rows, in double precision."""
        block = self._read(rows)
        block[:, self._constant] = self._values[self._constant]
        return block

    def _read(self, rows: slice) -> Floats:
        block = np.array(self._X[rows], dtype=np.float64)
        if not np.isfinite(block).all():
            start, stop, _ = rows.indices(len(self))
            raise ValueError(f"{self._name} has values that are NaN or infinite in rows {start} to {stop - 1}.")
        return block


def _row_sizes(X: Floats) -> Floats:
    return np.maximum(X.max(axis=1), -X.min(axis=1))


def _single_is_safe(sizes: Floats) -> bool:
    sizes = sizes[sizes > 0].astype(np.float64)
    return not sizes.size or (sizes.max() <= LARGEST and sizes.min() >= SMALLEST * max(1.0, sizes.max()))
