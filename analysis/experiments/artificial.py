"""E2: whether linear and deep linear models on artificial data end with synthetic gradients where backprop does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis.drawing import Drawing
from analysis.experiments.experiment import Experiment, Part, Plan, Results, Section, Tables
from analysis.experiments.summary import listed, seed_intervals
from analysis.plots import plot_lines, write_note
from analysis.plots.axes import axes_grid, colours, figure_of
from repsim.learning import (
    ARTIFICIAL,
    Chain,
    Diverged,
    Learner,
    SyntheticGradient,
    artificial,
    evaluate,
    largest_rates,
    least_squares,
    linear_model,
    mlp,
    site_of,
    spectral_radius,
    stream,
    train_replicas,
)

__all__ = ["ARTIFICIAL_DATA"]

DIMENSIONS = (2, 100)
MODELS = {"linear": "linear model", "deep linear": "10 hidden linear layers"}
LOSSES = {"mse": "mean squared error", "log_loss": "log loss"}
METHODS = ("backprop", "synthetic gradient")
_N, _WIDTH, _DEPTH = 500, 16, 10
_STEPS = {("linear", 2): 3000, ("linear", 100): 1500, ("deep linear", 2): 1500, ("deep linear", 100): 1500}
_RATES = {"linear": (0.1, 0.2), "deep linear": (3e-3, 3e-3)}  # of the model, of the module
_EQUAL, _CLOSE = 1e-6, 1e-3
_FACTORS = (0.1, 0.5, 0.9, 0.98, 1.02, 1.1)  # learning rates, as multiples of the largest that theory allows
_CURVE_POINTS = 60
_MOST_STEPS, _SMALLEST, _LARGEST = 2000, 1e-12, 1e-2  # of a descent near the solution: steps, and distance from it
_START_BELOW, _START_BEYOND = 1e-4, 1e-9


def _parts(plan: Plan) -> list[Part]:
    seeds = list(plan.seeds)
    trainings = [
        Part(
            name=f"{model.replace(' ', '-')}-{loss}-{n_features}-{method.replace(' ', '-')}",
            work=_train,
            settings={
                "model": model,
                "loss": loss,
                "n_features": n_features,
                "method": method,
                "seeds": seeds,
                "n_steps": _STEPS[model, n_features],
                "rates": list(_RATES[model]),
            },
            cost=8.0 if model == "linear" else 25.0,
            group="artificial",
        )
        for model in MODELS
        for loss in LOSSES
        for n_features in DIMENSIONS
        for method in METHODS
    ]
    rates = [
        Part(
            name=f"rates-{name}-{n_features}",
            work=_measure_rates,
            settings={"name": name, "n_features": n_features, "seed": seeds[0]},
            cost=4.0,
            group="artificial",
        )
        for name in ARTIFICIAL
        for n_features in DIMENSIONS
    ]
    return [*trainings, *rates]


def _train(
    folder: Path,
    *,
    model: str,
    loss: str,
    n_features: int,
    method: str,
    seeds: Sequence[int],
    n_steps: int,
    rates: Sequence[float],
) -> Tables:
    """Train one model on all sets with all seeds at once, by full-batch gradient steps."""
    keys = [(name, seed) for name in ARTIFICIAL for seed in seeds]
    data = [_data(name, n_features, seed, loss) for name, seed in keys]
    learners = [_learner(model, loss, n_features, method, seed) for _, seed in keys]
    optimizers = [_optimizer(learner, model, rates) for learner in learners]
    points = set(np.unique(np.geomspace(1, n_steps, _CURVE_POINTS).round()).astype(int).tolist())
    place = {"model": model, "loss": loss, "n_features": n_features, "method": method}
    curves: list[dict[str, Any]] = []
    losses: list[list[float]] = [[] for _ in keys]
    training = train_replicas(
        learners,
        optimizers,
        data,
        epochs=n_steps,
        batch_size=_N,
        seeds=[seed for _, seed in keys],
        schedule="cosine" if model == "deep linear" else "constant",
        how="stacked",
    )
    for number, records in enumerate(training, start=1):
        for (name, seed), record, seen in zip(keys, records, losses, strict=True):
            if isinstance(record, Diverged):
                continue
            seen.append(record.loss)
            if number in points:
                curves.append({**place, "data": name, "seed": seed, "step": number, "value": record.loss})
    training.write_back()
    ends = [
        {**place, "data": name, "seed": seed, **_ending(learner, X, y, loss, seen, n_steps)}
        for (name, seed), learner, (X, y), seen in zip(keys, learners, data, losses, strict=True)
    ]
    return {"curves": pd.DataFrame(curves), "endings": pd.DataFrame(ends)}


def _data(name: str, n_features: int, seed: int, loss: str) -> tuple[Tensor, Tensor]:
    """Return X and classes, or for the squared error ±1, in double precision."""
    dataset = artificial(name, n_features, _N, seed)
    y = torch.from_numpy(dataset.y)
    return torch.from_numpy(dataset.X).double(), 2.0 * y.double()[:, None] - 1.0 if loss == "mse" else y


def _learner(model: str, loss: str, n_features: int, method: str, seed: int) -> Learner:
    """Return the model in double precision, with a linear label-conditioned module in the middle of it, or without."""
    n_outputs = 1 if loss == "mse" else 2
    generator = stream(seed, "weights")
    network: Chain = (
        linear_model(n_features, n_outputs, generator=generator)
        if model == "linear"
        else mlp(
            n_features,
            n_outputs,
            depth=_DEPTH,
            width=_WIDTH,
            norm="none",
            activation="linear",
            generator=generator,
        )
    )
    middle = (len(network.boundaries) + 1) // 2
    site = site_of(network, middle, loss=loss, seed=seed, n_outputs=n_outputs)
    estimators = {} if method == "backprop" else {middle: SyntheticGradient(site)}
    return Learner(network, estimators, loss=loss).double()


def _optimizer(learner: Learner, model: str, rates: Sequence[float]) -> torch.optim.Optimizer:
    groups = [
        {"params": list(module.parameters()), "lr": rate}
        for module, rate in zip((learner.network, learner.estimators), rates, strict=True)
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.SGD(groups) if model == "linear" else torch.optim.Adam(groups)


def _ending(learner: Learner, X: Tensor, y: Tensor, loss: str, seen: Sequence[float], n_steps: int) -> dict[str, Any]:
    """Return the loss at the end, that of the best linear model where it is known, and the steps it took."""
    if len(seen) < n_steps:
        return {"final": math.nan, "best": math.nan, "steps": math.nan}
    final = evaluate(learner.network, X, y, loss=loss).loss
    best = math.nan
    if loss == "mse":
        Z = torch.cat([X, X.new_ones(len(X), 1)], dim=1)
        best = float((Z @ least_squares(X, y) - y).square().sum(dim=1).mean())
    near = np.flatnonzero(np.asarray(seen) - final <= 0.01 * (seen[0] - final))
    return {"final": final, "best": best, "steps": int(near[0]) + 1 if len(near) else n_steps}


def _measure_rates(folder: Path, *, name: str, n_features: int, seed: int) -> Tables:
    """Descend near the solution of the linear model at rates below and above the largest, and measure the decay."""
    X, Y = _data(name, n_features, seed, "mse")
    limits = largest_rates(X, Y)
    rows = []
    for which in ("model", "module"):
        for factor in _FACTORS:
            alpha = limits.alpha * (factor if which == "model" else 0.5)
            beta = limits.beta * (factor if which == "module" else 0.5)
            predicted = spectral_radius(X, Y, alpha, beta)
            start = _START_BELOW if predicted < 1 else _START_BEYOND
            measured = _measured_factor(X, Y, alpha, beta, start, seed)
            rows.append(
                {
                    "data": name,
                    "n_features": n_features,
                    "varied": which,
                    "factor": factor,
                    "alpha": alpha,
                    "beta": beta,
                    "spectral_radius": predicted,
                    "measured": measured,
                }
            )
    return {"rates": pd.DataFrame(rows)}


def _measured_factor(X: Tensor, Y: Tensor, alpha: float, beta: float, start: float, seed: int) -> float:
    """Return the factor by which a step multiplies the distance from the solution, once the slowest direction is left.

    A descent that leaves the solution begins so near to it that it is still where the linearised map holds when the
    fastest direction is all that is seen; others are followed as far as rounding allows.
    """
    learner = _learner("linear", "mse", X.shape[1], "synthetic gradient", seed)
    groups = [(learner.network, alpha), (learner.estimators, beta)]
    optimizer = torch.optim.SGD([{"params": list(module.parameters()), "lr": rate} for module, rate in groups])
    best = least_squares(X, Y)
    _place_near_solution(learner, best, start, seed)
    solution = torch.cat([X, X.new_ones(len(X), 1)], dim=1) @ best
    distances = [_distance(learner, X, Y, solution)]
    for _ in range(_MOST_STEPS):
        optimizer.zero_grad()
        learner.compute_gradients(X, Y)
        optimizer.step()
        distances.append(_distance(learner, X, Y, solution))
        if not _SMALLEST < distances[-1] < _LARGEST:
            break
    since = 3 * len(distances) // 4
    return float((distances[-1] / distances[since - 1]) ** (1 / (len(distances) - since)))


@torch.no_grad()
def _place_near_solution(learner: Learner, best: Tensor, off: float, seed: int) -> None:
    """Set model and module to their exact values, a little off in a random direction."""
    generator = stream(seed, "perturbation")
    layer: Any = learner.network.segments[0]
    module: Any = next(iter(learner.estimators.values()))
    exact = {
        layer.weight: best[:-1].T,
        layer.bias: best[-1],
        module.layers[0].weight: torch.full((1, 1), 2.0),
        module.layers[0].bias: torch.zeros(1),
        module.label_vectors.weight: torch.full((1, 1), -2.0),
    }
    for parameter, value in exact.items():
        parameter.copy_(value + off * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


@torch.no_grad()
def _distance(learner: Learner, X: Tensor, Y: Tensor, solution: Tensor) -> float:
    """Return how far model and module are from exact, as seen on the data: root mean square over examples."""
    module: Any = next(iter(learner.estimators.values()))
    estimate = solution @ module.layers[0].weight.T + module.layers[0].bias + Y @ module.label_vectors.weight
    off = torch.cat([learner.network(X) - solution, estimate - 2 * (solution - Y)], dim=1)
    return float(off.square().sum(dim=1).mean().sqrt())


def _conclude(results: Results) -> Section:
    plan, rates = results.plan, results["rates"]
    gaps = _gaps(results["endings"])
    exact = gaps[(gaps["model"] == "linear") & (gaps["loss"] == "mse")]
    deep = gaps[gaps["model"] == "deep linear"]
    converged = bool((exact["gap"].abs() <= _EQUAL).all())
    deep_converged = bool((deep.loc[deep["loss"] == "mse", "gap"] <= _CLOSE).all())
    as_predicted = bool(((rates["spectral_radius"] > 1) == (rates["measured"] > 1)).all())
    held = [converged and as_predicted, deep_converged]
    note = f"Seeds {listed(plan.seeds)}, which decide data and initial weights; n = {_N} training examples."
    return Section(
        setting=_setting(plan),
        verdict="holds" if all(held) else "holds in part" if any(held) else "does not hold",
        findings=[*_on_exactness(exact, rates), *_on_the_rest(gaps)],
        drawings=list(_drawings(results["curves"], gaps, rates, note)),
        tables={"curves": results["curves"], "endings": results["endings"], "gaps": gaps, "rates": rates},
        shown={"Final training loss and gap, by case": _case_table(gaps), "Rates": rates.round(5)},
    )


def _gaps(endings: pd.DataFrame) -> pd.DataFrame:
    """Return for each case and seed the final losses and the gap: SG's less backprop's, relative to backprop's."""
    keys = ["model", "loss", "n_features", "data", "seed"]
    wide = endings.pivot(index=keys, columns="method", values=["final", "steps"])
    backprop, synthetic = (wide["final"][method] for method in METHODS)
    table = pd.DataFrame({"backprop": backprop, "synthetic_gradient": synthetic, "gap": synthetic / backprop - 1})
    table["steps_backprop"], table["steps_synthetic_gradient"] = (wide["steps"][method] for method in METHODS)
    return table.reset_index()


def _setting(plan: Plan) -> str:
    return (
        f"Four sets of {_N} normal examples in two classes (a plane divides them; the same with a tenth of the labels "
        "flipped; labels at random; XOR of two directions), in 2 and 100 dimensions. A linear model, with the SG at "
        f"its output, by gradient descent on all examples (rates {_RATES['linear'][0]:g} for the model and "
        f"{_RATES['linear'][1]:g} for the module); and {_DEPTH} hidden linear layers of {_WIDTH} units, the SG after "
        f"the {_DEPTH // 2}th, by Adam (rates {_RATES['deep linear'][0]:g}, falling to zero along half a cosine). "
        "Squared error to targets of ±1, or log loss of two classes. The SG is linear in activation and label, from "
        f"zero. Double precision; {len(plan.seeds)} seeds."
    )


def _on_exactness(exact: pd.DataFrame, rates: pd.DataFrame) -> Iterator[str]:
    yield (
        f"Linear model, squared error: over {len(exact)} pairs (4 sets, 2 and 100 dimensions) final losses with and "
        f"without SG differ by {exact['gap'].abs().max():.1e} relative at most."
    )
    off = (rates["measured"] / rates["spectral_radius"] - 1).abs()
    beyond = rates[rates["spectral_radius"] > 1]
    yield (
        f"The measured factor of a step near the solution is the spectral radius of the iteration matrix to "
        f"{off.max():.1e} relative at most ({off.median():.1e} in the median), over {len(rates)} pairs of rates. Of "
        f"{len(beyond)} rates beyond the limits {int((beyond['measured'] > 1).sum())} diverge; of the "
        f"{len(rates) - len(beyond)} below, {int((rates.loc[rates['spectral_radius'] < 1, 'measured'] > 1).sum())}."
    )


def _on_the_rest(gaps: pd.DataFrame) -> Iterator[str]:
    for model, loss in (("deep linear", "mse"), ("linear", "log_loss"), ("deep linear", "log_loss")):
        rows = gaps[(gaps["model"] == model) & (gaps["loss"] == loss)]
        by_set = rows.groupby("data", sort=False)["gap"].median()
        parts = ", ".join(f"{name} {value:+.1e}" for name, value in by_set.items())
        yield f"{MODELS[model].capitalize()}, {LOSSES[loss]}: median relative gap of the final loss: {parts}."


def _case_table(gaps: pd.DataFrame) -> pd.DataFrame:
    keys = ["model", "loss", "n_features", "data"]
    table = seed_intervals(gaps, keys, "gap")[[*keys, "mean", "low", "high", "n_seeds"]]
    finals = gaps.groupby(keys, sort=False)[
        ["backprop", "synthetic_gradient", "steps_backprop", "steps_synthetic_gradient"]
    ].mean()
    table = table.rename(columns={"mean": "gap", "low": "gap_low", "high": "gap_high"})
    joined = table.join(finals, on=keys)
    shown = ["gap", "gap_low", "gap_high", "backprop", "synthetic_gradient"]
    return joined.assign(**{name: joined[name].map("{:.3g}".format) for name in shown})


def _drawings(curves: pd.DataFrame, gaps: pd.DataFrame, rates: pd.DataFrame, note: str) -> Iterator[Drawing]:
    for model, words in MODELS.items():
        yield Drawing(
            f"curves_{model.replace(' ', '_')}",
            f"Training loss, {words}",
            "Mean training loss over seeds, shaded from the smallest to the largest; rows are losses and dimensions, "
            "columns data sets.",
            _curves_figure(curves[curves["model"] == model], note),
        )
    yield Drawing(
        "gaps",
        "Final loss with a synthetic gradient against backprop",
        "Relative difference of the final training losses, |SG / backprop − 1|, one point a seed; the dotted line is "
        "one in a million. Differences below 1e-16 are drawn there.",
        _gap_figure(gaps, note),
    )
    yield Drawing(
        "rates",
        "Measured rate against the spectral radius",
        "The factor by which a step multiplies the distance from the solution: measured near the solution against the "
        "spectral radius of the exact iteration matrix (left), and against the learning rate as a multiple of the "
        "largest that converges (right). Beyond 1 training must diverge.",
        _rate_figure(rates, f"Linear model, squared error, linear SG; four sets, 2 and 100 dimensions; n = {_N}."),
    )


def _curves_figure(curves: pd.DataFrame, note: str) -> Figure:
    cases = [(loss, n_features) for loss in LOSSES for n_features in DIMENSIONS]
    grid = axes_grid(len(cases), len(ARTIFICIAL), 11.5, 9.0)
    summary = seed_intervals(curves, ["loss", "n_features", "data", "method", "step"], "value")
    for row, (loss, n_features) in enumerate(cases):
        for column, name in enumerate(ARTIFICIAL):
            ax = grid[row][column]
            rows = summary[
                (summary["loss"] == loss) & (summary["n_features"] == n_features) & (summary["data"] == name)
            ]
            plot_lines(
                rows,
                "step",
                "mean",
                curve="method",
                xlabel="step" if row == len(cases) - 1 else "",
                ylabel=f"{LOSSES[loss]}\n{n_features} dimensions" if column == 0 else "",
                band=("least", "most"),
                among=METHODS,
                markers=False,
                legend=row == column == 0,
                ax=ax,
            )
            ax.set_xscale("log")
            _zoom_on_ends(ax, rows)
            ax.set_title(name if row == 0 else "", fontsize=10)
    figure = figure_of(grid[0][0])
    write_note(figure, note)
    return figure


def _zoom_on_ends(ax: Axes, rows: pd.DataFrame) -> None:
    """Leave out of view what the first steps overshoot, so that the ends can be told apart."""
    first = rows.loc[rows["step"] == rows["step"].min(), "mean"].max()
    low = rows["least"].min()
    ax.set_ylim(low - 0.05 * (first - low), first + 0.1 * (first - low))


def _gap_figure(gaps: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(1, len(MODELS) * len(LOSSES), 12.0, 4.0)
    palette = colours([str(n_features) for n_features in DIMENSIONS])
    cases = [(model, loss) for model in MODELS for loss in LOSSES]
    for ax, (model, loss) in zip(grid[0], cases, strict=True):
        rows = gaps[(gaps["model"] == model) & (gaps["loss"] == loss)]
        for n_features in DIMENSIONS:
            each = rows[rows["n_features"] == n_features]
            x = each["data"].map(list(ARTIFICIAL).index) + (-0.12 if n_features == DIMENSIONS[0] else 0.12)
            y = each["gap"].abs().clip(lower=1e-16)
            ax.plot(x, y, "o", color=palette[str(n_features)], markersize=4, label=f"{n_features} dimensions")
        ax.axhline(_EQUAL, color="0.4", linestyle=":", linewidth=1)
        ax.set_yscale("log")
        ax.set_ylim(5e-17, 1e4)
        ax.set_xticks(range(len(ARTIFICIAL)), labels=list(ARTIFICIAL), rotation=30, fontsize=8)
        ax.set_xlabel("data set")
        ax.set_title(f"{MODELS[model]}\n{LOSSES[loss]}", fontsize=10)
    grid[0][0].set_ylabel("|SG / backprop − 1| of the final loss")
    grid[0][0].legend(frameon=True, fontsize="small")
    figure = figure_of(grid[0][0])
    write_note(figure, note)
    return figure


def _rate_figure(rates: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(1, 2, 9.5, 4.0)
    left, right = grid[0]
    palette = colours(["model", "module"])
    for which, rows in rates.groupby("varied"):
        style: Mapping[str, Any] = {"color": palette[str(which)], "markersize": 5, "alpha": 0.7}
        left.plot(rows["spectral_radius"], rows["measured"], "o", label=f"rate of the {which} varied", **style)
        right.plot(rows["factor"], rows["measured"], "o", **style)
    ends = [rates["spectral_radius"].min(), rates["spectral_radius"].max()]
    left.plot(ends, ends, color="0.4", linestyle=":", linewidth=1)
    left.set_xlabel("spectral radius")
    left.set_ylabel("measured factor a step")
    left.legend(frameon=True, fontsize="small")
    right.axvline(1.0, color="0.4", linestyle=":", linewidth=1)
    right.axhline(1.0, color="0.4", linestyle=":", linewidth=1)
    right.set_xlabel("learning rate / largest that converges")
    figure = figure_of(left)
    write_note(figure, note)
    return figure


ARTIFICIAL_DATA = Experiment(
    name="artificial",
    title="Artificial data",
    claim="[S] The learning system with synthetic gradients converges for linear and deep linear models; on four basic "
    "data sets in 2 and 100 dimensions, for a linear model and one with 10 hidden linear layers, with squared error "
    "and log loss, it is asked whether it numerically converges to the same solution as backprop.",
    parts=_parts,
    conclude=_conclude,
)
