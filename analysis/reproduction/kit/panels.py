"""Panels of figures: labels, legends, dotted lines, error bars and curves over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.plots import plot_lines

__all__ = ["INTERVAL", "RANGE", "diagonal", "dotted", "error_bars", "jitter", "label", "legend", "plot_means"]

INTERVAL = ("mean", "low", "high")
RANGE = ("mean", "least", "most")


def label(ax: Axes, *, title: str | None = None, xlabel: str | None = None, ylabel: str | None = None) -> None:
    """Set the title and the labels of a panel; None leaves one as it is."""
    if title is not None:
        ax.set_title(title, fontsize=10)
    if xlabel is not None:
        ax.set_xlabel(xlabel)
    if ylabel is not None:
        ax.set_ylabel(ylabel)


def legend(ax: Axes, **where: Any) -> None:
    """Add a small framed legend."""
    ax.legend(**{"frameon": True, "fontsize": "small", **where})


def dotted(ax: Axes, *, x: float | None = None, y: float | None = None, **style: Any) -> None:
    """Draw a dotted reference line at x, at y, or at both."""
    style = {"color": "0.4", "linestyle": ":", "linewidth": 1, **style}
    if x is not None:
        ax.axvline(x, **style)
    if y is not None:
        ax.axhline(y, **style)


def diagonal(ax: Axes, values: pd.Series, **style: Any) -> None:
    """Draw a dotted line of equal coordinates over the range of values."""
    ends = [values.min(), values.max()]
    ax.plot(ends, ends, **{"color": "0.4", "linestyle": ":", "linewidth": 1, **style})


def error_bars(ax: Axes, x: Any, rows: pd.DataFrame, **style: Any) -> None:
    """Draw the means of ``seed_intervals`` with their intervals."""
    error = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
    ax.errorbar(x, rows["mean"], yerr=error, **style)


def plot_means(
    ax: Axes,
    table: pd.DataFrame,
    x: str,
    *,
    columns: tuple[str, str, str] = INTERVAL,
    curve: str = "method",
    among: Sequence[str] | None = None,
    legend: bool = True,
) -> None:
    """Draw the rows of ``seed_intervals`` over x, one curve per method, with a band; see ``plot_lines``.

    ``columns`` are the height of the curve and the ends of its band, as in ``INTERVAL`` and ``RANGE``.
    """
    y, *band = columns
    plot_lines(table, x, y, curve=curve, band=(band[0], band[1]), among=among, legend=legend, ax=ax)


def jitter(n: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Return n offsets that keep the marks of seeds apart."""
    return np.linspace(-0.15, 0.15, max(n, 2))[:n]
