"""Result of a comparison: its tables, with a summary, figures and a view for notebooks and terminals."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from analysis.comparison.summary import summarise
from analysis.comparison.tables.result_tables import Tables
from analysis.config.figure_style import FigureConfig
from checkpoints.storage.regular_files import is_regular

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ComparisonResult"]


_MAIN_FIGURES = ("probe_accuracy", "class_structure")  # that a notebook shows beside the most telling one
_LARGEST = (900, 900)  # pixels of a figure in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class ComparisonResult:
    """The result of ``analyze_run`` or ``compare_runs``. It shows itself in a notebook, with its main figures.

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

    @property
    def report(self) -> Path:
        """Path of the report, a page that works offline."""
        return self.tables.folder / "report.html"

    @property
    def figures(self) -> list[str]:
        """Names of the figures that ``plot`` draws, in the order of the report."""
        from analysis.comparison.figures import possible_figures  # imports matplotlib

        return list(possible_figures(self.tables))

    def plot(
        self,
        name: str | None = None,
        ax: Axes | None = None,
        *,
        style: str = "screen",
        width: str = "page",
        seeds: bool = False,
    ) -> Axes:
        """Draw one figure of the report.

        Parameters
        ----------
        name : str, optional
            One of ``figures``. By default the most telling one: the differences between arms if arms are compared,
            the similarity to the reference over steps if there are several steps, the similarity between layers of
            several networks, and the accuracy of probes by layer for one network.
        ax : matplotlib Axes, optional
            Axes that show the figure as a picture. By default the figure is drawn on axes of its own.
        style : {"screen", "paper"}, default "screen"
            With "paper" the figure has a fixed width and text of 7 to 9 points; ``savefig`` of its figure writes text
            as text, to ``.pdf`` and ``.svg``. The settings of matplotlib are not changed.
        width : {"page", "column"}, default "page"
            6.75 or 3.25 inches, in the style for papers.
        seeds : bool, default False
            Whether every seed is drawn, in place of the mean over the seeds of a method with a band.

        Returns
        -------
        Axes
            ``ax``, or the first axes of the new figure.

        Raises
        ------
        ValueError
            If the tables allow no figure of that name; the message lists those that they allow. If the style or the
            width is unknown.

        Examples
        --------
        ``result.plot("cka", style="paper", width="column").figure.savefig("cka.pdf")``
        """
        from analysis.comparison.figures import draw_figures  # imports matplotlib

        config = FigureConfig(style=style, width=width, seeds=seeds)
        config.check_choices()
        name = self._most_telling() if name is None else name
        for drawing in draw_figures(self.tables, name, config=config):
            return drawing.figure.axes[0] if ax is None else _show_picture(drawing.figure, ax)
        raise ValueError(f"There is no figure '{name}'. Choose one of: {', '.join(self.figures)}.")

    def _most_telling(self) -> str:
        """Return the name of the figure that answers the question of the comparison."""
        from analysis.comparison.figures import FIGURES, possible_figures  # imports matplotlib

        possible = possible_figures(self.tables)
        leading = [name for name, figure in possible.items() if figure.leads]
        between = [name for name, figure in possible.items() if figure is FIGURES["similarity"]]
        several = len({view.network for view in self.tables.views}) > 1
        return [*leading, *(between if several else []), "probe_accuracy"][0]

    def __repr__(self) -> str:
        """Return the summary, and what else the result holds, as text."""
        filled = [name for name, table in self.tables.items() if len(table)]
        lines = [
            f"{len(self.tables.views)} views in {self.tables.folder}",
            *(f"- {sentence}" for sentence in self.summary()),
            f"Tables, such as result.tables[{filled[0]!r}]: {', '.join(filled)}",
            f"Figures, such as result.plot({self.figures[0]!r}): {', '.join(self.figures)}",
            f"Report: {self.report}",
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the summary, the main figures, one row per view and a link to the report as HTML. Names are escaped.

        The link is relative to the working directory, as notebook servers open no others.
        """
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.summary())
        main = dict.fromkeys([self._most_telling(), *_MAIN_FIGURES])
        pictures = "".join(self._picture_as_html(name) for name in main)
        rows = "".join(
            f"<tr><td>{escape(view.label)}</td><td>{view.step}</td><td>{escape(str(view.run.path))}</td></tr>"
            for view in self.tables.views
        )
        head = "<tr><th>view</th><th>step</th><th>run</th></tr>"
        target = escape(quote(os.fsencode(os.path.relpath(self.report))), quote=True)
        link = f'<a href="{target}" target="_blank">{escape(str(self.report))}</a>'
        folder = escape(str(self.tables.folder))
        table = f"<table>{head}{rows}</table>"
        return f"<b>Comparison</b> in {folder}<ul>{sentences}</ul>{pictures}{table}<p>Report: {link}</p>"

    def _picture_as_html(self, name: str) -> str:
        data = base64.b64encode(self._picture(name)).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{escape(name, quote=True)}" style="max-width: 100%">'

    def _picture(self, name: str) -> bytes:
        """Return a figure as PNG of moderate size: from its file if there is one, as drawing takes a while."""
        from PIL import Image  # matplotlib needs it

        from analysis.plots.axes import figure_of

        self.tables.check_current()
        stored = self.tables.folder / "figures" / f"{name}.png"
        source: Any = stored if is_regular(stored) and stored.stat().st_size else io.BytesIO()
        if source is not stored:
            figure_of(self.plot(name)).savefig(source, format="png", dpi=100)
        picture = io.BytesIO()
        with Image.open(source) as image:
            shown = image.convert("RGB")
        shown.thumbnail(_LARGEST)
        shown.save(picture, format="png", optimize=True)
        return picture.getvalue()


def _show_picture(figure: Figure, ax: Axes) -> Axes:
    from matplotlib.image import imread

    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    picture.seek(0)
    ax.imshow(imread(picture), interpolation="antialiased")
    ax.set_axis_off()
    return ax
