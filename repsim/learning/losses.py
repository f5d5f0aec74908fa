"""Losses of the network's output, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from repsim.registration import add_installed
from repsim.registry_kinds import KINDS

__all__ = ["LOSSES", "count_examples", "targets_of"]


def log_loss(output: Tensor, y: Tensor) -> Tensor:
    """Return -log softmax(output)_y of each example in nats, shape (..., N), for classes y (..., N)."""
    if y.is_floating_point():
        raise ValueError("The log loss needs classes (whole numbers), but y holds floats. Use the loss 'mse'.")
    return F.cross_entropy(output.flatten(0, -2), y.flatten(), reduction="none").view(y.shape)


def squared_error(output: Tensor, y: Tensor) -> Tensor:
    """Return ‖output - y‖² of each example, summed over outputs, shape (..., N); classes y are one-hot targets."""
    targets = targets_of(y, output)
    if targets.shape != output.shape:
        raise ValueError(
            f"y has shape {tuple(y.shape)} and the output {tuple(output.shape)}; expected equal shapes: one regression "
            "target for each example and output."
        )
    return (output - targets).square().sum(dim=-1)


def targets_of(y: Tensor, output: Tensor) -> Tensor:
    """Return the targets (..., N, n_outputs) of an output: y itself, or one-hot vectors of classes y (..., N)."""
    return y if y.is_floating_point() else F.one_hot(y, output.shape[-1]).to(output.dtype)


def count_examples(y: Tensor) -> int:
    """Return N for classes (*lead, N) or regression targets (*lead, N, n_outputs)."""
    return y.shape[-2] if y.is_floating_point() and y.ndim > 1 else y.shape[-1]


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # from output and y to one loss per example
    "log_loss": log_loss,
    "mse": squared_error,
}

add_installed(KINDS["losses"])
