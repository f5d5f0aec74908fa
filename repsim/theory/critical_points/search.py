"""Search for stationary points of a vector field."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from repsim.learning.checks import check_integer, check_positive, check_range
from repsim.theory.critical_points.vector_fields import VectorField

__all__ = ["StationaryPoint", "find_stationary"]

_LONGEST_STEP = 1e8  # in time of the flow; J is singular along lines of equal field, which symmetries create
_NEWTON_STEP = 1e12  # in time of the flow; practically infinite
_ARRIVAL_STEP = 1e10  # limits the effect of rounding along lines of equal field
_ARRIVED = 1e-3  # largest step of Newton's method at a stationary point, relative to 1 + ‖θ‖
_ZERO = 1e-7  # eigenvalues this close to 0 count as 0


@dataclass(frozen=True, eq=False, kw_only=True)
class StationaryPoint:
    """End of the flow of a vector field: a stationary point, or the last point of a search without success.

    Attributes
    ----------
    converged : bool
        Whether the point is stationary. If not, the other attributes describe the last θ of the flow, which may
        diverge to infinity (log loss of separable classes without weight decay), slide along a discontinuity of the
        field (see ``synthetic_field``), or need more iterations.
    theta : Tensor, shape (P,)
    field_norm : float
        ‖F(θ)‖.
    distance_left : float
        ‖(J + 1e-10 I)⁻¹ F‖, the length of a step of Newton's method: an estimate of the error of θ.
    true_gradient_norm : float
        ‖∂L/∂θ‖. It is above 0 at a spurious point, which is stationary only for the synthetic gradient.
    loss : float
        L(θ), with weight decay.
    eigenvalues : Tensor, shape (P,), complex
        Eigenvalues of J = ∂F/∂θ, by ascending real part.
    hessian_eigenvalues : Tensor, shape (P,)
        Eigenvalues of ∂²L/∂θ², in ascending order.
    n_iterations : int
        Number of steps of the flow that were tried.
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
        """Return whether no eigenvalue of J has a real part below −tol, i.e. stability to first order.

        If eigenvalues are 0, as at the origin of three linear layers, higher orders decide.
        """
        return self.count_unstable(tol) == 0

    def count_unstable(self, tol: float = _ZERO) -> int:
        """Return the number of eigenvalues of J with real part below −tol."""
        return int((self.eigenvalues.real < -tol).sum())

    def count_negative(self, tol: float = _ZERO) -> int:
        """Return the number of eigenvalues of the Hessian of the true loss below −tol."""
        return int((self.hessian_eigenvalues < -tol).sum())


def find_stationary(
    field: VectorField,
    start: Tensor | None = None,
    *,
    tolerance: float = 1e-10,
    curvature: float = 0.5,
    max_iterations: int = 1000,
) -> StationaryPoint:
    """Follow −F from a start to a stationary point.

    The flow dθ/dt = −F(θ) is integrated by implicit Euler steps with one Newton iteration each, (I / Δt + J) δ = −F. Δt
    grows as the field becomes linear, so that the last steps are Newton steps (pseudo-transient continuation). Δt is at
    most half the time in which the fastest unstable direction grows e-fold, so that the steps, like the flow, lead away
    from saddles; a start exactly at a saddle stays there. Lines of stationary points, which symmetries create, are
    allowed.

    If several stationary points lie close together, as between the kinks of random relu features, long steps may end at
    another stationary point than the flow. With a smaller ``curvature`` the search stays closer to the flow.

    Parameters
    ----------
    field : VectorField
    start : Tensor, shape (P,), optional
        Start of the flow, in float64; by default the parameters of the network.
    tolerance : float, default 1e-10
        Largest ‖F‖ of a stationary point.
    curvature : float, default 0.5
        Largest error of the linear model of the field in one step, relative to ‖F‖; above 0, at most 1.
    max_iterations : int, default 1000
        Largest number of steps; each computes at most one Jacobian.

    Returns
    -------
    StationaryPoint
        If no stationary point was reached, ``converged`` is False; no error is raised.

    Raises
    ------
    ValueError
        If the start is not a finite float64 vector of P numbers, or if a setting is out of range.

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
    if field(theta).norm() <= tolerance:  # before that, Newton's method may lead to a saddle
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
    """Return the end of the flow, and the number of steps that were tried."""
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
        if error <= curvature:  # False for NaN
            theta, F = theta + step, F_there
            J = field.jacobian(theta)
            longest = _longest_step(J)
    return theta, max_iterations


def _implicit_step(F: Tensor, J: Tensor, time: float) -> Tensor:
    return -torch.linalg.solve(torch.eye(len(F), dtype=F.dtype, device=F.device) / time + J, F)


def _longest_step(J: Tensor) -> float:
    """Return half the time in which the fastest unstable direction grows e-fold, or the largest step."""
    growth = -float(torch.linalg.eigvals(J).real.min())
    return min(_LONGEST_STEP, 0.5 / growth) if growth > 0 else _LONGEST_STEP


def _stretch(error: float) -> float:
    """Return the factor of the next time step, given the error relative to the largest, which grows quadratically."""
    if not math.isfinite(error):
        return 0.2
    return min(max(math.sqrt(0.5 / max(error, 1e-30)), 0.2), 10.0)


def _polish(field: VectorField, theta: Tensor) -> Tensor:
    """Return θ after one step of Newton's method, if the field is smaller there, otherwise θ."""
    F = field(theta)
    there = theta + _implicit_step(F, field.jacobian(theta), _NEWTON_STEP)
    return there if field(there).norm() < F.norm() else theta


def _check_start(theta: Tensor, n_parameters: int) -> None:
    """Raise ValueError unless theta holds one finite float64 number per parameter."""
    if theta.shape != (n_parameters,) or theta.dtype != torch.float64 or not theta.isfinite().all():
        raise ValueError(
            f"start is a {theta.dtype} tensor of shape {tuple(theta.shape)} with {int((~theta.isfinite()).sum())} "
            f"values that are not finite; expected {n_parameters} finite torch.float64 numbers, one per parameter."
        )
