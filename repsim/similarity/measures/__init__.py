"""Measures of similarity, one file per family, and MEASURES, the dict of all measures by name."""

from repsim.similarity.measures import (
    cca,
    cka,
    distance_correlation,
    eigenspace,
    matching,
    neighbourhoods,
    pls,
    procrustes,
    rbf,
    regression,
    rsa,
)
from repsim.similarity.measures.measure import Measure

__all__ = ["MEASURES", "Measure"]

_FAMILIES = (
    cka,
    rbf,
    cca,
    pls,
    procrustes,
    regression,
    eigenspace,
    distance_correlation,
    rsa,
    matching,
    neighbourhoods,
)

MEASURES: dict[str, Measure] = {measure.name: measure for family in _FAMILIES for measure in family.FAMILY}
