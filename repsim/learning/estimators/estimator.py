"""What every gradient estimator promises: the one protocol behind all learning rules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LOCKS", "Estimator", "Signals", "locks"]


@dataclass(frozen=True)
class Signals:
    """What is known at one boundary during one step; every tensor is detached.

    Attributes
    ----------
    activation : Tensor, shape (N, d)
        h_k, the output of the segment below the boundary.
    labels : Tensor of int64, shape (N,)
        Class of each example.
    target : Tensor, shape (N, d), or None
        t_k, the gradient that the segment above passes down, per example (N · ∂L/∂h_k for a mean loss L). None while
        an estimator that does not need it is asked for a gradient.
    """

    activation: Tensor
    labels: Tensor
    target: Tensor | None = None


class Estimator(nn.Module, ABC):
    """Chooses, at one boundary, the vector g_k that stands in for the per-example gradient N · ∂L/∂h_k.

    Subclasses declare what ``gradient`` reads as names of ``Signals`` fields in ``needs``; locks follow from that.
    What learns, or is random but fixed, is a parameter or a buffer, so that it is saved with the network.
    """

    needs: frozenset[str]
    passes_target_unchanged = False  # True only where g_k = t_k, so that the chain need not be cut at the boundary

    @classmethod
    def build(cls, width: int, n_classes: int, *, options: Mapping[str, Any], generator: torch.Generator) -> Estimator:
        """Return an estimator for a boundary of ``width`` units; a rule without options needs no more than this."""
        return cls()

    @abstractmethod
    def gradient(self, signals: Signals) -> Tensor:
        """Return g_k, shape (N, d). It may hold a graph to this estimator's parameters, never to the network's."""

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor | None:
        """Return the scalar that this estimator minimises given its own ``gradient``, or None if nothing learns."""
        return None


LOCKS = {"target": frozenset({"update", "backward"})}


def locks(estimator: Estimator) -> frozenset[str]:
    """Return which locks a segment is under when this estimator stands above it, derived from what it needs.

    A segment is *update locked* if it must wait for its successor before it can learn, and *backward locked* if it
    must wait for a whole backward pass. Every rule here is forward locked; that one is not listed.

    Returns
    -------
    frozenset of str
        A subset of ``{"update", "backward"}``.

    References
    ----------
    Jaderberg et al. (2017), Decoupled neural interfaces using synthetic gradients, section 1.

    Examples
    --------
    >>> from repsim.learning import Backprop
    >>> sorted(locks(Backprop()))
    ['backward', 'update']
    """
    return frozenset[str]().union(*(LOCKS.get(need, frozenset()) for need in estimator.needs))
