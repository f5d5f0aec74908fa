"""Everything of a network that a forward pass may change, kept so that it can be put back.

The same objects are put back with the same content, so that other references to them stay valid. Kept are the
attributes of every module, also of modules in plain lists, and everything that they refer to: tensors and arrays,
containers, plain objects, random generators, and the class attributes of the user's own modules. Not kept are global
variables, variables in closures, and objects of frameworks around the network, such as a trainer or a data loader.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import chain
from operator import is_
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from checkpoints.generators import GENERATORS, set_seed, set_state, state_of

__all__ = ["Found"]

_CODE = (type, ModuleType, FunctionType, BuiltinFunctionType)
_PRIMITIVE = (type(None), bool, int, float, complex, str, bytes, range, slice, *_CODE)
_PLAIN_DICTS = (dict, OrderedDict, defaultdict)
_MOST_OBJECTS = 200_000
_ABSENT = object()  # in place of the value of an attribute that is not set
# Frameworks around a network, and objects that stand for something outside of it.
_FOREIGN = (
    "_io", "_thread", "accelerate", "asyncio", "concurrent", "dask", "datasets", "distributed", "fsspec", "h5py", "io",
    "lightning", "lightning_fabric", "lightning_utilities", "logging", "matplotlib", "multiprocessing", "pandas",
    "pytorch_lightning", "rich", "socket", "sqlite3", "subprocess", "tensorboard", "threading", "tokenizers", "tqdm",
    "wandb", "weakref",
)  # fmt: skip
_TORCH_KEPT = ("torch.nn",)  # of torch's own objects, only those that belong to modules


class Found:
    """A network and everything that hangs on it, kept as they are now.

    Parameters
    ----------
    model : nn.Module

    Attributes
    ----------
    lost : list of str
        Attributes that cannot be put back: generators and other iterators.
    """

    def __init__(self, model: nn.Module) -> None:
        self.lost: list[str] = []
        self._seen: dict[int, Any] = {}  # keeps what it names alive, so that no other object gets the same id
        self._storages: dict[tuple[int, int], _Storage] = {}  # by address and size: they may begin at one address
        self._kept: list[_Kept] = []
        self._empty: list[dict[Any, Any]] = []  # most dicts of most modules are, such as those of their hooks
        self._tensors: list[_Place] = []
        pending: deque[tuple[str, Any]] = deque([("", model)])
        while pending:
            name, value = pending.popleft()
            if isinstance(value, _PRIMITIVE) or id(value) in self._seen:
                continue
            self._seen[id(value)] = value
            if len(self._seen) > _MOST_OBJECTS:
                self.lost.append(f"{name} and more: it holds over {_MOST_OBJECTS:,} objects")
                return
            pending.extend(self._visit(name, value))

    def put_back(self) -> None:
        """Put everything back as it was found; objects that have not changed are not written to."""
        for kept in self._everything():
            if kept.is_changed():
                kept.put_back()
        for empty in self._empty:
            empty.clear()

    def is_current(self) -> bool:
        """Tell whether everything is still as it was found."""
        return not any(self._empty) and not any(kept.is_changed() for kept in self._everything())

    def _everything(self) -> Iterator[_Kept]:
        """Yield everything that was kept; the places of tensors before their content."""
        return chain(self._kept, self._tensors, self._storages.values())

    def changed_entries(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield the owner, the key and the earlier value of each attribute or entry whose tensors have changed."""
        for kept in self._kept:
            if isinstance(kept, _Dict | _Series) and not isinstance(kept.target, deque | set | bytearray):
                items = kept.content.items() if isinstance(kept, _Dict) else enumerate(kept.content)
                now = dict(kept.target) if isinstance(kept, _Dict) else dict(enumerate(kept.target))
                for key, before in items:
                    if now.get(key) is not before or any(self._is_changed(part) for part in _tensors_in(before)):
                        yield kept.target, key, before

    def reseed(self, seed: int) -> None:
        """Seed the generators of random numbers that hang on the network."""
        for kept in self._kept:
            if isinstance(kept, _Generator):
                set_seed(kept.generator, seed)

    def has_drawn(self) -> bool:
        """Tell whether one of these generators is in another state than it was."""
        return any(isinstance(kept, _Generator) and kept.is_changed() for kept in self._kept)

    def tensors(self) -> list[Tensor]:
        """Return the tensors that are kept, those of the network itself first."""
        return [place.tensor for place in self._tensors]

    def _is_changed(self, tensor: Tensor) -> bool:
        storage = self._storages.get(_extent(tensor))
        return storage is not None and storage.is_changed()

    def _visit(self, name: str, value: Any) -> Iterator[tuple[str, Any]]:
        """Keep a value and yield the values that it refers to."""
        for kind, visit in _VISITS:
            if isinstance(value, kind):
                return visit(self, name, value)
        if hasattr(type(value), "__next__"):
            self.lost.append(f"{name} ({type(value).__name__})")
            return iter(())
        return self._visit_object(name, value)

    def _visit_module(self, name: str, module: nn.Module) -> Iterator[tuple[str, Any]]:
        if isinstance(module, torch.jit.ScriptModule):
            yield from ((name, tensor) for tensor in (*module.parameters(), *module.buffers()))
            return
        attributes = vars(module)
        self._kept.append(_Dict(attributes))
        prefix = f"{type(module).__name__}."
        for key, value in attributes.items():
            if key in ("_parameters", "_buffers"):
                self._seen[id(value)] = value
                self._kept.append(_Dict(value))
                yield from ((prefix + each, tensor) for each, tensor in value.items())
            elif key == "_modules":
                self._seen[id(value)] = value
                self._kept.append(_Dict(value))
                yield from ((each, child) for each, child in value.items())
            elif type(value) in _PLAIN_DICTS and not value:
                self._empty.append(value)
            elif not isinstance(value, _PRIMITIVE):
                yield prefix + key, value
        yield from self._visit_classes(type(module))

    def _visit_classes(self, cls: type) -> Iterator[tuple[str, Any]]:
        for each in cls.__mro__:
            if id(each) in self._seen or _is_foreign(each) or each.__module__.startswith(("torch.", "builtins")):
                continue
            self._seen[id(each)] = each
            kept = _Class(each)
            self._kept.append(kept)
            yield from ((f"{each.__name__}.{key}", value) for key, value in kept.content.items())

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
        self._tensors.append(_Place(tensor))
        if (extent := _extent(tensor)) not in self._storages:
            self._storages[extent] = _Storage(storage)

    def _visit_array(self, name: str, array: np.ndarray[Any, Any]) -> Iterator[tuple[str, Any]]:
        if array.flags.writeable:
            self._kept.append(_Array(array))
        yield from ((name, each) for each in array.flat) if array.dtype == object else ()

    def _visit_dict(self, name: str, value: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
        self._kept.append(_Dict(value))
        yield from ((f"{name}[{key}]", each) for key, each in value.items() if not isinstance(each, _PRIMITIVE))
        if type(value) not in _PLAIN_DICTS and hasattr(value, "__dict__"):
            yield from self._visit_object(name, value)

    def _visit_series(
        self, name: str, value: list[Any] | deque[Any] | set[Any] | bytearray
    ) -> Iterator[tuple[str, Any]]:
        self._kept.append(_Series(value))
        yield from ((name, each) for each in value if not isinstance(each, _PRIMITIVE))
        if hasattr(value, "__dict__"):
            yield from self._visit_object(name, value)

    def _visit_fixed(self, name: str, value: tuple[Any, ...] | frozenset[Any]) -> Iterator[tuple[str, Any]]:
        yield from ((name, each) for each in value if not isinstance(each, _PRIMITIVE))

    def _visit_call(self, name: str, value: MethodType | partial[Any]) -> Iterator[tuple[str, Any]]:
        """Yield the object of a bound method, or the arguments of a partial call."""
        bound = (value.func, *value.args, *value.keywords.values()) if isinstance(value, partial) else (value.__self__,)
        yield from ((name, each) for each in bound if not isinstance(each, _PRIMITIVE))

    def _visit_generator(self, name: str, generator: Any) -> Iterator[tuple[str, Any]]:
        self._kept.append(_Generator(generator))
        return iter(())

    def _visit_object(self, name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if any(map(_is_foreign, type(value).__mro__)):
            return
        if hasattr(value, "__dict__"):
            attributes = vars(value)
            self._seen[id(attributes)] = attributes
            self._kept.append(_Dict(attributes))
            yield from ((f"{name}.{key}", each) for key, each in attributes.items())
        for key in _slots(type(value)):
            kept = _Slot(value, key)
            self._kept.append(kept)
            yield f"{name}.{key}", kept.content


class _Kept(ABC):
    """Something that was kept and can be put back."""

    @abstractmethod
    def is_changed(self) -> bool:
        """Tell whether it is not as it was."""

    @abstractmethod
    def put_back(self) -> None:
        """Make it as it was."""


class _Dict(_Kept):
    def __init__(self, target: dict[Any, Any]) -> None:
        self.target, self.content = target, dict(target)

    def is_changed(self) -> bool:
        now, then = self.target, self.content
        return len(now) != len(then) or not all(map(is_, now.values(), then.values())) or not all(map(is_, now, then))

    def put_back(self) -> None:
        self.target.clear()
        self.target.update(self.content)


class _Series(_Kept):
    def __init__(self, target: list[Any] | deque[Any] | set[Any] | bytearray) -> None:
        self.target, self.content = target, list(target)

    def is_changed(self) -> bool:
        return len(self.target) != len(self.content) or not all(map(is_, self.target, self.content))

    def put_back(self) -> None:
        self.target.clear()
        if isinstance(self.target, set):
            self.target.update(self.content)
        else:
            self.target.extend(self.content)


class _Class(_Kept):
    """The attributes of a class, except for its methods."""

    def __init__(self, cls: type) -> None:
        self.cls, self.content = cls, _class_attributes(cls)

    def is_changed(self) -> bool:
        now = _class_attributes(self.cls)
        return now.keys() != self.content.keys() or any(now[key] is not value for key, value in self.content.items())

    def put_back(self) -> None:
        now = _class_attributes(self.cls)
        for key in now.keys() - self.content.keys():
            delattr(self.cls, key)
        for key, value in self.content.items():
            if now.get(key, _ABSENT) is not value:
                setattr(self.cls, key, value)


class _Slot(_Kept):
    """An attribute of an object that has a slot for it."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name, self.content = owner, name, getattr(owner, name, _ABSENT)

    def is_changed(self) -> bool:
        return getattr(self.owner, self.name, _ABSENT) is not self.content

    def put_back(self) -> None:
        if self.content is _ABSENT:
            object.__delattr__(self.owner, self.name)
        else:
            object.__setattr__(self.owner, self.name, self.content)


class _Array(_Kept):
    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array, self.content = array, array.copy()

    def is_changed(self) -> bool:
        return self.array.tobytes() != self.content.tobytes()

    def put_back(self) -> None:
        self.array[...] = self.content


class _Generator(_Kept):
    """A generator of random numbers that a module holds."""

    def __init__(self, generator: Any) -> None:
        self.generator, self.state = generator, state_of(generator)

    def is_changed(self) -> bool:
        return _comparable(state_of(self.generator)) != _comparable(self.state)

    def put_back(self) -> None:
        set_state(self.generator, self.state)


class _Place(_Kept):
    """The place of a tensor's values in memory, and whether it requires a gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.then, self.requires_grad = tensor, tensor.detach(), tensor.requires_grad

    def is_changed(self) -> bool:
        return self._is_elsewhere() or self.tensor.requires_grad != self.requires_grad

    def put_back(self) -> None:
        if self._is_elsewhere():
            self.tensor.data = self.then
        if self.tensor.is_leaf and self.tensor.requires_grad != self.requires_grad:
            self.tensor.requires_grad_(self.requires_grad)

    def _is_elsewhere(self) -> bool:
        now, then = self.tensor, self.then
        layout = now.shape, now.stride(), now.dtype
        return now.data_ptr() != then.data_ptr() or layout != (then.shape, then.stride(), then.dtype)


class _Storage(_Kept):
    """The bytes that one or several tensors share, compared and put back bit for bit."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        dtype = next(each for each in (torch.int64, torch.uint8) if storage.nbytes() % each.itemsize == 0)
        self.here = torch.empty(0, dtype=dtype, device=storage.device).set_(storage)
        try:
            self.content = self.here.clone()
        except torch.OutOfMemoryError:
            self.content = self.here.cpu()

    def is_changed(self) -> bool:
        return not torch.equal(self.here.to(self.content.device), self.content)

    def put_back(self) -> None:
        self.here.copy_(self.content)


def _comparable(state: Any) -> Any:
    """Return the state of a generator in a form that can be compared with ``==``."""
    if isinstance(state, Tensor | np.ndarray):
        return np.asarray(state).tobytes()
    if isinstance(state, dict):
        return {key: _comparable(value) for key, value in state.items()}
    return tuple(map(_comparable, state)) if isinstance(state, tuple) else state


@lru_cache(maxsize=4096)
def _is_foreign(cls: type) -> bool:
    """Tell whether a class belongs to a framework around networks, such as data sets, optimizers and trainers."""
    root = cls.__module__.partition(".")[0]
    return root in _FOREIGN or (root == "torch" and not cls.__module__.startswith(_TORCH_KEPT))


def _class_attributes(cls: type) -> dict[str, Any]:
    methods = (FunctionType, property, classmethod, staticmethod)
    return {key: value for key, value in vars(cls).items() if key[:2] != "__" and not isinstance(value, methods)}


def _slots(cls: type) -> Iterator[str]:
    for each in cls.__mro__:
        slots = vars(each).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                yield f"_{each.__name__.lstrip('_')}{name}" if name.startswith("__") else name


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors_in(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors_in(each)


def _extent(tensor: Tensor) -> tuple[int, int]:
    """Return the address and the size of a tensor's memory in bytes; zeros if it has none of its own."""
    try:
        storage = tensor.untyped_storage()
        return storage.data_ptr(), storage.nbytes()
    except (NotImplementedError, RuntimeError):
        return 0, 0


_VISITS: tuple[tuple[Any, Callable[..., Iterator[tuple[str, Any]]]], ...] = (
    (nn.Module, Found._visit_module),
    (Tensor, Found._visit_tensor),
    (np.ndarray, Found._visit_array),
    (dict, Found._visit_dict),
    ((list, deque, set, bytearray), Found._visit_series),
    ((tuple, frozenset), Found._visit_fixed),
    ((MethodType, partial), Found._visit_call),
    (GENERATORS, Found._visit_generator),
)
