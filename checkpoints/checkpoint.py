"""One committed step of a run: weights, optimizer and generator state, activations."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from checkpoints.activations import Activations, Layer
from checkpoints.errors import Damaged
from checkpoints.manifest import check_manifest, read_json
from checkpoints.state import set_rng_state, unpack

__all__ = ["Checkpoint"]


class Checkpoint:
    """One committed step. Nothing is read before it is asked for."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.step = step

    @cached_property
    def activations(self) -> Activations:
        """The recorded layers by name."""
        return Activations(self.path / "activations.h5")

    def __getitem__(self, layer: str) -> Layer:
        """Return one recorded layer."""
        return self.activations[layer]

    def weights(self) -> dict[str, Tensor]:
        """Return the model's ``state_dict``, by name in alphabetical order."""
        return _read_tensors(self.path / "weights.safetensors")

    @cached_property
    def state(self) -> dict[str, Any]:
        """The step's ``state.json``."""
        state = read_json(self.path / "state.json")
        if not isinstance(state, dict):
            raise Damaged(f"{self.path / 'state.json'} is not a JSON object.")
        return state

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Put weights, optimizer and torch's global CPU generator back as they were at this step.

        Raises
        ------
        Damaged
            If a file differs from its manifest.
        RuntimeError
            If the weights are those of another model.
        ValueError
            If an optimizer is given and the step was saved without one.
        """
        self.verify("sha256")
        saved = unpack(_read_tensors(self.path / "optimizer.safetensors"), self.state["optimizer"])
        if optimizer is not None and saved is None:
            raise ValueError(f"{self.path} was saved without an optimizer; restore it without one.")
        model.load_state_dict(self.weights())
        if optimizer is not None:
            optimizer.load_state_dict(saved)
        set_rng_state(self.state["rng"])

    def verify(self, level: str = "sha256") -> None:
        """Compare the step's files with its manifest; see ``check_manifest``."""
        check_manifest(self.path, level)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(sorted(safetensors.torch.load(path.read_bytes()).items()))  # its own order varies
    except (OSError, KeyError, SafetensorError) as error:  # KeyError: a type that torch does not have
        raise Damaged(f"{path} cannot be read ({error}).") from error
