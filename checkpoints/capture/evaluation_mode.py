"""Evaluation mode: run a network without gradients and without a trace in its state."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from checkpoints.capture.modules import is_scripted
from checkpoints.capture.preservation import PreservedNetwork
from checkpoints.generators import preserve_generators

__all__ = ["evaluation_mode"]


@contextmanager
def evaluation_mode(
    model: nn.Module, preserved: PreservedNetwork | None = None, seed: int | None = None
) -> Iterator[PreservedNetwork]:
    """Run the block with the model in evaluation mode, uncompiled, without fused kernels and without gradients.

    Afterwards, also if the block raises, the model, everything that ``PreservedNetwork`` preserves of it, and the
    global generators of torch (CPU and CUDA), numpy and Python are restored.
    ``preserved`` is the value that an earlier call yielded, if nothing has changed since; ``seed`` is for the global
    generators inside the block, which keep their state by default.
    """
    modules = list(model.modules())
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    with ExitStack() as stack:
        stack.enter_context(preserve_generators(seed, devices=devices))
        stack.enter_context(torch.no_grad())
        # Fused kernels of torch's transformer layers skip modules and make padded tensors nested.
        mha = torch.backends.mha
        stack.enter_context(_disabled(mha.get_fastpath_enabled, mha.set_fastpath_enabled))
        # Weights that are cast here have no gradient and must not be reused in training.
        stack.enter_context(_disabled(torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled))
        if "torch._dynamo" in sys.modules:  # otherwise nothing is compiled, and importing it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_without_gradients_of(model))
        stack.enter_context(_precision_of(model))
        _reshard(modules)
        preserved = preserved or PreservedNetwork(model)
        scripted = [(module, module.training) for module in modules if is_scripted(module)]
        try:
            _set_evaluation_mode(model)
            for module in model.modules():
                _silence(module)
            yield preserved
        finally:
            _reshard(modules)
            preserved.restore()
            for module, training in scripted:
                module.training = training


def _set_evaluation_mode(model: nn.Module) -> None:
    """Call ``eval`` where possible: some modules override it to merge their weights or to keep dropout on."""
    try:
        model.eval()
    except (RecursionError, NotImplementedError):  # a module that contains itself; an exported network
        for module in model.modules():
            module.training = False


def _is_a(module: nn.Module, name: str) -> bool:
    """Return whether a module is of a class of this name, without importing the package that defines it."""
    return any(base.__name__ == name for base in type(module).__mro__)


def _silence(module: nn.Module) -> None:
    """Prevent a LightningModule from logging metrics of the recorded pass."""
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
    """Reduce modules of ``fully_shard`` to their own shards, as between passes."""
    for module in modules:
        reshard: Callable[[], None] | None = getattr(module, "reshard", None)
        if reshard is not None and _is_a(module, "FSDPModule"):
            reshard()


@contextmanager
def _disabled(is_enabled: Callable[[], bool], enable: Callable[[bool], None]) -> Iterator[None]:
    """Disable a global setting of torch inside the block."""
    before = is_enabled()
    enable(False)
    try:
        yield
    finally:
        enable(before)


@contextmanager
def _without_gradients_of(model: nn.Module) -> Iterator[None]:
    """Set gradients aside, because a network that calls ``backward`` would add to them."""
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        for parameter, _ in gradients:
            parameter.grad = None
        yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
