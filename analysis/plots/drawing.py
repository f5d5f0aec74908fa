"""Figures with a name, heading and caption, and their PNG and PDF files."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from repsim.similarity.drawing.figure_axes import lay_out
from repsim.similarity.drawing.paper import FILE_STYLE, PaperFigure

__all__ = ["Drawing", "embedded", "keep_layout", "save_figure", "save_figures"]

_DPI, _PAPER_DPI = 150, 300
_FAST = {"compress_level": 3}  # of PNG files, which are a few per cent larger than at level 6


@dataclass(frozen=True)
class Drawing:
    """A figure with its file name, heading and caption, the name of its table, and whether it leads a report."""

    name: str
    heading: str
    caption: str
    figure: Figure
    table: str = ""
    leads: bool = False


def save_figures(drawings: Sequence[Drawing], folder: Path) -> None:
    """Write each figure as PNG and PDF into a new folder."""
    folder.mkdir()
    for drawing in drawings:
        for kind in ("png", "pdf"):
            save_figure(drawing.figure, folder / f"{drawing.name}.{kind}")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the ending of the path names; equal figures give equal files.

    The layout is computed for the first file and then kept, as it takes as long as drawing.
    """
    keep_layout(figure)
    kind = path.suffix.removeprefix(".")
    if kind == "png":
        original, figure.dpi = figure.dpi, _PAPER_DPI if isinstance(figure, PaperFigure) else _DPI
        FigureCanvasAgg(figure).print_png(path, pil_kwargs=_FAST)  # savefig would draw twice
        figure.dpi = original
        return
    style: Any = FILE_STYLE if isinstance(figure, PaperFigure) else {"svg.hashsalt": "repsim"}
    with mpl.rc_context(style):
        _VECTORS[kind](figure)(path, metadata={"pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind])


def keep_layout(figure: Figure) -> None:
    """Compute the layout of a figure and keep it."""
    lay_out(figure)
    figure.set_layout_engine("none")


def _pdf(figure: Figure) -> Callable[..., None]:
    return FigureCanvasPdf(figure).print_pdf


def _svg(figure: Figure) -> Callable[..., None]:
    return FigureCanvasSVG(figure).print_svg


_VECTORS = {"pdf": _pdf, "svg": _svg}


def embedded(drawing: Drawing, figures: Path) -> dict[str, str]:
    """Return name, heading, caption and picture of a drawing for a page; the picture is its PNG as a data URL."""
    data = base64.b64encode((figures / f"{drawing.name}.png").read_bytes()).decode()
    return {
        "name": drawing.name,
        "heading": drawing.heading,
        "caption": drawing.caption,
        "source": f"data:image/png;base64,{data}",
    }
