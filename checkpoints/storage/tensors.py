"""Conversion of tensors for storage: dense, on the CPU, gathered from shards and offloaded parts."""

from __future__ import annotations

from functools import cache
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

__all__ = ["NotStorable", "check_gathered", "dense", "is_native", "is_sharded", "offloaded_value", "sharded_like"]


class NotStorable(TypeError):
    """An entry of a state cannot be stored exactly; the message names it and ends without a full stop."""


def dense(tensor: Tensor, name: str) -> Tensor:
    """Return the values of a tensor on the CPU, contiguous; they share its memory if possible.

    The tensor may be a ``DTensor`` whose values are all in this process, or a quantized tensor. Raise ``NotStorable``
    if it has no values in this process (offloaded, not initialized, sharded), or is not dense.
    """
    if nn.parameter.is_lazy(tensor):
        raise NotStorable(f"{name} is not initialized; run the model on one batch first")
    if is_sharded(tensor):
        tensor = _gathered(tensor, name)
    if tensor.is_meta:
        raise NotStorable(f"{name} is on the meta device, so its values are not known")
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        raise NotStorable(f"{name} is a {type(tensor).__name__}, a tensor that computes its values in its own way")
    if tensor.layout != torch.strided or tensor.is_nested:
        kind = "nested" if tensor.is_nested else f"stored as {str(tensor.layout).removeprefix('torch.')}"
        raise NotStorable(f"{name} is {kind}; only dense tensors can be stored")
    plain = tensor.detach().as_subclass(Tensor)
    return plain.resolve_conj().resolve_neg().cpu().contiguous()


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a tensor is a ``DTensor``, without importing its module."""
    return hasattr(tensor, "device_mesh") and hasattr(tensor, "placements")


def _gathered(tensor: Any, name: str) -> Tensor:
    """Return all values of a ``DTensor`` without communication, because other processes might not take part."""
    processes = tensor.device_mesh.size()
    if processes > 1 and not all(placement.is_replicate() for placement in tensor.placements):
        raise NotStorable(f"{name} is sharded over {processes} processes; {_HOW_TO_GATHER}")
    local: Tensor = tensor.to_local()
    if local.shape != tensor.shape:
        raise NotStorable(f"{name} is sharded and has {tuple(local.shape)} of {tuple(tensor.shape)} values here")
    return local


_HOW_TO_GATHER = (
    "gather it in all of them (get_model_state_dict of torch.distributed.checkpoint.state_dict, with the option "
    "full_state_dict=True), load it into a model that is not sharded, and save that one"
)


def sharded_like(value: Tensor, target: Any) -> Tensor:
    """Return a value with the sharding of ``target``, if that is a ``DTensor`` of its shape, without communication."""
    if not is_sharded(target) or is_sharded(value) or value.shape != target.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    placed = value.to(target.device_mesh.device_type)
    return distribute_tensor(placed, target.device_mesh, target.placements, src_data_rank=None)


def check_gathered(model: nn.Module) -> None:
    """Raise NotStorable if ``state_dict()`` would communicate, or parameters are in other processes."""
    for name, module in model.named_modules():
        group = getattr(module, "process_group", None)
        if type(module).__name__ == "FullyShardedDataParallel" and group is not None and group.size() > 1:
            where = f"the part '{name}'" if name else "the model itself"
            raise NotStorable(f"{where} is sharded over {group.size()} processes; {_HOW_TO_GATHER}")
    for name, parameter in model.named_parameters():
        whole = getattr(parameter, "ds_numel", None)  # set by DeepSpeed, whose partitioned parameters are empty
        if whole is not None and whole != parameter.numel():
            raise NotStorable(f"'{name}' is partitioned over several processes; {_HOW_TO_GATHER}")


def offloaded_value(model: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """Return the value of a parameter that accelerate has offloaded, from the hooks that hold it between calls.

    Raise ``NotStorable`` if no hook holds a value of the parameter's shape and type.
    """
    parts = name.split(".")
    for length in range(len(parts) - 1, -1, -1):  # a hook belongs to a module, or to all modules below it
        try:
            hook: Any = getattr(model.get_submodule(".".join(parts[:length])), "_hf_hook", None)
        except AttributeError:
            continue
        for each in getattr(hook, "hooks", (hook,)):
            try:
                value = each.weights_map[".".join(parts[length:])]
            except (AttributeError, KeyError, TypeError):
                continue
            if isinstance(value, Tensor) and (value.shape, value.dtype) == (tensor.shape, tensor.dtype):
                return value
    raise NotStorable(f"'{name}' is on the meta device and no hook of accelerate holds its values, so they are unknown")


@cache
def is_native(dtype: torch.dtype) -> bool:
    """Return whether the installed safetensors stores a type."""
    try:
        stored = safetensors.torch.save({"x": torch.empty(2, dtype=dtype)})
        return safetensors.torch.load(stored)["x"].dtype is dtype
    except Exception:  # the type of error varies between versions
        return False
