"""One committed step of a run: weights, optimizer and generator state, activations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkpoints.activations import Activations, Layer
from checkpoints.errors import Damaged
from checkpoints.storage.manifest import check_manifest, read_json, read_manifest

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["NO_WEIGHTS", "Checkpoint"]

NO_WEIGHTS = "none"  # the weights_hash of activations that were recorded without weights


class Checkpoint:
    """One committed step. Its files are read only when they are needed."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.step = step

    def __repr__(self) -> str:
        """Say where it is."""
        return f"Checkpoint({str(self.path)!r})"

    @cached_property
    def activations(self) -> Activations:
        """The recorded layers by name."""
        return Activations(self.path / "activations.h5")

    def __getitem__(self, layer: str) -> Layer:
        """Return one recorded layer."""
        return self.activations[layer]

    @property
    def has_weights(self) -> bool:
        """Whether the step holds the weights, or activations alone."""
        return "weights.safetensors" in self.manifest

    def weights(self) -> dict[str, Any]:
        """Return the model's ``state_dict``, by name in alphabetical order.

        All are tensors, except for what quantized layers and modules with extra state keep in it.

        Raises
        ------
        ValueError
            If the step was recorded without weights.
        Damaged
            If the file is missing or cannot be read.
        """
        from checkpoints.storage.weights import read_safetensors  # imports torch, which readers of a run do without

        path = self.path / "weights.safetensors"
        if not path.exists() and not path.is_symlink():
            self._check_weights()
        return read_safetensors(path)

    def _check_weights(self) -> None:
        if not self.has_weights:
            raise ValueError(f"{self.path} was recorded without weights; there is nothing to load or restore.")

    @cached_property
    def state(self) -> dict[str, Any]:
        """The step's ``state.json``."""
        state = read_json(self.path / "state.json")
        if not isinstance(state, dict):
            raise Damaged(f"{self.path / 'state.json'} is not a JSON object.")
        return state

    @property
    def manifest(self) -> dict[str, dict[str, Any]]:
        """Size and SHA-256 of each file of the step."""
        return read_manifest(self.path)

    def restore(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    ) -> None:
        """Put weights, optimizers and the global generators of torch, numpy and Python back as they were.

        Raises
        ------
        Damaged
            If a file differs from its manifest, or does not hold what it should.
        RuntimeError
            If the weights are those of another model.
        ValueError
            If the step was recorded without weights, or optimizers are given and it was saved without, or with others.
        """
        self.verify("sha256")
        self._check_weights()
        from checkpoints.training_state.state_files import (
            restore_training,  # imports torch, which readers of a run do without
        )

        restore_training(self.path, self.state, model, optimizer)

    def verify(self, level: str = "sha256") -> None:
        """Compare the step's files with its manifest (see ``check_manifest``), its number with its folder's name."""
        check_manifest(self.path, level)
        if (said := self.state.get("step")) != self.step:
            raise Damaged(f"{self.path} holds step {said}; the folder has been renamed.")
