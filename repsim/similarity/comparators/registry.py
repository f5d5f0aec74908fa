"""COMPARATORS, the dict of all comparators of RDMs by name."""

from repsim.similarity.comparators import correlations, geometry, kendall, whitened
from repsim.similarity.comparators.comparator import Comparator

_FAMILIES = (correlations, kendall, whitened, geometry)

COMPARATORS: dict[str, Comparator] = {
    comparator.name: comparator for family in _FAMILIES for comparator in family.FAMILY
}
