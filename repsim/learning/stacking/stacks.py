"""Stacks of modules: parameters get a new first axis, and one batched product replaces many products.

``stack`` is used to train several seeds together (the first axis is the replica), and to evaluate estimators at several
boundaries together (the first axis is the boundary). Modules that only arrange other modules are copied and their
children stacked; layers in ``BATCHED`` have a batched form; all other modules are mapped over with ``torch.vmap``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from repsim.learning.stacking.stacked_layers import (
    BATCHED,
    Vmapped,
    drop_hooks,
    stack_buffers,
    stack_parameters,
)

__all__ = ["stack", "unstack"]


def stack(modules: Sequence[nn.Module]) -> nn.Module:
    """Return one module that applies each of n modules to its own input, for inputs of shape (n, *shape).

    Parameters
    ----------
    modules : sequence of nn.Module
        Modules of equal structure, shapes and settings. They are copied without their hooks. Modules that draw from
        the global generator (dropout) draw once for all, and so not the numbers that each would have drawn.

    Returns
    -------
    nn.Module
        Its ``state_dict`` has the keys of one module, with values stacked along a new first axis. ``unstack`` is the
        inverse.

    Raises
    ------
    ValueError
        If there are no modules, if they differ in anything but the values of their tensors, or if a parameter is used
        in two places.

    Examples
    --------
    >>> import torch
    >>> both = stack([torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)])
    >>> both(torch.zeros(2, 5, 3)).shape
    torch.Size([2, 5, 2])
    """
    if not modules:
        raise ValueError("There are no modules to stack; expected one or more.")
    first, *others = [_describe(module) for module in modules]
    for other in others:
        _check_alike(first, other)
    shared = _shared_parameter(modules[0])
    if shared:
        raise ValueError(
            f"Parameter '{shared}' is used in two places; modules that share parameters cannot be stacked."
        )
    return _stack(modules)


def unstack(state: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    """Return the ``state_dict`` of one module, given that of a stack; its values are views."""
    return {name: value[index] for name, value in state.items()}


def _describe(module: nn.Module) -> dict[str, Any]:
    """Return everything that modules must have in common to be stacked, by name."""
    described: dict[str, Any] = {}
    for name, part in module.named_modules():
        described[name] = f"a {type(part).__name__}"
        described |= {f"{name}.{setting}".lstrip("."): value for setting, value in _settings(part).items()}
    return described | {name: f"{tuple(t.shape)} of {t.dtype}" for name, t in module.state_dict().items()}


def _settings(module: nn.Module) -> dict[str, Any]:
    """Return the public attributes of a module that hold settings, such as stride, momentum or options."""
    plain = (bool, int, float, str, tuple, frozenset)
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and (isinstance(value, plain) or name == "options")
    }


def _check_alike(first: dict[str, Any], other: dict[str, Any]) -> None:
    for name in first | other:
        if first.get(name) != other.get(name):
            where = f" at '{name}'" if name else ""
            raise ValueError(
                f"The modules differ{where}: {first.get(name, 'nothing')} and {other.get(name, 'nothing')}. Only "
                "modules of the same type with equal shapes and settings can be stacked."
            )


def _shared_parameter(module: nn.Module) -> str | None:
    """Return the name of a parameter that is used in two places, if there is one."""
    once = {name for name, _ in module.named_parameters()}
    return next((name for name, _ in module.named_parameters(remove_duplicate=False) if name not in once), None)


def _stack(modules: Sequence[nn.Module]) -> nn.Module:
    stacked = _stacked(modules)
    stacked.training = modules[0].training
    return stacked


def _stacked(modules: Sequence[nn.Module]) -> nn.Module:
    first = modules[0]
    if isinstance(first, _CONTAINERS) or getattr(first, "stacks_by_parts", False):
        return _stack_children(modules)
    batched = BATCHED.get(type(first))
    if batched is None or not batched.serves(first):
        return Vmapped(modules)
    return batched.build(modules)


def _stack_children(modules: Sequence[nn.Module]) -> nn.Module:
    stacked = drop_hooks(copy.copy(modules[0]))
    stacked._parameters = stack_parameters(modules)
    stacked._buffers = stack_buffers(modules)
    stacked._modules = {
        name: None if part is None else _stack([module.get_submodule(name) for module in modules])
        for name, part in modules[0]._modules.items()
    }
    return stacked


_CONTAINERS = (nn.Sequential, nn.ModuleDict, nn.ModuleList)
