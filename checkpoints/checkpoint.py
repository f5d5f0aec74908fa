"""One committed step of a run: weights, optimizer and generator state, activations, gradients."""

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
        """Return the class and the path."""
        return f"Checkpoint({str(self.path)!r})"

    @cached_property
    def activations(self) -> Activations:
        """The recorded layers by name."""
        return Activations(self.path / "activations.h5")

    @cached_property
    def gradients(self) -> Activations:
        """The recorded gradients by name, read like activations.

        Raises
        ------
        ValueError
            If the step was recorded without gradients.
        """
        if "gradients.h5" not in self.manifest:
            raise ValueError(
                f"{self.path} was recorded without gradients. Train with --record-signals, or give gradients to "
                "Run.checkpoint."
            )
        return Activations(self.path / "gradients.h5")

    def __getitem__(self, layer: str) -> Layer:
        """Return one recorded layer."""
        return self.activations[layer]

    @property
    def has_weights(self) -> bool:
        """Whether the step holds weights, and not only activations."""
        return "weights.safetensors" in self.manifest

    def weights(self) -> dict[str, Any]:
        """Return the model's ``state_dict``, by name in alphabetical order.

        All entries are tensors, except those of quantized layers and of modules with extra state.

        Raises
        ------
        ValueError
            If the step was recorded without weights.
        Damaged
            If the file is missing or cannot be read.
        """
        from checkpoints.storage.weights import read_safetensors  # here, because reading a run needs no torch

        path = self.path / "weights.safetensors"
        if not path.exists() and not path.is_symlink():
            self._check_weights()
        return read_safetensors(path)

    def _check_weights(self) -> None:
        if not self.has_weights:
            raise ValueError(f"{self.path} was recorded without weights, which loading and restoring need.")

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
        """Restore weights, optimizers and the global generators of torch, numpy and Python.

        Raises
        ------
        Damaged
            If a file differs from its manifest or has invalid content.
        RuntimeError
            If the weights belong to another model.
        ValueError
            If the step was recorded without weights; or if optimizers are given, and it was saved without optimizers or
            with others.
        """
        self.verify("sha256")
        self._check_weights()
        from checkpoints.training_state.state_files import restore_training  # here, because reading needs no torch

        restore_training(self.path, self.state, model, optimizer)

    def verify(self, level: str = "sha256") -> None:
        """Compare the files with the manifest (see ``check_manifest``), and the step with the folder's name."""
        check_manifest(self.path, level)
        if (stated := self.state.get("step")) != self.step:
            raise Damaged(f"{self.path} holds step {stated}; the folder has been renamed.")
