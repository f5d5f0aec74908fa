"""Layers that are no arrays, for tests of what is read of them and how often."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Lazy:
    """An array that counts how often it is read."""

    def __init__(self, array: NDArray) -> None:
        self.array, self.shape, self.reads = array, array.shape, 0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        self.reads += 1
        return np.asarray(self.array, dtype=dtype)


class Broken(Lazy):
    """An array that cannot be read."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        raise OSError("checksum of block 3 is wrong")


class Sliced:
    """Rows that can be read by slices only, with the number of rows of each read."""

    def __init__(self, array: NDArray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.reads: list[int] = []

    def __getitem__(self, rows: slice) -> NDArray:
        self.reads.append(len(self.array[rows]))
        return self.array[rows]
