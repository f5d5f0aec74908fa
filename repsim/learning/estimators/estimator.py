"""Base class of gradient estimators: the protocol behind all learning rules."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Generator, Tensor, nn

from repsim.learning.networks.true_gradient import apply_without_side_effects
from repsim.settings import Settings

__all__ = ["LOCKS", "Estimator", "RuleOptions", "Signals", "Site", "locks"]


@dataclass(frozen=True)
class Site:
    """The place of an estimator in a network: boundary k, between segments k and k + 1.

    Attributes
    ----------
    shape : tuple of int
        Shape of one example's h_k: (width,) or (channels, height, width).
    n_outputs : int
        Number of outputs of the network: classes, or regression targets.
    boundary : int
        Number k of the boundary.
    above : nn.Module, optional
        Segment k + 1.
    shape_above : tuple of int
        Shape of one example's h_{k+1}; empty if segment k + 1 is the output segment.
    loss : str
        Loss of the network, a key of ``LOSSES``.
    seed : int
        Seed of the run.
    n_above : int
        Number of segments above the boundary, 1 or more.
    n_features : int, optional
        Number of values of one example of the network's input, where it is known.
    has_labels : bool
        Whether an example at the boundary has a label; the state between two windows of a sequence has none.
    """

    shape: tuple[int, ...]
    n_outputs: int
    boundary: int = 1
    above: nn.Module | None = None
    shape_above: tuple[int, ...] = ()
    loss: str = "log_loss"
    seed: int = 0
    n_above: int = 1
    n_features: int | None = None
    has_labels: bool = True

    @property
    def size(self) -> int:
        """The number of units of h_k."""
        return math.prod(self.shape)

    @property
    def is_last(self) -> bool:
        """Whether segment k + 1 is the output segment."""
        return not self.shape_above


@dataclass(frozen=True)
class Signals:
    """The tensors available at one boundary during one step, all detached.

    Shapes may have leading axes (*lead) of networks, or boundaries, that are computed together. While an estimator
    chooses its gradient, optional signals that it does not list in ``needs`` are None.

    Attributes
    ----------
    activation : Tensor, shape (*lead, N, *shape)
        h_k, the output of the segment below the boundary.
    labels : Tensor, optional
        Class of each example, int64 (*lead, N), or its regression targets (*lead, N, n_outputs).
    target : Tensor, optional, shape of the activation
        t_k, the gradient that the segment above passes down, per example (N · ∂L/∂h_k for a mean loss L).
    error : Tensor, optional, shape (*lead, N, n_outputs)
        e, the gradient of the loss with respect to the output, per example.
    influence : Tensor, optional, shape of the activation
        Pull-back of a vector of ones through segment k + 1.
    activation_above : Tensor, optional, shape (*lead, N, *shape_above)
        h_{k+1}.
    gradient_above : Tensor, optional, shape of ``activation_above``
        g_{k+1}, the gradient chosen at the boundary above.
    true_gradient : Tensor, optional, shape of the activation
        N · ∂L/∂h_k by exact backprop through all segments above, whatever rules act there; it takes another forward and
        backward pass.
    segment_above : callable, optional
        Segment k + 1 as a function of h_k, without a graph and without changing running statistics.
    again : Tensor, optional, shape (*lead, M · N, *shape)
        h'_k, the output of segment k in the second forward pass of a rule that learns in one.
    """

    activation: Tensor
    labels: Tensor | None = None
    target: Tensor | None = None
    error: Tensor | None = None
    influence: Tensor | None = None
    activation_above: Tensor | None = None
    gradient_above: Tensor | None = None
    true_gradient: Tensor | None = None
    segment_above: Callable[[Tensor], Tensor] | None = None
    again: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class RuleOptions(Settings):
    """Base class of the options of a rule: a frozen dataclass whose fields are made by ``repsim.settings.setting``."""


class Estimator(nn.Module, ABC):
    """Base class of estimators, which choose the vector g_k used in place of the gradient N · ∂L/∂h_k at a boundary.

    Subclasses list in ``needs`` the fields of ``Signals`` that ``gradient`` reads; locks follow from this declaration.
    Quantities that learn are parameters, and random but fixed quantities are buffers, so that both are saved with the
    network. All methods treat the axes before those of one example as batch axes, so that estimators can be stacked
    (see ``stack``).

    If ``learns_again`` is True, the segments below the boundary learn in a second forward pass: ``inputs_again`` gives
    its input, and ``gradient`` returns the gradient at h'_k, the signal ``again``. The pass may hold the N examples of
    the batch M times in a row; the first N rows of the gradient are g_k. Boundaries with the same rule share a pass,
    whose input is that of the lowest of them.

    Parameters
    ----------
    site : Site
        Place of the estimator in the network.
    generator : torch.Generator, optional
        Source of random initial values.
    **options
        Fields of the class's ``Options``.

    Raises
    ------
    ValueError
        If an option is out of range, or if the rule cannot be used at this site.
    TypeError
        If an option is unknown.
    """

    formula: ClassVar[str]  # formula of g_k in the table of rules
    learns: ClassVar[str] = "-"  # additional quantities that learn, with their loss
    reference: ClassVar[str]
    Options: ClassVar[type[RuleOptions]] = RuleOptions
    places: ClassVar[str] = "all"  # default boundaries, see ``choose_boundaries``
    needs: frozenset[str]
    stacks_by_parts = True
    regresses = False  # True if the loss is a function of g_k − t_k, given by ``loss_of_residual``
    learns_alone = False  # True if ``loss`` does not use the target
    passes_target_unchanged = False  # True if g_k = t_k, so that the chain need not be cut
    learns_again = False  # True if the segments below learn in a second forward pass

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__()
        self.site = replace(site, above=None)  # an estimator does not hold modules of the network
        self.options: Any = self.Options(**options)

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Reset ``regresses`` in subclasses that define their own loss, so that it is used."""
        super().__init_subclass__(**keywords)
        if "loss" in vars(cls) and "regresses" not in vars(cls):
            cls.regresses = False

    @abstractmethod
    def gradient(self, signals: Signals) -> Tensor:
        """Return g_k, shape (*lead, N, *shape), without a graph except to this estimator's own parameters."""

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor | None:
        """Return the loss that this estimator minimises for its proposal, shape (*lead), or None if it has no loss."""
        return None

    def loss_of_residual(self, residual: Tensor, signals: Signals) -> Tensor:
        """Return ``loss`` as a function of g_k − t_k; only called if ``regresses`` is True."""
        raise NotImplementedError

    def through(self, segment: nn.Module, X: Tensor) -> Tensor:
        """Return segment(X); rules that change the backward pass through segment k + 1 override this method."""
        return segment(X)

    def feedback_pairs(self, above: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Return the weights of the backward pass through segment k + 1, each with the weight that it replaces."""
        return []

    def check_segment(self, segment: nn.Module) -> None:
        """Raise ValueError if segment k cannot learn by this rule; only rules that train its parts override this."""

    def inputs_again(self, X: Tensor, labels: Tensor | None, error: Tensor | None) -> Tensor:
        """Return the input (*lead, M · N, ...) of the second pass for that of the first, X (*lead, N, ...)."""
        raise NotImplementedError

    def run_again(self, segment: nn.Module, X: Tensor) -> Tensor:
        """Return segment k of X in the second pass, without changing its running statistics."""
        return apply_without_side_effects(segment, X)

    def proposal(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the gradient to which ``loss`` and diagnoses refer: g_k itself, unless the rule is only observed."""
        return gradient


LOCKS = {
    "error": frozenset({"update"}),
    "influence": frozenset({"update"}),
    "activation_above": frozenset({"update"}),
    "target": frozenset({"update", "backward"}),
    "gradient_above": frozenset({"update", "backward"}),
    "true_gradient": frozenset({"update", "backward"}),
}


def locks(estimator: Estimator) -> frozenset[str]:
    """Return the locks of a segment below this estimator, derived from the signals that the estimator needs.

    A segment is *update locked* if it can learn only after the segments above have run, and *backward locked* if it
    must also wait for their backward pass. All rules are forward locked, which is not listed.

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
