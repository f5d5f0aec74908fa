"""Curl of a field: its distance from being the gradient of a function."""

from __future__ import annotations

import torch
from torch import Tensor

from repsim.learning.checks import check_integer
from repsim.learning.estimators import Estimator
from repsim.theory.implied_loss.module_field import Field, as_field, check_points, evaluate_field

__all__ = ["curl"]

_NUMBERS_AT_ONCE = 2**22  # in Jacobians: 32 MiB in float64


def curl(S: Field | Estimator, h: Tensor, y: Tensor, *, chunk_size: int | None = None) -> Tensor:
    """Return ‖J − Jᵀ‖ / ‖J + Jᵀ‖ (Frobenius norms) for J = ∂S/∂h: the deviation of S from the gradient of a function.

    A field is the gradient of a function around h only if J is symmetric there. If J is 0, the field is constant, the
    gradient of a linear function, and its curl is defined as 0. The curl does not measure how well S fits the true
    gradient. At a kink of a relu module J is the Jacobian of one side.

    Parameters
    ----------
    S : callable (h, y) -> Tensor, shape (N, d), or Estimator
        As in ``implied_loss``, and differentiable in h by autograd.
    h : float Tensor, shape (N, d)
    y : Tensor, shape (N,)
        Classes, or regression targets (N, n_outputs).
    chunk_size : int, optional
        Number of examples per pass; by default so many that their Jacobians hold 4 million numbers. Memory grows with
        chunk_size × d × (d, or the widest hidden layer of S).

    Returns
    -------
    Tensor, shape (N,)
        0 (the gradient of a function there; always so for d = 1) to infinity (J antisymmetric: a pure rotation).

    Raises
    ------
    ValueError
        If shapes or types of h, y and S are inconsistent; if the Jacobian is not finite; or if S depends on h in a way
        that autograd does not track.

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
    """Return ∂S_i/∂h_j of each example, (N, d, d), from gradients of sums over examples, which do not interact."""
    leaf = h.clone().requires_grad_()
    with torch.enable_grad():
        total = (S(leaf, y) + 0 * leaf).sum(dim=0)  # so that a constant S has the Jacobian 0
    slopes = [torch.autograd.grad(each, leaf, retain_graph=True)[0] for each in total.unbind()]
    J = torch.stack(slopes, dim=1).detach()
    if not J.isfinite().all():
        raise ValueError("The Jacobian of S is not finite at some h; expected finite derivatives. Remove those points.")
    return J


def _asymmetry(J: Tensor) -> Tensor:
    wide = J.double()  # so that squares of small derivatives do not underflow
    odd, even = ((wide + sign * wide.mT).flatten(1).norm(dim=1) for sign in (-1, 1))
    return torch.where(odd == 0, 0.0, odd / even).to(J.dtype)


def _refuse_hidden_slopes(S: Field, h: Tensor, y: Tensor) -> None:
    """Raise ValueError if S depends on h but its autograd graph does not, so that the Jacobian would wrongly be 0."""
    with torch.enable_grad():
        leaf = h[:1].clone().requires_grad_()
        out = S(leaf, y[:1])
        if out.requires_grad and torch.autograd.grad(out.sum(), leaf, allow_unused=True)[0] is not None:
            return
    if not torch.allclose(S(2 * h + 1, y), S(h, y), rtol=0, atol=0, equal_nan=True):
        raise ValueError(
            "S changes with h, but its autograd graph does not include h (S detaches h or runs under no_grad), so that "
            "the Jacobian is unknown. Compute S(h, y) with its graph to h."
        )
