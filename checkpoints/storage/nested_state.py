"""Nested state with tensors, separated into safetensors and plain JSON, without pickle."""

from __future__ import annotations

import json
import math
import struct
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from checkpoints.storage.tensors import NotStorable, dense, is_native

__all__ = ["pack", "unpack"]

_TENSOR = "__tensor__"
_RAW = "__raw_tensor__"
_QUANTIZED = "__quantized_tensor__"
_ARRAY = "__array__"
_ITEMS = "__items__"
_ORDERED = "__ordered_items__"
_DEFAULT = "__default_items__"
_TUPLE = "__tuple__"
_DEQUE = "__deque__"

_DEEPEST = 50  # levels of nesting; each is three levels of JSON, and readers must not exhaust the stack
_LONGEST_INT = 10_000  # bits; Python refuses to read integers of more than 4,300 digits
_DICTS = {dict: _ITEMS, OrderedDict: _ORDERED}
_FACTORIES = {"none": None, **{kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict, set)}}
_QUANTIZED_TYPES = {torch.qint8: torch.int8, torch.quint8: torch.uint8, torch.qint32: torch.int32}
_NUMPY_KINDS = frozenset({np.ndarray, *np.sctypeDict.values()})
_TORCH_KINDS = (torch.dtype, torch.layout, torch.memory_format, torch.qscheme)


def pack(tree: Any, *, name: str = "", prefix: str = "") -> tuple[dict[str, Tensor], Any]:
    """Separate the tensors of nested state from the rest.

    Parameters
    ----------
    tree : nested state
        Dicts, lists, tuples, sets and deques of tensors, numbers (also infinite ones and NaN), text, bytes, NumPy
        arrays and scalars, torch's dtypes and devices, and None; for example an optimizer's ``state_dict()``.
    name : str, optional
        Name of the tree in messages.
    prefix : str, optional
        Prefix of the keys of ``tensors``.

    Returns
    -------
    tensors : dict of str to Tensor
        Detached contiguous CPU copies, of types that safetensors has.
    skeleton : JSON-ready value
        The tree, with a reference into ``tensors`` in place of each tensor, and an object with a key such as
        ``__float__`` in place of each value that JSON does not have.

    Raises
    ------
    NotStorable
        If the tree holds a value of any other type; the message names the entry.
    """
    packer = _Packer(prefix)
    skeleton = packer.walk(tree, name)
    return packer.tensors, skeleton


def unpack(tensors: dict[str, Tensor], skeleton: Any) -> Any:
    """Return the nested state that ``pack`` separated.

    Raises
    ------
    KeyError, TypeError, ValueError, RuntimeError, RecursionError
        If the tensors and the skeleton do not belong together, or ``pack`` did not make the skeleton.

    Examples
    --------
    >>> import torch
    >>> unpack(*pack({"state": {0: {"step": torch.tensor(3.0)}}, "betas": (0.9, float("inf"))}))
    {'state': {0: {'step': tensor(3.)}}, 'betas': (0.9, inf)}
    """
    return _Unpacker(tensors).walk(skeleton)


class _Packer:
    def __init__(self, prefix: str) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._prefix = prefix
        self._depth = 0

    def walk(self, node: Any, name: str) -> Any:
        """Return the skeleton of a node; types must match exactly, because a subclass would be read as its base."""
        kind, label = type(node), name or "the state"
        if isinstance(node, Tensor):
            return self._tensor(node, label)
        if kind in _NUMPY_KINDS:
            return self._array(node, label)
        if kind is defaultdict and node.default_factory in _FACTORIES.values():
            factory = next(each for each, made in _FACTORIES.items() if made is node.default_factory)
            return {_DEFAULT: self._items(node, name), "factory": factory}
        if kind in _DICTS:
            return {_DICTS[kind]: self._items(node, name)}
        if kind in (list, deque) or kind in _SEQUENCES:
            return self._sequence(node, name)
        if node is None or kind in (str, bool) or (kind is int and node.bit_length() <= _LONGEST_INT):
            return node
        if kind is float and math.isfinite(node):
            return node
        if kind in _LEAVES:
            tag, encode, _ = _LEAVES[kind]
            return {tag: encode(node)}
        of = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
        raise NotStorable(f"{label} is of type {of}, which cannot be stored exactly")

    def _sequence(self, node: Any, name: str) -> Any:
        items, kind = self._each(node, name), type(node)
        if kind is list:
            return items
        if kind is deque:
            return {_DEQUE: items, "maxlen": node.maxlen}
        tag, _ = _SEQUENCES[kind]
        return {tag: items if kind is tuple else sorted(items, key=json.dumps)}  # sets have no order

    def _each(self, nodes: Any, name: str) -> list[Any]:
        with self._deeper(name):
            return [self.walk(node, f"{name}[{index}]") for index, node in enumerate(nodes)]

    def _items(self, node: dict[Any, Any], name: str) -> list[Any]:
        pairs = []
        with self._deeper(name):
            for key, value in node.items():
                below = str(key) if not name and isinstance(key, str) else f"{name}[{key!r}]"
                pairs.append([self.walk(key, f"the key {key!r} of {name or 'the state'}"), self.walk(value, below)])
        return pairs

    @contextmanager
    def _deeper(self, name: str) -> Iterator[None]:
        if self._depth == _DEEPEST:
            start = f"{name[:40]}..." if len(name) > 40 else name or "the state"
            raise NotStorable(f"{start} holds itself, or is nested more than {_DEEPEST} levels deep")
        self._depth += 1
        yield
        self._depth -= 1

    def _tensor(self, node: Tensor, name: str) -> Any:
        if node.is_quantized:
            return self._quantized(node, name)
        plain = dense(node, name)
        if is_native(plain.dtype):
            return {_TENSOR: self._add(plain)}
        try:
            raw = plain.reshape(-1).view(torch.uint8)
        except RuntimeError:
            raise NotStorable(f"{name} is a tensor of type {node.dtype}, which cannot be stored exactly") from None
        return {_RAW: self._add(raw), "dtype": _torch_name(plain.dtype), "shape": list(plain.shape)}

    def _quantized(self, node: Tensor, name: str) -> Any:
        scheme = node.qscheme()
        if node.dtype not in _QUANTIZED_TYPES or scheme not in (torch.per_tensor_affine, torch.per_channel_affine):
            raise NotStorable(f"{name} is quantized as {node.dtype} by {scheme}, which cannot be stored exactly")
        if scheme is torch.per_tensor_affine:
            parts: dict[str, Any] = {"scale": node.q_scale(), "zero_point": node.q_zero_point()}
        else:
            scales, zero_points = node.q_per_channel_scales(), node.q_per_channel_zero_points()
            parts = {"scale": scales, "zero_point": zero_points, "axis": node.q_per_channel_axis()}
        stored = {part: self.walk(value, f"{name}.{part}") for part, value in parts.items()}
        return {_QUANTIZED: self._add(node.detach().int_repr().cpu().contiguous()), **stored}

    def _array(self, node: Any, name: str) -> Any:
        array = np.asarray(node)
        scalar = not isinstance(node, np.ndarray)
        whole = array.dtype.kind in ("biufcmM" if scalar else "biufcmMSU") and array.dtype.itemsize > 0
        if not whole or (scalar and type(np.zeros((), array.dtype.str)[()]) is not type(node)):
            kind = type(node).__name__ if scalar else "array"
            raise NotStorable(f"{name} is a NumPy {kind} of type {array.dtype}, which cannot be stored exactly")
        content = np.frombuffer(bytearray(array.tobytes()), np.uint8)
        return {
            _ARRAY: self._add(torch.from_numpy(content)),
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "scalar": scalar,
        }

    def _add(self, tensor: Tensor) -> str:
        key = f"{self._prefix}{len(self.tensors)}"
        self.tensors[key] = tensor.clone()
        return key


class _Unpacker:
    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._rest = dict(
            tensors
        )  # each may be referred to once, so that a small file cannot become many copies of a large tensor

    def walk(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.walk(value) for value in node]
        if not isinstance(node, dict):
            return node
        tag = next(iter(node), None)
        if tag in _REBUILT:
            return _REBUILT[tag](self, node)
        for sequence, build in _SEQUENCES.values():
            if tag == sequence:
                return build(map(self.walk, node[tag]))
        for leaf, _, decode in _LEAVES.values():
            if tag == leaf:
                return decode(node[tag])
        raise KeyError(f"unknown kind of value: {tag!r}")

    def tensor(self, node: dict[str, Any]) -> Tensor:
        return self._rest.pop(node[_TENSOR])

    def raw(self, node: dict[str, Any]) -> Tensor:
        return self._rest.pop(node[_RAW]).view(_torch_constant(node["dtype"])).reshape(node["shape"])

    def quantized(self, node: dict[str, Any]) -> Tensor:
        values, scale, zero_point = self._rest.pop(node[_QUANTIZED]), self.walk(node["scale"]), node["zero_point"]
        if "axis" not in node:
            return torch._make_per_tensor_quantized_tensor(values, scale, zero_point)
        return torch._make_per_channel_quantized_tensor(values, scale, self.walk(zero_point), node["axis"])

    def array(self, node: dict[str, Any]) -> Any:
        dtype = np.dtype(node["dtype"])
        if dtype.kind not in "biufcmMSU":
            raise ValueError(f"arrays of type {dtype} are not read")
        content = self._rest.pop(node[_ARRAY]).numpy().tobytes()
        array = np.frombuffer(content, dtype).reshape(node["shape"]).copy()
        return array[()] if node["scalar"] else array

    def deque(self, node: dict[str, Any]) -> deque[Any]:
        return deque(self.walk(node[_DEQUE]), maxlen=node["maxlen"])

    def items(self, node: dict[str, Any]) -> dict[Any, Any]:
        return {self.walk(key): self.walk(value) for key, value in node[_ITEMS]}

    def default_items(self, node: dict[str, Any]) -> defaultdict[Any, Any]:
        pairs = ((self.walk(key), self.walk(value)) for key, value in node[_DEFAULT])
        return defaultdict(_FACTORIES[node["factory"]], pairs)

    def ordered_items(self, node: dict[str, Any]) -> OrderedDict[Any, Any]:
        return OrderedDict((self.walk(key), self.walk(value)) for key, value in node[_ORDERED])


_REBUILT: dict[Any, Callable[[_Unpacker, dict[str, Any]], Any]] = {
    _TENSOR: _Unpacker.tensor,
    _RAW: _Unpacker.raw,
    _QUANTIZED: _Unpacker.quantized,
    _ARRAY: _Unpacker.array,
    _DEQUE: _Unpacker.deque,
    _ITEMS: _Unpacker.items,
    _DEFAULT: _Unpacker.default_items,
    _ORDERED: _Unpacker.ordered_items,
}


def _torch_name(constant: Any) -> str:
    return str(constant).removeprefix("torch.")


def _torch_constant(name: Any) -> Any:
    constant = vars(torch).get(name)
    if not isinstance(constant, _TORCH_KINDS):
        raise ValueError(f"torch has no type {name!r}")
    return constant


def _doubles(*values: float) -> str:
    return struct.pack(f">{len(values)}d", *values).hex()


def _from_doubles(text: str, n: int) -> tuple[float, ...]:
    if len(content := bytes.fromhex(text)) != 8 * n:
        raise ValueError(f"{text!r} is not {n} numbers of 8 bytes")
    return struct.unpack(f">{n}d", content)


_SEQUENCES: dict[type, tuple[str, Callable[[Any], Any]]] = {
    tuple: (_TUPLE, tuple),
    set: ("__set__", set),
    frozenset: ("__frozenset__", frozenset),
}
_LEAVES: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    float: ("__float__", _doubles, lambda text: _from_doubles(text, 1)[0]),  # infinities and NaN, to the bit
    complex: ("__complex__", lambda z: _doubles(z.real, z.imag), lambda text: complex(*_from_doubles(text, 2))),
    bytes: ("__bytes__", bytes.hex, bytes.fromhex),
    bytearray: ("__bytearray__", bytearray.hex, bytearray.fromhex),
    torch.Size: ("__size__", list, torch.Size),
    torch.device: ("__device__", str, torch.device),
    **dict.fromkeys(_TORCH_KINDS, ("__torch__", _torch_name, _torch_constant)),
}
