"""E3: networks of up to fifty hidden layers, by backprop and with a synthetic gradient in the middle."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import Drawing
from analysis.experiments.experiment import Experiment, Part, Plan, Results, Section
from analysis.experiments.networks import network_part
from analysis.experiments.summary import listed, seed_intervals
from analysis.plots import plot_lines, write_note
from analysis.plots.axes import axes_grid, figure_of
from analysis.settings import RecordingConfig
from repsim.learning import TrainingConfig

__all__ = ["DEPTH"]

DEPTHS = (3, 10, 20, 50)
ACTIVATIONS = ("relu", "tanh")
METHODS = {"backprop": "backprop", "synthetic gradient in the middle": "synthetic-gradient@middle"}
CLOSE = 0.02
_RECORDING = RecordingConfig(steps="last", layers=("output",), n_train=10, n_validation=10, n_test=10, diagnose="none")


def _parts(plan: Plan) -> list[Part]:
    return [
        network_part(
            f"depth-{depth}-{activation}-{rule.partition('@')[0]}",
            _training(plan, depth, activation, rule, seed),
            _RECORDING,
            plan,
            cost=depth,
        )
        for depth in DEPTHS
        for activation in ACTIVATIONS
        for rule in METHODS.values()
        for seed in _seeds(plan)
    ]


def _seeds(plan: Plan) -> tuple[int, ...]:
    return plan.seeds if plan.is_full else plan.seeds[:3]


def _training(plan: Plan, depth: int, activation: str, rule: str, seed: int) -> TrainingConfig:
    return TrainingConfig(
        data="mnist" if plan.is_full else "mnist5k",
        depth=depth,
        width=128,
        activation=activation,
        rule=rule,
        epochs=40,
        learning_rate=3e-3,
        estimator_learning_rate=1e-3,
        schedule="cosine",
        seed=seed,
        device=plan.device,
    )


def _conclude(results: Results) -> Section:
    networks = results["networks"]
    methods = {rule: name for name, rule in METHODS.items()}
    networks = networks.assign(method=networks["rule"].map(methods))
    accuracy = seed_intervals(networks, ["activation", "depth", "method"], "test_accuracy")
    train = seed_intervals(networks, ["activation", "depth", "method"], "train_accuracy")
    gaps = _gaps(networks)
    far = gaps[(gaps["depth"] >= 10) & (gaps["mean"] < -CLOSE)]
    close = len(gaps[gaps["depth"] >= 10]) - len(far)
    return Section(
        setting="",
        verdict="holds" if far.empty else "holds in part" if close else "does not hold",
        findings=_findings(gaps),
        drawings=[
            Drawing(
                "depth",
                "Accuracy by depth",
                "",
                _figure(accuracy, train, networks),
            )
        ],
        tables={"networks": networks, "accuracy": accuracy, "train_accuracy": train, "gaps": gaps},
        shown={"Test accuracy": accuracy.round(4)},
    )


def _gaps(networks: pd.DataFrame) -> pd.DataFrame:
    """Return the test accuracy with a synthetic gradient less that of backprop, over pairs of equal seeds."""
    by_method = networks.pivot(index=["activation", "depth", "seed"], columns="method", values="test_accuracy")
    backprop, synthetic = METHODS
    difference = (by_method[synthetic] - by_method[backprop]).rename("difference").reset_index()
    return seed_intervals(difference, ["activation", "depth"], "difference")


def _findings(gaps: pd.DataFrame) -> Sequence[str]:
    return [
        f"{row.activation}, {row.depth} hidden layers: with a synthetic gradient {row.mean:+.3f} of backprop's test "
        f"accuracy (95 % interval {row.low:+.3f} to {row.high:+.3f})."
        for row in gaps.itertuples()
    ]


def _figure(accuracy: pd.DataFrame, train: pd.DataFrame, networks: pd.DataFrame) -> Figure:
    grid = axes_grid(2, len(ACTIVATIONS), 9.0, 6.0)
    for row, (what, table) in enumerate((("test", accuracy), ("training", train))):
        for column, activation in enumerate(ACTIVATIONS):
            rows = table[table["activation"] == activation]
            ax = plot_lines(
                rows,
                "depth",
                "mean",
                curve="method",
                xlabel="hidden layers",
                ylabel=f"{what} accuracy",
                band=("low", "high"),
                among=list(METHODS),
                ax=grid[row][column],
            )
            ax.set_title(activation if row == 0 else "", fontsize=10)
    figure = figure_of(grid[0][0])
    n_test = int(networks["n_test"].max())
    write_note(
        figure,
        f"Means over seeds {listed(sorted(networks['seed'].unique()))} with 95 % intervals; n = {n_test} test digits.",
    )
    return figure


DEPTH = Experiment(
    name="depth",
    title="Depth",
    claim="[S] On MNIST, relu networks with batch norm of up to 50 hidden layers, and networks of another activation, "
    "train with one synthetic gradient in the middle.",
    parts=_parts,
    conclude=_conclude,
)
