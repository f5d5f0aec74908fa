"""State that a network carries from batch to batch, such as a recurrent layer's hidden state in an attribute.

Such a state has one row per example of the last batch, so that the network fails on a batch of another size. To find
the state, the network runs on as many stimuli as the state has rows, and its attributes are compared before and after.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor, nn

from checkpoints.capture.preservation import PreservedNetwork, tensors_in

__all__ = ["BatchState", "batch_states", "possible_sizes"]

_MOST_SIZES = 8
_LARGEST_SIZE = 1024


@dataclass(frozen=True)
class BatchState:
    """An attribute that holds a state of earlier examples."""

    owner: Any  # attributes or buffers of a module, or a container or attributes of an object that it refers to
    key: Any
    state: Any  # a tensor, or a tuple, list or dict with tensors
    size: int  # number of examples in the batch that the state comes from
    which: int  # index of the axis of the examples among the axes of this size

    def start_from_zero(self, n: int) -> None:
        """Replace the state by zeros for ``n`` examples."""
        self.owner[self.key] = _zeros(self.state, self.size, n, self.which)


def batch_states(changed: list[tuple[Any, Any, Any]], size: int, which: int) -> list[BatchState]:
    """Return the changed attributes that have a tensor with an axis of ``size``."""
    return [BatchState(owner, key, value, size, which) for owner, key, value in changed if _has_axis(value, size)]


def possible_sizes(model: nn.Module) -> list[int]:
    """Return the batch sizes that states may come from: axis lengths of plain tensor attributes, then of buffers."""
    buffers = {id(buffer) for buffer in model.buffers()}
    tensors = [each for each in PreservedNetwork(model).tensors() if not isinstance(each, nn.Parameter)]
    sizes = (size for each in sorted(tensors, key=lambda each: id(each) in buffers) for size in each.shape)
    return list(islice(dict.fromkeys(size for size in sizes if 0 < size <= _LARGEST_SIZE), _MOST_SIZES))


def _has_axis(value: Any, size: int) -> bool:
    return any(size in tensor.shape for tensor in tensors_in(value) if not isinstance(tensor, nn.Parameter))


def _zeros(value: Any, size: int, n: int, which: int) -> Any:
    if isinstance(value, Tensor):
        axes = [axis for axis, length in enumerate(value.shape) if length == size]
        if not axes:
            return value
        shape = list(value.shape)
        shape[axes[min(which, len(axes) - 1)]] = n
        return value.new_zeros(shape)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_zeros(each, size, n, which) for each in value))
    if isinstance(value, tuple | list):
        return type(value)(_zeros(each, size, n, which) for each in value)
    if isinstance(value, dict):
        return {key: _zeros(each, size, n, which) for key, each in value.items()}
    return value
