"""Nested state with tensors in it, as safetensors beside plain JSON: no pickle."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from checkpoints.modules import plain_name

__all__ = ["pack", "state_tensors", "unpack"]

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
    >>> import torch
    >>> unpack(*pack({"state": {0: {"step": torch.tensor(3.0)}}, "betas": (0.9, 0.999)}))
    {'state': {0: {'step': tensor(3.)}}, 'betas': (0.9, 0.999)}
    """
    rest = dict(tensors)  # each is referred to once: many references to a large one would become many copies

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(value) for value in node]
        if not isinstance(node, dict):
            return node
        if _TENSOR in node:
            return rest.pop(node[_TENSOR])
        if _TUPLE in node:
            return tuple(walk(value) for value in node[_TUPLE])
        return {walk(key): walk(value) for key, value in node[_ITEMS]}

    return walk(skeleton)


def state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's ``state_dict`` as safetensors takes it: contiguous, on the CPU, without shared memory.

    Raises
    ------
    TypeError
        If the model keeps something else than tensors in it (``get_extra_state``), or sparse or complex ones.
    """
    tensors, stored = {}, set()
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise TypeError(f"The model's state '{name}' is a {type(value).__name__}; only tensors can be saved.")
        if value.layout != torch.strided or value.is_complex() or value.is_quantized:
            kind = f"of layout {value.layout} and type {value.dtype}"
            raise TypeError(f"The model's state '{name}' is {kind}; only real, dense tensors can be saved.")
        tensor = value.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        tensors[plain_name(name)] = tensor.clone() if place in stored else tensor
        stored.add(place)
    return tensors
