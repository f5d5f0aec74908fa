"""Distances between stimuli, one file per family, and DISTANCES, the dict of all distances by name."""

from repsim.similarity.distances import crossvalidated, poisson, products, scipy_metrics
from repsim.similarity.distances.distance import Distance, Patterns
from repsim.similarity.distances.poisson import poisson_distance

__all__ = ["DISTANCES", "Distance", "Patterns", "poisson_distance"]

_FAMILIES = (products, crossvalidated, poisson, scipy_metrics)

DISTANCES: dict[str, Distance] = {distance.name: distance for family in _FAMILIES for distance in family.FAMILY}
