"""Statistics of one representation: location, spread and dimension of its patterns, and separation of its classes."""

from repsim.similarity.statistics import classes, dimension, spread
from repsim.similarity.statistics.classes import class_separation, neural_collapse
from repsim.similarity.statistics.dimension import intrinsic_dimension, participation_ratio
from repsim.similarity.statistics.spread import concentricity, magnitude, uniformity
from repsim.similarity.statistics.statistic import Statistic

__all__ = [
    "STATISTICS",
    "Statistic",
    "class_separation",
    "concentricity",
    "intrinsic_dimension",
    "magnitude",
    "neural_collapse",
    "participation_ratio",
    "uniformity",
]

_FAMILIES = (spread, dimension, classes)

STATISTICS: dict[str, Statistic] = {statistic.name: statistic for family in _FAMILIES for statistic in family.FAMILY}
