"""Stable ascending order of many numbers, by sorting whole numbers that hold a number and its position.

Sorting 64-bit whole numbers in place is several times faster than `numpy.argsort`, which moves positions and compares
values elsewhere in memory.
"""

import numpy as np
from numpy.typing import NDArray

from repsim.similarity.precision import FloatArray

_FEW = 1_000  # for which argsort is as fast
_MANTISSA = 52  # bits of a double, above which its differences are not exact


def ascending_order(values: FloatArray) -> NDArray[np.intp]:
    """Return the positions of finite values from the smallest to the largest; equal values keep their order."""
    m = len(values)
    if m < _FEW or m > 2**32:
        return np.argsort(values, kind="stable")
    single = _as_single(values)
    return _order_of_doubles(values) if single is None else _positions(_ordered_bits(single), 32)


def _as_single(values: FloatArray) -> NDArray[np.float32] | None:
    """Return values in single precision; None if that would change one."""
    with np.errstate(over="ignore", under="ignore"):
        if not (values[:_FEW].astype(np.float32) == values[:_FEW]).all():
            return None
        single = values.astype(np.float32, copy=False)
    return single if (single == values).all() else None


def _ordered_bits(values: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return whole numbers of 32 bits in the order of numbers in single precision."""
    bits = (values + np.float32(0)).view(np.uint32)  # the sum turns -0 into 0
    if values.min() < 0:
        bits = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return bits.astype(np.uint64)


def _positions(keys: NDArray[np.uint64], position_bits: int) -> NDArray[np.intp]:
    """Return the positions of keys in ascending order. Keys have at most 64 - ``position_bits`` bits."""
    keys <<= np.uint64(position_bits)
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    keys &= np.uint64(2**position_bits - 1)
    return keys.view(np.intp)


def _order_of_doubles(values: FloatArray) -> NDArray[np.intp]:
    """Sort by as many equal steps between smallest and largest as fit beside the position; then mend equal steps."""
    low, high = values.min(), values.max()
    position_bits = (len(values) - 1).bit_length()
    steps = 2.0 ** min(64 - position_bits, _MANTISSA) - 1
    with np.errstate(over="ignore", divide="ignore"):
        scale = steps / (high - low)
    if not 0 < scale < np.inf:
        return np.argsort(values, kind="stable")
    keys = np.minimum((values - low) * scale, steps).astype(np.uint64)
    order = _positions(keys.copy(), position_bits)
    shared = np.flatnonzero(np.diff(keys[order]) == 0)
    if not len(shared):
        return order
    if len(shared) > len(values) // 8:  # such as distances of which a few are far larger than all others
        return np.argsort(values, kind="stable")
    places = np.union1d(shared, shared + 1)
    found = order[places]
    order[places] = found[np.lexsort((found, values[found], keys[found]))]
    return order
