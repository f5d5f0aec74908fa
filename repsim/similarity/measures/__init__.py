"""Measures of similarity, one family a file, and MEASURES: the dict of them all, by name."""

from repsim.similarity.measures import cka
from repsim.similarity.measures.measure import Measure

__all__ = ["MEASURES", "Measure"]

_FAMILIES = (cka,)

MEASURES: dict[str, Measure] = {measure.name: measure for family in _FAMILIES for measure in family.FAMILY}
