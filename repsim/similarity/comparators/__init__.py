"""Comparators of RDMs, one family a file: whether two representations arrange the same stimuli alike."""

from repsim.similarity.comparators.comparator import Comparator
from repsim.similarity.comparators.compare import compare_rdms
from repsim.similarity.comparators.registry import COMPARATORS

__all__ = ["COMPARATORS", "Comparator", "compare_rdms"]
