"""Least squares fit of a quadratic function to the values of a loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from repsim.theory.implied_loss.module_field import check_activations
from repsim.theory.implied_loss.values import about_means, check_values

__all__ = ["QuadraticFit", "quadratic_fit"]


@dataclass(frozen=True, eq=False)
class QuadraticFit:
    """A quadratic function c + b · h + ½ hᵀ A h fitted to values at points h.

    Attributes
    ----------
    constant : Tensor, shape ()
        c.
    linear : Tensor, shape (d,)
        b.
    quadratic : Tensor, shape (d, d)
        A, symmetric.
    relative_residual : float
        Norm of the residuals divided by the norm of the values minus their mean, 0 to 1; 0 for constant values.
    rank : int
        Rank of the fit, at most 1 + d + d (d + 1) / 2. If it is less, the points (for example with inactive units, or
        on a line) do not determine all coefficients, and the solution of least norm for standardised h is returned.
    """

    constant: Tensor
    linear: Tensor
    quadratic: Tensor
    relative_residual: float
    rank: int

    def __call__(self, h: Tensor) -> Tensor:
        """Return the values of the quadratic at points h (N, d), shape (N,)."""
        return self.constant + h @ self.linear + ((h @ self.quadratic) * h).sum(dim=-1) / 2


def quadratic_fit(values: Tensor, h: Tensor) -> QuadraticFit:
    """Fit a full quadratic to a loss surface by least squares.

    The implied loss of a linear synthetic gradient is a quadratic for each label, with residuals of rounding size.

    Parameters
    ----------
    values : Tensor, shape (N,)
        Values of the loss at the points, for one label.
    h : Tensor, shape (N, d)
        Points; more than the number of coefficients, 1 + d + d (d + 1) / 2.

    Returns
    -------
    QuadraticFit
        The fit, computed in float64, with tensors in the type of h.

    Raises
    ------
    ValueError
        If shapes or types of values and h are inconsistent, if values are not finite, or if there are too few points.

    Examples
    --------
    >>> h = torch.linspace(-1, 1, 9)[:, None]
    >>> fit = quadratic_fit(3 * h[:, 0] ** 2 + 1, h)
    >>> round(float(fit.quadratic), 4), fit.rank, fit.relative_residual < 1e-6
    (6.0, 3, True)
    """
    check_activations(h)
    check_values(values, len(h), "values")
    mean, scale = h.double().mean(dim=0), h.double().std(dim=0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    features = _monomials((h.double() - mean) / scale)
    if len(h) <= features.shape[1]:
        raise ValueError(
            f"There are {len(h)} points for {features.shape[1]} coefficients of a quadratic in {h.shape[1]} units, "
            f"which fit any values exactly. Pass {features.shape[1] + 1} points or more."
        )
    target = values.double()[:, None]
    solved = torch.linalg.lstsq(features.cpu(), target.cpu(), driver="gelsd")
    solution = solved.solution.to(h.device)
    left, spread = (target - features @ solution).norm(), about_means(values).norm()
    c, b, A = (each.to(h.dtype) for each in _unstandardised(solution[:, 0], mean, scale))
    return QuadraticFit(c, b, A, float(left / spread) if spread > 0 else 0.0, int(solved.rank))


def _monomials(z: Tensor) -> Tensor:
    """Return 1, z_i and z_i z_j for i ≤ j, shape (N, 1 + d + d (d + 1) / 2)."""
    i, j = torch.triu_indices(z.shape[1], z.shape[1], device=z.device)
    return torch.cat([torch.ones_like(z[:, :1]), z, z[:, i] * z[:, j]], dim=1)


def _unstandardised(solution: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return c, b and A for h, given the coefficients of the monomials of z = (h − mean) / scale."""
    d = len(mean)
    i, j = torch.triu_indices(d, d, device=mean.device)
    upper = solution.new_zeros(d, d)
    upper[i, j] = solution[1 + d :]
    A = (upper + upper.T) / torch.outer(scale, scale)
    slope = solution[1 : 1 + d] / scale
    return solution[0] - slope @ mean + mean @ A @ mean / 2, slope - A @ mean, A
