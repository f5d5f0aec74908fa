"""E3: networks of up to fifty hidden layers, by backprop and with a synthetic gradient in the middle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.config.recording import RecordingConfig
from analysis.plots import noted, plot_lines
from analysis.plots.axes import axes_grid
from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Experiment, Part, Plan, Results, Section
from analysis.reproduction.networks import Recipe
from analysis.reproduction.summary import listed, seed_intervals
from repsim.learning import TrainingConfig

__all__ = ["DEPTH"]

DEPTHS = (3, 10, 20, 50)
SHIFTS = {"relu": 1.0, "tanh": 0.0}  # the activations, and where the shifts of their batch norms start
RATES = {"relu": 1e-3, "tanh": 2e-3}
FASTER = 5.0  # the module's rate by the network's
METHODS = {"backprop": "backprop", "synthetic gradient in the middle": "synthetic-gradient@middle"}
CLOSE, _DEEP = 0.02, 10
_TRAINED = 0.9  # test accuracy below which a network counts as not trained to the end
_RECORDING = RecordingConfig(steps="last", layers=("output",), n_train=10, n_validation=10, n_test=10, diagnose="none")


def _parts(plan: Plan) -> list[Part]:
    return [
        _recipe(plan, depth, activation, rule, seed).part(plan, cost=1.0 * depth)
        for depth in DEPTHS
        for activation in SHIFTS
        for rule in METHODS.values()
        for seed in _seeds(plan)
    ]


def _seeds(plan: Plan) -> tuple[int, ...]:
    return plan.seeds if plan.is_full else plan.seeds[:3]


def _recipe(plan: Plan, depth: int, activation: str, rule: str, seed: int) -> Recipe:
    training = TrainingConfig(
        data="mnist" if plan.is_full else "mnist5k",
        depth=depth,
        width=128,
        activation=activation,
        shift=SHIFTS[activation],
        rule=rule,
        epochs=40,
        batch_size=128,
        learning_rate=RATES[activation],
        estimator_learning_rate=FASTER * RATES[activation],
        schedule="cosine",
        seed=seed,
        device=plan.device,
    )
    name = f"depth-{depth}-{activation}-{rule.partition('@')[0]}"
    return Recipe(name=name, training=training, recording=_RECORDING)


def _conclude(results: Results) -> Section:
    networks = results["networks"]
    methods = {rule: name for name, rule in METHODS.items()}
    networks = networks.assign(method=networks["rule"].map(methods))
    accuracy = seed_intervals(networks, ["activation", "depth", "method"], "test_accuracy")
    train = seed_intervals(networks, ["activation", "depth", "method"], "train_accuracy")
    gaps = seed_intervals(_pairs(networks), ["activation", "depth"], "difference")
    deep = _judged(gaps, networks)
    note = (
        f"Means over seeds {listed(sorted(networks['seed'].unique()))} with 95 % intervals; n = "
        f"{int(networks['n_test'].max())} test digits."
    )
    return Section(
        setting=_setting(results.plan, networks),
        verdict="holds" if deep["held"].all() else "holds in part" if deep["held"].any() else "does not hold",
        findings=[*_findings(deep, networks)],
        drawings=[
            Drawing(
                "depth",
                "Accuracy by depth",
                "Accuracy on held-out digits (top) and over the batches of the last epoch (bottom) of networks of 3 "
                "to 50 hidden layers, with relu and with tanh.",
                _figure(accuracy, train, note),
            ),
            Drawing(
                "gaps",
                "What a synthetic gradient gains or costs",
                "Test accuracy with a synthetic gradient in the middle less that of backprop, in pairs of equal seeds: "
                f"means with 95 % intervals, and every pair. The shaded band is within {CLOSE} of backprop.",
                _gap_figure(gaps, _pairs(networks), note),
            ),
        ],
        tables={"networks": networks, "accuracy": accuracy, "train_accuracy": train, "gaps": gaps},
        shown={"Test accuracy": _accuracy_table(networks)},
    )


def _setting(plan: Plan, networks: pd.DataFrame) -> str:
    return (
        f"Networks of {listed(DEPTHS)} hidden layers of 128 units with batch norm, relu or tanh, on "
        f"{'MNIST' if plan.is_full else '3,500 MNIST digits'}; Adam with a cosine schedule, 40 epochs of batches of "
        f"128, at {RATES['relu']:g} with relu and {RATES['tanh']:g} with tanh. The shifts of the batch norms of relu "
        "networks start at 1, as otherwise gradients grow by a factor of 1.2 a layer on the way back at first (Yang et "
        f"al. 2019). The SG is linear and conditioned on the label, its rate {FASTER:g} times "
        "the network's. Rates are the best of a few on networks of 50 layers. A network counts as trained from a test "
        f"accuracy of {_TRAINED:g}. "
        f"{networks['seed'].nunique()} seeds."
    )


def _pairs(networks: pd.DataFrame) -> pd.DataFrame:
    """Return, for each pair of equal seeds, the test accuracy with a synthetic gradient less that of backprop."""
    by_method = networks.pivot(index=["activation", "depth", "seed"], columns="method", values="test_accuracy")
    backprop, synthetic = METHODS
    return (by_method[synthetic] - by_method[backprop]).rename("difference").reset_index()


def _judged(gaps: pd.DataFrame, networks: pd.DataFrame) -> pd.DataFrame:
    """Return the deep cases, and whether all networks with a synthetic gradient train, and as well as by backprop."""
    synthetic = networks[networks["rule"] == METHODS["synthetic gradient in the middle"]]
    accuracy = synthetic.groupby(["activation", "depth"])["test_accuracy"].mean().rename("synthetic")
    deep = gaps[gaps["depth"] >= _DEEP].join(accuracy, on=["activation", "depth"])
    is_complete = deep["n_seeds"] == networks["seed"].nunique()
    return deep.assign(held=is_complete & (deep["mean"] >= -CLOSE) & (deep["synthetic"] >= _TRAINED))


def _findings(gaps: pd.DataFrame, networks: pd.DataFrame) -> Iterator[str]:
    worst = gaps.sort_values("mean").iloc[0]
    yield (
        f"With a synthetic gradient in the middle all networks train, and mean test accuracy is within {CLOSE} of "
        f"backprop's, in {gaps['held'].sum()} of {len(gaps)} cases of {_DEEP} layers and more; the least favourable "
        f"difference is {worst['mean']:+.3f} ({worst['activation']}, {worst['depth']} layers)."
    )
    if diverged := int(networks["test_accuracy"].isna().sum()):
        yield f"{diverged} of {len(networks)} networks diverged; their cases count as not trained."
    for row in gaps.itertuples():
        yield (
            f"{row.activation}, {row.depth} hidden layers: {row.mean:+.3f} (95 % interval {row.low:+.3f} to "
            f"{row.high:+.3f})."
        )
    yield from _on_failures(networks)


def _on_failures(networks: pd.DataFrame) -> Iterator[str]:
    """Name the cases in which backprop itself does not come near what shallower networks reach."""
    means = networks.groupby(["activation", "depth", "method"])["test_accuracy"].mean()
    for activation, depth in networks[["activation", "depth"]].drop_duplicates().itertuples(index=False):
        backprop, synthetic = (means[activation, depth, method] for method in METHODS)
        if backprop < _TRAINED:
            yield (
                f"With {activation} and {depth} hidden layers backprop reaches only {backprop:.3f} in this many steps, "
                f"and {synthetic:.3f} with a synthetic gradient in the middle: the comparison is one of networks that "
                "are not trained to the end."
            )


def _accuracy_table(networks: pd.DataFrame) -> pd.DataFrame:
    summary = seed_intervals(networks, ["activation", "depth", "method"], "test_accuracy").round(3)
    return summary.rename(columns={"mean": "test accuracy"})[
        ["activation", "depth", "method", "test accuracy", "low", "high", "least", "most", "n_seeds"]
    ]


def _figure(accuracy: pd.DataFrame, train: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(2, len(SHIFTS), 9.0, 6.0, share_y=True)
    for row, (what, table) in enumerate((("test", accuracy), ("training", train))):
        for column, activation in enumerate(SHIFTS):
            ax = plot_lines(
                table[table["activation"] == activation],
                "depth",
                "mean",
                curve="method",
                xlabel="hidden layers" if row == 1 else "",
                ylabel=f"{what} accuracy" if column == 0 else "",
                band=("low", "high"),
                among=list(METHODS),
                legend=row == 0 and column == 0,
                ax=grid[row][column],
            )
            ax.set_title(activation if row == 0 else "", fontsize=10)
            ax.set_xticks(DEPTHS)
    return noted(grid[0][0], note)


def _gap_figure(gaps: pd.DataFrame, pairs: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(1, len(SHIFTS), 9.0, 3.6, share_y=True)
    for ax, activation in zip(grid[0], SHIFTS, strict=True):
        each, rows = (table[table["activation"] == activation] for table in (pairs, gaps))
        x = np.arange(len(rows))
        ax.axhspan(-CLOSE, CLOSE, color="0.9", zorder=0)
        error = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        ax.errorbar(
            x, rows["mean"], yerr=error, fmt="D", color="C1", markersize=5, capsize=3, label="mean, 95 % interval"
        )
        places = each["depth"].map(dict(zip(rows["depth"], x, strict=True)))
        ax.plot(places + 0.12, each["difference"], "o", color="C0", markersize=3, alpha=0.8, label="a pair of seeds")
        ax.set_xticks(x, labels=[str(depth) for depth in rows["depth"]])
        ax.set_xlabel("hidden layers")
        ax.set_title(activation, fontsize=10)
    grid[0][0].set_ylabel("test accuracy less backprop's")
    grid[0][0].legend(frameon=True, fontsize="small")
    return noted(grid[0][0], note)


DEPTH = Experiment(
    name="depth",
    title="Depth",
    claim="[S] On MNIST, relu networks with batch norm of up to 50 hidden layers, and networks of another activation, "
    "are trained with one synthetic gradient in the middle and by backprop; it is asked whether they do as well.",
    parts=_parts,
    conclude=_conclude,
)
