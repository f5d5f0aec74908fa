"""The drawn figures in a page: as PNG, SVG and PDF, none of them too large."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl

from analysis.drawing import Drawing
from analysis.findings import Findings
from analysis.report.layers import measures_of
from analysis.report.packing import pack

__all__ = ["data_of", "printed"]

_MOST_BYTES = 500_000  # of a file in the page
_COARSE = 60  # dots an inch of what would be larger
_TABLES = {
    "probe_accuracy": "probes",
    "rdm_grid": "rdm",
    "alignment": "gradients",
}  # of other figures it is the table of that name, or the similarities if it is a measure's


def printed(drawing: Drawing, figures: Path, findings: Findings) -> dict[str, Any]:
    """Return what the page shows and offers of a drawing.

    Parameters
    ----------
    drawing : Drawing
    figures : Path
        Folder with its PNG and PDF. Those that are too large are drawn coarser, and left out if that does not help.
    findings : Findings
    """
    files = dict(_files(drawing, figures))
    png = files.pop("png", b"")
    return {
        "name": drawing.name,
        "heading": drawing.heading,
        "caption": drawing.caption,
        "source": f"data:image/png;base64,{base64.b64encode(png).decode()}",
        "files": {kind: pack(data) for kind, data in files.items()},
        "data": data_of(drawing.name, findings) or "",
    }


def data_of(figure: str, findings: Findings) -> str | None:
    """Return the table that a figure draws: a table's name, ``"rdm"``, or None."""
    name = _TABLES.get(figure, figure)
    if name in measures_of(findings.similarity):
        return "similarity"
    return name if name == "rdm" or name in findings.tables else None


def _files(drawing: Drawing, figures: Path) -> Iterator[tuple[str, bytes]]:
    with TemporaryDirectory() as name, mpl.rc_context({"svg.hashsalt": drawing.name}):
        for kind in ("png", "svg", "pdf"):
            kept, made = figures / f"{drawing.name}.{kind}", Path(name) / f"{drawing.name}.{kind}"
            if not kept.is_file():
                drawing.figure.savefig(made, metadata={"Date": None} if kind == "svg" else None)
                kept = made
            if kept.stat().st_size > _MOST_BYTES:
                drawing.figure.savefig(made, dpi=_COARSE)
                kept = made
            if kind == "png" or kept.stat().st_size <= _MOST_BYTES:
                yield kind, kept.read_bytes()
