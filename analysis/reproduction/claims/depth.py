"""Claim: networks of up to fifty hidden layers train as well with one synthetic gradient in the middle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.config.recording import RecordingConfig
from analysis.execution import Task
from analysis.plots import noted
from analysis.plots.axes import axes_grid
from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Claim, Plan, Results, Section, verdict_of
from analysis.reproduction.kit.numbers import listed, rows_of, seed_intervals, with_interval
from analysis.reproduction.kit.panels import error_bars, label, legend, plot_means
from analysis.reproduction.kit.recipe import Recipe
from repsim.learning import TrainingConfig

__all__ = ["CLAIM"]

DEPTHS = (3, 10, 20, 50)
SHIFTS = {"relu": 1.0, "tanh": 0.0}  # activations, and the initial shifts of their batch norms
RATES = {"relu": 1e-3, "tanh": 2e-3}
FASTER = 5.0  # learning rate of the module, divided by that of the network
METHODS = {"backprop": "backprop", "synthetic gradient in the middle": "synthetic-gradient@middle"}
CLOSE, _DEEP = 0.02, 10
_TRAINED = 0.9  # test accuracy from which a network counts as trained
_RECORDING = RecordingConfig(steps="last", layers=("output",), n_train=10, n_validation=10, n_test=10, diagnose="none")


def _parts(plan: Plan) -> list[Task]:
    return [
        _recipe(plan, depth, activation, rule, seed).task(plan, cost=1.0 * depth)
        for depth in DEPTHS
        for activation in SHIFTS
        for rule in METHODS.values()
        for seed in plan.few_seeds
    ]


def _recipe(plan: Plan, depth: int, activation: str, rule: str, seed: int) -> Recipe:
    training = TrainingConfig(
        data=plan.dataset,
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
    networks = networks.assign(method=networks["rule"].map({rule: name for name, rule in METHODS.items()}))
    accuracy, train = (
        seed_intervals(networks, ["activation", "depth", "method"], value)
        for value in ("test_accuracy", "train_accuracy")
    )
    gaps = seed_intervals(_pairs(networks), ["activation", "depth"], "difference")
    deep = _judged(gaps, networks)
    return Section(
        setting=_setting(results.plan, networks),
        verdict=verdict_of(deep["held"]),
        findings=[*_findings(deep, networks)],
        tables={"networks": networks, "accuracy": accuracy, "train_accuracy": train, "gaps": gaps},
        shown={"Test accuracy": _accuracy_table(accuracy)},
    )


def _setting(plan: Plan, networks: pd.DataFrame) -> str:
    return (
        f"Networks of {listed(DEPTHS)} hidden layers of 128 units with batch norm, relu or tanh, on {plan.digits}; "
        f"Adam with a cosine schedule, 40 epochs, batches of 128, learning rate {RATES['relu']:g} (relu) and "
        f"{RATES['tanh']:g} (tanh). In relu networks the shifts of the batch norms start at 1, because otherwise "
        "gradients grow initially by a factor of 1.2 per layer on the way back (Yang et al. 2019). The SG is linear "
        f"and conditioned on the label; its learning rate is {FASTER:g} times that of the network. Rates are the best "
        f"of a few on networks of 50 layers. A network counts as trained from a test accuracy of {_TRAINED:g}. "
        f"{networks['seed'].nunique()} seeds."
    )


def _pairs(networks: pd.DataFrame) -> pd.DataFrame:
    """Return, for each pair of equal seeds, the test accuracy with a synthetic gradient minus that of backprop."""
    by_method = networks.pivot(index=["activation", "depth", "seed"], columns="method", values="test_accuracy")
    backprop, synthetic = METHODS
    return (by_method[synthetic] - by_method[backprop]).rename("difference").reset_index()


def _judged(gaps: pd.DataFrame, networks: pd.DataFrame) -> pd.DataFrame:
    """Return the deep cases, whether all networks with a synthetic gradient train, and whether as well as backprop."""
    synthetic = rows_of(networks, rule=METHODS["synthetic gradient in the middle"])
    accuracy = synthetic.groupby(["activation", "depth"])["test_accuracy"].mean().rename("synthetic")
    deep = gaps[gaps["depth"] >= _DEEP].join(accuracy, on=["activation", "depth"])
    is_complete = deep["n_seeds"] == networks["seed"].nunique()
    return deep.assign(held=is_complete & (deep["mean"] >= -CLOSE) & (deep["synthetic"] >= _TRAINED))


def _findings(gaps: pd.DataFrame, networks: pd.DataFrame) -> Iterator[str]:
    worst = gaps.sort_values("mean").iloc[0]
    yield (
        f"In {gaps['held'].sum()} of {len(gaps)} cases of {_DEEP} layers or more, all networks with a synthetic "
        f"gradient in the middle train, and their mean test accuracy is within {CLOSE} of backprop's; the least "
        f"favourable difference is {worst['mean']:+.3f} ({worst['activation']}, {worst['depth']} layers)."
    )
    if diverged := int(networks["test_accuracy"].isna().sum()):
        yield f"{diverged} of {len(networks)} networks diverged; their cases count as not trained."
    for row in gaps.itertuples():
        yield f"Difference with {row.activation} and {row.depth} hidden layers: {with_interval(row, '+.3f')}."
    yield from _untrained(networks)


def _untrained(networks: pd.DataFrame) -> Iterator[str]:
    """Yield the cases in which backprop itself does not reach the accuracy of a trained network."""
    means = networks.groupby(["activation", "depth", "method"])["test_accuracy"].mean()
    for activation, depth in networks[["activation", "depth"]].drop_duplicates().itertuples(index=False):
        backprop, synthetic = (means[activation, depth, method] for method in METHODS)
        if backprop < _TRAINED:
            yield (
                f"With {activation} and {depth} hidden layers backprop reaches only {backprop:.3f} in this many steps, "
                f"and {synthetic:.3f} with a synthetic gradient in the middle: these networks are not trained to the "
                "end."
            )


def _accuracy_table(accuracy: pd.DataFrame) -> pd.DataFrame:
    return accuracy.round(3).rename(columns={"mean": "test accuracy"})[
        ["activation", "depth", "method", "test accuracy", "low", "high", "least", "most", "n_seeds"]
    ]


def _figures(results: Results, section: Section) -> Iterator[Drawing]:
    networks, gaps = section.tables["networks"], section.tables["gaps"]
    note = (
        f"Means over seeds {listed(sorted(networks['seed'].unique()))} with 95 % intervals; n = "
        f"{int(networks['n_test'].max())} test digits."
    )
    yield Drawing(
        "depth",
        "Accuracy by depth",
        "Accuracy on held-out digits (top) and over the batches of the last epoch (bottom) of networks of 3 "
        "to 50 hidden layers, with relu and with tanh.",
        _accuracy_figure(section.tables["accuracy"], section.tables["train_accuracy"], note),
    )
    yield Drawing(
        "gaps",
        "Test accuracy with a synthetic gradient minus backprop's",
        "Test accuracy with a synthetic gradient in the middle minus that of backprop, in pairs of equal seeds: "
        f"means with 95 % intervals, and every pair. The shaded band is within {CLOSE} of backprop.",
        _gap_figure(gaps, _pairs(networks), note),
    )


def _accuracy_figure(accuracy: pd.DataFrame, train: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(2, len(SHIFTS), 9.0, 6.0, share_y=True)
    for row, (words, table) in enumerate((("test", accuracy), ("training", train))):
        for column, activation in enumerate(SHIFTS):
            ax = grid[row][column]
            plot_means(
                ax,
                rows_of(table, activation=activation),
                "depth",
                among=list(METHODS),
                legend=row == 0 and column == 0,
            )
            label(
                ax,
                title=activation if row == 0 else "",
                xlabel="hidden layers" if row == 1 else "",
                ylabel=f"{words} accuracy" if column == 0 else "",
            )
            ax.set_xticks(DEPTHS)
    return noted(grid[0][0], note)


def _gap_figure(gaps: pd.DataFrame, pairs: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(1, len(SHIFTS), 9.0, 3.6, share_y=True)
    for ax, activation in zip(grid[0], SHIFTS, strict=True):
        each, rows = (rows_of(table, activation=activation) for table in (pairs, gaps))
        x = np.arange(len(rows))
        ax.axhspan(-CLOSE, CLOSE, color="0.9", zorder=0)
        error_bars(ax, x, rows, fmt="D", color="C1", markersize=5, capsize=3, label="mean, 95 % interval")
        places = each["depth"].map(dict(zip(rows["depth"], x, strict=True)))
        ax.plot(places + 0.12, each["difference"], "o", color="C0", markersize=3, alpha=0.8, label="a pair of seeds")
        ax.set_xticks(x, labels=[str(depth) for depth in rows["depth"]])
        label(ax, title=activation, xlabel="hidden layers")
    label(grid[0][0], ylabel="test accuracy minus backprop's")
    legend(grid[0][0])
    return noted(grid[0][0], note)


CLAIM = Claim(
    name="depth",
    title="Depth",
    statement="[S] On MNIST, relu networks with batch norm of up to 50 hidden layers, and networks of another "
    "activation, are trained with one synthetic gradient in the middle and by backprop; the question is whether they "
    "reach the same accuracy.",
    parts=_parts,
    conclude=_conclude,
    figures=_figures,
)
