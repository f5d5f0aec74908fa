"""Nested state with tensors in it, as safetensors beside plain JSON: no pickle."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["pack", "unpack"]

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


def rng_state() -> str:
    """Return torch's global CPU generator state as hexadecimal text."""
    return torch.get_rng_state().numpy().tobytes().hex()


def set_rng_state(text: str) -> None:
    """Put back what ``rng_state`` returned."""
    torch.set_rng_state(torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8))
