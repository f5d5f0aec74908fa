"""Stable ascending order of many numbers, by a radix sort of the integers with the same bits.

A radix sort takes a fixed number of passes over the numbers, and is several times faster than `numpy.argsort`, which
compares values elsewhere in memory.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from repsim.similarity.precision import FloatArray

# Numbers from which the sort of torch, whose passes need more memory and fewer accesses, is faster than that of numpy.
_MANY = 2**20
_FEW = 1_000  # numbers that are tested first for being numbers of single precision
_DIGIT = 16  # bits of the integers that `numpy.argsort` sorts by radix


def sort_stably(values: FloatArray) -> tuple[FloatArray, NDArray[np.intp]]:
    """Return finite values from the smallest to the largest, and their positions; equal values keep their order.

    The sorted values are in single precision if that changes none of them.
    """
    keys = _ordered_bits(_as_single(values))
    if len(keys) < _MANY:
        order = _radix_order(keys)
        return values[order], order
    import torch

    ascending, positions = torch.sort(torch.from_numpy(keys), stable=True)
    return _numbers(ascending.numpy()), positions.numpy()


def _as_single(values: FloatArray) -> NDArray[Any]:
    """Return values in single precision, or as they are if that would change one."""
    with np.errstate(over="ignore", under="ignore"):
        if not (values[:_FEW].astype(np.float32) == values[:_FEW]).all():
            return values
        single = values.astype(np.float32, copy=False)
    return single if (single == values).all() else values


def _ordered_bits(values: NDArray[Any]) -> NDArray[Any]:
    """Return integers of as many bits as the numbers, in the order of the numbers."""
    bits = (values + values.dtype.type(0)).view(f"i{values.itemsize}")  # the sum turns -0 into 0
    return _reversed_below_zero(bits)


def _numbers(keys: NDArray[Any]) -> NDArray[Any]:
    """Return the numbers of which `_ordered_bits` has made integers. Changes the integers."""
    return _reversed_below_zero(keys).view(f"f{keys.itemsize}")


def _reversed_below_zero(bits: NDArray[Any]) -> NDArray[Any]:
    """Reverse in place the order of the negative integers, which is that of the sizes of negative numbers."""
    if bits.size and bits.min() < 0:
        bits ^= np.where(bits < 0, np.iinfo(bits.dtype).max, 0).astype(bits.dtype)
    return bits


def _radix_order(keys: NDArray[Any]) -> NDArray[np.intp]:
    """Return the positions of signed integers in ascending order, sorting by their digits from the lowest on."""
    order = np.arange(len(keys))
    for shift in range(0, 8 * keys.itemsize, _DIGIT):
        is_last = shift + _DIGIT == 8 * keys.itemsize
        digits = (keys >> shift).astype(np.int16 if is_last else np.uint16)  # the sign is in the last digit
        order = order[np.argsort(digits[order], kind="stable")]
    return order
