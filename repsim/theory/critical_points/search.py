"""The search for points at which a field is zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from repsim.learning.checks import check_integer, check_positive, check_range
from repsim.theory.critical_points.vector_fields import VectorField

__all__ = ["StationaryPoint", "find_stationary"]

_LONGEST_STEP = 1e8  # of the flow's time: lines of equal field, as symmetries make them, leave J without an inverse
_NEWTON_STEP = 1e12  # of the flow's time: as good as without end
_ARRIVAL_STEP = 1e10  # in which a point that is reached stays: rounding along lines of equal field goes not far
_ARRIVED = 1e-3  # a point is reached if Newton's method would move it by less than this share of 1 + ‖θ‖
_ZERO = 1e-7  # eigenvalues this close to 0 count as 0


@dataclass(frozen=True, eq=False, kw_only=True)
class StationaryPoint:
    """Where a field's flow came to rest, or was given up.

    Attributes
    ----------
    converged : bool
        Whether this is a stationary point. If not, all else describes the last θ of a flow still under way: it
        may run off to infinity (log loss of separable classes without weight decay), or slide along a place where the
        field jumps (see ``synthetic_field``), or want more iterations.
    theta : Tensor, shape (P,)
    field_norm : float
        ‖F(θ)‖.
    distance_left : float
        ‖(J + 1e-10 I)⁻¹ F‖: how far Newton's method would move θ, an estimate of the error of θ.
    true_gradient_norm : float
        ‖∂L/∂θ‖. Above 0 at a spurious point: one at which only the synthetic gradient rests.
    loss : float
        L(θ), with weight decay.
    eigenvalues : Tensor, shape (P,), complex
        Of J = ∂F/∂θ, by ascending real part.
    hessian_eigenvalues : Tensor, shape (P,)
        Of ∂²L/∂θ², ascending.
    n_iterations : int
        Steps of the flow that were tried.
    """

    converged: bool
    theta: Tensor
    field_norm: float
    distance_left: float
    true_gradient_norm: float
    loss: float
    eigenvalues: Tensor
    hessian_eigenvalues: Tensor
    n_iterations: int

    def is_stable(self, tol: float = _ZERO) -> bool:
        """Return whether no eigenvalue of J has a real part below −tol: to first order −F leads away in no direction.

        Where eigenvalues are 0, as at the origin of three linear layers, higher orders decide.
        """
        return self.count_unstable(tol) == 0

    def count_unstable(self, tol: float = _ZERO) -> int:
        """Return how many eigenvalues of J have real parts below −tol."""
        return int((self.eigenvalues.real < -tol).sum())

    def count_negative(self, tol: float = _ZERO) -> int:
        """Return how many eigenvalues of the true loss's Hessian are below −tol."""
        return int((self.hessian_eigenvalues < -tol).sum())


def find_stationary(
    field: VectorField,
    start: Tensor | None = None,
    *,
    tolerance: float = 1e-10,
    curvature: float = 0.5,
    max_iterations: int = 1000,
) -> StationaryPoint:
    """Follow −F from a start until it vanishes.

    The flow dθ/dt = −F(θ) is followed by implicit Euler steps of one Newton iteration each, (I / Δt + J) δ = −F, whose
    Δt grows as the field becomes linear, so that the last steps are Newton's own (pseudo-transient continuation). Δt
    stays below half the time in which the fastest unstable direction grows e-fold: from saddles with unstable
    directions the steps lead away, as the flow does; a start at a saddle stays there. Lines of stationary points, as
    symmetries make them, do no harm.

    Where several points lie close together, as the kinks of random relu features make them, long steps may end at
    another than the flow itself; that is stationary all the same. A smaller ``curvature`` keeps closer to the flow.

    Parameters
    ----------
    field : VectorField
    start : Tensor, shape (P,), optional
        float64; the network's own parameters by default.
    tolerance : float, default 1e-10
        Largest ‖F‖ of a stationary point.
    curvature : float, default 0.5
        Largest share of ‖F‖ by which the field's linear model may be wrong within one step, above 0 and at most 1.
    max_iterations : int, default 1000
        Each takes one Jacobian or less.

    Returns
    -------
    StationaryPoint
        See ``converged``: it is not raised as an error if there is nothing to find.

    Raises
    ------
    ValueError
        If the start is not a finite float64 vector of P numbers, or a setting is not positive.

    References
    ----------
    Kelley and Keyes (1998), Convergence analysis of pseudo-transient continuation.
    """
    check_positive("tolerance", tolerance)
    check_positive("curvature", curvature)
    check_range("curvature", curvature, 0.0, 1.0)
    check_integer("max_iterations", max_iterations, 1)
    theta = field.objective.start if start is None else start
    _check_start(theta, len(field.objective.start))
    theta, n_iterations = _follow(field, theta.detach().clone(), tolerance, curvature, max_iterations)
    if field(theta).norm() <= tolerance:  # of a flow still under way Newton's method may lead to a saddle
        theta = _polish(field, theta)
    F, J, objective = field(theta), field.jacobian(theta), field.objective
    field_norm, distance_left = float(F.norm()), float(_implicit_step(F, J, _ARRIVAL_STEP).norm())
    eigenvalues = torch.linalg.eigvals(J)
    return StationaryPoint(
        converged=field_norm <= tolerance and distance_left <= _ARRIVED * (1 + float(theta.norm())),
        theta=theta,
        field_norm=field_norm,
        distance_left=distance_left,
        true_gradient_norm=float(objective.gradient(theta).norm()),
        loss=float(objective.loss(theta)),
        eigenvalues=eigenvalues[eigenvalues.real.argsort()],
        hessian_eigenvalues=torch.linalg.eigvalsh(objective.hessian(theta)),
        n_iterations=n_iterations,
    )


def _follow(
    field: VectorField, theta: Tensor, tolerance: float, curvature: float, max_iterations: int
) -> tuple[Tensor, int]:
    """Return where the flow led, and how many steps were tried."""
    F, J, time = field(theta), field.jacobian(theta), 1.0
    longest = _longest_step(J)
    for n_tried in range(max_iterations):
        if F.norm() <= tolerance:
            return theta, n_tried
        time = min(time, longest)
        step = _implicit_step(F, J, time)
        F_there = field(theta + step)
        error = float((F_there - F - J @ step).norm() / F.norm())
        time *= _stretch(error / curvature)
        if error <= curvature:  # never of NaN
            theta, F = theta + step, F_there
            J = field.jacobian(theta)
            longest = _longest_step(J)
    return theta, max_iterations


def _implicit_step(F: Tensor, J: Tensor, time: float) -> Tensor:
    return -torch.linalg.solve(torch.eye(len(F), dtype=F.dtype, device=F.device) / time + J, F)


def _longest_step(J: Tensor) -> float:
    """Return half the time in which the fastest unstable direction grows e-fold, within bounds."""
    growth = -float(torch.linalg.eigvals(J).real.min())
    return min(_LONGEST_STEP, 0.5 / growth) if growth > 0 else _LONGEST_STEP


def _stretch(error: float) -> float:
    """Return by what to multiply the time step, given its error in units of the largest: it grows as its square."""
    if not math.isfinite(error):
        return 0.2
    return min(max(math.sqrt(0.5 / max(error, 1e-30)), 0.2), 10.0)


def _polish(field: VectorField, theta: Tensor) -> Tensor:
    """Return the parameters after one step of Newton's method, if the field is less there."""
    F = field(theta)
    there = theta + _implicit_step(F, field.jacobian(theta), _NEWTON_STEP)
    return there if field(there).norm() < F.norm() else theta


def _check_start(theta: Tensor, n_parameters: int) -> None:
    """Raise ValueError unless a point has a finite float64 for each parameter."""
    if theta.shape != (n_parameters,) or theta.dtype != torch.float64 or not theta.isfinite().all():
        raise ValueError(
            f"start is a {theta.dtype} tensor of shape {tuple(theta.shape)} with {int((~theta.isfinite()).sum())} "
            f"values that are not finite; expected ({n_parameters},) finite torch.float64, one for each parameter."
        )
