"""How the folders of a format are laid out: which file holds which layer, and the tables that say so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.export.sources import Analysis, Matrix, Recorded, Recording

__all__ = ["layer_file", "layer_index", "matrix_file", "matrix_index", "pairs", "stimulus_columns"]

_LONGEST_NAME = 80
_PAIRS_AT_ONCE = 2**18


def layer_file(place: Recorded, suffix: str) -> str:
    """Return the file of a layer below the folder of a recording, such as ``step_00000038/01_hidden.1.csv``."""
    return f"step_{place.step:08d}/{place.depth:02d}_{safe(place.layer.name)}{suffix}"


def matrix_file(matrix: Matrix, suffix: str) -> str:
    """Return the file of a dissimilarity matrix below the folder of an analysis, such as ``rdm/0000/01_hidden.1.csv``.

    ``rdm`` is followed by the position of the view.
    """
    return f"rdm/{matrix.view.key}/{matrix.depth:02d}_{safe(matrix.layer)}{suffix}"


def safe(name: str) -> str:
    """Return a name as part of a file's name: on any system, and never a path.

    Examples
    --------
    >>> safe("block/1.conv[0]")
    'block_1.conv_0_'
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_LONGEST_NAME]


def layer_index(recording: Recording, suffix: str) -> pd.DataFrame:
    """Return one row a file of a recording: which layer it holds, at which step, and how that was recorded."""
    return pd.DataFrame(
        [
            {
                "step": place.step,
                "layer": place.layer.name,
                "depth": place.depth,
                "d": place.layer.shape[1],
                "feature_shape": "x".join(map(str, place.layer.feature_shape)),
                "dtype": str(place.layer.dtype),
                "reduction": place.layer.reduction,
                "file": layer_file(place, suffix),
            }
            for place in recording.layers
        ]
    )


def matrix_index(analysis: Analysis, suffix: str) -> pd.DataFrame:
    """Return one row a file of dissimilarities: of which view and layer, and by which distance."""
    return pd.DataFrame(
        [
            {
                "view": matrix.view.label,
                "step": matrix.view.step,
                "layer": matrix.layer,
                "depth": matrix.depth,
                "distance": analysis.method,
                "file": matrix_file(matrix, suffix),
            }
            for matrix in analysis.matrices
        ],
        columns=["view", "step", "layer", "depth", "distance", "file"],
    )


def stimulus_columns(recording: Recording, rows: slice) -> dict[str, Any]:
    """Return what is known of some stimuli, by the name of its column."""
    stimuli = recording.stimuli
    return {
        "stimulus_id": stimuli.ids[rows].astype(object),
        "label": stimuli.labels[rows],
        "split": stimuli.split[rows].astype(object),
    }


def pairs(analysis: Analysis, rdm: NDArray[Any]) -> Iterator[pd.DataFrame]:
    """Yield a condensed dissimilarity matrix as blocks of a tidy table, one row a pair of stimuli."""
    n = len(analysis.stimulus_ids)
    ends = np.cumsum(np.arange(n - 1, -1, -1))  # of the rows of the upper triangle
    for start in range(0, len(rdm), _PAIRS_AT_ONCE):
        positions = np.arange(start, min(start + _PAIRS_AT_ONCE, len(rdm)))
        i = np.searchsorted(ends, positions, side="right")
        j = positions - ends[i] + n
        ids, labels = analysis.stimulus_ids.astype(object), analysis.labels
        yield pd.DataFrame(
            {
                "stimulus_a": ids[i],
                "stimulus_b": ids[j],
                "label_a": labels[i],
                "label_b": labels[j],
                "distance": rdm[positions],
            }
        )
