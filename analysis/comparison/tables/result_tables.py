"""Tables of a comparison as data: DataFrames by name, the file of RDMs, the views and the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.comparison.tables.schema import TABLES, read_table
from analysis.comparison.tasks.rdm_file import RDM_FILE, read_rdm
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Tables"]

_TEXT_IF_EMPTY = ("status", "message")  # columns whose empty cells are empty text


@dataclass(frozen=True, eq=False)
class Tables(Mapping[str, "pd.DataFrame"]):
    """The tables of one comparison, by their names in ``TABLES``.

    Attributes
    ----------
    views : sequence of View
        The first is the reference.
    config : AnalysisConfig
    folder : Path
        Holds ``rdm.h5``, and one CSV file per table unless the tables were just computed.
    frames : dict of str to DataFrame
        Tables that are in memory. Any other table is read from its file when it is first used.
    is_current : callable () -> bool, optional
        Whether the folder still holds these results; asked before a file is read.
    """

    views: Sequence[View]
    config: AnalysisConfig
    folder: Path
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    is_current: Callable[[], bool] | None = None

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a table."""
        if name not in TABLES:
            raise KeyError(f"There is no table '{name}'. Choose one of: {', '.join(TABLES)}.")
        if name not in self.frames:
            self.check_current()
            self.frames[name] = _read(self.folder / f"{name}.csv")
        return self.frames[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the tables."""
        return iter(TABLES)

    def __len__(self) -> int:
        """Return the number of tables."""
        return len(TABLES)

    @property
    def rdm_path(self) -> Path:
        """The HDF5 file of RDMs."""
        return self.folder / RDM_FILE

    @property
    def n_test(self) -> int:
        """The number of held-out stimuli."""
        return len(self.views[0].rows("test"))

    @property
    def measures(self) -> list[str]:
        """The measures in the table of similarities; figures show the first."""
        return [str(name) for name in self["similarity"] if name not in TABLES["similarity"].columns]

    @property
    def methods(self) -> dict[str, str]:
        """The method of each view by its label; networks that differ in their seeds share one, at every step."""
        named = dict(zip(self["probes"]["view"], self["probes"]["method"], strict=True))
        return {
            view.label: str(named[view.label]).removesuffix(f", step {view.step}")
            if named.get(view.label, view.label) != view.label
            else view.network
            for view in self.views
        }

    def rdm(self, view: int, layer: str) -> NDArray[Any]:
        """Return the condensed dissimilarity matrix of a layer, by the position of the view."""
        self.check_current()
        return read_rdm(self.rdm_path, view, layer)

    def check_current(self) -> None:
        """Raise ValueError if the folder holds other results by now."""
        if self.is_current is not None and not self.is_current():
            raise ValueError(
                f"{self.folder} holds other results by now than those of this object. Compare or analyze again, or "
                "give each comparison an output of its own."
            )

    def write(self, folder: Path) -> None:
        """Write one CSV file per table. Infinite values become empty cells."""
        import numpy as np

        for name, table in self.items():
            table.replace([np.inf, -np.inf], np.nan).to_csv(folder / f"{name}.csv", index=False)


def _read(path: Path) -> pd.DataFrame:
    table = read_table(path)
    for name in _TEXT_IF_EMPTY:
        if name in table:
            table[name] = table[name].astype("object").fillna("").astype("str")
    return table
