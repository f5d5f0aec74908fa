"""Running somebody's network without leaving a trace in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from checkpoints.generators import kept_generators

__all__ = ["evaluating", "plain_name", "unwrapped"]

_COMPILED = "_orig_mod"


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module that ``torch.compile`` or a data-parallel wrapper was given, or the model itself."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    inner = dict(model.named_children()).get(_COMPILED)
    return model if inner is None else unwrapped(inner)


def plain_name(name: str) -> str:
    """Return a module's or parameter's name without the parts that ``torch.compile`` adds."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run the block with the model in evaluation mode, uncompiled, unfused and without gradients.

    Afterwards, also if the block raises, every module's mode and buffers and the global generators of torch (CPU and
    CUDA), numpy and Python are as they were: the same tensor objects with the same values.
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    buffers = [dict(module._buffers) for module in modules]
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    with ExitStack() as stack:
        stack.enter_context(kept_generators(devices=devices))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_module_by_module())
        if "torch._dynamo" in sys.modules:  # otherwise nothing is compiled, and the import takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for module in modules:
                module.training = False  # not by eval(), which some modules use to rewrite their weights
            _give_copies(modules)
            yield
        finally:
            for module, training, kept in zip(modules, modes, buffers, strict=True):
                module.training = training
                if isinstance(module._buffers, dict):  # TorchScript's holds the same names for good
                    module._buffers.clear()
                for name, buffer in kept.items():
                    module._buffers[name] = buffer


def _give_copies(modules: list[nn.Module]) -> None:
    """Let every module work on a copy of its buffers; modules that share one go on sharing it."""
    copies: dict[int, Tensor] = {}
    for module in modules:
        for name, buffer in module._buffers.items():
            if buffer is not None:
                if id(buffer) not in copies:
                    copies[id(buffer)] = buffer.clone()
                module._buffers[name] = copies[id(buffer)]


@contextmanager
def _module_by_module() -> Iterator[None]:
    """Keep torch's transformer layers from fused kernels, which skip their modules and make padded tensors nested."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
