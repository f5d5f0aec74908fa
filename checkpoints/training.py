"""The state of a training: weights, optimizers and generators, as files and as they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from checkpoints.errors import Damaged
from checkpoints.generators import rng_state, set_rng_state
from checkpoints.modules import plain_name, unwrapped
from checkpoints.state import pack, state_tensors, unpack
from checkpoints.weights import read_safetensors

__all__ = ["Optimizers", "encode_training", "restore_training"]

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None


def encode_training(model: nn.Module, optimizer: Optimizers) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return files by name, and what of ``state.json`` belongs to them and to the generators.

    Raises
    ------
    TypeError
        If an optimizer is none, or a state cannot be written as JSON and tensors.
    """
    weights = safetensors.torch.save(state_tensors(unwrapped(model)))
    tensors, skeleton = pack(_state_of(optimizer))
    files = {"weights.safetensors": weights, "optimizer.safetensors": safetensors.torch.save(tensors)}
    return files, {"optimizer": skeleton, "rng": rng_state()}


def restore_training(path: Path, state: dict[str, Any], model: nn.Module, optimizer: Optimizers) -> None:
    """Put back what a step holds, of which the files are verified; see ``Checkpoint.restore``."""
    saved = _saved_optimizers(path, state)
    optimizers = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer] if optimizer else []
    if optimizers and len(optimizers) != len(saved):
        if not saved:
            raise ValueError(f"{path} was saved without an optimizer; restore it without one.")
        raise ValueError(f"{path} was saved with {len(saved)} optimizers; {len(optimizers)} were given.")
    for each, kept in zip(optimizers, saved, strict=False):
        _check_groups(path, each, kept)
    target = unwrapped(model)
    names = {plain_name(name): name for name in target.state_dict()}
    weights = read_safetensors(path / "weights.safetensors")
    target.load_state_dict({names.get(name, name): value for name, value in weights.items()})
    for each, kept in zip(optimizers, saved, strict=False):
        _load(path, each, kept)
    try:
        set_rng_state(state["rng"])
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise Damaged(f"{path / 'state.json'} holds no state of the generators ({error}).") from error


def _check_groups(path: Path, optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Raise, before anything is changed, if the state is that of another optimizer."""
    try:
        saved = [len(group["params"]) for group in state["param_groups"]]
    except (KeyError, TypeError) as error:
        raise Damaged(f"{path} does not hold the state of an optimizer.") from error
    if saved != (given := [len(group["params"]) for group in optimizer.param_groups]):
        raise ValueError(f"{path} has an optimizer of {saved} parameters a group; the one given has {given}.")


def _load(path: Path, optimizer: torch.optim.Optimizer, state: Any) -> None:
    try:
        optimizer.load_state_dict(state)
    except Exception as error:  # torch trusts the state to be one
        raise Damaged(f"{path} does not hold a state of this optimizer ({error}).") from error


def _saved_optimizers(path: Path, state: dict[str, Any]) -> list[Any]:
    tensors = read_safetensors(path / "optimizer.safetensors")
    try:
        saved = unpack(tensors, state["optimizer"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise Damaged(f"{path / 'state.json'} does not fit optimizer.safetensors ({error}).") from error
    return saved if isinstance(saved, list) else [] if saved is None else [saved]


def _state_of(optimizer: Optimizers) -> Any:
    several = isinstance(optimizer, Sequence)
    optimizers = [] if optimizer is None else list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
    for each in optimizers:
        if not isinstance(each, torch.optim.Optimizer):
            raise TypeError(f"{type(each).__name__} is no optimizer; expected a torch.optim.Optimizer or several.")
    states = [each.state_dict() for each in optimizers]
    return states if several else states[0] if states else None
