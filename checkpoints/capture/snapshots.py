"""Snapshots of single objects, and SNAPSHOTS: the kinds of state that a recording restores after each forward pass.

To restore another kind of state, derive a class from ``Snapshot`` and assign it to ``SNAPSHOTS[type]``, also from
outside the package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from operator import is_
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from checkpoints.generators import GENERATORS, set_state, state_of

__all__ = [
    "SNAPSHOTS",
    "ArraySnapshot",
    "ClassSnapshot",
    "DictSnapshot",
    "GeneratorSnapshot",
    "PlacementSnapshot",
    "Series",
    "SeriesSnapshot",
    "SlotSnapshot",
    "Snapshot",
    "StorageSnapshot",
    "snapshot_of",
]

Series = list[Any] | deque[Any] | set[Any] | bytearray

_ABSENT = object()  # in place of the value of an attribute that is not set


class Snapshot(ABC):
    """The content of one object at the time of construction, which takes the object as its only argument.

    A subclass that is an entry of ``SNAPSHOTS`` is used for every object of that type that a network refers to.
    """

    @abstractmethod
    def is_changed(self) -> bool:
        """Return whether the object now has other content."""

    @abstractmethod
    def restore(self) -> None:
        """Give the object its earlier content; the object itself stays the same, so references to it stay valid."""

    def references(self) -> Iterator[tuple[str, Any]]:
        """Yield the objects inside, which are preserved as well, each with the end of its name, such as "[key]".

        Attributes need not be yielded. By default there are no objects inside.
        """
        yield from ()


class DictSnapshot(Snapshot):
    """The keys and values of a dict, and their order."""

    def __init__(self, target: dict[Any, Any]) -> None:
        self.target, self.content = target, dict(target)

    def is_changed(self) -> bool:
        """Compare keys and values by identity."""
        now, then = self.target, self.content
        return len(now) != len(then) or not all(map(is_, now.values(), then.values())) or not all(map(is_, now, then))

    def restore(self) -> None:
        """Refill the dict in its earlier order."""
        self.target.clear()
        self.target.update(self.content)

    def references(self) -> Iterator[tuple[str, Any]]:
        """Yield the values by key."""
        yield from ((f"[{key}]", value) for key, value in self.content.items())

    def pairs(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield each key with its earlier value and its value now, which is None if the key is gone."""
        now = dict(self.target)
        yield from ((key, before, now.get(key)) for key, before in self.content.items())


class SeriesSnapshot(Snapshot):
    """The items of a list, deque, set or bytearray."""

    def __init__(self, target: Series) -> None:
        self.target, self.content = target, list(target)

    def is_changed(self) -> bool:
        """Compare items by identity."""
        return len(self.target) != len(self.content) or not all(map(is_, self.target, self.content))

    def restore(self) -> None:
        """Refill the container."""
        self.target.clear()
        if isinstance(self.target, set):
            self.target.update(self.content)
        else:
            self.target.extend(self.content)

    def references(self) -> Iterator[tuple[str, Any]]:
        """Yield the items."""
        yield from (("", item) for item in self.content)

    def pairs(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield each index with its earlier and its present item; nothing for containers that take no new items."""
        if isinstance(self.target, list):
            now = dict(enumerate(self.target))
            yield from ((index, before, now.get(index)) for index, before in enumerate(self.content))


class ClassSnapshot(Snapshot):
    """The attributes of a class, except for its methods."""

    def __init__(self, cls: type) -> None:
        self.cls, self.content = cls, _class_attributes(cls)

    def is_changed(self) -> bool:
        """Compare values by identity."""
        now = _class_attributes(self.cls)
        return now.keys() != self.content.keys() or any(now[key] is not value for key, value in self.content.items())

    def restore(self) -> None:
        """Remove new attributes and set those that have changed."""
        now = _class_attributes(self.cls)
        for key in now.keys() - self.content.keys():
            delattr(self.cls, key)
        for key, value in self.content.items():
            if now.get(key, _ABSENT) is not value:
                setattr(self.cls, key, value)


class SlotSnapshot(Snapshot):
    """An attribute of an object that has a slot for it."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name, self.content = owner, name, getattr(owner, name, _ABSENT)

    def is_changed(self) -> bool:
        """Compare the value by identity."""
        return getattr(self.owner, self.name, _ABSENT) is not self.content

    def restore(self) -> None:
        """Set or delete the attribute, past any ``__setattr__`` of the class."""
        if self.content is _ABSENT:
            object.__delattr__(self.owner, self.name)
        else:
            object.__setattr__(self.owner, self.name, self.content)


class ArraySnapshot(Snapshot):
    """The values of a NumPy array; a read-only array counts as unchanged."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array, self.content = array, array.copy() if array.flags.writeable else array

    def is_changed(self) -> bool:
        """Compare bytes, so that NaN equals itself."""
        return self.content is not self.array and self.array.tobytes() != self.content.tobytes()

    def restore(self) -> None:
        """Copy the values back."""
        self.array[...] = self.content

    def references(self) -> Iterator[tuple[str, Any]]:
        """Yield the objects in an array of objects."""
        yield from (("", each) for each in self.content.flat) if self.content.dtype == object else ()


class GeneratorSnapshot(Snapshot):
    """The state of a random generator that a module holds."""

    def __init__(self, generator: Any) -> None:
        self.generator, self.state = generator, state_of(generator)

    def is_changed(self) -> bool:
        """Return whether numbers were drawn from it."""
        return _comparable(state_of(self.generator)) != _comparable(self.state)

    def restore(self) -> None:
        """Set the earlier state."""
        set_state(self.generator, self.state)


class PlacementSnapshot(Snapshot):
    """The memory that a tensor refers to, and whether it requires a gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.then, self.requires_grad = tensor, tensor.detach(), tensor.requires_grad

    def is_changed(self) -> bool:
        """Compare address, shape, strides, type and ``requires_grad``."""
        return self._is_elsewhere() or self.tensor.requires_grad != self.requires_grad

    def restore(self) -> None:
        """Let the tensor refer to its earlier memory."""
        if self._is_elsewhere():
            self.tensor.data = self.then
        if self.tensor.is_leaf and self.tensor.requires_grad != self.requires_grad:
            self.tensor.requires_grad_(self.requires_grad)

    def _is_elsewhere(self) -> bool:
        now, then = self.tensor, self.then
        layout = now.shape, now.stride(), now.dtype
        return now.data_ptr() != then.data_ptr() or layout != (then.shape, then.stride(), then.dtype)


class StorageSnapshot(Snapshot):
    """The bytes that one or several tensors share."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        dtype = next(each for each in (torch.int64, torch.uint8) if storage.nbytes() % each.itemsize == 0)
        self.here = torch.empty(0, dtype=dtype, device=storage.device).set_(storage)
        try:
            self.content = self.here.clone()
        except torch.OutOfMemoryError:
            self.content = self.here.cpu()

    def is_changed(self) -> bool:
        """Compare bit by bit."""
        return not torch.equal(self.here.to(self.content.device), self.content)

    def restore(self) -> None:
        """Copy the bytes back."""
        self.here.copy_(self.content)


def _comparable(state: Any) -> Any:
    """Return the state of a generator in a form that can be compared with ``==``."""
    if isinstance(state, Tensor | np.ndarray):
        return np.asarray(state).tobytes()
    if isinstance(state, dict):
        return {key: _comparable(value) for key, value in state.items()}
    return tuple(map(_comparable, state)) if isinstance(state, tuple) else state


def _class_attributes(cls: type) -> dict[str, Any]:
    methods = (FunctionType, property, classmethod, staticmethod)
    return {key: value for key, value in vars(cls).items() if key[:2] != "__" and not isinstance(value, methods)}


def snapshot_of(value: Any) -> Snapshot | None:
    """Return a snapshot by the entry of the most specific class; None if there is no entry for the object."""
    kind = next((SNAPSHOTS[each] for each in type(value).__mro__ if each in SNAPSHOTS), None)
    return None if kind is None else kind(value)


SNAPSHOTS: dict[type, Callable[[Any], Snapshot]] = {
    dict: DictSnapshot,
    **dict.fromkeys((list, deque, set, bytearray), SeriesSnapshot),
    np.ndarray: ArraySnapshot,
    **dict.fromkeys(GENERATORS, GeneratorSnapshot),
}
