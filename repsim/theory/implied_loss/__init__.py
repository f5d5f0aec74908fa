"""Implied loss of a synthetic gradient module: its line integral, its curl, and its agreement with the true loss."""

from repsim.theory.implied_loss.curl import curl, data_directions
from repsim.theory.implied_loss.line_integral import (
    PathDependence,
    affine_implied_loss,
    implied_loss,
    path_dependence,
)
from repsim.theory.implied_loss.module_field import Field, module_of
from repsim.theory.implied_loss.quadratic import QuadraticFit, quadratic_fit
from repsim.theory.implied_loss.truth import Agreement, agreement, true_loss_at

__all__ = [
    "Agreement",
    "Field",
    "PathDependence",
    "QuadraticFit",
    "affine_implied_loss",
    "agreement",
    "curl",
    "data_directions",
    "implied_loss",
    "module_of",
    "path_dependence",
    "quadratic_fit",
    "true_loss_at",
]
