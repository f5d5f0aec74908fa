"""Tables of probes: scores of each network, statistics over seeds, first layers that reach a fraction."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.comparison.tables.comparison_table import LAYER, METHOD, STATUS, VIEW, Column, ComparisonTable
from analysis.comparison.tasks.analysis_tasks import AnalysisTasks, require
from analysis.comparison.tasks.plan import plan_probes
from analysis.comparison.view import View
from analysis.config.recorded_steps import is_trained_here

if TYPE_CHECKING:
    import pandas as pd

    Tables = Mapping[str, pd.DataFrame]

__all__ = [
    "FIRST_LAYERS",
    "FRACTIONS",
    "LABEL",
    "PROBES",
    "PROBE_BANDS",
    "PROBE_DIFFERENCES",
    "first_layer_table",
    "probe_band_table",
    "probe_difference_table",
    "probe_table",
    "score_columns",
]

LABEL = "label"  # the target that runs name so: their labels

FRACTIONS = (0.5, 0.8, 0.9, 0.95, 0.99)  # of the accuracy at the last layer

_PROBED = (
    *("n_constant", "n_train", "n_validation", "n_test", "C", "C_at_edge", "C_extended", "accuracy"),
    *("balanced_accuracy", "log_loss", "train_accuracy", "validation_log_loss"),
    *("r2", "mse", "train_r2", "validation_mse", "chance", "v_information"),
    *("relative_gap", "n_iter", "converged"),
)
_LEFT_OUT = (
    *("network", "checkpoint", "layer_index", "codelength"),
    *("random_label_accuracy", "random_label_r2", "control_accuracy", "selectivity"),
)
_TARGET = {"target": Column("name of the target; label for the labels of the run", is_text=True)}
_OVER_SEEDS = {
    "standard_error": Column("standard error over seeds"),
    "low": Column("lower end of a 95 % interval for this layer alone"),
    "high": Column("upper end of the same interval"),
    "band_low": Column("lower end of a 95 % band that covers all layers of the method at once"),
    "band_high": Column("upper end of the same band"),
}


# Probes


def _probes(tasks: AnalysisTasks, _: Tables) -> pd.DataFrame:
    import pandas as pd

    tables: dict[int, list[pd.DataFrame]] = {}
    for task in tasks.by_table["probes"]:
        view = tasks.places(task.inputs["sources"][0])[0][0]
        tables.setdefault(view, []).append(require(task.result().tables, "probes", task))
    return probe_table(tasks.views, [pd.concat(each, ignore_index=True) for each in tables.values()])


def probe_table(views: Sequence[View], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return one row per network, layer and target: a probe fitted on train, chosen on validation, scored on test.

    Networks that differ in nothing but their seed have the same ``method``.
    """
    import pandas as pd

    named = [
        rows.assign(view=view.label, step=view.step, depth=pd.factorize(rows["layer"])[0] + 1)
        for view, rows in zip(views, tables, strict=True)
    ]
    table = pd.concat(named, ignore_index=True)
    methods = dict(zip([view.label for view in views], _methods(views), strict=True))
    table["run"] = table["view"].map({view.label: view.location for view in views})
    table["method"] = table["view"].map({label: method for label, (method, _) in methods.items()})
    table["seed"] = table["view"].map({label: seed for label, (_, seed) in methods.items()})
    first = ["view", "run", "step", "layer", "depth", "d", "method", "seed"]
    return table[[*first, *(name for name in table if name not in {*first, *_LEFT_OUT})]]


def score_columns(probes: pd.DataFrame) -> dict[str, str]:
    """Return the column that scores the probes of each target: accuracy, or R² of a continuous target."""
    kinds = probes.drop_duplicates("target").set_index("target")["kind"]
    return {str(target): "r2" if kind == "continuous" else "accuracy" for target, kind in kinds.items()}


PROBES = ComparisonTable(
    row="a view, layer and target",
    columns={
        **VIEW,
        **LAYER,
        "d": Column(),
        **METHOD,
        "seed": Column("seed of the network; 0 if it is the only one of its method"),
        **_TARGET,
        "kind": Column(is_text=True),
        **dict.fromkeys(_PROBED, Column()),
        "C_extended": Column("decades by which the default grid was extended; empty if `--Cs` was given"),
        **STATUS,
    },
    plan=plan_probes,
    build=_probes,
)


# Over seeds


def probe_band_table(probes: pd.DataFrame) -> pd.DataFrame:
    """Return one row per target, method and layer: mean score over seeds, an interval, and a band for all layers."""
    import pandas as pd

    from probes import seed_bands

    tables = [
        seed_bands(rows, value=score)
        .merge(rows[["layer", "depth"]].drop_duplicates("layer"), on="layer")
        .assign(target=target)
        for target, score in score_columns(probes).items()
        for _, rows in probes[probes["target"] == target].groupby("method", sort=False)
    ]
    return pd.concat(tables, ignore_index=True)[list(PROBE_BANDS.columns)]


PROBE_BANDS = ComparisonTable(
    row="a target, method and layer",
    columns={
        **METHOD,
        "layer": LAYER["layer"],
        "n_seeds": Column("networks of the method"),
        "mean": Column("mean accuracy over seeds; mean R² of a continuous target"),
        **_OVER_SEEDS,
        **STATUS,
        "depth": LAYER["depth"],
        **_TARGET,
    },
    build=lambda _, tables: probe_band_table(tables["probes"]),
)


def first_layer_table(probes: pd.DataFrame) -> pd.DataFrame:
    """Return one row per target, view and fraction: the first layer that reaches this fraction of the last one's score.

    The score is the accuracy, or R² of a continuous target.
    """
    import pandas as pd

    from probes import first_layer_reaching

    tables = [
        first_layer_reaching(
            probes[probes["target"] == target], fraction, score, network=["view", "method", "seed"]
        ).assign(fraction=fraction, target=target)
        for target, score in score_columns(probes).items()
        for fraction in FRACTIONS
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[list(FIRST_LAYERS.columns)]


FIRST_LAYERS = ComparisonTable(
    row="a target, view and fraction",
    columns={
        "view": VIEW["view"],
        **METHOD,
        "seed": Column("seed of the network"),
        "fraction": Column("fraction of the accuracy (R² of a continuous target) at the last layer"),
        "depth": Column("depth of the first layer whose probe reaches that fraction"),
        "layer": Column("name of this layer", is_text=True),
        "n_layers": Column("number of layers"),
        **STATUS,
        **_TARGET,
    },
    build=lambda _, tables: first_layer_table(tables["probes"]),
)


def probe_difference_table(probes: pd.DataFrame) -> pd.DataFrame:
    """Return one row per target, method and layer: the score minus that of the first method, in pairs of equal seeds.

    Of several steps, each is compared with the first method at the same step. Only methods that have the same two or
    more seeds as the first have rows, and only layers that both have.
    """
    import pandas as pd

    tables = []
    for target, score in score_columns(probes).items():
        rows = probes[probes["target"] == target]
        of = {str(method): each for method, each in rows.groupby("method", sort=False)}
        pairs = [(of[reference], of[method]) for method, reference in _references(probes).items()]
        found = [_differences(reference, method, score) for reference, method in pairs]
        tables += [each.assign(target=target) for each in found if each is not None]
    if not tables:
        return pd.DataFrame(columns=list(PROBE_DIFFERENCES.columns))
    return pd.concat(tables, ignore_index=True)[list(PROBE_DIFFERENCES.columns)]


def _references(probes: pd.DataFrame) -> dict[str, str]:
    """Return the method that each other method is compared with: the first one, at the same step if it has several."""
    steps = dict(zip(probes["method"].astype(str), probes["step"], strict=True))
    first, step = next(iter(steps.items()))
    name = first.removesuffix(f", step {step}")
    at = {steps[method]: method for method in steps if method == f"{name}, step {steps[method]}"} or {step: first}
    if len(at) == 1:
        return {method: first for method in steps if method != first}
    return {method: at[step] for method, step in steps.items() if at.get(step, method) != method}


def _differences(reference: pd.DataFrame, method: pd.DataFrame, score: str) -> pd.DataFrame | None:
    """Return the differences of a method to the first one; None if their seeds differ or they share no layer."""
    import pandas as pd

    from probes import seed_differences

    seeds, layers = set(reference["seed"]), set(method["layer"]) & set(reference["layer"])
    if len(seeds) < 2 or set(method["seed"]) != seeds or not layers:
        return None
    both = pd.concat([reference, method])
    name = reference["method"].iloc[0]
    table = seed_differences(both[both["layer"].isin(layers)], reference=name, value=score)
    depths = reference.drop_duplicates("layer").set_index("layer")["depth"]
    return table.assign(depth=table["layer"].map(depths))


PROBE_DIFFERENCES = ComparisonTable(
    row="a target, method and layer, for methods that have the seeds of the first method (two or more); of several "
    "steps, each less the first method at the same step",
    columns={
        **METHOD,
        **LAYER,
        "n_seeds": Column("pairs of networks with equal seeds"),
        "difference": Column(
            "accuracy (R² of a continuous target) minus that of the first method, mean over pairs of equal seeds"
        ),
        **_OVER_SEEDS,
        "p_value": Column("p-value for this layer alone (paired t-test)"),
        "p_adjusted": Column("p-value adjusted for all layers (permutation test, max-T)"),
        "p_least": Column("smallest adjusted p-value that so few seeds can give"),
        **STATUS,
        **_TARGET,
    },
    build=lambda _, tables: probe_difference_table(tables["probes"]),
)


# Methods


def _methods(views: Sequence[View]) -> list[tuple[str, int]]:
    """Return the method and the seed of each view; a network without others of its method has seed 0."""
    trained = [_without_seed(view) for view in views]
    counts = Counter(key for key, _ in trained)
    repeated = {key for (key, _), count in Counter(trained).items() if count > 1}  # a copy of a network
    names: dict[str, str] = {}
    taken = {view.label for view in views}
    n_steps = Counter(view.run.path for view in views)
    found = []
    for view, (key, seed) in zip(views, trained, strict=True):
        if counts[key] < 2 or key in repeated or seed is None:
            found.append((view.label, 0))
            continue
        if key not in names:
            name = _method_name(view)
            choices = [name] * (n_steps[view.run.path] == 1) + [f"{name}, step {view.step}"]
            free = (each for each in choices if each not in taken)
            names[key] = next(free, view.label)
            taken.add(names[key])
        found.append((names[key], seed))
    return found


def _without_seed(view: View) -> tuple[str, int | None]:
    config: dict[str, Any] = view.run.config
    if not is_trained_here(config):
        return view.label, None
    training = {name: value for name, value in config["training"].items() if name != "seed"}
    fork = config.get("forked_from", {})
    trained = [training, config["data"], view.step, fork.get("step"), fork.get("changes")]
    return json.dumps(trained, sort_keys=True), config["training"].get("seed")


def _method_name(view: View) -> str:
    """Return the folder of several seeds, as far as it is in the label, or the name of the network."""
    folder, _, name = view.label.rpartition("/")
    if not name.startswith("seed-"):
        return view.label
    return folder or view.run.path.absolute().parent.name
