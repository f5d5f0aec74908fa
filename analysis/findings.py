"""What was measured on a set of views: tables, the file of RDMs, and the summary in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import tables
from analysis.progress import Reporter
from analysis.settings import is_trained_here
from analysis.views import View

__all__ = ["Findings", "first_layer_reaching", "measure"]

RDM_FILE = "rdm.h5"
_DECISIVE = 0.9


@dataclass(frozen=True)
class Findings:
    """The tables of one analysis; each DataFrame is described where ``analysis.tables`` makes it.

    Attributes
    ----------
    views : list of View
        The first is the reference.
    folder : Path
        Holds ``rdm.h5``.
    distance : str
        The RDMs' method.
    probes, class_structure, similarity, rdm_similarity, training, gradients : DataFrame
    """

    views: Sequence[View]
    folder: Path
    distance: str
    probes: pd.DataFrame
    class_structure: pd.DataFrame
    similarity: pd.DataFrame
    rdm_similarity: pd.DataFrame
    training: pd.DataFrame
    gradients: pd.DataFrame

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by file name."""
        names = ("probes", "class_structure", "similarity", "rdm_similarity", "training", "gradients")
        return {name: getattr(self, name) for name in names}

    @property
    def rdm_path(self) -> Path:
        """The HDF5 file of RDMs."""
        return self.folder / RDM_FILE

    def summary(self) -> list[str]:
        """Return a few sentences with the numbers that matter first."""
        return [
            *self._unfinished(),
            *self._accuracies(),
            *self._structure(),
            *self._lowest_similarity(),
            *(f"No probe of {name.rstrip('.')}." for name in self.probe_failures()),
        ]

    def probe_failures(self) -> list[str]:
        """Return the view, layer and reason of each probe that could not be fitted."""
        failed = self.probes[self.probes["status"] != "ok"]
        return [f"{row.view}, {row.layer}: {row.message}" for row in failed.itertuples()]

    def _unfinished(self) -> list[str]:
        """Name the runs whose training is not at its end, and those compared at another step than their last."""
        latest = {view.run.path: view for view in self.views}
        alone = len(latest) == 1
        sentences = []
        for path, view in latest.items():
            status = view.run.status
            state, n_steps = status.get("state"), status.get("n_steps", view.step)
            if is_trained_here(view.run.config) and (state != "finished" or (view.step != n_steps and not alone)):
                name = path.absolute().name if alone else view.label
                sentences.append(f"{name} is shown at step {view.step} of {n_steps}; its training is {state}.")
        return sentences

    def _accuracies(self) -> list[str]:
        scores, sizes = [], set()
        for view in self.views:
            status = view.run.status
            at_end = status.get("state") == "finished" and status.get("step") == view.step
            if at_end and {"test_accuracy", "n_test"} <= set(status):
                scores.append(f"{view.label} {status['test_accuracy']:.3f}")
                sizes.add(str(status["n_test"]))
        if not scores:
            return []
        return [f"Test accuracy on {' or '.join(sorted(sizes))} held-out examples: {', '.join(scores)}."]

    def _structure(self) -> list[str]:
        sentences = []
        for label, rows in self.class_structure.groupby("view", sort=False):
            depth = first_layer_reaching(rows, _DECISIVE)
            if depth is None:
                sentences.append(f"The last layer of {label} has no class structure.")
                continue
            final, where = (
                rows["class_structure"].iloc[-1],
                f"first at {rows['layer'].iloc[depth - 1]} ({depth} of {len(rows)})",
            )
            sentences.append(
                f"Class structure reaches {_DECISIVE} of its last layer's ({final:.2f}) {where} in {label}."
            )
        return sentences

    def _lowest_similarity(self) -> list[str]:
        reference = self.views[0].label
        table = self.similarity
        same = table[
            (table["view_a"] == reference) & (table["view_b"] != reference) & (table["layer_a"] == table["layer_b"])
        ].dropna(subset="cka")
        if same.empty:
            return []
        rows = same.loc[same.groupby("view_b", sort=False)["cka"].idxmin()]
        parts = [f"{row.view_b} {row.cka:.2f} at {row.layer_a}" for row in rows.itertuples()]
        return [f"Lowest CKA to the same layer of {reference}: {', '.join(parts)}."]


def first_layer_reaching(rows: pd.DataFrame, fraction: float) -> int | None:
    """Return the depth of the first layer whose class structure reaches a fraction of the last layer's.

    Parameters
    ----------
    rows : DataFrame
        One view of ``class_structure_table``.
    fraction : float

    Returns
    -------
    int or None
        None if the last layer has no class structure (0 or less).
    """
    if not rows["class_structure"].iloc[-1] > 0:
        return None
    reached = rows.loc[rows["fraction_of_final"] >= fraction, "depth"]
    return int(reached.min())


def measure(views: Sequence[View], folder: Path, *, distance: str, reporter: Reporter) -> Findings:
    """Fit the probes, compute the RDMs and similarities of the views, and write the tables and ``rdm.h5``.

    Parameters
    ----------
    views : sequence of View
        On the same stimuli.
    folder : Path
        Exists and is empty.
    distance : str
        A method of ``repsim.similarity.rdm``.
    reporter : Reporter
    """
    rdm_path = folder / RDM_FILE
    tables.write_rdms(rdm_path, views, distance, reporter)
    findings = Findings(
        views=views,
        folder=folder,
        distance=distance,
        probes=tables.probe_table(views, reporter),
        class_structure=tables.class_structure_table(rdm_path, views),
        similarity=tables.similarity_table(views, reporter),
        rdm_similarity=tables.rdm_similarity_table(rdm_path, views),
        training=tables.training_table(views),
        gradients=tables.gradient_table(views),
    )
    for name, table in findings.tables.items():
        table.replace([np.inf, -np.inf], np.nan).to_csv(folder / f"{name}.csv", index=False)
    return findings
