"""One committed step of a run: weights, optimizer and generator state, activations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from checkpoints.activations import Activations, Layer
from checkpoints.errors import Damaged
from checkpoints.generators import set_rng_state
from checkpoints.manifest import check_manifest, read_json, read_manifest
from checkpoints.modules import plain_name, unwrapped
from checkpoints.state import unpack
from checkpoints.weights import read_safetensors

__all__ = ["Checkpoint"]


class Checkpoint:
    """One committed step. Nothing is read before it is asked for."""

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

    def weights(self) -> dict[str, Tensor]:
        """Return the model's ``state_dict``, by name in alphabetical order."""
        return read_safetensors(self.path / "weights.safetensors")

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
            If optimizers are given and the step was saved without, or with others.
        """
        self.verify("sha256")
        saved = self._saved_optimizers()
        optimizers = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer] if optimizer else []
        if optimizers and len(optimizers) != len(saved):
            if not saved:
                raise ValueError(f"{self.path} was saved without an optimizer; restore it without one.")
            raise ValueError(f"{self.path} was saved with {len(saved)} optimizers; {len(optimizers)} were given.")
        for each, state in zip(optimizers, saved, strict=False):
            self._check_groups(each, state)
        target = unwrapped(model)
        names = {plain_name(name): name for name in target.state_dict()}
        target.load_state_dict({names.get(name, name): value for name, value in self.weights().items()})
        for each, state in zip(optimizers, saved, strict=False):
            self._load(each, state)
        try:
            set_rng_state(self.state["rng"])
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise Damaged(f"{self.path / 'state.json'} holds no state of the generators ({error}).") from error

    def _check_groups(self, optimizer: torch.optim.Optimizer, state: Any) -> None:
        """Raise, before anything is changed, if the state is that of another optimizer."""
        try:
            saved = [len(group["params"]) for group in state["param_groups"]]
        except (KeyError, TypeError) as error:
            raise Damaged(f"{self.path} does not hold the state of an optimizer.") from error
        if saved != (given := [len(group["params"]) for group in optimizer.param_groups]):
            raise ValueError(f"{self.path} has an optimizer of {saved} parameters a group; the one given has {given}.")

    def _load(self, optimizer: torch.optim.Optimizer, state: Any) -> None:
        try:
            optimizer.load_state_dict(state)
        except Exception as error:  # torch trusts the state to be one
            raise Damaged(f"{self.path} does not hold a state of this optimizer ({error}).") from error

    def _saved_optimizers(self) -> list[Any]:
        tensors = read_safetensors(self.path / "optimizer.safetensors")
        try:
            saved = unpack(tensors, self.state["optimizer"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise Damaged(f"{self.path / 'state.json'} does not fit optimizer.safetensors ({error}).") from error
        return saved if isinstance(saved, list) else [] if saved is None else [saved]

    def verify(self, level: str = "sha256") -> None:
        """Compare the step's files with its manifest (see ``check_manifest``), its number with its folder's name."""
        check_manifest(self.path, level)
        if (said := self.state.get("step")) != self.step:
            raise Damaged(f"{self.path} holds step {said}; the folder has been renamed.")
