"""repsim: what a learning rule does to the layers of a network.

``repsim.learning`` trains networks; the names below compare representations. Recorded runs are read with
``checkpoints``, probes fitted with ``probes``.
"""

from repsim.similarity import class_structure, compare_rdms, linear_cka, pairwise, rdm

__version__ = "0.1.0"
__all__ = ["class_structure", "compare_rdms", "linear_cka", "pairwise", "rdm"]
