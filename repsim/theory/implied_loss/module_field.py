"""The module of an estimator as a field of gradients over activations, and checks of its arguments."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from repsim.learning.estimators import Estimator, Observed, Signals, SyntheticGradient

__all__ = [
    "Field",
    "anchor_of",
    "as_field",
    "check_activations",
    "check_points",
    "evaluate_field",
    "module_of",
    "rows_of",
]

Field = Callable[[Tensor, Tensor], Tensor]  # S: (N, d), labels -> (N, d), row by row


def module_of(estimator: Estimator) -> Field:
    """Return the field S of an estimator: (h, y) -> g_k, for h (N, d), with its graph to h if the rule has one.

    For all kinds of synthetic gradients (including SG + prop, BP(λ) and observed rules) S is the module, not the
    gradient that the rule computes from it. Feature maps are flattened: d is channels × height × width.

    Parameters
    ----------
    estimator : Estimator
        Estimator of one boundary, whose gradient depends only on activation and label.

    Returns
    -------
    callable
        S. It raises ValueError if the width or type of h differs from that of the estimator.

    Raises
    ------
    ValueError
        If the estimator needs other signals, draws random numbers, or is a stack.

    Examples
    --------
    >>> from repsim.learning import Site
    >>> S = module_of(SyntheticGradient(Site((3,), 2)))
    >>> S(torch.ones(1, 3), torch.tensor([1])).shape
    torch.Size([1, 3])
    """
    if isinstance(estimator, Observed):
        estimator = estimator.watched
    choose = _rule(estimator)
    where = f"{type(estimator).__name__} at boundary {estimator.site.boundary}"

    def S(h: Tensor, y: Tensor) -> Tensor:
        rows = rows_of(h, estimator.site.shape, estimator, where)
        return choose(Signals(rows, y)).flatten(1)

    return S


def _rule(estimator: Estimator) -> Callable[[Signals], Tensor]:
    if isinstance(estimator, SyntheticGradient):
        if not isinstance(estimator.layers[0], nn.Linear | nn.Conv2d):
            raise ValueError(
                f"This {type(estimator).__name__} is a stack of several; expected the estimator of one boundary and "
                "seed. Build the learner with together=False, or load unstack(estimator.state_dict(), i) into a new "
                "estimator."
            )
        return estimator.traced  # gradient() of a linear module keeps no graph to h
    others = estimator.needs - {"activation", "labels"}
    if others or not estimator.needs:
        reads = f"from {', '.join(sorted(others))}" if others else "at random"
        raise ValueError(
            f"{type(estimator).__name__} chooses its gradient {reads}, which implies no loss as a function of h and y. "
            "Pass an estimator that needs only activation and labels, such as SyntheticGradient."
        )
    return estimator.gradient


def as_field(S: Field | Estimator) -> Field:
    """Return a field unchanged, or the module of an estimator as a field."""
    return module_of(S) if isinstance(S, Estimator) else S


def evaluate_field(S: Field, h: Tensor, y: Tensor) -> Tensor:
    """Return S(h, y) without its graph, after checking its shape, type and finiteness."""
    slopes = S(h, y).detach()
    if slopes.shape != h.shape or slopes.dtype != h.dtype:
        raise ValueError(
            f"S returned shape {tuple(slopes.shape)} of {slopes.dtype} for h of shape {tuple(h.shape)} of {h.dtype}; "
            "expected the shape and type of h. Return one gradient per example."
        )
    if not slopes.isfinite().all():
        raise ValueError(
            "S is not finite at some points between the anchor and h; expected finite gradients. Check whether the "
            "training diverged, or choose an anchor inside the domain of S."
        )
    return slopes


def check_points(h: Tensor, y: Tensor, anchor: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Return h and the anchor of each example, both (N, d) and without graphs, after checking h, y and the anchor."""
    check_activations(h)
    if y.ndim not in (1, 2) or len(y) != len(h):
        raise ValueError(
            f"h has {len(h)} examples and y has shape {tuple(y.shape)}; expected classes ({len(h)},) or regression "
            f"targets ({len(h)}, n_outputs). Pass one label per point."
        )
    return h.detach(), anchor_of(anchor, h)


def check_activations(h: Tensor) -> None:
    """Raise ValueError unless h holds floats (N, d)."""
    if h.ndim != 2 or not h.numel() or not h.is_floating_point():
        raise ValueError(
            f"h has shape {tuple(h.shape)} of {h.dtype}; expected floats (N, d) with N and d above 0. Flatten feature "
            "maps with h.flatten(1)."
        )


def anchor_of(anchor: Tensor | float, h: Tensor) -> Tensor:
    """Return the anchor of each example, (N, d), after checking its shape."""
    start = torch.as_tensor(anchor, dtype=h.dtype, device=h.device).detach()
    if start.shape not in {(), h.shape[1:], h.shape}:
        n, d = h.shape
        raise ValueError(
            f"anchor has shape {tuple(start.shape)}; expected a number, {(d,)} or {(n, d)}, for h of shape {(n, d)}."
        )
    return start.expand_as(h)


def rows_of(h: Tensor, shape: tuple[int, ...], module: nn.Module, where: str) -> Tensor:
    """Return h (N, d) reshaped to (N, *shape), after checking that a module accepts its width and type."""
    if h.shape[1] != math.prod(shape):
        raise ValueError(f"h has {h.shape[1]} units; {where} takes {math.prod(shape)}, for examples of shape {shape}.")
    dtypes = {tensor.dtype for tensor in module.state_dict().values() if tensor.is_floating_point()}
    if dtypes and dtypes != {h.dtype}:
        raise ValueError(
            f"h is {h.dtype} and {where} {', '.join(sorted(map(str, dtypes)))}; expected equal types. Convert h, or a "
            "copy of the module: copy.deepcopy(module).double()."
        )
    return h.unflatten(1, shape)
