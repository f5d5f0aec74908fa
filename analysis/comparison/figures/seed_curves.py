"""Seeds of a method in one curve: their mean with a band, or each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from scipy.stats import t as student_t

from analysis.comparison.figures.comparison_figure import ComparisonFigure
from analysis.comparison.tables.result_tables import Tables

__all__ = ["Curves", "curves_of", "method_names", "methods_of", "over_seeds", "seeds_caption"]

_FEWEST = 3  # networks whose mean has an interval


@dataclass(frozen=True)
class Curves:
    """Curves of methods: a table with the column ``curve``, the ends of bands by value, and all methods in order."""

    table: pd.DataFrame
    bands: Mapping[str, tuple[str, str]]
    methods: Sequence[str]


def over_seeds(build: Callable[[bool], ComparisonFigure]) -> ComparisonFigure:
    """Return the figure of means over seeds, which holds that of single seeds; ``build`` takes whether they are."""
    return replace(build(False), singly=build(True))


def methods_of(tables: Tables) -> dict[str, str]:
    """Return the method of each view without its step, in the order of the views; of a network alone, its name."""
    probes = tables["probes"].drop_duplicates("view")
    named = dict(zip(probes["view"], probes["method"], strict=True))
    return {
        view.label: str(named.get(view.label, view.label)).removesuffix(f", step {view.step}") for view in tables.views
    }


def method_names(tables: Tables) -> list[str]:
    """Return the names of the methods in the order of their styles."""
    return list(dict.fromkeys(methods_of(tables).values()))


def n_seeds(tables: Tables) -> dict[str, int]:
    """Return the number of networks of each method."""
    methods = methods_of(tables)
    networks = {(methods[view.label], view.run.path) for view in tables.views}
    return {method: sum(name == method for name, _ in networks) for method in dict.fromkeys(methods.values())}


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
    methods, counts = methods_of(tables), n_seeds(tables)
    rows = table.assign(curve=table["view"].map(methods))
    if max(counts.values()) < 2:
        return Curves(rows, {}, list(counts))
    if seeds:
        return Curves(_separated(rows, values), {}, list(counts))
    groups = rows.groupby(["curve", *keys], sort=False)[list(values)]
    drawn, n = groups.mean(), groups.count()
    half = groups.std() * student_t.ppf(0.975, n - 1) / n**0.5
    is_whole = n.eq(drawn.index.get_level_values("curve").map(counts), axis=0) & (n >= _FEWEST)
    half = half.where(is_whole)
    bands = {value: (f"{value}_low", f"{value}_high") for value in values}
    for value, (lower, upper) in bands.items():
        drawn[lower], drawn[upper] = drawn[value] - half[value], drawn[value] + half[value]
    drawn = drawn.reset_index().sort_values(list(keys), kind="stable")
    return Curves(drawn, bands, list(counts))


def _separated(rows: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    """Return rows with one without values after each view, so that the networks of a method are apart."""
    parts = [part for _, each in rows.groupby("view", sort=False) for part in (each, _gap(each, values))]
    return pd.concat(parts, ignore_index=True)


def _gap(rows: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    return rows.iloc[:1].assign(**dict.fromkeys(values, float("nan")))
