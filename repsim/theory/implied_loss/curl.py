"""Curl of a field, over all units or in the directions of the data: its distance from being a gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from repsim.learning.checks import check_integer
from repsim.learning.estimators import Estimator
from repsim.theory.implied_loss.module_field import (
    Field,
    as_field,
    check_activations,
    check_points,
    evaluate_field,
)

__all__ = ["curl", "data_directions"]

_NUMBERS_AT_ONCE = 2**22  # in Jacobians: 32 MiB in float64
_ROUNDING = 1e-9  # of a share of variance


def curl(
    S: Field | Estimator, h: Tensor, y: Tensor, *, directions: Tensor | None = None, chunk_size: int | None = None
) -> Tensor:
    """Return ‖J − Jᵀ‖ / ‖J + Jᵀ‖ (Frobenius norms) for J = ∂S/∂h: the deviation of S from the gradient of a function.

    A field is the gradient of a function around h only if J is symmetric there. A curl of c means that c² / (1 + c²) of
    ‖J‖² is antisymmetric. If J is 0, the field is constant, the gradient of a linear function, and its curl is defined
    as 0. The curl does not measure how well S fits the true gradient. At a kink of a relu module J is the Jacobian of
    one side.

    Over all units the curl also counts directions in which activations never vary, where a learned S is arbitrary.
    Integrals between activations depend only on the directions of the data: with ``directions`` B the Jacobian is
    Bᵀ J B, that of the field over coordinates z of h + B z. See ``data_directions``.

    Parameters
    ----------
    S : callable (h, y) -> Tensor, shape (N, d), or Estimator
        As in ``implied_loss``, and differentiable in h by autograd.
    h : float Tensor, shape (N, d)
    y : Tensor, shape (N,)
        Classes, or regression targets (N, n_outputs).
    directions : Tensor, shape (d, k), optional
        Columns B. Orthonormal columns restrict the curl to a subspace. A root of the covariance C of activations
        weights it: ‖C^½ (J − Jᵀ) C^½‖ / ‖C^½ (J + Jᵀ) C^½‖. All units by default.
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
        If shapes or types of h, y, S and directions are inconsistent; if the Jacobian is not finite; or if S depends on
        h in a way that autograd does not track.

    Examples
    --------
    >>> h, y = torch.ones(1, 2), torch.tensor([0])
    >>> curl(lambda h, y: torch.stack([h[:, 0] - h[:, 1], h[:, 0] + h[:, 1]], dim=1), h, y)
    tensor([1.])
    """
    h, _ = check_points(h, y)
    if directions is not None:
        _check_directions(directions, h)
    if chunk_size is None:
        chunk_size = max(1, _NUMBERS_AT_ONCE // h.shape[1] ** 2)
    check_integer("chunk_size", chunk_size, 1)
    S = as_field(S)
    evaluate_field(S, h, y)  # for its checks
    _refuse_hidden_slopes(S, h, y)
    chunks = zip(h.split(chunk_size), y.split(chunk_size), strict=True)
    return torch.cat([_asymmetry(_jacobians(S, *chunk, directions)) for chunk in chunks])


@torch.no_grad()
def data_directions(h: Tensor, *, share: float = 1.0, weighted: bool = False) -> Tensor:
    """Return the directions in which activations vary, for ``curl``: their principal axes.

    Parameters
    ----------
    h : float Tensor, shape (N, d)
        Activations that occur in the network, two or more; they are centred.
    share : float, default 1
        The axes returned are the fewest that hold this share of the variance, above 0 to 1. Axes without variance are
        left out.
    weighted : bool, default False
        Whether to scale each axis by the standard deviation along it. With ``share=1`` the result B is then a root of
        the covariance, B Bᵀ = C.

    Returns
    -------
    Tensor, shape (d, k)
        Orthonormal columns, or weighted ones, by descending variance.

    Raises
    ------
    ValueError
        If h has fewer than two examples, does not vary or is not finite, or if the share is out of range.

    Examples
    --------
    >>> h = torch.tensor([[2.0, 0.0, 5.0], [-2.0, 0.0, 5.0], [0.0, 1.0, 5.0], [0.0, -1.0, 5.0]])
    >>> data_directions(h).shape, data_directions(h, share=0.8).abs().flatten().tolist()
    (torch.Size([3, 2]), [1.0, 0.0, 0.0])
    """
    check_activations(h)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(f"share is {share!r}; expected a number above 0 and at most 1.")
    centred = h.double() - h.double().mean(dim=0)
    if len(h) < 2 or not 0 < float(centred.square().sum()) < math.inf:
        what = "holds 1 example" if len(h) == 1 else "does not vary, or is not finite"
        raise ValueError(f"h {what}; expected two or more different finite activations. Pass those of a batch.")
    _, scale, axes = torch.linalg.svd(centred, full_matrices=False)
    scale = scale[scale > scale[0] * max(h.shape) * torch.finfo(h.dtype).eps]
    variance = scale.square() / (len(h) - 1)
    n_axes = int((variance.cumsum(0) < share * variance.sum() * (1 - _ROUNDING)).sum()) + 1
    B = axes[:n_axes].mT * (variance[:n_axes].sqrt() if weighted else 1.0)
    return B.to(h.dtype)


def _check_directions(directions: Tensor, h: Tensor) -> None:
    is_matrix = directions.ndim == 2 and directions.shape[1] > 0
    if not is_matrix or len(directions) != h.shape[1] or directions.dtype != h.dtype:
        raise ValueError(
            f"directions has shape {tuple(directions.shape)} of {directions.dtype}; expected ({h.shape[1]}, k) of "
            f"{h.dtype}, one column per direction. Compute them from activations with data_directions."
        )


def _jacobians(S: Field, h: Tensor, y: Tensor, directions: Tensor | None) -> Tensor:
    """Return Bᵀ J B of each example, (N, k, k), from gradients of sums over examples, which do not interact."""
    leaf = h.clone().requires_grad_()
    with torch.enable_grad():
        total = (S(leaf, y) + 0 * leaf).sum(dim=0)  # so that a constant S has the Jacobian 0
        total = total if directions is None else total @ directions
    slopes = [torch.autograd.grad(each, leaf, retain_graph=True)[0] for each in total.unbind()]
    J = torch.stack(slopes, dim=1).detach()
    J = J if directions is None else J @ directions
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
