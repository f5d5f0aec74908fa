"""What every gradient estimator promises: the one protocol behind all learning rules."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Generator, Tensor, nn

__all__ = ["LOCKS", "Estimator", "RuleOptions", "Signals", "Site", "locks", "option"]


@dataclass(frozen=True)
class Site:
    """The place in a network where an estimator stands: boundary k, between segments k and k + 1.

    Attributes
    ----------
    shape : tuple of int
        Of one example's h_k: (width,) or (channels, height, width).
    n_outputs : int
        Of the network: the number of classes, or of regression targets.
    boundary : int
        k.
    above : nn.Module, optional
        Segment k + 1.
    shape_above : tuple of int
        Of one example's h_{k+1}; empty if segment k + 1 is the output.
    loss : str
        A key of ``LOSSES``: that of the network.
    seed : int
        The run's.
    """

    shape: tuple[int, ...]
    n_outputs: int
    boundary: int = 1
    above: nn.Module | None = None
    shape_above: tuple[int, ...] = ()
    loss: str = "log_loss"
    seed: int = 0

    @property
    def size(self) -> int:
        """The number of units of h_k."""
        return math.prod(self.shape)

    @property
    def is_last(self) -> bool:
        """Whether segment k + 1 is the output."""
        return not self.shape_above


@dataclass(frozen=True)
class Signals:
    """What is known at one boundary during one step; every tensor is detached.

    Shapes may have leading axes (*lead) for networks, or boundaries, that are computed as one.

    Attributes
    ----------
    activation : Tensor, shape (*lead, N, *shape)
        h_k, the output of the segment below the boundary.
    labels : Tensor, optional
        Class of each example, int64 (*lead, N), or its regression targets (*lead, N, n_outputs).
    target : Tensor, optional, shape of the activation
        t_k, the gradient that the segment above passes down, per example (N · ∂L/∂h_k for a mean loss L). None while
        an estimator that does not need it is asked for a gradient. The same holds for all below.
    error : Tensor, optional, shape (*lead, N, n_outputs)
        e, the gradient of the loss with respect to the output, per example.
    influence : Tensor, optional, shape of the activation
        The pull-back of a vector of ones through segment k + 1.
    activation_above : Tensor, optional, shape (*lead, N, *shape_above)
        h_{k+1}.
    gradient_above : Tensor, optional, shape of ``activation_above``
        g_{k+1}, chosen at the boundary above.
    segment_above : callable, optional
        Segment k + 1 as a function of h_k, which changes no running statistics and holds no graph.
    """

    activation: Tensor
    labels: Tensor | None = None
    target: Tensor | None = None
    error: Tensor | None = None
    influence: Tensor | None = None
    activation_above: Tensor | None = None
    gradient_above: Tensor | None = None
    segment_above: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """The options of a rule, checked once, here, and each made by ``option``; a rule that has none uses this class."""


def option(default: Any, meaning: str) -> Any:
    """Return a field of ``RuleOptions``, with what it means as people read it in ``repsim rules NAME``."""
    return field(default=default, metadata={"meaning": meaning})


class Estimator(nn.Module, ABC):
    """Chooses, at one boundary, the vector g_k that stands in for the per-example gradient N · ∂L/∂h_k.

    Subclasses declare what ``gradient`` reads as names of ``Signals`` fields in ``needs``; locks follow from that.
    What learns, or is random but fixed, is a parameter or a buffer, so that it is saved with the network. Every method
    treats axes before those of one example as a batch, so that estimators can be stacked (``stacking.stack``).

    Parameters
    ----------
    site : Site
        Where it stands.
    generator : torch.Generator, optional
        Source of what is drawn at the start.
    **options
        Fields of the class's ``Options``.

    Raises
    ------
    ValueError
        If an option is out of range, or the rule cannot serve this place.
    TypeError
        If an option is unknown.
    """

    formula: ClassVar[str]  # of g_k, as the table of rules shows it
    learns: ClassVar[str] = "-"  # what else learns
    reference: ClassVar[str]
    Options: ClassVar[type[RuleOptions]] = RuleOptions
    places: ClassVar[str] = "all"  # where it acts if nobody says where, see ``choose_boundaries``
    needs: frozenset[str]
    stacks_by_parts = True
    regresses = False  # True where the loss is that of g_k − t_k: ``loss_of_residual``
    learns_alone = False  # True where what ``loss`` is of does not hold the target
    passes_target_unchanged = False  # True only where g_k = t_k, so that the chain need not be cut at the boundary

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__()
        self.site = replace(site, above=None)  # an estimator holds nothing of the network
        self.options: Any = self.Options(**options)

    def __init_subclass__(cls, **keywords: Any) -> None:
        """See to it that a class with a loss of its own is asked for it, rather than for one that it inherits."""
        super().__init_subclass__(**keywords)
        if "loss" in vars(cls) and "regresses" not in vars(cls):
            cls.regresses = False

    @abstractmethod
    def gradient(self, signals: Signals) -> Tensor:
        """Return g_k, shape (*lead, N, *shape); it may hold a graph to this estimator's parameters alone."""

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor | None:
        """Return what this estimator minimises given its own ``proposal``, shape (*lead), or None if nothing learns."""
        return None

    def loss_of_residual(self, residual: Tensor, signals: Signals) -> Tensor:
        """Return ``loss`` given g_k − t_k in place of both; only for rules that regress."""
        raise NotImplementedError

    def through(self, segment: nn.Module, X: Tensor) -> Tensor:
        """Return segment k + 1 of X; a rule that changes the way back through the segment does so here."""
        return segment(X)

    def proposal(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the gradient whose error is reported, once a step: the one in use, unless a rule is only watched."""
        return gradient


LOCKS = {
    "error": frozenset({"update"}),
    "influence": frozenset({"update"}),
    "activation_above": frozenset({"update"}),
    "target": frozenset({"update", "backward"}),
    "gradient_above": frozenset({"update", "backward"}),
}


def locks(estimator: Estimator) -> frozenset[str]:
    """Return which locks a segment is under when this estimator stands above it, derived from what it needs.

    A segment is *update locked* if it must wait for its successors to run before it can learn, and *backward locked*
    if it must also wait for a backward pass. Every rule here is forward locked; that one is not listed.

    Returns
    -------
    frozenset of str
        A subset of ``{"update", "backward"}``.

    References
    ----------
    Jaderberg et al. (2017), Decoupled neural interfaces using synthetic gradients, section 1.

    Examples
    --------
    >>> from repsim.learning import Backprop, Site
    >>> sorted(locks(Backprop(Site((3,), 2))))
    ['backward', 'update']
    """
    return frozenset[str]().union(*(LOCKS.get(need, frozenset()) for need in estimator.needs))
