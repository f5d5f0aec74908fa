"""Gradients of a loss with respect to the tensors that watched modules return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from checkpoints.capture.hooks import LayerTensor, NotRecordable

__all__ = ["Loss", "LossGradients", "with_graph"]

Loss = Callable[[Any, Tensor], Tensor]

_WHOLE_NUMBERS = "whole numbers have no gradient"
_NO_GRAPH = "it was computed without a graph, as by detach or no_grad"
_UNUSED = "the loss does not depend on it"


@dataclass
class LossGradients:
    """Tensors that modules returned in one forward pass, whose gradients are computed when the pass has ended.

    Each is remembered by its place in the graph, so that operations in place after the module do not matter.
    """

    loss: Loss
    _returned: list[tuple[LayerTensor, GradientEdge | None]] = field(default_factory=list)

    def remember(self, given: LayerTensor) -> None:
        """Remember a tensor that a module has just returned."""
        tensor, problem = given.tensor, given.problem
        if problem is None and not (tensor.is_floating_point() or tensor.is_complex()):
            problem = _WHOLE_NUMBERS
        elif problem is None and not tensor.requires_grad:
            problem = _NO_GRAPH
        edge = None if problem else get_gradient_edge(tensor)
        self._returned.append((replace(given, tensor=tensor.detach(), problem=problem), edge))

    def compute(self, output: Any, labels: Tensor) -> Iterator[LayerTensor]:
        """Yield the gradients, in the order in which the modules returned."""
        total = self._total(output, labels)
        edges = [edge for _, edge in self._returned if edge is not None]
        gradients = iter(torch.autograd.grad(total, edges, allow_unused=True) if edges else ())
        for given, edge in self._returned:
            gradient = None if edge is None else next(gradients)
            if gradient is not None:
                yield replace(given, tensor=gradient)
            else:
                yield replace(given, problem=given.problem or _UNUSED)

    def _total(self, output: Any, labels: Tensor) -> Tensor:
        """Return the loss, summed over the stimuli."""
        loss = self.loss(output, labels)
        if not isinstance(loss, Tensor):
            raise NotRecordable(f"The loss returned a {type(loss).__name__}; expected a tensor.")
        if loss.shape not in ((), (len(labels),)):
            raise NotRecordable(
                f"The loss returned a tensor of shape {tuple(loss.shape)} for {len(labels)} stimuli; expected one "
                "number per stimulus, or their sum."
            )
        if not loss.requires_grad:
            raise NotRecordable("The loss has no graph, so that it has no gradients; compute it from the output alone.")
        return loss.sum()


def with_graph(values: Tensor) -> Tensor:
    """Return values from which a graph starts, also in a frozen network, and which may be changed in place."""
    return values.requires_grad_().clone() if values.is_floating_point() else values
