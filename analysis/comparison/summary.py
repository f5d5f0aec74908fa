"""Sentences about the tables of a comparison: the summary, and the layers that lack a result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from analysis.comparison.attribution.answer import answer
from analysis.comparison.attribution.arm_rows import describe_setting
from analysis.comparison.attribution.arms import FORK_STEP, differing_settings
from analysis.comparison.equal_steps import Twins, is_over_steps, similarity_at_equal_steps, twins_of
from analysis.comparison.matched_stimuli import describe_matching
from analysis.comparison.tables.probe_tables import LABEL, score_columns
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.view import View
from analysis.config.recorded_steps import is_trained_here

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_any_defined", "summarise", "undefined_sentences"]

_FRACTION = 0.9
_PERCENT = f"{100 * _FRACTION:.0f} %"
_MOST_NAMED = 12
_MOST_LISTED = 6  # networks in one sentence
_ROUNDING = 1e-6  # by which the similarity of equal layers may be off
_OF_THE_RULE = ("seed", "rule", "boundaries", "estimator_learning_rate")
_NAMES = {"rdm": "RDM", "rdm_similarity": "RDM similarity", "probes": "probe"}


def summarise(tables: Tables) -> list[str]:
    """Return a few sentences with the numbers that matter first."""
    first, details = answer(tables)
    return [
        *first,
        *details,
        *describe_matching(tables.views),
        *_more_than_the_rule(tables),
        *_few_seeds(tables),
        *_unfinished(tables),
        *_accuracies(tables),
        *_first_layers(tables),
        *_unknown_first_layers(tables),
        *_best_scores(tables),
        *_class_structure(tables),
        *_forks(tables),
        *_lowest_similarity(tables),
        *_edges(tables),
        *_incomplete(tables),
    ]


def undefined_sentences(tables: Tables) -> list[str]:
    """Return sentences on layers that lack a result: run, step, the missing results and the reason.

    Layers that lack the same for the same reason, one after another, share a sentence.
    """
    networks = {view.label: view.network for view in tables.views}
    sentences, n_layers = [], []
    for (view, step, results, reason), layers in _runs_of(tables["undefined"], ["view", "step", "results", "reason"]):
        names = _span([repr(layer) for layer in layers])
        which = f"layer {names} has" if len(layers) == 1 else f"{'layers ' if len(layers) == 2 else ''}{names} have"
        lacking = _results(results, tables)
        sentences.append(f"{networks[view]}, step {step}, {which} no {lacking}. {_sentence(reason)}")
        n_layers.append(len(layers))
    rest = sum(n_layers[_MOST_NAMED:])
    return sentences[:_MOST_NAMED] + ([f"{rest} more layers are in undefined.csv."] if rest else [])


def _runs_of(table: pd.DataFrame, columns: Sequence[str]) -> list[tuple[tuple[Any, ...], list[str]]]:
    """Return the layers of neighbouring rows that have the same values in some columns, with these values."""
    rows = table[[*columns, "layer"]].itertuples(index=False, name=None)
    return [(key, [row[-1] for row in each]) for key, each in groupby(rows, key=lambda row: row[:-1])]


def check_any_defined(tables: Tables) -> None:
    """Check that at least one layer has a result."""
    undefined = tables["undefined"]
    lacking = [_is_everything(results, tables) for results in undefined["results"]]
    if len(lacking) == sum(len(view.listed) for view in tables.views) and all(lacking):
        first = undefined.iloc[0]
        raise ValueError(
            f"No layer can be analysed: all {len(lacking)} are undefined. The first is layer {first['layer']!r} of "
            f"{first['run']} at step {first['step']}: {_sentence(first['reason'])}"
        )


def _is_everything(results: str, tables: Tables) -> bool:
    return {"rdm", "class_structure", "probes", *tables.config.measures} <= set(results.split(", "))


def _results(results: str, tables: Tables) -> str:
    """Return a cell of ``undefined.csv`` as part of a sentence, such as "RDM, CKA or probe"."""
    if _is_everything(results, tables):
        return "results"
    *rest, last = [_NAMES.get(name) or _label(name) for name in results.split(", ")]
    return f"{', '.join(rest)} or {last}" if rest else last


def _label(measure: str) -> str:
    from repsim.similarity import MEASURES  # not needed to read a stored summary

    return MEASURES[measure].label if measure in MEASURES else measure.replace("_", " ")


def _more_than_the_rule(tables: Tables) -> list[str]:
    """Name the settings of training, other than those of the rule, in which runs differ from the reference."""
    if not tables["arms"].empty:
        return []  # which the answer names
    first = tables.views[0].run
    twins = twins_of(tables.views)
    found: dict[str, list[str]] = {}
    for view in tables.views[1:]:
        ignored = (*_OF_THE_RULE, FORK_STEP) if view.network in twins else _OF_THE_RULE
        differing = differing_settings(first.config, view.run.config, ignored=ignored)
        if differing:
            said = ", ".join(describe_setting(name, *values) for name, values in differing.items())
            found.setdefault(said, []).append(view.network)
    sentences = [
        f"{_named(dict.fromkeys(networks))} differ{'s' if len(set(networks)) == 1 else ''} from "
        f"{tables.views[0].network} in more than the rule: {said} (in parentheses: {tables.views[0].network})."
        for said, networks in found.items()
    ]
    return _at_most(sentences, "more networks differ in more than the rule")


def _few_seeds(tables: Tables) -> list[str]:
    """Say that single networks are no evidence about learning rules."""
    runs = {view.run.path: view.run.config for view in tables.views}
    if not tables["arms"].empty or len(runs) < 2 or not all(map(is_trained_here, runs.values())):
        return []
    return [
        "There are fewer than three networks per method, so that any difference may be one between seeds. Train three "
        "or more (--seeds 0-4) to attribute differences to methods."
    ]


def _unfinished(tables: Tables) -> list[str]:
    """Name the runs whose training has not finished, and those compared at another step than their last."""
    latest = {view.run.path: view for view in tables.views}
    alone = len(latest) == 1
    sentences = []
    for view in latest.values():
        status = view.run.status
        state, n_steps = status.get("state"), status.get("n_steps", view.step)
        if is_trained_here(view.run.config) and (state != "finished" or (view.step != n_steps and not alone)):
            name = view.run_name if alone else view.label
            sentences.append(f"{name} is shown at step {view.step} of {n_steps}; its training is {state}.")
    return _at_most(sentences, "more are not at their ends")


def _accuracies(tables: Tables) -> list[str]:
    scores: dict[str, dict[str, float]] = {}
    sizes, groups = set(), _groups(tables)
    for view in tables.views:
        status = view.run.status
        at_end = status.get("state") == "finished" and status.get("step") == view.step
        if at_end and "n_test" in status and status.get("test_accuracy") is not None:  # regression has none
            scores.setdefault(groups[view.label], {})[view.label] = float(status["test_accuracy"])
            sizes.add(str(status["n_test"]))
    if not scores:
        return []
    if _is_one_network(tables.views):
        parts = [f"{score:.3f} at {label}" for each in scores.values() for label, score in each.items()]
    else:
        parts = [part for group, each in scores.items() for part in _mean_or_each(group, each)]
    return [f"Test accuracy on {' or '.join(sorted(sizes))} held-out examples: {_shortly(parts)}."]


def _mean_or_each(group: str, scores: dict[str, float]) -> list[str]:
    """Return the mean and range of the networks of a method, or the score of each of up to two networks."""
    if len(scores) < 3:
        return [f"{label} {score:.3f}" for label, score in scores.items()]
    low, high, mean = min(scores.values()), max(scores.values()), sum(scores.values()) / len(scores)
    return [f"{group} {mean:.3f} (mean of {len(scores)} networks, {low:.3f} to {high:.3f})"]


def _first_layers(tables: Tables) -> list[str]:
    """Name the first layer of each network, or of the networks of each method, whose probe is nearly the best."""
    table = tables["first_layers"]
    targets = list(table["target"].unique())
    sentences = []
    for target in targets:
        rows = table[(table["fraction"] == _FRACTION) & (table["target"] == target)]
        if parts := [*_reaching(_at_ends(rows, tables))]:
            score = "accuracy" if score_columns(tables["probes"])[target] == "accuracy" else "R²"
            probe = "probe" if len(targets) == 1 else f"probe of {target}"
            sentences.append(
                f"First layer whose {probe} reaches {_PERCENT} of the last layer's {score}{_when(tables.views)}: "
                f"{_shortly(parts)}."
            )
    return _at_most(sentences, "more targets are in first_layers.csv")


def _at_ends(table: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    """Leave out the views that are at no end, and name methods without their step."""
    rows = table[~table["view"].isin({view.label for view in tables.views} - set(_ends(tables.views)))]
    if _is_one_network(tables.views):
        return rows
    return rows.assign(method=rows["view"].map(tables.methods).fillna(rows["method"]))


def _when(views: Sequence[View]) -> str:
    """Return the part of a sentence on ends that says when they are, if networks are shown at several steps."""
    return " at the last step" if is_over_steps(views) else ""


def _reaching(table: pd.DataFrame) -> list[str]:
    """Return the first layers of one target and fraction, one part of a sentence per method."""
    parts = []
    for method, every in table.groupby("method", sort=False):
        rows = every.dropna(subset="depth")
        if rows.empty:
            continue
        depth, n_layers = rows["depth"].mean(), rows["n_layers"].iloc[0]
        if len(every) == 1:
            parts.append(f"{method} at {rows['layer'].iloc[0]} ({depth:.0f} of {n_layers})")
        else:
            n = f"{len(rows)} of {len(every)}" if len(rows) < len(every) else len(rows)
            parts.append(f"{method} at layer {f'{depth:.1f}'.removesuffix('.0')} of {n_layers} (mean of {n} networks)")
    return parts


def _unknown_first_layers(tables: Tables) -> list[str]:
    """Name the networks whose first layer of that kind is unknown, as a probe failed."""
    table = tables["first_layers"]
    failed = table[(table["fraction"] == _FRACTION) & (table["status"] == "failed")]
    sentences = []
    for target in failed["target"].unique():
        of_target = "" if table["target"].nunique() == 1 else f" for {target}"
        sentences += [
            f"The first layer that reaches {_PERCENT}{of_target} is not known for {names}: {reason}."
            for reason, names in _names_by(failed[failed["target"] == target], "message").items()
        ]
    return sentences


def _best_scores(tables: Tables) -> list[str]:
    """Name the layer of each view whose probe of each further target scores best."""
    probes = tables["probes"]
    sentences = []
    for target, column in score_columns(probes).items():
        rows = probes[probes["target"] == target].dropna(subset=column)
        if target == LABEL or rows.empty:
            continue
        best = rows.loc[rows.groupby("view", sort=False)[column].idxmax()]
        parts = [f"{row.view} {getattr(row, column):.3f} at {row.layer}" for row in best.itertuples()]
        score = "accuracy" if column == "accuracy" else "R²"
        sentences.append(f"Best probe of {target}, {score} on test: {_listed(parts)}.")
    return _at_most(sentences, "more targets are in probes.csv")


def _edges(tables: Tables) -> list[str]:
    """Count the probes for which the grid of C was too narrow."""
    probes = tables["probes"]
    at_edge = int(probes["C_at_edge"].sum()) if len(probes) else 0
    if not at_edge:
        return []
    return [f"C hit the edge of the grid for {at_edge} of {len(probes)} probes; widen it with --Cs."]


def _class_structure(tables: Tables) -> list[str]:
    """Name the first layer of each network whose class structure is nearly that of the last layer."""
    from probes import first_layer_reaching  # slow to import, and not needed to read a stored summary

    table = tables["class_structure"]
    table = table[~table["view"].isin({view.label for view in tables.views} - set(_ends(tables.views)))]
    first = first_layer_reaching(table.assign(none=0.0), _FRACTION, "class_structure", "none", network="view")
    last = table.drop_duplicates("view", keep="last").set_index("view")["class_structure"]  # which may be NaN
    first = first.assign(final=first["view"].map(last), group=first["view"].map(_groups(tables)))
    absent = first["final"] <= 0
    known = first[~absent & (first["status"] == "ok")]
    unknown = _names_by(first[~absent & (first["status"] != "ok")], "message")
    sentences = [f"Where class structure arises in {names} is not known: {why}." for why, names in unknown.items()]
    if absent.any():
        sentences.insert(0, f"The last layer has no class structure in {_named(first['view'][absent])}.")
    if len(known):
        parts = [_reached(rows) for _, rows in known.groupby("group", sort=False)]
        when = _when(tables.views)
        sentences.insert(0, f"Class structure reaches {_PERCENT} of its final value{when}: {_listed(parts)}.")
    return sentences


def _groups(tables: Tables) -> dict[str, str]:
    """Return the group of each view: its method if that has more than two networks, otherwise its label."""
    methods = tables.methods
    sizes = Counter({view.network: methods[view.label] for view in tables.views}.values())
    return {label: method if sizes[method] > 2 else label for label, method in methods.items()}


def _ends(views: Sequence[View]) -> list[str]:
    """Return the last view of each network, or the first and the last one if there is only one network."""
    last = {view.network: view.label for view in views}
    return list(dict.fromkeys([*([views[0].label] if len(last) == 1 else []), *last.values()]))


def _is_one_network(views: Sequence[View]) -> bool:
    return len({view.network for view in views}) == 1


def _reached(rows: pd.DataFrame) -> str:
    """Return where the networks of a group reach the final value, and this value."""
    group, n_layers = rows["group"].iloc[0], rows["n_layers"].iloc[0]
    depths, finals = _range(rows["depth"], ".0f"), _range(rows["final"], ".2f")
    if len(rows) == 1:
        return f"{group} at {rows['layer'].iloc[0]} ({depths} of {n_layers}, final value {finals})"
    layers = "layer" if rows["depth"].nunique() == 1 else "layers"
    return f"{group} at {layers} {depths} of {n_layers} ({len(rows)} networks, final values {finals})"


def _range(values: pd.Series, format_: str) -> str:
    low, high = f"{values.min():{format_}}", f"{values.max():{format_}}"
    return low if low == high else f"{low} to {high}"


def _names_by(rows: pd.DataFrame, column: str) -> dict[str, str]:
    """Return the names of views that share a value of a column, by that value."""
    return {str(value): _named(each["view"]) for value, each in rows.groupby(column, sort=False)}


def _forks(tables: Tables) -> list[str]:
    """Say of each fork of the reference when and where it first differs from its twin, and where most at the end."""
    twins = twins_of(tables.views)
    if not twins:
        return []
    table = similarity_at_equal_steps(tables)
    return [_fork(pair, table[table["network"] == network], tables) for network, pair in twins.items()]


def _fork(twins: Twins, table: pd.DataFrame, tables: Tables) -> str:
    """Return the sentence about one fork, from the similarity of its layers to those of its twin at equal steps."""
    head = f"{twins.fork} was forked from {twins.source} at step {twins.step}"
    table = table.dropna(subset="change")
    if table.empty:
        return (
            f"{head}; no layer of both is compared at one step. Choose steps that both recorded, such as --steps all."
        )
    differing, last = table[table["change"] > _ROUNDING], table[table["step"] == table["step"].max()]
    if differing.empty:
        return f"{head}; no layer differs at the steps shown, up to step {last['step'].iloc[0]}."
    first = differing[differing["step"] == differing["step"].min()]
    said = f"first differs at step {_most_changed(first, tables)}"
    if first["step"].iloc[0] != last["step"].iloc[0]:
        said += f", and at the end differs most at step {_most_changed(last, tables)}"
    return f"{head}; of the steps shown, it {said}. This is one pair of networks, so that it allows no verdict."


def _most_changed(rows: pd.DataFrame, tables: Tables) -> str:
    """Return the step of some rows, and the layer that differs most there."""
    row = rows.iloc[int(rows["change"].to_numpy().argmax())]
    return f"{row['step']}, layer {row['layer']} ({_label(tables.config.measures[0])} {row['value']:.3f})"


def _lowest_similarity(tables: Tables) -> list[str]:
    from repsim.similarity import MEASURES

    reference, name = tables.views[0].label, tables.config.measures[0]
    if MEASURES[name].direction != "similarity":
        return []
    if is_over_steps(tables.views):
        rows = similarity_at_equal_steps(tables).assign(view=lambda table: table["network"], at=_at_step)
        head = f"to the same layer of {tables.views[0].network} at the same step"
    else:
        rows = _to_same_layer(tables["similarity"], reference, name)
        head = f"to the same layer of {reference}"
    if _is_one_network(tables.views):
        rows = rows[rows["view"] == tables.views[-1].label]
        head = (
            f"to the same layer of the {'untrained network' if reference == 'untrained' else f'network at {reference}'}"
        )
    groups = _groups(tables)
    groups |= {view.network: groups[view.label] for view in tables.views if groups[view.label] != view.label}
    parts = _lowest_by_group(rows.dropna(subset="value"), groups)
    return [f"Lowest {_label(name)} {head}: {_shortly(parts)}."] if parts else []


def _at_step(table: pd.DataFrame) -> pd.Series:
    return table["layer"].astype(str) + ", step " + table["step"].astype(str)


def _to_same_layer(table: pd.DataFrame, reference: str, measure: str) -> pd.DataFrame:
    """Return the view, place and similarity of each layer to the same layer of the reference."""
    is_same = table["layer_a"] == table["layer_b"]
    rows = table[is_same & (table["view_a"] == reference) & (table["view_b"] != reference)]
    return rows.assign(view=rows["view_b"], at=rows["layer_a"], value=rows[measure])


def _lowest_by_group(rows: pd.DataFrame, groups: dict[str, str]) -> list[str]:
    """Return the lowest similarity and its place of each network, or of all networks of a method."""
    rows = rows.assign(group=[groups.get(view, view) for view in rows["view"]])
    parts = []
    for group, every in rows.groupby("group", sort=False):
        lowest, n = every.iloc[int(every["value"].to_numpy().argmin())], every["view"].nunique()
        parts.append(f"{group} {lowest['value']:z.2f} at {lowest['at']}{f' (lowest of {n} networks)' if n > 1 else ''}")
    return parts


def _incomplete(tables: Tables) -> list[str]:
    """Name the layers that lack a result."""
    undefined = tables["undefined"]
    if undefined.empty:
        return []
    names = [f"{_span(layers)} of {view}" for (view,), layers in _runs_of(undefined, ["view"])]
    return [f"Results are not defined for {_named(names)}; undefined.csv lists them with the reasons."]


def _span(layers: Sequence[str]) -> str:
    """Return layers as part of a sentence; of several, how many they are, as others may lie between."""
    return f"{len(layers)} layers from {layers[0]} to {layers[-1]}" if len(layers) > 2 else " and ".join(layers)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _listed(parts: Iterable[str], most: int = _MOST_NAMED) -> str:
    parts = list(parts)
    more = len(parts) - most
    return ", ".join(parts if more <= 0 else [*parts[:most], f"and {more} more"])


def _named(names: Iterable[str]) -> str:
    """Return names as part of a sentence, the last after "and"."""
    *rest, last = names = list(names)
    return _listed(names) if len(names) > _MOST_NAMED or not rest else f"{', '.join(rest)} and {last}"


def _shortly(parts: Iterable[str]) -> str:
    """Return at most a few parts; the tables and charts have all."""
    return _listed(parts, _MOST_LISTED)


def _at_most(sentences: Sequence[str], rest: str) -> list[str]:
    more = len(sentences) - _MOST_NAMED
    return list(sentences) if more <= 0 else [*sentences[:_MOST_NAMED], f"{more} {rest}."]
