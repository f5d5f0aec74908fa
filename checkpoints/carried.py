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

from checkpoints.modules import is_scripted

__all__ = ["Carried", "carried_states", "possible_sizes"]

_MOST_SIZES = 8
_LARGEST_SIZE = 1024


@dataclass(frozen=True)
class Carried:
    """An attribute that holds a state of earlier examples.

    Attributes
    ----------
    owner : dict
        The attributes or buffers of a module.
    key : str
    state : tensor, or tuple, list or dict with tensors
    size : int
        The number of examples that the state is for.
    which : int
        The number of the axis of the examples among the axes of this size, from 0.
    """

    owner: dict[str, Any]
    key: str
    state: Any
    size: int
    which: int

    def start_from_zero(self, n: int) -> None:
        """Replace the state by zeros for ``n`` examples."""
        self.owner[self.key] = _zeros(self.state, self.size, n, self.which)


def carried_states(changed: list[tuple[dict[str, Any], str, Any]], size: int, which: int) -> list[Carried]:
    """Return the changed attributes that have a row for each of ``size`` examples."""
    return [Carried(owner, key, value, size, which) for owner, key, value in changed if _has_axis(value, size)]


def possible_sizes(model: nn.Module) -> list[int]:
    """Return the numbers of examples that kept states may be for: sizes of plain attributes, then of buffers."""
    attributes = [vars(module) for module in model.modules() if not is_scripted(module)]
    buffers = [module._buffers for module in model.modules() if not is_scripted(module)]
    sizes = (
        size
        for place in (*attributes, *buffers)
        for value in place.values()
        for part in _tensors(value)
        for size in part.shape
    )
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
