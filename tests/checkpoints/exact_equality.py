"""Equality of nested state in value, type and order, for tests of what is stored."""

import struct
from collections import defaultdict, deque
from typing import Any

import numpy as np
import torch
from torch import Tensor


def bits(tensor: Tensor) -> list[int]:
    return tensor.resolve_conj().contiguous().reshape(-1).view(torch.uint8).tolist()


def same(tree: Any, other: Any) -> bool:
    """Equal in value, type and order; tensors, arrays and floats to the bit."""
    if type(tree) is not type(other):
        return False
    if isinstance(tree, Tensor):
        return (tree.dtype, tree.shape, bits(tree)) == (other.dtype, other.shape, bits(other))
    if isinstance(tree, np.ndarray | np.generic):
        return (tree.dtype, tree.shape, tree.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(tree, defaultdict) and tree.default_factory is not other.default_factory:
        return False
    if isinstance(tree, dict):
        return same(list(tree.items()), list(other.items()))
    if isinstance(tree, deque) and tree.maxlen != other.maxlen:
        return False
    if isinstance(tree, list | tuple | deque):
        return len(tree) == len(other) and all(map(same, tree, other))
    if isinstance(tree, float | complex):
        parts = (tree.real, tree.imag), (other.real, other.imag)
        return struct.pack("2d", *parts[0]) == struct.pack("2d", *parts[1])
    return bool(tree == other)
