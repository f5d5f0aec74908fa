"""Theory of learning with synthetic gradients.

This package holds the convergence condition and the dynamics of the linear model (Czarnecki et al. 2017). Its
subpackages hold critical points (``critical_points``), implied losses (``implied_loss``) and value gradients
(``control``).
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
