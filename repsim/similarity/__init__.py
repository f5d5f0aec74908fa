"""Representational similarity: how alike two layers arrange the same stimuli, from arrays in memory.

`rdm` and `compare_rdms` go by the distances between stimuli, `linear_cka` and `pairwise` compare the representations
themselves, and `class_structure` asks how far apart the classes are. What there is to choose from is in three dicts:
`DISTANCES`, `COMPARATORS` and `MEASURES`, each of whose entries is a `Measure`.
"""

from repsim.similarity.comparison import COMPARATORS, compare_rdms
from repsim.similarity.measures import MEASURES, Measure
from repsim.similarity.measures.cka import linear_cka
from repsim.similarity.pairwise import Pairwise, pairwise
from repsim.similarity.rdm import DISTANCES, class_structure, rdm

__all__ = [
    "COMPARATORS",
    "DISTANCES",
    "MEASURES",
    "Measure",
    "Pairwise",
    "class_structure",
    "compare_rdms",
    "linear_cka",
    "pairwise",
    "rdm",
]
