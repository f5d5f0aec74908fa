"""The modules of a network: their names, their wrappers, and which of them a forward pass can call."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parameter import is_lazy

__all__ = ["callable_modules", "check_initialized", "is_scripted", "plain_name", "unwrapped"]

_COMPILED = "_orig_mod"
_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
_MOST_NAMES = 100_000


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module that ``torch.compile`` or a data-parallel wrapper was given, or the model itself."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    inner = dict(model.named_children()).get(_COMPILED)
    return model if inner is None else unwrapped(inner)


def plain_name(name: str) -> str:
    """Return a module's or parameter's name without the parts that ``torch.compile`` adds."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def callable_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that a forward pass can call, under every name by which they are registered.

    The model itself has the name ``""``. The wrappers of ``torch.compile``, containers without a forward method of
    their own, and the submodules of scripted modules, which Python does not call, are left out.
    """
    names = {plain_name(name): unwrapped(module) for name, module in _named(unwrapped(model), "", ())}
    return {name: module for name, module in names.items() if not _is_never_called(module)}


def is_scripted(module: nn.Module) -> bool:
    """Return whether a module was made by ``torch.jit``, so that no hook can be put on it."""
    return isinstance(module, torch.jit.ScriptModule)


def check_initialized(model: nn.Module) -> None:
    """Raise ValueError if a lazy module has no weights yet, because the first pass would create them."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"'{name}' has no values yet, because its module is lazy. Run the network on one batch, then record it."
            )


def _named(module: nn.Module, name: str, above: tuple[nn.Module, ...]) -> Iterator[tuple[str, nn.Module]]:
    """Yield every name of every module in the order of registration; a module inside itself is not entered again."""
    pending = [(name, module, above)]
    seen = 0
    while pending:
        name, module, above = pending.pop()
        yield name, module
        if (seen := seen + 1) > _MOST_NAMES:
            raise ValueError(f"The network registers modules under more than {_MOST_NAMES:,} names.")
        if is_scripted(module):
            continue
        children = [
            (f"{name}.{key}" if name else key, child, (*above, module))
            for key, child in module._modules.items()
            if child is not None and child is not module and all(child is not each for each in above)
        ]
        pending.extend(reversed(children))


def _is_never_called(module: nn.Module) -> bool:
    forward = getattr(module.forward, "__func__", module.forward)
    return isinstance(module, _CONTAINERS) and forward is nn.Module.forward
