"""Dissimilarity matrices as rsatoolbox keeps them (``rsatoolbox.rdm.load_rdm``), written without rsatoolbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np

from analysis.export.sources import ExportedAnalysis
from checkpoints.storage.hdf5_files.hdf5 import created

__all__ = ["write_analysis"]


def write_analysis(analysis: ExportedAnalysis, path: Path, done: Callable[[str], None]) -> None:
    """Write all matrices, (n_rdm, n(n-1)/2), with the descriptors layer, view, step, depth and stimulus_id, label.

    The layout is that of ``rsatoolbox.rdm.RDMs.save(file_type="hdf5")``.
    """
    matrices, n = analysis.matrices, len(analysis.stimulus_ids)
    with created(path) as (file, sink):
        file.attrs["dissimilarity_measure"] = analysis.method
        file.create_group("descriptors").attrs["source"] = str(analysis.folder)
        by_rdm, by_pattern = file.create_group("rdm_descriptors"), file.create_group("pattern_descriptors")
        _texts(by_rdm, "layer", [matrix.layer for matrix in matrices])
        _texts(by_rdm, "view", [matrix.view.label for matrix in matrices])
        by_rdm["step"] = np.array([matrix.view.step for matrix in matrices], dtype=np.int64)
        by_rdm["depth"] = np.array([matrix.depth for matrix in matrices], dtype=np.int64)
        by_rdm["index"] = np.arange(len(matrices))
        _texts(by_pattern, "stimulus_id", analysis.stimulus_ids.tolist())
        by_pattern["label"] = analysis.labels
        by_pattern["index"] = np.arange(n)
        rows: h5py.Dataset | None = None
        for index, matrix in enumerate(matrices):
            rdm = analysis.rdm(matrix)
            if rows is None:
                rows = file.create_dataset("dissimilarities", (len(matrices), len(rdm)), rdm.dtype)
            rows[index] = rdm
            sink.check()
            done(matrix.layer)


def _texts(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    """Write one text an item: rsatoolbox reads ASCII from data sets, and other letters from attributes only."""
    if all(text.isascii() for text in texts):
        group[name] = np.array(texts, dtype="S")
    else:
        group.attrs.create(name, list(texts), dtype=h5py.string_dtype("utf-8"))
