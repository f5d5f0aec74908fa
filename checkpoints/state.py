"""Nested state with tensors in it, as safetensors beside plain JSON: no pickle."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from checkpoints.modules import plain_name

__all__ = ["pack", "rng_state", "set_rng_state", "state_tensors", "unpack"]

_TENSOR = "__tensor__"
_ITEMS = "__items__"
_TUPLE = "__tuple__"


def pack(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Separate the tensors of nested dicts, lists and tuples from the rest.

    Parameters
    ----------
    tree : nested dict, list, tuple of Tensor, str, int, float, bool or None
        For example an optimizer's ``state_dict()``.

    Returns
    -------
    tensors : dict of str to Tensor
        Detached contiguous CPU copies.
    skeleton : JSON-ready value
        The tree with each tensor replaced by a reference into ``tensors``.

    Raises
    ------
    TypeError
        If the tree holds anything else.
    """
    tensors: dict[str, Tensor] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, Tensor):
            key = str(len(tensors))
            tensors[key] = node.detach().cpu().clone().contiguous()
            return {_TENSOR: key}
        if isinstance(node, dict):
            return {_ITEMS: [[walk(key), walk(value)] for key, value in node.items()]}
        if isinstance(node, tuple):
            return {_TUPLE: [walk(value) for value in node]}
        if isinstance(node, list):
            return [walk(value) for value in node]
        if node is None or isinstance(node, str | int | float):
            return node
        raise TypeError(f"State holds a {type(node).__name__}; only tensors and JSON values can be saved.")

    return tensors, walk(tree)


def unpack(tensors: dict[str, Tensor], skeleton: Any) -> Any:
    """Put back together what ``pack`` took apart.

    Examples
    --------
    >>> unpack(*pack({"state": {0: {"step": torch.tensor(3.0)}}, "betas": (0.9, 0.999)}))
    {'state': {0: {'step': tensor(3.)}}, 'betas': (0.9, 0.999)}
    """
    if isinstance(skeleton, list):
        return [unpack(tensors, value) for value in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    if _TENSOR in skeleton:
        return tensors[skeleton[_TENSOR]]
    if _TUPLE in skeleton:
        return tuple(unpack(tensors, value) for value in skeleton[_TUPLE])
    return {unpack(tensors, key): unpack(tensors, value) for key, value in skeleton[_ITEMS]}


def state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's ``state_dict`` as safetensors takes it: contiguous, on the CPU, without shared memory.

    Raises
    ------
    TypeError
        If the model keeps something else than tensors in it (``get_extra_state``).
    """
    tensors, stored = {}, set()
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise TypeError(f"The model's state '{name}' is a {type(value).__name__}; only tensors can be saved.")
        tensor = value.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        tensors[plain_name(name)] = tensor.clone() if place in stored else tensor
        stored.add(place)
    return tensors


def rng_state() -> dict[str, Any]:
    """Return the state of every global generator that a training loop may draw from, JSON-ready.

    Returns
    -------
    dict
        ``torch`` and each of ``cuda`` as hexadecimal text, ``numpy`` (its legacy global generator) and ``python``.
    """
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": _hex(torch.get_rng_state()),
        "cuda": [_hex(state) for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_initialized() else [],
        "numpy": [name, np.asarray(keys, "<u4").tobytes().hex(), position, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what ``rng_state`` returned; of GPUs, those that there are."""
    torch.set_rng_state(_bytes(state["torch"]))
    for device, text in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(_bytes(text), device)
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.frombuffer(bytes.fromhex(keys), "<u4"), position, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def _hex(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
