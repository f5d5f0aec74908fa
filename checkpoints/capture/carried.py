"""State that a network keeps from batch to batch, such as the hidden state of a recurrent layer in an attribute.

Such a state has a row for each example of the last batch, so that a batch of another size cannot be run with it. It is
found by running the network on as many stimuli as the state has rows, and by comparing its attributes before and after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor, nn

from checkpoints.capture.found import Found

__all__ = ["Carried", "carried_states", "possible_sizes"]

_MOST_SIZES = 8
_LARGEST_SIZE = 1024


@dataclass(frozen=True)
class Carried:
    """An attribute that holds a state of earlier examples.

    Attributes
    ----------
    owner : dict or list
        The attributes or buffers of a module, or a container or the attributes of an object that hangs on it.
    key : str or int
    state : tensor, or tuple, list or dict with tensors
    size : int
        The number of examples that the state is for.
    which : int
        The number of the axis of the examples among the axes of this size, from 0.
    """

    owner: Any
    key: Any
    state: Any
    size: int
    which: int

    def start_from_zero(self, n: int) -> None:
        """Replace the state by zeros for ``n`` examples."""
        self.owner[self.key] = _zeros(self.state, self.size, n, self.which)


def carried_states(changed: list[tuple[Any, Any, Any]], size: int, which: int) -> list[Carried]:
    """Return the changed attributes that have a row for each of ``size`` examples."""
    return [Carried(owner, key, value, size, which) for owner, key, value in changed if _has_axis(value, size)]


def possible_sizes(model: nn.Module) -> list[int]:
    """Return the numbers of examples that kept states may be for: sizes of plain attributes, then of buffers."""
    buffers = {id(buffer) for buffer in model.buffers()}
    tensors = [each for each in Found(model).tensors() if not isinstance(each, nn.Parameter)]
    sizes = (size for each in sorted(tensors, key=lambda each: id(each) in buffers) for size in each.shape)
    return list(islice(dict.fromkeys(size for size in sizes if 0 < size <= _LARGEST_SIZE), _MOST_SIZES))


def _has_axis(value: Any, size: int) -> bool:
    return any(size in part.shape for part in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, tuple | list):
        for each in value[:_MOST_SIZES]:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


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
