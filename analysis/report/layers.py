"""What the page shows of each layer: its matrix and its embeddings, packed."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.comparison.result import Findings
from analysis.comparison.tables import read_rdm
from analysis.comparison.view import View
from analysis.report.embedding import Embedding, aligned, classical_mds, pca
from analysis.report.packing import Arrays
from analysis.report.shown import RDM_BUDGET, pairs_of

__all__ = ["add_layers", "add_similarity", "measures_of"]

_KEYS = {"view_a", "layer_a", "depth_a", "view_b", "layer_b", "depth_b"}
_SIMILARITY_BUDGET = 600_000  # bytes, all measures


def add_layers(arrays: Arrays, findings: Findings, shown: NDArray[np.int64]) -> list[list[dict[str, Any]]]:
    """Add ``rdm-V-L``, ``mds-V-L`` and ``pca-V-L`` of layer L of view V; return how well each plane fits."""
    n_test = len(findings.views[0].rows("test"))
    pairs = pairs_of(shown, n_test)
    n_rdms = sum(len(view.activations) for view in findings.views)
    n_bytes: Literal[1, 2] = 2 if 2 * len(pairs) * n_rdms <= RDM_BUDGET else 1
    planes, fits = _Planes(), []
    for v, view in enumerate(findings.views):
        fits.append([dict[str, Any]() for _ in view.activations])
        for k, layer in enumerate(view.activations):
            rdm = read_rdm(findings.rdm_path, v, layer)[pairs]
            arrays.add(f"rdm-{v}-{k}", rdm, n_bytes)
            distances = np.sqrt(rdm) if findings.distance == "sqeuclidean" else rdm
            found = {"mds": classical_mds(distances), "pca": pca(_activations(view, layer, shown))}
            for kind, embedding in found.items():
                arrays.add(f"{kind}-{v}-{k}", planes.aligned(kind, v, layer, embedding), 2)
                fits[v][k][kind] = round(embedding.fit, 4)
    return fits


def _activations(view: View, layer: str, shown: NDArray[np.int64]) -> NDArray[Any]:
    return np.asarray(view.activations[layer][view.rows("test")[shown]])


class _Planes:
    """Turns planes: to the same layer of the first view, or else to the layer before."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], NDArray[np.float64]] = {}
        self._last: dict[tuple[str, int], NDArray[np.float64]] = {}

    def aligned(self, kind: str, view: int, layer: str, embedding: Embedding) -> NDArray[np.float64]:
        reference = self._first.get((kind, layer), self._last.get((kind, view)))
        points = embedding.points if reference is None else aligned(embedding.points, reference)
        if view == 0:
            self._first[kind, layer] = points
        self._last[kind, view] = points
        return points


def measures_of(similarity: pd.DataFrame) -> list[str]:
    """Return the measures in the table of similarities."""
    return [str(name) for name in similarity if name not in _KEYS]


def add_similarity(arrays: Arrays, findings: Findings) -> None:
    """Add ``similarity-M``, all layers of all views against all, for each measure M; NaN where a pair has none."""
    table, measures = findings.similarity, measures_of(findings.similarity)
    every = [(view.label, layer) for view in findings.views for layer in view.activations]
    places = {place: index for index, place in enumerate(every)}
    a, b = (
        [places[place] for place in zip(table[f"view_{side}"], table[f"layer_{side}"], strict=True)] for side in "ab"
    )
    affordable = _SIMILARITY_BUDGET // max(len(places) ** 2 * len(measures), 1)
    n_bytes: Literal[1, 2, 4] = 4 if affordable >= 4 else 2 if affordable >= 2 else 1
    for index, measure in enumerate(measures):
        matrix = np.full((len(places), len(places)), np.nan)
        matrix[a, b] = table[measure]
        arrays.add(f"similarity-{index}", matrix, n_bytes)
