"""Figures with a name, heading and caption, and their PNG and PDF files."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

__all__ = ["Drawing", "embedded", "save_figures"]


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
        drawing.figure.savefig(folder / f"{drawing.name}.png", dpi=150)
        drawing.figure.set_layout_engine("none")  # keep the layout, which takes as long as drawing
        drawing.figure.savefig(
            folder / f"{drawing.name}.pdf", metadata={"CreationDate": None}
        )  # equal figures give equal files


def embedded(drawing: Drawing, figures: Path) -> dict[str, str]:
    """Return name, heading, caption and picture of a drawing for a page; the picture is its PNG as a data URL."""
    data = base64.b64encode((figures / f"{drawing.name}.png").read_bytes()).decode()
    return {
        "name": drawing.name,
        "heading": drawing.heading,
        "caption": drawing.caption,
        "source": f"data:image/png;base64,{data}",
    }
