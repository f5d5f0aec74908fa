"""The modules of a network, and the context in which it is evaluated without leaving a trace in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from checkpoints.capture.found import Found
from checkpoints.generators import kept_generators

__all__ = ["callable_modules", "check_initialized", "evaluating", "is_scripted", "plain_name", "unwrapped"]

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

    The model itself has the name ``""``. Left out are what ``torch.compile`` wraps around a module, containers
    without a forward method of their own, and the parts of scripted modules, which Python does not call.
    """
    names = {plain_name(name): unwrapped(module) for name, module in _named(unwrapped(model), "", ())}
    return {name: module for name, module in names.items() if not _is_never_called(module)}


def is_scripted(module: nn.Module) -> bool:
    """Tell whether a module was made by ``torch.jit``, so that no hook can be put on it."""
    return isinstance(module, torch.jit.ScriptModule)


def check_initialized(model: nn.Module) -> None:
    """Raise ValueError if a lazy module has no weights yet: the first pass would make them."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"'{name}' has no values yet, because its module is lazy. Run the network on one batch, then record it."
            )


@contextmanager
def evaluating(model: nn.Module, found: Found | None = None, seed: int | None = None) -> Iterator[Found]:
    """Run the block with the model in evaluation mode, uncompiled, unfused and without gradients.

    Afterwards, also if the block raises, the model and all that hangs on it are as they were (see ``Found``), and so
    are the global generators of torch (CPU and CUDA), numpy and Python.

    Parameters
    ----------
    model : nn.Module
    found : Found, optional
        The value that an earlier call yielded, if nothing has changed since.

    Yields
    ------
    Found
        The state of the model before the block.
    """
    modules = list(model.modules())
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    with ExitStack() as stack:
        stack.enter_context(kept_generators(seed, devices=devices))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_module_by_module())
        stack.enter_context(_without_autocast_cache())
        if "torch._dynamo" in sys.modules:  # otherwise nothing is compiled, and the import takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_without_gradients_of(model))
        stack.enter_context(_precision_of(model))
        _reshard(modules)
        found = found or Found(model)
        scripted = [(module, module.training) for module in modules if is_scripted(module)]
        try:
            _set_evaluation_mode(model)
            for module in model.modules():
                _silence(module)
            yield found
        finally:
            _reshard(modules)
            found.put_back()
            for module, training in scripted:
                module.training = training


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


def _set_evaluation_mode(model: nn.Module) -> None:
    """Call ``eval``, which some modules use to merge their weights or to keep dropout on, where that is possible."""
    try:
        model.eval()
    except (RecursionError, NotImplementedError):  # a module inside itself; a network that was exported
        for module in model.modules():
            module.training = False


def _is_a(module: nn.Module, name: str) -> bool:
    """Tell whether a module is of a class of this name, without importing the package that defines it."""
    return any(base.__name__ == name for base in type(module).__mro__)


def _silence(module: nn.Module) -> None:
    """Keep a LightningModule from logging the recorded pass among the metrics of the training."""
    if _is_a(module, "LightningModule"):
        vars(module).update(log=_ignore, log_dict=_ignore)


def _precision_of(model: nn.Module) -> AbstractContextManager[Any]:
    """Return the context in which the trainer of a LightningModule runs it, e.g. autocasting to bfloat16."""
    trainer = vars(model).get("_trainer") if _is_a(model, "LightningModule") else None
    plugin = getattr(trainer, "precision_plugin", None)
    return nullcontext() if plugin is None else plugin.forward_context()


def _ignore(*_: Any, **__: Any) -> None:
    """Do nothing."""


def _reshard(modules: list[nn.Module]) -> None:
    """Let modules of ``fully_shard`` hold their shards only, as they do between passes."""
    for module in modules:
        reshard: Callable[[], None] | None = getattr(module, "reshard", None)
        if reshard is not None and _is_a(module, "FSDPModule"):
            reshard()


@contextmanager
def _module_by_module() -> Iterator[None]:
    """Keep torch's transformer layers from fused kernels, which skip their modules and make padded tensors nested."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def _without_gradients_of(model: nn.Module) -> Iterator[None]:
    """Put the gradients of the parameters aside: a network that calls ``backward`` would add to them."""
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        for parameter, _ in gradients:
            parameter.grad = None
        yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient


@contextmanager
def _without_autocast_cache() -> Iterator[None]:
    """Keep weights that are cast without gradients out of the cache that the user's own autocast region trains with."""
    enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(enabled)
