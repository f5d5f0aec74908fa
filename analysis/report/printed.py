"""The drawn figures in a page: as PNG, SVG and PDF, none of them too large."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.image import imread, imsave

from analysis.comparison.result import Findings
from analysis.plots.drawing import Drawing
from analysis.report.layers import measures_of
from analysis.report.packing import pack

__all__ = ["data_of", "printed"]

_MOST_BYTES = 500_000  # of an SVG or a PDF in the page
_MOST_PICTURE = 250_000  # of a PNG; what is larger is shown as WebP
_MOST_RASTER = 1_000_000  # of the PNG of a figure whose SVG is worth drawing: above, it is all matrices
_MOST_PIXELS = 1_500_000
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
        Folder with its PNG and PDF. A PNG that is too large is shown coarser, a PDF or SVG is left out.
    findings : Findings
    """
    png = (figures / f"{drawing.name}.png").read_bytes()
    return {
        "name": drawing.name,
        "heading": drawing.heading,
        "caption": drawing.caption,
        "source": _shown(png),
        "files": {kind: pack(data) for kind, data in _files(drawing, figures, len(png))},
        "data": data_of(drawing.name, findings) or "",
    }


def data_of(figure: str, findings: Findings) -> str | None:
    """Return the table that a figure draws: a table's name, ``"rdm"``, or None."""
    name = _TABLES.get(figure, figure)
    if name in measures_of(findings.similarity):
        return "similarity"
    return name if name == "rdm" or name in findings.tables else None


def _shown(png: bytes) -> str:
    """Return a data URL of a picture: the PNG itself unless it is large."""
    if len(png) <= _MOST_PICTURE:
        return f"data:image/png;base64,{base64.b64encode(png).decode()}"
    pixels = imread(BytesIO(png))
    block = ceil(sqrt(pixels.shape[0] * pixels.shape[1] / _MOST_PIXELS))
    height, width = (side // block for side in pixels.shape[:2])
    blocks = pixels[: height * block, : width * block].reshape(height, block, width, block, -1)
    file = BytesIO()
    imsave(file, np.ascontiguousarray(blocks.mean(axis=(1, 3))), format="webp", pil_kwargs={"quality": 80})
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _files(drawing: Drawing, figures: Path, png_bytes: int) -> Iterator[tuple[str, bytes]]:
    if png_bytes <= _MOST_RASTER:
        with TemporaryDirectory() as name, mpl.rc_context({"svg.hashsalt": drawing.name}):
            path = Path(name) / f"{drawing.name}.svg"
            drawing.figure.savefig(path, metadata={"Date": None})
            svg = path.read_bytes()
        if len(svg) <= 4 * _MOST_BYTES:  # it packs well
            yield "svg", svg
    pdf = (figures / f"{drawing.name}.pdf").read_bytes()
    if len(pdf) <= _MOST_BYTES:
        yield "pdf", pdf
