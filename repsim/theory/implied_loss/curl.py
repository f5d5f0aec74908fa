"""Whether a field is the gradient of anything: its curl."""

from __future__ import annotations

import torch
from torch import Tensor

from repsim.learning.checks import check_integer
from repsim.learning.estimators import Estimator
from repsim.theory.implied_loss.module_field import Field, as_field, check_points, evaluate_field

__all__ = ["curl"]

_NUMBERS_AT_ONCE = 2**22  # in Jacobians: 32 MiB in float64


def curl(S: Field | Estimator, h: Tensor, y: Tensor, *, chunk_size: int | None = None) -> Tensor:
    """Measure how far S is from being the gradient of anything: ‖J − Jᵀ‖ / ‖J + Jᵀ‖ for J = ∂S/∂h, Frobenius norms.

    A field is the gradient of a function around h only if J is symmetric there. Where J is 0 the field is constant,
    which is the gradient of a linear function: its curl is 0, not undefined. It says nothing of how well S fits the
    true gradient. At a kink of a relu module J is that of one side.

    Parameters
    ----------
    S : callable (h, y) -> Tensor, shape (N, d), or Estimator
        As in ``implied_loss``, and differentiable in h by autograd.
    h : float Tensor, shape (N, d)
    y : Tensor, shape (N,)
        Classes, or regression targets (N, n_outputs).
    chunk_size : int, optional
        Examples at a time; by default as many as have Jacobians of 4 million numbers in all. Memory grows with
        chunk_size × d × (d, or the widest hidden layer of S).

    Returns
    -------
    Tensor, shape (N,)
        0 (the gradient of a function there; always so for d = 1) to infinity (J antisymmetric: a pure rotation).

    Raises
    ------
    ValueError
        If shapes or types do not fit, the Jacobian is not finite, or S changes with h in a way that autograd does not
        see.

    Examples
    --------
    >>> h, y = torch.ones(1, 2), torch.tensor([0])
    >>> curl(lambda h, y: torch.stack([h[:, 0] - h[:, 1], h[:, 0] + h[:, 1]], dim=1), h, y)
    tensor([1.])
    """
    h, _ = check_points(h, y)
    if chunk_size is None:
        chunk_size = max(1, _NUMBERS_AT_ONCE // h.shape[1] ** 2)
    check_integer("chunk_size", chunk_size, 1)
    S = as_field(S)
    evaluate_field(S, h, y)  # for its checks
    _refuse_hidden_slopes(S, h, y)
    chunks = zip(h.split(chunk_size), y.split(chunk_size), strict=True)
    return torch.cat([_asymmetry(_jacobians(S, *chunk)) for chunk in chunks])


def _jacobians(S: Field, h: Tensor, y: Tensor) -> Tensor:
    """Return ∂S_i/∂h_j of each example, (N, d, d): as examples do not mix, that of the sum over them holds all."""
    leaf = h.clone().requires_grad_()
    with torch.enable_grad():
        total = (S(leaf, y) + 0 * leaf).sum(dim=0)  # a constant S has slopes too: 0
    slopes = [torch.autograd.grad(each, leaf, retain_graph=True)[0] for each in total.unbind()]
    J = torch.stack(slopes, dim=1).detach()
    if not J.isfinite().all():
        raise ValueError(
            "The Jacobian of S is not finite at some h; expected a slope everywhere. Leave those points out."
        )
    return J


def _asymmetry(J: Tensor) -> Tensor:
    wide = J.double()  # in which squares of small slopes are not 0
    odd, even = ((wide + sign * wide.mT).flatten(1).norm(dim=1) for sign in (-1, 1))
    return torch.where(odd == 0, 0.0, odd / even).to(J.dtype)


def _refuse_hidden_slopes(S: Field, h: Tensor, y: Tensor) -> None:
    """Raise ValueError if S depends on h but its graph does not, so that the Jacobian would be 0 for no reason."""
    with torch.enable_grad():
        leaf = h[:1].clone().requires_grad_()
        out = S(leaf, y[:1])
        if out.requires_grad and torch.autograd.grad(out.sum(), leaf, allow_unused=True)[0] is not None:
            return
    if not torch.allclose(S(2 * h + 1, y), S(h, y), rtol=0, atol=0, equal_nan=True):
        raise ValueError(
            "S changes with h, but autograd sees no dependence (it detaches h or runs under no_grad), so that its "
            "Jacobian is not known. Compute S(h, y) with its graph to h."
        )
