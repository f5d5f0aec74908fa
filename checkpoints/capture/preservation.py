"""Preservation of a network: the state that a forward pass may change, in a form that can be restored.

The same objects get their earlier content back, so that other references to them stay valid. Preserved are the
attributes of every module, including modules in plain lists, and all objects that they refer to: tensors and arrays,
containers, plain objects, random generators, and the class attributes of the user's own modules. Not preserved are
global variables, variables in closures, and objects of frameworks around the network, such as a trainer or a data
loader.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from itertools import chain
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from checkpoints.capture.snapshots import (
    ClassSnapshot,
    DictSnapshot,
    GeneratorSnapshot,
    PlacementSnapshot,
    SeriesSnapshot,
    SlotSnapshot,
    Snapshot,
    StorageSnapshot,
    snapshot_of,
)
from checkpoints.generators import set_seed

__all__ = ["PreservedNetwork", "tensors_in"]

_CODE = (type, ModuleType, FunctionType, BuiltinFunctionType)
_PRIMITIVE = (type(None), bool, int, float, complex, str, bytes, range, slice, *_CODE)
_FIXED = (tuple, frozenset, MethodType, partial)
_PLAIN_DICTS = (dict, OrderedDict, defaultdict)
_MOST_OBJECTS = 200_000
# Frameworks around a network, and objects that stand for something outside of it.
_FOREIGN = (
    "_io", "_thread", "accelerate", "asyncio", "concurrent", "dask", "datasets", "distributed", "fsspec", "h5py", "io",
    "lightning", "lightning_fabric", "lightning_utilities", "logging", "matplotlib", "multiprocessing", "pandas",
    "pytorch_lightning", "rich", "socket", "sqlite3", "subprocess", "tensorboard", "threading", "tokenizers", "tqdm",
    "wandb", "weakref",
)  # fmt: skip
_TORCH_STATE = ("torch.nn",)  # of torch's own objects, only those that belong to modules


class PreservedNetwork:
    """The state of a network, and of all objects that it refers to, at the time of construction.

    ``not_restorable`` names the attributes that cannot be restored: generators and other iterators.
    """

    def __init__(self, model: nn.Module) -> None:
        self.not_restorable: list[str] = []
        self._seen: dict[int, Any] = {}  # keeps each object alive, so that no other object gets the same id
        self._storages: dict[tuple[int, int], StorageSnapshot] = {}  # by address and size
        self._snapshots: list[Snapshot] = []
        self._empty: list[dict[Any, Any]] = []  # most dicts of a module are empty, such as those of its hooks
        self._tensors: list[PlacementSnapshot] = []
        pending: deque[tuple[str, Any]] = deque([("", model)])
        while pending:
            name, value = pending.popleft()
            if isinstance(value, _PRIMITIVE) or id(value) in self._seen:
                continue
            self._seen[id(value)] = value
            if len(self._seen) > _MOST_OBJECTS:
                self.not_restorable.append(f"{name} and more: it holds over {_MOST_OBJECTS:,} objects")
                return
            pending.extend(each for each in self._visit(name, value) if not isinstance(each[1], _PRIMITIVE))

    def restore(self) -> None:
        """Restore everything; objects that have not changed are not written to."""
        for snapshot in self._everything():
            if snapshot.is_changed():
                snapshot.restore()
        for empty in self._empty:
            empty.clear()

    def is_current(self) -> bool:
        """Return whether nothing has changed since."""
        return not any(self._empty) and not any(snapshot.is_changed() for snapshot in self._everything())

    def _everything(self) -> Iterator[Snapshot]:
        """Yield all snapshots; those of tensors' placements before those of their values."""
        return chain(self._snapshots, self._tensors, self._storages.values())

    def changed_entries(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield the owner, the key and the earlier value of each attribute or entry whose tensors have changed."""
        for snapshot in self._snapshots:
            if isinstance(snapshot, DictSnapshot | SeriesSnapshot):
                for key, before, now in snapshot.pairs():
                    if now is not before or any(self._is_changed(tensor) for tensor in tensors_in(before)):
                        yield snapshot.target, key, before

    def reseed(self, seed: int) -> None:
        """Seed the random generators that the network holds."""
        for snapshot in self._snapshots:
            if isinstance(snapshot, GeneratorSnapshot):
                set_seed(snapshot.generator, seed)

    def has_drawn(self) -> bool:
        """Return whether numbers were drawn from one of these generators."""
        return any(isinstance(snapshot, GeneratorSnapshot) and snapshot.is_changed() for snapshot in self._snapshots)

    def tensors(self) -> list[Tensor]:
        """Return the preserved tensors, those of the network itself first."""
        return [placement.tensor for placement in self._tensors]

    def _is_changed(self, tensor: Tensor) -> bool:
        storage = self._storages.get(_extent(tensor))
        return storage is not None and storage.is_changed()

    def _visit(self, name: str, value: Any) -> Iterator[tuple[str, Any]]:
        """Take a snapshot of a value and yield the values that it refers to."""
        if isinstance(value, nn.Module):
            yield from self._visit_module(name, value)
        elif isinstance(value, Tensor):
            yield from self._visit_tensor(name, value)
        elif (snapshot := snapshot_of(value)) is not None:
            self._snapshots.append(snapshot)
            yield from ((name + part, each) for part, each in snapshot.references())
            yield from self._visit_attributes(name, value)
        elif isinstance(value, _FIXED):
            yield from ((name, each) for each in _fixed_parts(value))
        elif hasattr(type(value), "__next__"):
            self.not_restorable.append(f"{name} ({type(value).__name__})")
        else:
            yield from self._visit_attributes(name, value)

    def _visit_module(self, name: str, module: nn.Module) -> Iterator[tuple[str, Any]]:
        if isinstance(module, torch.jit.ScriptModule):
            yield from ((name, tensor) for tensor in (*module.parameters(), *module.buffers()))
            return
        attributes = vars(module)
        self._snapshots.append(DictSnapshot(attributes))
        prefix = f"{type(module).__name__}."
        for key, value in attributes.items():
            if key in ("_parameters", "_buffers"):
                self._seen[id(value)] = value
                self._snapshots.append(DictSnapshot(value))
                yield from ((prefix + each, tensor) for each, tensor in value.items())
            elif key == "_modules":
                self._seen[id(value)] = value
                self._snapshots.append(DictSnapshot(value))
                yield from ((each, child) for each, child in value.items())
            elif type(value) in _PLAIN_DICTS and not value:
                self._empty.append(value)
            else:
                yield prefix + key, value
        yield from self._visit_classes(type(module))

    def _visit_classes(self, cls: type) -> Iterator[tuple[str, Any]]:
        for each in cls.__mro__:
            if id(each) in self._seen or _is_foreign(each) or each.__module__.startswith(("torch.", "builtins")):
                continue
            self._seen[id(each)] = each
            snapshot = ClassSnapshot(each)
            self._snapshots.append(snapshot)
            yield from ((f"{each.__name__}.{key}", value) for key, value in snapshot.content.items())

    def _visit_tensor(self, name: str, tensor: Tensor) -> Iterator[tuple[str, Any]]:
        if hasattr(tensor, "_local_tensor"):  # a DTensor: one shard of it is here
            yield name, tensor._local_tensor
            return
        if tensor.is_meta or is_lazy(tensor) or type(tensor).__module__.startswith("torch._subclasses"):
            return
        if tensor.layout is torch.sparse_coo:
            yield from ((name, part) for part in (tensor._indices(), tensor._values()))
        if tensor.layout is not torch.strided:
            return
        storage = tensor.untyped_storage()
        if not storage.nbytes():
            return
        self._tensors.append(PlacementSnapshot(tensor))
        if (extent := _extent(tensor)) not in self._storages:
            self._storages[extent] = StorageSnapshot(storage)

    def _visit_attributes(self, name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if any(map(_is_foreign, type(value).__mro__)):
            return
        if hasattr(value, "__dict__"):
            attributes = vars(value)
            self._seen[id(attributes)] = attributes
            self._snapshots.append(DictSnapshot(attributes))
            yield from ((f"{name}.{key}", each) for key, each in attributes.items())
        for key in _slots(type(value)):
            snapshot = SlotSnapshot(value, key)
            self._snapshots.append(snapshot)
            yield f"{name}.{key}", snapshot.content


@lru_cache(maxsize=4096)
def _is_foreign(cls: type) -> bool:
    """Return whether a class belongs to a framework around networks, such as data sets, optimizers and trainers."""
    root = cls.__module__.partition(".")[0]
    return root in _FOREIGN or (root == "torch" and not cls.__module__.startswith(_TORCH_STATE))


def _slots(cls: type) -> Iterator[str]:
    for each in cls.__mro__:
        slots = vars(each).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                yield f"_{each.__name__.lstrip('_')}{name}" if name.startswith("__") else name


def _fixed_parts(value: Any) -> Iterable[Any]:
    """Return the items of a tuple or set, the object of a bound method, or the arguments of a partial call."""
    if isinstance(value, partial):
        return value.func, *value.args, *value.keywords.values()
    return (value.__self__,) if isinstance(value, MethodType) else value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value: in nested tuples, lists and dicts, or the value itself."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors_in(each)


def _extent(tensor: Tensor) -> tuple[int, int]:
    """Return the address and the size of a tensor's memory in bytes; zeros if it has none of its own."""
    try:
        storage = tensor.untyped_storage()
        return storage.data_ptr(), storage.nbytes()
    except (NotImplementedError, RuntimeError):
        return 0, 0
