"""Critical points of a small network with and without a synthetic gradient."""

from repsim.theory.critical_points.families import FAMILIES, Features, relu_features
from repsim.theory.critical_points.objective import Objective, function_distance
from repsim.theory.critical_points.reduced_rank import least_squares_loss
from repsim.theory.critical_points.search import StationaryPoint, find_stationary
from repsim.theory.critical_points.vector_fields import VectorField, synthetic_field, true_field

__all__ = [
    "FAMILIES",
    "Features",
    "Objective",
    "StationaryPoint",
    "VectorField",
    "find_stationary",
    "function_distance",
    "least_squares_loss",
    "relu_features",
    "synthetic_field",
    "true_field",
]
