"""What was measured on a set of views: tables, the file of RDMs, and the summary in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.comparison.steps import is_trained_here
from analysis.comparison.store import RDM_FILE
from analysis.comparison.study import Study, read_outcome
from analysis.comparison.view import View

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["TABLES", "Findings", "Kept"]

TABLES = (
    "probes",
    "probe_bands",
    "probe_differences",
    "first_layers",
    "class_structure",
    "similarity",
    "rdm_similarity",
    "undefined",
    "training",
    "gradients",
)
_TEXTS = ("status", "message")  # columns in which an empty cell is an empty text
_DECISIVE = 0.9
_PERCENT = f"{100 * _DECISIVE:.0f} %"
_MOST_NAMED = 12
_WORDS = {"rdm": "RDM", "rdm_similarity": "RDM similarity", "cka": "CKA", "probes": "probe"}


@dataclass(frozen=True, eq=False)
class Findings:
    """The tables of one analysis; each DataFrame is described where ``analysis.comparison.tables`` makes it.

    Attributes
    ----------
    views : sequence of View
        The first is the reference.
    folder : Path
        Holds ``rdm.h5``.
    distance : str
        The RDMs' method.
    measures : tuple of str
        The measures of similarity; each is a column of ``similarity``.
    tables : mapping of str to DataFrame
        By file name; those of ``TABLES``. Of an earlier analysis each is read when it is asked for.
    """

    views: Sequence[View]
    folder: Path
    distance: str
    measures: tuple[str, ...]
    tables: Mapping[str, pd.DataFrame]

    @classmethod
    def of(cls, study: Study) -> Findings:
        """Return what a study, which is done, came to."""
        config = study.config
        return cls(study.views, study.target, config.distance, config.measures, Kept(study.target))

    def with_tables(self, **tables: pd.DataFrame) -> Findings:
        """Return the same findings with other tables in the place of some."""
        return replace(self, tables={**self.tables, **tables})

    @property
    def probes(self) -> pd.DataFrame:
        """One row a view and layer: a linear probe."""
        return self.tables["probes"]

    @property
    def probe_bands(self) -> pd.DataFrame:
        """One row a method and layer: accuracy over seeds, with bands."""
        return self.tables["probe_bands"]

    @property
    def probe_differences(self) -> pd.DataFrame:
        """One row a method and layer: accuracy less that of the first method."""
        return self.tables["probe_differences"]

    @property
    def first_layers(self) -> pd.DataFrame:
        """One row a view and fraction: the first layer that reaches it."""
        return self.tables["first_layers"]

    @property
    def class_structure(self) -> pd.DataFrame:
        """One row a view and layer: how far apart classes are."""
        return self.tables["class_structure"]

    @property
    def similarity(self) -> pd.DataFrame:
        """One row an ordered pair of layers; one column a measure."""
        return self.tables["similarity"]

    @property
    def rdm_similarity(self) -> pd.DataFrame:
        """One row a later view and layer: its RDM beside the reference's."""
        return self.tables["rdm_similarity"]

    @property
    def undefined(self) -> pd.DataFrame:
        """One row for each layer of a view that lacks a result, with the reason."""
        return self.tables["undefined"]

    @property
    def training(self) -> pd.DataFrame:
        """One row a run and epoch."""
        return self.tables["training"]

    @property
    def gradients(self) -> pd.DataFrame:
        """One row a run, diagnosed step and boundary."""
        return self.tables["gradients"]

    @property
    def rdm_path(self) -> Path:
        """The HDF5 file of RDMs."""
        return self.folder / RDM_FILE

    def plot(self, name: str, ax: Axes | None = None) -> Axes:
        """Draw one of the figures, such as ``"probe_accuracy"``; see ``analysis.comparison.notebook.plot_findings``."""
        from analysis.comparison.notebook import plot_findings

        return plot_findings(self, name, ax=ax)

    def _repr_html_(self) -> str:
        """Show what was found in a notebook."""
        from analysis.comparison.notebook import findings_html

        return findings_html(self)

    def summary(self) -> list[str]:
        """Return a few sentences with the numbers that matter first."""
        if isinstance(self.tables, Kept) and (outcome := read_outcome(self.folder)) is not None:
            return list(outcome["summary"])
        return [
            *self._unfinished(),
            *self._accuracies(),
            *self._readable(),
            *self._unreadable(),
            *self._structure(),
            *self._lowest_similarity(),
            *self._edges(),
            *self._incomplete(),
        ]

    def undefined_in_words(self) -> list[str]:
        """Return a sentence for each layer that lacks a result: run, step, layer, which results, and why."""
        networks = {view.label: view.network for view in self.views}
        columns = ("view", "step", "layer", "results", "reason")
        sentences = [
            f"{networks[view]}, step {step}, layer {layer!r} has no {self._in_words(results)}. {_sentence(reason)}"
            for view, step, layer, results, reason in zip(*(self.undefined[name] for name in columns), strict=True)
        ]
        return _at_most(sentences, "more layers are in undefined.csv")

    def check_any_defined(self) -> None:
        """Check that some layer has some result.

        Raises
        ------
        ValueError
            If no layer has any; the message gives the reason for the first.
        """
        lacking = [self._is_everything(results) for results in self.undefined["results"]]
        if len(lacking) == sum(len(view.listed) for view in self.views) and all(lacking):
            first = self.undefined.iloc[0]
            raise ValueError(
                f"No layer can be analysed: all {len(lacking)} are undefined. The first is layer {first['layer']!r} of "
                f"{first['run']} at step {first['step']}: {_sentence(first['reason'])}"
            )

    def _is_everything(self, results: str) -> bool:
        return {"rdm", "class_structure", "probes", *self.measures} <= set(results.split(", "))

    def _in_words(self, results: str) -> str:
        """Return a cell of ``undefined.csv`` as part of a sentence, such as "RDM, CKA or probe"."""
        if self._is_everything(results):
            return "results"
        *rest, last = [_WORDS.get(name, name.replace("_", " ")) for name in results.split(", ")]
        return f"{', '.join(rest)} or {last}" if rest else last

    def _incomplete(self) -> list[str]:
        """Name the layers that lack a result."""
        if self.undefined.empty:
            return []
        names = [f"{row.layer} of {row.view}" for row in self.undefined.itertuples()]
        return [f"Results are not defined for {_listed(names)}; undefined.csv says which, and why."]

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
        return _at_most(sentences, "more are not at their ends")

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
        return [f"Test accuracy on {' or '.join(sorted(sizes))} held-out examples: {_listed(scores)}."]

    def _readable(self) -> list[str]:
        """Say where probes of each network, or of the networks of each method, first read nearly all."""
        table = self.first_layers[self.first_layers["fraction"] == _DECISIVE]
        parts = []
        for method, every in table.groupby("method", sort=False):
            rows = every.dropna(subset="depth")
            if rows.empty:
                continue
            depth, n_layers = rows["depth"].mean(), rows["n_layers"].iloc[0]
            one = len(every) == 1
            where = (
                f"{rows['layer'].iloc[0]} ({depth:.0f} of {n_layers})" if one else f"layer {depth:.1f} of {n_layers}"
            )
            n = f"{len(rows)} of {len(every)}" if len(rows) < len(every) else len(rows)
            parts.append(f"{method} at {where}{'' if one else f' (mean of {n} seeds)'}")
        if not parts:
            return []
        return [f"First layer whose probe reaches {_PERCENT} of the last layer's accuracy: {_listed(parts)}."]

    def _unreadable(self) -> list[str]:
        """Name the networks of which it is not known where probes first read nearly all."""
        table = self.first_layers
        failed = table[(table["fraction"] == _DECISIVE) & (table["status"] == "failed")]
        sentences = [
            f"Which layer of {row.view} is the first to reach {_PERCENT} is not known: {row.message}."
            for row in failed.itertuples()
        ]
        return _at_most(sentences, "more are in first_layers.csv")

    def _edges(self) -> list[str]:
        """Say for how many probes the grid of C was too narrow."""
        at_edge = int(self.probes["C_at_edge"].sum()) if len(self.probes) else 0
        if not at_edge:
            return []
        return [f"C hit the edge of the grid for {at_edge} of {len(self.probes)} probes; widen it with --Cs."]

    def _structure(self) -> list[str]:
        from probes import first_layer_reaching  # slow to import, and of no use to who reads what is kept

        sentences = []
        found = first_layer_reaching(
            self.class_structure.assign(none=0.0), _DECISIVE, "class_structure", "none", network="view"
        )
        last = self.class_structure.drop_duplicates("view", keep="last")  # which may be NaN
        final = dict(zip(last["view"], last["class_structure"], strict=True))
        for row in found.itertuples():
            if final[str(row.view)] <= 0:
                sentences.append(f"The last layer of {row.view} has no class structure.")
                continue
            if row.status != "ok":
                sentences.append(f"Where class structure arises in {row.view} is not known: {row.message}.")
                continue
            sentences.append(
                f"Class structure reaches {_PERCENT} of its final value ({final[str(row.view)]:.2f}) at "
                f"{row.layer} ({row.depth:.0f} of {row.n_layers}) in {row.view}."
            )
        return _at_most(sentences, "more are in class_structure.csv")

    def _lowest_similarity(self) -> list[str]:
        from repsim.similarity import MEASURES

        reference, name = self.views[0].label, self.measures[0]
        if MEASURES[name].direction != "similarity":
            return []
        table = self.similarity
        same = table[
            (table["view_a"] == reference) & (table["view_b"] != reference) & (table["layer_a"] == table["layer_b"])
        ].dropna(subset=name)
        if same.empty:
            return []
        rows = same.loc[same.groupby("view_b", sort=False)[name].idxmin()]
        parts = [f"{row.view_b} {getattr(row, name):.2f} at {row.layer_a}" for row in rows.itertuples()]
        shown = "CKA" if name == "cka" else name
        return [f"Lowest {shown} to the same layer of {reference}: {_listed(parts)}."]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - _MOST_NAMED
    return ", ".join(parts if more <= 0 else [*parts[:_MOST_NAMED], f"and {more} more"])


def _at_most(sentences: Sequence[str], rest: str) -> list[str]:
    more = len(sentences) - _MOST_NAMED
    return list(sentences) if more <= 0 else [*sentences[:_MOST_NAMED], f"{more} {rest}."]


class Kept(Mapping[str, "pd.DataFrame"]):
    """The tables in a folder, each read when it is asked for, with the numbers that were written, to the last bit.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a table."""
        if name not in TABLES:
            raise KeyError(f"There is no table '{name}'; there are: {', '.join(TABLES)}.")
        if name not in self._read:
            self._read[name] = _read(self.folder / f"{name}.csv")
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of tables."""
        return iter(TABLES)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(TABLES)

    @cached_property
    def _read(self) -> dict[str, pd.DataFrame]:
        return {}


def _read(path: Path) -> pd.DataFrame:
    from analysis.comparison.table_files import read_table

    table = read_table(path)
    for name in _TEXTS:
        if name in table:
            table[name] = table[name].astype("object").fillna("").astype("str")
    return table
