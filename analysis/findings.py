"""What was measured on a set of views: tables, the file of RDMs, and the summary in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import probing, tables
from analysis.progress import Reporter
from analysis.settings import is_trained_here
from analysis.views import View
from probes import first_layer_reaching
from probes.path import CS

__all__ = ["Findings", "measure"]

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
    probes, probe_bands, probe_differences, first_layers : DataFrame
    class_structure, similarity, rdm_similarity, training, gradients : DataFrame
    """

    views: Sequence[View]
    folder: Path
    distance: str
    probes: pd.DataFrame
    probe_bands: pd.DataFrame
    probe_differences: pd.DataFrame
    first_layers: pd.DataFrame
    class_structure: pd.DataFrame
    similarity: pd.DataFrame
    rdm_similarity: pd.DataFrame
    training: pd.DataFrame
    gradients: pd.DataFrame

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by file name."""
        every = (each.name for each in fields(self) if each.name not in ("views", "folder", "distance"))
        return {name: getattr(self, name) for name in every}

    @property
    def rdm_path(self) -> Path:
        """The HDF5 file of RDMs."""
        return self.folder / RDM_FILE

    def summary(self) -> list[str]:
        """Return a few sentences with the numbers that matter first."""
        return [
            *self._unfinished(),
            *self._accuracies(),
            *self._readable(),
            *self._structure(),
            *self._lowest_similarity(),
            *self._edges(),
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

    def _readable(self) -> list[str]:
        """Say where probes of each network, or of the networks of each method, first read nearly all."""
        table = self.first_layers[self.first_layers["fraction"] == _DECISIVE].dropna(subset="depth")
        parts = []
        for method, rows in table.groupby("method", sort=False):
            depth, n_layers = rows["depth"].mean(), rows["n_layers"].iloc[0]
            one = len(rows) == 1
            where = (
                f"{rows['layer'].iloc[0]} ({depth:.0f} of {n_layers})" if one else f"layer {depth:.1f} of {n_layers}"
            )
            parts.append(f"{method} at {where}{'' if one else f' (mean of {len(rows)} seeds)'}")
        if not parts:
            return []
        return [f"Probes first reach {_DECISIVE} of their accuracy at the last layer: {', '.join(parts)}."]

    def _edges(self) -> list[str]:
        """Say how many probes would have chosen from a wider grid."""
        at_edge = int(self.probes["C_at_edge"].sum()) if len(self.probes) else 0
        if not at_edge:
            return []
        return [
            f"{at_edge} of {len(self.probes)} probes chose the smallest or the largest C of those they could choose "
            "from; a wider grid (--Cs) may read more."
        ]

    def _structure(self) -> list[str]:
        sentences = []
        found = first_layer_reaching(
            self.class_structure.assign(none=0.0), _DECISIVE, "class_structure", "none", network="view"
        )
        final = dict(self.class_structure.groupby("view", sort=False)["class_structure"].last())
        for row in found.itertuples():
            if not final[str(row.view)] > 0:
                sentences.append(f"The last layer of {row.view} has no class structure.")
                continue
            if row.status != "ok":
                sentences.append(f"Where class structure arises in {row.view} cannot be told: {row.message}.")
                continue
            sentences.append(
                f"Class structure reaches {_DECISIVE} of its last layer's ({final[str(row.view)]:.2f}) first at "
                f"{row.layer} ({row.depth:.0f} of {row.n_layers}) in {row.view}."
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


def measure(
    views: Sequence[View], folder: Path, *, distance: str, Cs: Sequence[float] = CS, reporter: Reporter
) -> Findings:
    """Fit the probes, compute the RDMs and similarities of the views, and write the tables and ``rdm.h5``.

    Parameters
    ----------
    views : sequence of View
        On the same stimuli.
    folder : Path
        Exists and is empty.
    distance : str
        A method of ``repsim.similarity.rdm``.
    Cs : sequence of float
        That probes choose from.
    reporter : Reporter
    """
    rdm_path = folder / RDM_FILE
    tables.write_rdms(rdm_path, views, distance, reporter)
    probes = probing.probe_table(views, reporter, Cs)
    findings = Findings(
        views=views,
        folder=folder,
        distance=distance,
        probes=probes,
        probe_bands=probing.probe_band_table(probes),
        probe_differences=probing.probe_difference_table(probes),
        first_layers=probing.first_layer_table(probes),
        class_structure=tables.class_structure_table(rdm_path, views),
        similarity=tables.similarity_table(views, reporter),
        rdm_similarity=tables.rdm_similarity_table(rdm_path, views),
        training=tables.training_table(views),
        gradients=tables.gradient_table(views),
    )
    for name, table in findings.tables.items():
        table.replace([np.inf, -np.inf], np.nan).to_csv(folder / f"{name}.csv", index=False)
    return findings
