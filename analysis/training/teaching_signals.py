"""Teaching signals of a learner for given stimuli: the gradients that its rule chooses, and the true ones."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from checkpoints.capture.evaluation_mode import evaluation_mode
from checkpoints.storage.hdf5_files.activation_file import LayerValues
from repsim.learning import EquilibriumNetwork, Learner, true_gradients

__all__ = ["TeachingSignals"]

_BLOCK_BYTES = 2**24  # of stored gradients
_LARGEST_BLOCK = 512  # stimuli


class TeachingSignals:
    """The gradients at every boundary of a learner, per stimulus, as ``Run.checkpoint`` records them.

    ``chosen/hidden.k`` is g_k, the gradient that the rule chooses at boundary k (or would choose, if it is only
    observed), and ``true/hidden.k`` is N · ∂L/∂h_k. The learner runs in evaluation mode, as for the recorded
    activations, so the rows of a stimulus do not depend on other stimuli. It is not changed.

    Parameters
    ----------
    learner : Learner
        One network, not a stack.
    """

    side = "gradient"

    def __init__(self, learner: Learner) -> None:
        self.model = learner

    def blocks(self, inputs: NDArray[Any], labels: NDArray[Any]) -> Iterator[dict[str, LayerValues]]:
        """Yield the gradients for consecutive blocks of stimuli, by name.

        Parameters
        ----------
        inputs : float array, shape (n, n_features)
        labels : int array, shape (n,)
        """
        device = next(self.model.parameters()).device
        drawn: list[Tensor] = []  # how many random numbers estimators have drawn, so that blocks differ in them
        for start in range(0, len(labels), size := self._block_size()):
            rows = slice(start, start + size)
            X, y = (torch.from_numpy(part[rows]).to(device) for part in (inputs, labels))
            with evaluation_mode(self.model), torch.enable_grad():
                for buffer, earlier in zip(self.model.estimators.buffers(), drawn, strict=False):
                    buffer.copy_(earlier)
                signals = {"chosen": self._chosen(X, y), "true": self._true(X, y)}
                drawn = [buffer.clone() for buffer in self.model.estimators.buffers()]
            yield {
                f"{kind}/hidden.{k}": _values(g, f"hidden.{k}")
                for kind, gradients in signals.items()
                for k, g in sorted(gradients.items())
            }

    def _block_size(self) -> int:
        row_bytes = 2 * 4 * sum(map(prod, self.model.network.shapes))
        return int(min(_LARGEST_BLOCK, 1 << (max(1, _BLOCK_BYTES // row_bytes).bit_length() - 1)))

    def _chosen(self, X: Tensor, y: Tensor) -> dict[int, Tensor]:
        if isinstance(self.model.network, EquilibriumNetwork):
            return self.model.compute_gradients(X, y, watch=True).gradients
        tape = self.model.run_forward(X, y, watch=True)
        tape.descend_from_loss(y, self.model.loss)
        return tape.gradients()

    def _true(self, X: Tensor, y: Tensor) -> dict[int, Tensor]:
        return true_gradients(self.model.network, X, y, loss=self.model.loss)


def _values(gradient: Tensor, module: str) -> LayerValues:
    return LayerValues(
        values=gradient.detach().flatten(1).float().cpu().numpy(),
        feature_shape=tuple(gradient.shape[1:]),
        source_dtype=str(gradient.dtype),
        module=module,
        side="gradient",
    )
