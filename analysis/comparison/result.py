"""Result of a comparison: its tables, with a summary, figures and a view for notebooks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from analysis.comparison.summary import summarise
from analysis.comparison.tables.result_tables import Tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ComparisonResult"]


@dataclass(frozen=True, eq=False)
class ComparisonResult:
    """The result of ``analyze_run`` or ``compare_runs``. It shows itself in a notebook.

    Attributes
    ----------
    tables : Tables
        A mapping of names to DataFrames, such as ``result.tables["probes"]``, with the views, the settings and the
        folder. ``docs/tables.md`` describes each table.
    stored_summary : sequence of str, optional
        The summary that was written with the tables; None if it is to be computed from them.
    """

    tables: Tables
    stored_summary: Sequence[str] | None = None

    def summary(self) -> list[str]:
        """Return a few sentences with the numbers that matter first."""
        return summarise(self.tables) if self.stored_summary is None else list(self.stored_summary)

    def plot(self, name: str, ax: Axes | None = None) -> Axes:
        """Draw one figure of the report.

        Parameters
        ----------
        name : str
            Name of the figure's file: ``probe_accuracy``, ``rdm_grid``, ``cka``, ...
        ax : matplotlib Axes, optional
            Axes that show the figure as a picture. By default the figure is drawn on axes of its own.

        Returns
        -------
        Axes
            ``ax``, or the first axes of the new figure.

        Raises
        ------
        ValueError
            If the tables allow no figure of that name; the message lists those that they allow.
        """
        from analysis.comparison.figures import draw_figures, possible_figures  # import matplotlib

        for drawing in draw_figures(self.tables, name):
            return drawing.figure.axes[0] if ax is None else _show_picture(drawing.figure, ax)
        possible = ", ".join(possible_figures(self.tables))
        raise ValueError(f"There is no figure '{name}'. Choose one of: {possible}.")

    def _repr_html_(self) -> str:
        """Return the summary and one row per view as HTML. Names are escaped."""
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.summary())
        rows = "".join(
            f"<tr><td>{escape(view.label)}</td><td>{view.step}</td><td>{escape(str(view.run.path))}</td></tr>"
            for view in self.tables.views
        )
        head = "<tr><th>view</th><th>step</th><th>run</th></tr>"
        folder = escape(str(self.tables.folder))
        return f"<b>Comparison</b> in {folder}<ul>{sentences}</ul><table>{head}{rows}</table>"


def _show_picture(figure: Figure, ax: Axes) -> Axes:
    from matplotlib.image import imread

    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    picture.seek(0)
    ax.imshow(imread(picture), interpolation="antialiased")
    ax.set_axis_off()
    return ax
