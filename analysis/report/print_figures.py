"""Figures for print in the page: PNG, SVG and PDF of limited size."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.image import imread, imsave

from analysis.plots.drawing import Drawing, save_figure
from analysis.report.packing import pack

__all__ = ["embed_figure"]

_MOST_BYTES = 500_000  # of an SVG or a PDF in the page
_MOST_PICTURE = 250_000  # of a PNG; a larger one is shown as WebP
_MOST_RASTER = 1_000_000  # of the PNG of a figure that gets an SVG; larger ones consist of matrices
_MOST_PIXELS = 1_500_000
_WIDE = 8.0  # inches of a figure that needs the width of a printed page
_PIXELS_PER_INCH = 96  # of a page, so that the type of all figures has one size


def embed_figure(drawing: Drawing, figures: Path) -> dict[str, Any]:
    """Return the heading, caption, picture and files of a drawing for the page.

    A large PNG is shown at a lower resolution; a large PDF or SVG is left out.
    """
    png = (figures / f"{drawing.name}.png").read_bytes()
    return {
        "name": drawing.name,
        "heading": drawing.heading,
        "caption": drawing.caption,
        "source": _picture_url(png),
        "is_wide": bool(drawing.figure.get_figwidth() > _WIDE),
        "width": round(_PIXELS_PER_INCH * drawing.figure.get_figwidth()),
        "files": {kind: pack(data) for kind, data in _vector_files(drawing, figures, len(png))},
        "data": drawing.table,
        "leads": drawing.leads,
    }


def _picture_url(png: bytes) -> str:
    """Return a data URL of the PNG, or of a smaller WebP if the PNG is large."""
    if len(png) <= _MOST_PICTURE:
        return f"data:image/png;base64,{base64.b64encode(png).decode()}"
    pixels = imread(BytesIO(png))
    block = ceil(sqrt(pixels.shape[0] * pixels.shape[1] / _MOST_PIXELS))
    height, width = (side // block for side in pixels.shape[:2])
    blocks = pixels[: height * block, : width * block].reshape(height, block, width, block, -1)
    file = BytesIO()
    imsave(file, np.ascontiguousarray(blocks.mean(axis=(1, 3))), format="webp", pil_kwargs={"quality": 80})
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _vector_files(drawing: Drawing, figures: Path, png_bytes: int) -> Iterator[tuple[str, bytes]]:
    if png_bytes <= _MOST_RASTER:
        with TemporaryDirectory() as name:
            path = Path(name) / f"{drawing.name}.svg"
            save_figure(drawing.figure, path)
            svg = path.read_bytes()
        if len(svg) <= 4 * _MOST_BYTES:  # SVG compresses well
            yield "svg", svg
    pdf = (figures / f"{drawing.name}.pdf").read_bytes()
    if len(pdf) <= _MOST_BYTES:
        yield "pdf", pdf
