"""Gradient descent with a line search, which accepts gradients with errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["LineSearch", "SearchedStep", "largest_error_ratio"]

_DECREASE = 0.25  # c; below 1/2, so that gradients within the condition are accepted for every δ
_HALVINGS = 30


def largest_error_ratio(delta: float) -> float:
    """Return (1 − δ) / (1 + δ), the largest ‖g − ∇f‖ / ‖∇f‖ with which descent along −g converges.

    Raises
    ------
    ValueError
        If δ is not between 0 and 1.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta!r}; expected a number between 0 and 1, both excluded.")
    return (1 - delta) / (1 + delta)


@dataclass(frozen=True)
class SearchedStep:
    """Result of one line search.

    Attributes
    ----------
    size : float
        Step size that was made; 0 if none was.
    reason : str
        Why no step was made: ``"gradient is zero"``, ``"no decrease"``, if the loss falls enough at no step size, or
        ``"error of the gradient"``, if it exceeds the condition. Empty if a step was made.
    error_ratio : float
        ‖g − ∇f‖ / ‖∇f‖; NaN if it was not measured.
    n_trials : int
        Number of losses that were computed after a trial step.
    """

    size: float
    reason: str = ""
    error_ratio: float = math.nan
    n_trials: int = 0


class LineSearch(torch.optim.Optimizer):
    """Gradient descent that halves each step until the loss falls enough, for gradients g that may differ from ∇f.

    A step θ − α g is made with the largest α of lr, lr / 2, lr / 4 … for which

        f(θ − α g) ≤ f(θ) − α ‖g‖² / 4,

    and none is made if the 31st still fails, so that f never grows (rounding errors aside). If f has a gradient with
    Lipschitz constant L, and ‖g − ∇f‖ ≤ ‖∇f‖ (1 − δ) / (1 + δ), then gᵀ∇f ≥ ‖g‖² (1 + δ) / 2, and every α up to
    (1/2 + δ) / L is accepted. The step is thus at least half of that (or lr), the decrease at least a fixed multiple of
    ‖∇f‖², and ∇f tends to zero from every start, with every lr, if f is bounded below. A search that fails although
    α has become small shows that the error exceeds the condition.

    If ``delta`` is given, the condition itself is checked first, with the true gradient, which takes another forward
    and backward pass: a group does not move while its margin, ‖∇f‖ (1 − δ) / (1 + δ) − ‖g − ∇f‖, is negative. Rules
    learn meanwhile.

    Parameters
    ----------
    params : iterable
        Parameters, or parameter groups.
    lr : float, default 1e-3
        Largest step size.
    delta : float, optional
        δ, between 0 and 1.

    Raises
    ------
    ValueError
        If δ is not between 0 and 1.

    References
    ----------
    Czarnecki et al. (2017), Understanding synthetic gradients and decoupled neural interfaces: the condition. The bound
    of gᵀ∇f follows from 2 gᵀ∇f = ‖g‖² + ‖∇f‖² − ‖g − ∇f‖².

    Examples
    --------
    >>> theta = torch.nn.Parameter(torch.tensor([3.0, -1.0]))
    >>> theta.grad = 2 * theta.detach()
    >>> LineSearch([theta], lr=4.0).search([lambda: float(theta.square().sum())])[0].size  # 4, 2 and 1 are too long
    0.5
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, delta: float | None = None) -> None:
        self.largest_error_ratio = None if delta is None else largest_error_ratio(delta)
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> Any:
        """Raise ValueError: a step needs the loss of every group, see ``search``."""
        raise ValueError(
            "LineSearch compares the losses of trial steps, for which `train` calls `search`. In a loop of your own "
            "call search(losses), or use an optimizer such as torch.optim.SGD."
        )

    @torch.no_grad()
    def search(
        self, losses: Sequence[Callable[[], float]], true_gradients: Sequence[Sequence[Tensor] | None] | None = None
    ) -> list[SearchedStep]:
        """Make a step of each group of parameters along their ``.grad``, and return the step sizes found.

        Parameters
        ----------
        losses : sequence of callable
            For each group, a function that returns the loss whose gradient its ``.grad`` approximates, at the present
            parameters and on the same examples, without side effects.
        true_gradients : sequence, optional
            For each group, the true gradient of each parameter, or None if ``.grad`` is exact. It is required if
            ``delta`` was given.

        Raises
        ------
        ValueError
            If there are not as many losses as groups, or true gradients are missing.
        """
        if len(losses) != len(self.param_groups):
            raise ValueError(f"There are {len(losses)} losses and {len(self.param_groups)} groups; expected one each.")
        if self.largest_error_ratio is None:
            true_gradients = [None] * len(losses)
        elif true_gradients is None:
            raise ValueError("delta was given, so that the condition is checked; give the true gradients.")
        return [
            self._step_of(group, loss, true)
            for group, loss, true in zip(self.param_groups, losses, true_gradients, strict=True)
        ]

    def _step_of(self, group: dict[str, Any], loss: Callable[[], float], true: Sequence[Tensor] | None) -> SearchedStep:
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in group["params"]]
        ratio = math.nan if true is None else _error_ratio(gradients, true)
        if self.largest_error_ratio is not None and ratio > self.largest_error_ratio:
            return SearchedStep(0.0, "error of the gradient", ratio)
        squared_norm = sum(float(g.double().square().sum()) for g in gradients)
        if squared_norm == 0:
            return SearchedStep(0.0, "gradient is zero", ratio)
        size, n_trials = _search(group["params"], gradients, squared_norm, group["lr"], loss)
        return SearchedStep(size, "" if size else "no decrease", ratio, n_trials)


def _error_ratio(gradients: Sequence[Tensor], true: Sequence[Tensor]) -> float:
    """Return ‖g − ∇f‖ / ‖∇f‖; infinite if only ∇f is 0, and 0 if both are 0."""
    error, norm = (
        math.sqrt(sum(float(each.double().square().sum()) for each in parts))
        for parts in ([g - t for g, t in zip(gradients, true, strict=True)], true)
    )
    if norm == 0:
        return 0.0 if error == 0 else math.inf
    return error / norm


def _search(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    squared_norm: float,
    largest: float,
    loss: Callable[[], float],
) -> tuple[float, int]:
    """Make the first step of ``largest``, a half of it … that lowers the loss enough; return it and their number."""
    start, before = [each.clone() for each in parameters], loss()
    rounding = 4 * torch.finfo(parameters[0].dtype).eps * abs(before)
    for halvings in range(_HALVINGS + 1):
        size = largest / 2**halvings
        for parameter, at, gradient in zip(parameters, start, gradients, strict=True):
            parameter.copy_(at - size * gradient)
        if loss() <= before - _DECREASE * size * squared_norm + rounding:
            return size, halvings + 1
    for parameter, at in zip(parameters, start, strict=True):
        parameter.copy_(at)
    return 0.0, _HALVINGS + 1
