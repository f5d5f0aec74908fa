"""Seeds of a method in one curve: their mean with a band, or each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from scipy.stats import t as student_t

from analysis.comparison.figures.comparison_figure import ComparisonFigure
from analysis.comparison.tables.result_tables import Tables
from analysis.plots.styles import LineStyle, method_styles, step_styles

__all__ = ["Curves", "curve_styles", "curves_of", "is_of_steps", "n_seeds", "over_seeds", "seeds_caption"]

_FEWEST = 3  # networks whose mean has an interval


@dataclass(frozen=True)
class Curves:
    """Curves of methods: a table with the column ``curve``, the ends of bands by value, and all styles by curve."""

    table: pd.DataFrame
    bands: Mapping[str, tuple[str, str]]
    styles: Mapping[str, LineStyle]


def over_seeds(build: Callable[[bool], ComparisonFigure]) -> ComparisonFigure:
    """Return the figure of means over seeds, which holds that of single seeds; ``build`` takes whether they are."""
    return replace(build(False), singly=build(True))


def is_of_steps(tables: Tables) -> bool:
    """Return whether the views are steps of one network, each of which is then a curve."""
    return len({view.run.path for view in tables.views}) == 1


def curve_styles(tables: Tables) -> dict[str, LineStyle]:
    """Return the styles in every figure and on the page: of methods, of arms, and of the steps of one network."""
    styles = method_styles([*tables.methods.values(), *map(str, tables["arms"]["arm"])])
    if not is_of_steps(tables):
        return styles
    labels = [view.label for view in tables.views]
    return styles | (step_styles(labels) if len(labels) > 1 else dict.fromkeys(labels, next(iter(styles.values()))))


def n_seeds(tables: Tables) -> dict[str, int]:
    """Return the number of networks of each method."""
    networks = {view.run.path: tables.methods[view.label] for view in tables.views}
    return dict(Counter(networks.values()))


def seeds_caption(tables: Tables, *, seeds: bool) -> str:
    """Return the sentence of a caption that says what curves and bands are; none if each method has one network."""
    counts = n_seeds(tables)
    if max(counts.values()) < 2:
        return ""
    if seeds:
        return " One line per network; networks of one method share its style."
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    band = ", and bands their 95 % intervals (Student's t)" if max(counts.values()) >= _FEWEST else ""
    return f" Lines are means over the networks of a method ({listed}){band}."


def curves_of(
    tables: Tables, table: pd.DataFrame, values: Sequence[str], keys: Sequence[str], *, seeds: bool
) -> Curves:
    """Return the curves of a table with one row per view and point.

    Parameters
    ----------
    tables : Tables
    table : DataFrame
        With columns ``view``, the values and the keys.
    values : sequence of str
        Columns to draw. Their means are over the networks where they are defined.
    keys : sequence of str
        Columns that tell points of a curve apart; the last is that of the x-axis.
    seeds : bool
        Whether each network is drawn, in place of means and bands. A band is the 95 % interval of the mean over three
        or more networks, all of which have a value.
    """
    styles, counts = curve_styles(tables), n_seeds(tables)
    rows = table.assign(curve=table["view"].map(_names(tables)))
    if max(counts.values()) < 2:
        return Curves(rows, {}, styles)
    if seeds:
        return Curves(_separated(rows, values), {}, styles)
    groups = rows.groupby(["curve", *keys], sort=False)[list(values)]
    drawn, n = groups.mean(), groups.count()
    half = groups.std() * student_t.ppf(0.975, n - 1) / n**0.5
    is_whole = n.eq(drawn.index.get_level_values("curve").map(counts), axis=0) & (n >= _FEWEST)
    half = half.where(is_whole)
    bands = {value: (f"{value}_low", f"{value}_high") for value in values}
    for value, (lower, upper) in bands.items():
        drawn[lower], drawn[upper] = drawn[value] - half[value], drawn[value] + half[value]
    drawn = drawn.reset_index().sort_values(list(keys), kind="stable")
    return Curves(drawn, bands, styles)


def _names(tables: Tables) -> dict[str, str]:
    """Return the curve of each view, and that of each network, which tables of runs name in place of views."""
    methods = tables.methods
    if not is_of_steps(tables):
        return {view.network: methods[view.label] for view in tables.views} | methods
    first = tables.views[0]
    method = methods[first.label]
    return {first.run_name: method, first.network: method} | {view.label: view.label for view in tables.views}


def _separated(rows: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    """Return rows with one without values after each view, so that the networks of a method are apart."""
    parts = [part for _, each in rows.groupby("view", sort=False) for part in (each, _gap(each, values))]
    return pd.concat(parts, ignore_index=True)


def _gap(rows: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    return rows.iloc[:1].assign(**dict.fromkeys(values, float("nan")))
