"""Comparators of RDMs, one file per family."""

from repsim.similarity.comparators.comparator import Comparator
from repsim.similarity.comparators.registry import COMPARATORS
from repsim.similarity.comparators.two_rdms import compare_rdms

__all__ = ["COMPARATORS", "Comparator", "compare_rdms"]
