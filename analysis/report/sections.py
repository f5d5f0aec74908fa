"""Texts and tables of the sections of the page: methods, runs, probes, differences, settings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.comparison.equal_steps import equal_steps, is_over_steps
from analysis.comparison.tables.probe_tables import LABEL, score_columns
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.view import View
from analysis.config.recorded_steps import is_trained_here
from analysis.config.roles import METHOD, REFERENCE
from analysis.own_parts.registries import KINDS
from repsim.registration import add_installed
from repsim.similarity import MEASURES

__all__ = [
    "TABLES_IN_SECTIONS",
    "TABLES_SHOWN",
    "ReportTable",
    "describe_measure",
    "describe_measures",
    "describe_methods",
    "own_report_table",
    "title_of",
]

_ABSENT = "\u2013"
_SPACE = "\u00a0"  # at which no line is broken
_NOT_KNOWN = {"failed": "not known"}  # as the summary says
_MOST_IN_TITLE = 4
_MOST_COLUMNS = 10  # of networks, for which there is room on the page


# Texts


def title_of(tables: Tables) -> str:
    """Return a title that names each method with the number of its networks, but no more than a few."""
    arms = tables["arms"].drop_duplicates("arm")
    if len(arms):
        n_seeds = dict(zip(arms["arm"], arms["n_seeds"], strict=True))
        roles = dict(zip(arms["arm"], arms["role"], strict=True))
        of = {
            role: [_counted(arm, n_seeds[arm]) for arm in roles if roles[arm] == role] for role in (METHOD, REFERENCE)
        }
        n_controls = sum(role not in of for role in roles.values())
        more = f", with {n_controls} control{'s' if n_controls > 1 else ''}" if n_controls else ""
        return f"{_some(of[METHOD])} compared with {_some(of[REFERENCE][:1])}{more}"
    networks = {view.network: tables.methods[view.label] for view in tables.views}
    if len(networks) == 1:
        return f"Analysis of {tables.views[0].run_name}"
    counts = Counter(networks.values())
    return f"Comparison of {_some([_counted(name, n) for name, n in counts.items()])}"


def _counted(name: str, n: int) -> str:
    return f"{name} ({n} seeds)" if n > 1 else name


def _some(names: Sequence[str]) -> str:
    """Return up to four names as a list in a sentence, or three and the number of the others."""
    if len(names) > _MOST_IN_TITLE:
        return f"{', '.join(names[: _MOST_IN_TITLE - 1])} and {len(names) - _MOST_IN_TITLE + 1} others"
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), names[-1]])


def describe_methods(tables: Tables) -> dict[str, str]:
    """Return a few sentences about the method of each section."""
    distance = tables.config.distance
    return {
        "probes": f"{_describe_probes(tables)} {_describe_bands(tables)}",
        "differences": _describe_differences(tables),
        "seeds": _describe_seeds(tables),
        "first": _reference(tables),
        "rdm": f"{distance.capitalize()} distance between the activations of held-out stimuli, ordered by class.",
    }


def _describe_probes(tables: Tables) -> str:
    return (
        "Each point is the accuracy of a linear classifier (multinomial logistic regression with an L2 penalty) that "
        "was fitted to a layer's activations on the training stimuli. The penalty is chosen by log loss on the "
        f"validation stimuli. The accuracy is on {tables.n_test} test stimuli, which were used for neither."
        f"{_describe_targets(tables)}"
    )


def _describe_targets(tables: Tables) -> str:
    """Name the targets other than the label, which have a figure of their own."""
    scores = {target: score for target, score in score_columns(tables["probes"]).items() if target != LABEL}
    if not scores:
        return ""
    classes = [target for target, score in scores.items() if score == "accuracy"]
    quantities = [target for target, score in scores.items() if score == "r2"]
    parts = [f"the classes of {', '.join(classes)}"] if classes else []
    parts += [f"the values of {', '.join(quantities)} (by ridge regression, with R²)"] if quantities else []
    return (
        f" Probes of {' and of '.join(parts)} are in the figure of other targets and in the tables below; choose the "
        "target above the chart."
    )


def _describe_seeds(tables: Tables) -> str:
    """Say what the band of a method is, if there are three or more networks of one."""
    networks = {view.network: tables.methods[view.label] for view in tables.views}
    if max(Counter(networks.values()).values()) < 3:
        return ""
    return "Networks of one method are one line: their mean, with its 95 % interval over networks (Student's t)."


def _describe_bands(tables: Tables) -> str:
    if tables["probe_bands"]["n_seeds"].max() < 2:
        return (
            "Bands are one standard error from the number of test stimuli, \u221a(p (1 \u2212 p) / n); they do not "
            "cover the variation between seeds."
        )
    return (
        "Bands are simultaneous 95 % bands over seeds: mean \u00b1 q standard errors, with q the quantile of the "
        "largest |t| over all layers (Monte Carlo, correlated layers), so that they cover all layers of a method at "
        "once. A single seed has no band."
    )


def _reference(tables: Tables) -> str:
    """Return the first method, with the step at which each is compared if there are several."""
    name = tables.methods[tables.views[0].label]
    return f"{name} at the same step" if is_over_steps(tables.views) else name


def _describe_differences(tables: Tables) -> str:
    last = ""
    if is_over_steps(tables.views):
        last = f" The table below shows step {equal_steps(tables.views)[-1]}; probe_differences.csv has all."
    return (
        f"Accuracy minus that of {_reference(tables)}, in pairs of networks of equal seed. The p-value of a layer "
        "alone is from a paired Student t-test. The p-value for all layers is from a permutation test that flips the "
        "signs of whole seeds and compares the largest |t| over layers (single-step max-T of Westfall and Young); with "
        "few seeds it cannot be below the smallest possible p. Bands are simultaneous 95 % bands over layers, for "
        f"normally distributed differences.{last}"
    )


def describe_measures(tables: Tables) -> list[dict[str, Any]]:
    """Return name, label, range and description of each measure in the table of similarities."""
    return [describe_measure(name) for name in tables.measures]


def describe_measure(name: str) -> dict[str, Any]:
    """Return name, label, range of colours (None: that of the values) and description of a measure."""
    if name not in MEASURES:
        label = name.replace("_", " ")
        return {"name": name, "label": label, "range": None, "words": label}
    measure = MEASURES[name]
    low, high = measure.range
    is_bounded = measure.direction == "similarity" and 0 < high < math.inf
    label = f"{measure.label[:1].upper()}{measure.label[1:]}"
    return {
        "name": name,
        "label": measure.label,
        "range": [max(low, 0.0), high] if is_bounded else None,
        "words": f"{label}, a {measure.direction} from {low:g} to {high:.3g}: {measure.about.formula}",
    }


# Networks


def _by_network(views: Sequence[View]) -> dict[str, list[View]]:
    """Return the views of each network, in the order of the views."""
    networks: dict[str, list[View]] = {}
    for view in views:
        networks.setdefault(view.network, []).append(view)
    return networks


# Tables


def _runs(tables: Tables) -> pd.DataFrame:
    """Return one row per network: rule, data, steps and accuracy."""
    rows = {name: _headline(views) for name, views in _by_network(tables.views).items()}
    return pd.DataFrame.from_dict(rows, orient="index").map(_shown_value)


def _headline(views: Sequence[View]) -> dict[str, Any]:
    config, status = views[-1].run.config, views[-1].run.status
    training = config["training"] if is_trained_here(config) else {}
    source, data = config.get("source"), config.get("data")
    model = source.get("model") if isinstance(source, dict) else None
    return {
        "rule": training.get("rule"),
        "network": training.get("model") or training.get("network", model),
        "depth": training.get("depth"),
        "data": data.get("name") if isinstance(data, dict) else data,
        "seed": training.get("seed"),
        "state": status.get("state"),
        "test accuracy": status.get("test_accuracy"),
        "steps shown": ", ".join(str(view.step) for view in views),
    }


def _accuracy_by_layer(tables: Tables) -> pd.DataFrame:
    """Return one row per layer and one column per view and target: accuracy, or R², of the probe on test."""
    probes = tables["probes"]
    scores = score_columns(probes)
    parts = []
    for target, score in scores.items():
        rows = probes[probes["target"] == target]
        table = rows.pivot(index=["depth", "layer"], columns="view", values=score)
        table = table[[view.label for view in tables.views if view.label in table]]
        if len(scores) > 1:
            table.columns = [f"{target}{' (R²)' if score == 'r2' else ''}, {view}" for view in table]
        parts.append(table)
    shown = pd.concat(parts, axis=1).map(lambda value: _ABSENT if pd.isna(value) else f"{value:.3f}")
    shown = shown.droplevel("depth").rename_axis(index=None, columns=None)
    return shown.T if len(shown.columns) > max(_MOST_COLUMNS, len(shown)) else shown


def _first_layers(tables: Tables) -> pd.DataFrame:
    """Return one row per view and target: the first layers that reach shares of the last layer's score."""
    table = tables["first_layers"]
    several = table["target"].nunique() > 1
    table = table.assign(view=table["view"] + (", " + table["target"] if several else ""))
    columns = zip(table["layer"], table["depth"], table["n_layers"], table["status"], strict=True)
    shown = table.assign(
        share=[f"{100 * fraction:g} %" for fraction in table["fraction"]],
        where=[
            f"{layer}{_SPACE}({depth:.0f}{_SPACE}of{_SPACE}{n})" if status == "ok" else _NOT_KNOWN.get(status, status)
            for layer, depth, n, status in columns
        ],
    )
    shares = list(dict.fromkeys(shown["share"]))
    pivoted = shown.pivot(index="view", columns="share", values="where")
    return pivoted.loc[list(dict.fromkeys(shown["view"])), shares].rename_axis(index=None, columns=None)


def _differences(tables: Tables) -> pd.DataFrame:
    """Return one row per method and layer: the difference to the first method at the last step, band and p-values."""
    table = tables["probe_differences"]
    if is_over_steps(tables.views):
        table = table[table["method"].isin(_methods_at_end(tables))]
    if table.empty:
        return pd.DataFrame()
    band = [
        f"{_signed(low)}{_SPACE}to{_SPACE}{_signed(high)}"
        for low, high in zip(table["band_low"], table["band_high"], strict=True)
    ]
    named = ["target"] if table["target"].nunique() > 1 else []
    shown = table[[*named, "method", "layer", "n_seeds"]].rename(columns={"n_seeds": "seeds"})
    shown["difference"] = [_ABSENT if pd.isna(value) else _signed(value) for value in table["difference"]]
    shown["95 % band, all layers"] = [_ABSENT if "nan" in text else text for text in band]
    for column, name in _P_VALUES.items():
        shown[name] = table[column].map(_shown_p)
    return shown


def _methods_at_end(tables: Tables) -> set[str]:
    """Return the methods, as the tables of probes name them, at the last step that all networks share."""
    probes, last = tables["probes"], equal_steps(tables.views)[-1]
    return set(probes.loc[probes["step"] == last, "method"])


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")


def _shown_p(value: float) -> str:
    """Return a p-value with so many decimals as its neighbours."""
    return _ABSENT if pd.isna(value) else "< 0.0001" if value < 1e-4 else f"{value:.4f}"


_P_VALUES = {"p_value": "p, this layer alone", "p_adjusted": "p, all layers", "p_least": "smallest p possible"}


def _run_settings(tables: Tables) -> pd.DataFrame:
    """Return one column per method: how its networks were trained, their state, and the version of torch."""
    facts: dict[str, list[dict[str, str]]] = {}
    for views in _by_network(tables.views).values():
        facts.setdefault(tables.methods[views[-1].label], []).append(_facts(views))
    columns = {
        _counted(name, len(networks)): {
            fact: _distinct([each.get(fact, _ABSENT) for each in networks])
            for fact in dict.fromkeys(fact for each in networks for fact in each)
        }
        for name, networks in facts.items()
    }
    return pd.DataFrame(columns).fillna(_ABSENT)


def _distinct(values: Sequence[str]) -> str:
    """Return the value that all networks of a method share, or those of each network in their order."""
    return values[0] if len(set(values)) == 1 else "; ".join(values)


def _facts(views: Sequence[View]) -> dict[str, str]:
    run = views[-1].run
    config, status, environment = run.config, run.status, run.info.get("environment", {})
    facts = dict(config)
    if is_trained_here(config):
        training = config["training"]
        unused = ("boundaries", "estimator_learning_rate") if training.get("rule") == "backprop" else ()
        facts = {_spaced(name): None if name.startswith(unused) else value for name, value in training.items()}
        facts |= {f"{rule}, boundaries": shorten_ranges(ks) for rule, ks in config.get("boundaries", {}).items()}
        facts |= {f"examples, {part}": config["data"][f"n_{part}"] for part in ("train", "validation", "test")}
    steps = ", ".join(str(view.step) for view in views)
    facts |= {"step shown": steps, "state": status.get("state"), "test accuracy": status.get("test_accuracy")}
    facts |= {"torch": environment.get("packages", {}).get("torch")}
    return {name: _shown_value(value) for name, value in facts.items()}


def _analysis_settings(tables: Tables) -> pd.DataFrame:
    """Return one row per field of the config of the analysis."""
    values = {_spaced(name): _shown_value(value) for name, value in tables.config.to_dict().items()}
    return pd.DataFrame({"value": values})


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _shown_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown_value, value))
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return _ABSENT
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def shorten_ranges(numbers: Sequence[int]) -> str:
    """Return ascending whole numbers as text, with their ranges.

    Examples
    --------
    >>> shorten_ranges([1, 2, 3, 7])
    '1-3, 7'
    """
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """A table with a section of its own: heading, link to it, text above it, and the function that builds it."""

    heading: str
    link: str
    build: Callable[[Tables], pd.DataFrame]
    words: str = ""


def own_report_table(name: str, given: Any, *, heading: str = "", link: str = "", words: str = "") -> ReportTable:
    """Return the table that a user registers: a ``ReportTable``, or a function of the tables that returns a DataFrame.

    With a function the heading and the link to it are the name unless they are declared.
    """
    if isinstance(given, ReportTable):
        return given
    if not callable(given):
        raise TypeError(f"The report table '{name}' is {given!r}; expected a ReportTable, or a function of the tables.")
    return ReportTable(heading=heading or name, link=link or heading or name, build=given, words=words)


TABLES_SHOWN: dict[str, ReportTable] = {
    "accuracies": ReportTable(heading="Probe accuracy on test", link="Accuracies", build=_accuracy_by_layer),
    "first-layers": ReportTable(
        heading="First layer whose probe reaches a share of the last layer's accuracy",
        link="First layers",
        build=_first_layers,
        words="Later layers may fall below that share again.",
    ),
    "networks": ReportTable(heading="Settings of the runs", link="Settings", build=_run_settings),
}
TABLES_IN_SECTIONS = {"runs": _runs, "differences": _differences, "analysis_settings": _analysis_settings}

add_installed(KINDS["report_tables"])
