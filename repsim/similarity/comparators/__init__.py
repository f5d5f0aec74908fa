"""Comparators of RDMs, one family a file: whether two representations arrange the same stimuli alike."""

from repsim.similarity.comparators.comparator import Comparator
from repsim.similarity.comparators.registry import COMPARATORS
from repsim.similarity.comparators.two_rdms import compare_rdms

__all__ = ["COMPARATORS", "Comparator", "compare_rdms"]
