"""The files of a step that restore a training: weights, optimizers and random generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from checkpoints.capture.modules import unwrapped
from checkpoints.errors import Damaged
from checkpoints.generators import rng_state, set_rng_state
from checkpoints.storage.manifest import encode_json
from checkpoints.storage.nested_state import pack, unpack
from checkpoints.storage.tensors import NotStorable
from checkpoints.storage.weights import read_safetensors
from checkpoints.training_state.model_state import encode_weights, load_weights
from checkpoints.training_state.optimizer_state import Optimizers, check_optimizers, load_optimizers, optimizer_states

__all__ = ["Optimizers", "encode_training", "restore_training"]


def encode_training(
    model: nn.Module, optimizer: Optimizers, *, with_weights: bool = True
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the content of files by name, and the entries of ``state.json`` for optimizers and generators."""
    files = {}
    if with_weights:
        try:
            files["weights.safetensors"] = encode_weights(unwrapped(model))
        except NotStorable as error:
            raise TypeError(
                f"The model's weights cannot be saved: {error}; give weights=None to record activations alone."
            ) from error
    states = optimizer_states(optimizer)
    try:
        tensors, skeleton = pack(states, name="optimizers" if isinstance(states, list) else "")
        encode_json(skeleton)
    except (NotStorable, ValueError) as error:  # ValueError: longer than readers accept
        raise TypeError(
            f"The optimizer's state cannot be saved: {str(error).rstrip('.')}; give optimizer=None to save the step "
            "without it."
        ) from error
    files["optimizer.safetensors"] = safetensors.torch.save(tensors)
    return files, {"optimizer": skeleton, "rng": rng_state()}


def restore_training(path: Path, state: dict[str, Any], model: nn.Module, optimizer: Optimizers) -> None:
    """Restore model, optimizers and generators from a verified step; see ``Checkpoint.restore``."""
    saved = _saved_optimizers(path, state)
    check_optimizers(path, optimizer, saved)
    load_weights(unwrapped(model), read_safetensors(path / "weights.safetensors"))
    load_optimizers(path, optimizer, saved)
    try:
        set_rng_state(state["rng"])
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise Damaged(f"{path / 'state.json'} holds no valid state of the generators ({error}).") from error


def _saved_optimizers(path: Path, state: dict[str, Any]) -> list[Any]:
    tensors = read_safetensors(path / "optimizer.safetensors")
    try:
        saved = unpack(tensors, state["optimizer"])
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:  # RecursionError is a RuntimeError
        raise Damaged(f"{path / 'state.json'} does not match optimizer.safetensors ({error}).") from error
    return saved if isinstance(saved, list) else [] if saved is None else [saved]
