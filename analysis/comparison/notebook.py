"""What the findings of an analysis look like in a notebook."""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.comparison.result import Findings

__all__ = ["findings_html", "plot_findings"]


def findings_html(findings: Findings) -> str:
    """Return the summary, and what was looked at: one row a view. Names are escaped."""
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in findings.summary())
    rows = "".join(
        f"<tr><td>{escape(view.label)}</td><td>{view.step}</td><td>{escape(str(view.run.path))}</td></tr>"
        for view in findings.views
    )
    head = "<tr><th>view</th><th>step</th><th>run</th></tr>"
    folder = escape(str(findings.folder))
    return f"<b>Findings</b> in {folder}<ul>{sentences}</ul><table>{head}{rows}</table>"


def plot_findings(findings: Findings, name: str, ax: Axes | None = None) -> Axes:
    """Draw one figure of the report.

    Parameters
    ----------
    findings : Findings
    name : str
        Of the figure, as its file is called: ``probe_accuracy``, ``rdm_grid``, ``cka``, ...
    ax : matplotlib Axes, optional
        The figure, which may have several axes, is put on it as a picture. By default it stays a figure of its own.

    Returns
    -------
    Axes
        The given ones, or the figure's first.

    Raises
    ------
    ValueError
        If the tables of these findings allow no such figure; the message lists those there are.
    """
    from analysis.comparison.figures import draw

    there = []
    for drawing in draw(findings):
        if drawing.name == name:
            return drawing.figure.axes[0] if ax is None else _pictured(drawing.figure, ax)
        there.append(drawing.name)
    raise ValueError(f"There is no figure '{name}'. Choose one of: {', '.join(there)}.")


def _pictured(figure: Figure, ax: Axes) -> Axes:
    from matplotlib.image import imread

    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    picture.seek(0)
    ax.imshow(imread(picture), interpolation="antialiased")
    ax.set_axis_off()
    return ax
