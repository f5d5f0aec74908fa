"""Similarity of one layer between networks, and its class structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from repsim.similarity import class_structure, compare_rdm_pairs, pairwise, rdm

__all__ = ["compare_layer"]


def compare_layer(values: Mapping[str, Any], labels: Any) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
    """Return matrices of similarity between networks by measure, and the class structure of each network.

    ``values`` are the activations (n_stimuli, n_units) of one layer, by network. The measures are "cka" (unbiased
    linear CKA) and "rsa" (correlation of RDMs).
    """
    rdms = {name: rdm(each, method="correlation") for name, each in values.items()}
    matrices = {"cka": pairwise(values).values, "rsa": compare_rdm_pairs(rdms).values}
    return matrices, {name: class_structure(each, labels) for name, each in rdms.items()}
