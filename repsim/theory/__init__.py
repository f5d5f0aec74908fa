"""Theory of learning with synthetic gradients.

Convergence and linear dynamics (Czarnecki et al. 2017) are offered here; critical points, implied losses and value
gradients are packages of their own: ``critical_points``, ``implied_loss``, ``control``.
"""

from repsim.theory.convergence import Tracking, track, tracked
from repsim.theory.linear_dynamics import (
    Rates,
    iteration_matrix,
    largest_rates,
    least_squares,
    linear_model,
    spectral_radius,
)

__all__ = [
    "Rates",
    "Tracking",
    "iteration_matrix",
    "largest_rates",
    "least_squares",
    "linear_model",
    "spectral_radius",
    "track",
    "tracked",
]
