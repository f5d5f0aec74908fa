"""Conclusion: which stationary points synthetic gradients keep, lose and add."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.reproduction.claim import Plan, Results, Section
from analysis.reproduction.claims.critical_points.parts import N_EXAMPLES, NAMES, PROBLEMS, RIDGE
from analysis.reproduction.claims.critical_points.starts import (
    FEW_EXAMPLES,
    N_STARTS,
    START_PROBLEMS,
    TRAININGS,
    constructed,
)
from analysis.reproduction.kit.numbers import (
    formatted,
    proportion,
    proportion_interval,
    rows_of,
    seed_intervals,
    with_interval,
)

__all__ = ["by_construction", "conclude"]

_SAME_GRADIENT, _SAME_POINT = 1e-8, 1e-6
_ZERO_LOSS = 1e-12


def conclude(results: Results) -> Section:
    """Return "holds" if no point is lost or added, "holds in part" if only modules that cannot hold the gradient do."""
    points, starts, kept = (results[name] for name in ("points", "starts", "kept"))
    exact = rows_of(points[constructed(points)], family="linear-labels")
    counts = _count(starts, kept)
    lost, added, zero = (rows_of(counts, what=what) for what in ("lost", "added", "zero-loss point lost"))
    is_code_right = (
        bool(_preserved(exact).all())
        and len(exact) > 0
        and int(lost[constructed(lost)]["count"].sum() + added[constructed(added)]["count"].sum() + zero["count"].sum())
        == 0
    )
    is_moved = bool(lost["count"].any() or added["count"].any())
    return Section(
        setting=_setting(results.plan),
        verdict="does not hold" if not is_code_right else "holds in part" if is_moved else "holds",
        findings=[
            _on_lost(lost),
            _on_added(added, starts),
            *_on_zero_loss(counts),
            _on_exact(points, exact, lost, added),
            *_findings(points, exact),
            *_on_rest(points, starts),
        ],
        tables={"points": points, "spectra": results["spectra"], "starts": starts, "kept": kept, "counts": counts},
        shown={
            "Points lost, added and kept, over starts": _count_table(counts),
            "Stationary points, medians over seeds": _point_table(points),
        },
    )


def _count(starts: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Return how many points of each problem and family have a property: ``count`` of ``n``, and Wilson's interval.

    ``median`` is that of the number that is judged: of the field, of the true gradient, or of the loss.
    """
    kept = kept.assign(lost=kept["field_at_backprop"] > _SAME_GRADIENT, zero=kept["loss"] <= _ZERO_LOSS)
    is_few = (kept["problem"] == FEW_EXAMPLES) & kept["zero"]
    trained = starts.assign(added=starts["true_gradient_norm"] > _SAME_GRADIENT, zero=starts["data_loss"] <= _ZERO_LOSS)
    arrived = trained[trained["at_rest"] & (trained["family"] != "backprop")]
    groups = {
        "lost": (kept[~is_few], "lost", "field_at_backprop"),
        "added": (arrived, "added", "true_gradient_norm"),
        "zero-loss point lost": (kept[is_few], "lost", "field_at_backprop"),
        "zero loss reached": (rows_of(trained, problem=FEW_EXAMPLES), "zero", "data_loss"),
    }
    rows = []
    for what, (table, column, size) in groups.items():
        for (problem, family), cases in table.groupby(["problem", "family"], sort=False):
            count, n = int(cases[column].sum()), len(cases)
            low, high = proportion_interval(count, n)
            case = {"what": what, "problem": problem, "family": family, "median": cases[size].median()}
            rows.append({**case, "count": count, "n": n, "low": low, "high": high})
    return pd.DataFrame(rows)


def by_construction(counts: pd.DataFrame) -> pd.Series:
    """Return which counts follow from the form of the module, or from a loss of zero, and so only check the code."""
    return (constructed(counts) & counts["what"].isin(["lost", "added"])) | (counts["what"] == "zero-loss point lost")


def _preserved(points: pd.DataFrame) -> pd.Series:
    """Return whether a point is a point of backprop, and backprop's point is stationary for the field."""
    return (
        points["at_rest"]
        & (points["true_gradient_norm"] <= _SAME_GRADIENT)
        & (points["distance"] <= _SAME_POINT)
        & (points["field_at_backprop"] <= _SAME_GRADIENT)
    )


def _setting(plan: Plan) -> str:
    linear, tanh, few = PROBLEMS["deep linear"], PROBLEMS["tanh, log loss"], START_PROBLEMS[FEW_EXAMPLES]
    training, slow = TRAININGS["tanh, log loss"], TRAININGS["deep linear"]
    return (
        f"Networks of one hidden layer in double precision, {N_EXAMPLES} examples, {len(plan.seeds)} seeds: "
        f"{linear.n_features} inputs, {linear.width} linear units and {linear.n_outputs} outputs on noisy linear "
        f"targets (the optimum is known: reduced-rank regression); {tanh.width} tanh units on three overlapping "
        "classes, with squared error to one-hot targets and with log loss, and a weight decay of "
        f"{tanh.weight_decay:g}. The SG stands behind the hidden layer. In the figures it is always fitted by least "
        "squares: this is the limit of a module that learns much faster than the network, and its stationary points "
        "are exactly those of network and module together. Families of modules, from poor to rich: a constant vector; "
        "linear in the activation; linear in activation and label; the same with 4, 16, 64 or 240 random relu units of "
        f"both. Their weight decay is {RIDGE:g} on tanh units, except for the third family with squared error, which "
        "needs none. Each flow is followed from the same initial weights to a gradient of 1e-10 by pseudo-transient "
        f"continuation, which ends in Newton steps. For the counts of points, {N_STARTS * len(plan.seeds)} starts per "
        f"problem ({N_STARTS} per seed), each with examples and weights of its own, so that starts are independent and "
        f"the unit of Wilson's intervals; besides these problems one whose loss can be zero ({few.width} tanh units, "
        f"{few.n_examples} examples, squared error, no weight decay). Backprop, and networks together with a linear "
        f"module that starts at zero, without and with labels, take {training.n_steps:,} gradient steps on all "
        f"examples, with rates of {training.rate:g} (network) and {training.module_rate:g} (module), in the linear "
        f"problem {slow.rate:g} and {slow.module_rate:g}; from there the flow is followed to its stationary point. A "
        "point of backprop is lost if the field with an SG, fitted without weight decay, is above "
        f"{_SAME_GRADIENT:g} there, and a point with an SG is added if the true gradient is (Ciosek et al. 2025: "
        "approximate gradients can lose points and add some). "
        "Saddles are not sampled, because training leaves them. The verdict is 'does not hold' if a point is lost or "
        "added whose gradient the module holds (this would be an error of the code), 'holds' if none is, and 'holds in "
        "part' if only other points are."
    )


def _on_lost(lost: pd.DataFrame) -> str:
    log_loss = rows_of(lost, problem="tanh, log loss")
    sizes = ", ".join(f"{row.median:.2g} ({NAMES[str(row.family)]})" for row in log_loss.itertuples())
    return (
        f"Stationary points of backprop that are lost with a module that is always fitted: {_by_problem(lost)}. The "
        f"norm of the field there is (medians, tanh units and log loss) {sizes}."
    )


def _on_added(added: pd.DataFrame, starts: pd.DataFrame) -> str:
    return (
        f"Points where networks that are trained together with their module come to rest, and that are added: "
        f"{_by_problem(added)}. Training loss there minus that of backprop from the same start: {_excess(starts)}."
    )


def _by_problem(counts: pd.DataFrame) -> str:
    groups = counts[~constructed(counts)].groupby("problem", sort=False)
    return "; ".join(f"{START_PROBLEMS[str(problem)].words}: {_counted(rows)}" for problem, rows in groups)


def _excess(starts: pd.DataFrame) -> str:
    """Return the difference in training loss between added points and backprop's, means over starts."""
    case = ["problem", "seed", "start"]
    reference = rows_of(starts, family="backprop").set_index(case)["data_loss"].rename("reference")
    added = starts[starts["true_gradient_norm"] > _SAME_GRADIENT].join(reference, on=case)
    added = added.assign(difference=added["data_loss"] - added["reference"])
    rows = seed_intervals(added, ["problem", "family"], "difference").itertuples()
    return "; ".join(
        f"{START_PROBLEMS[str(row.problem)].words}, {NAMES[str(row.family)]}: {with_interval(row, '+.2g')}"
        for row in rows
    )


def _counted(rows: pd.DataFrame) -> str:
    """Return "3 of 40 (95 % interval 0.03 to 0.20; linear, no labels)" for each family, equal counts together."""
    words = []
    for _, alike in rows.groupby(["count", "n"], sort=False):
        count, n = int(alike["count"].iloc[0]), int(alike["n"].iloc[0])
        words.append(f"{count} of {n} ({proportion(count, n)}; {' / '.join(alike['family'].map(NAMES))})")
    return ", ".join(words)


def _on_zero_loss(counts: pd.DataFrame) -> Iterator[str]:
    lost, reached = rows_of(counts, what="zero-loss point lost"), rows_of(counts, what="zero loss reached")
    if len(lost):
        n, worst = int(lost["n"].max()), int(lost["count"].max())
        yield (
            f"Of {n} zero-loss points of backprop, {n - worst} are stationary with every family, even a constant "
            f"({proportion(n - worst, n)}). This holds by construction, because at zero loss the true gradient of "
            "every example is zero, which every module can hold; evidence is only where training ends."
        )
    yield (
        f"Networks that are trained together with their module end at zero loss (at most {_ZERO_LOSS:g}) as follows: "
        f"{_counted(reached)}."
    )


def _on_exact(points: pd.DataFrame, exact: pd.DataFrame, lost: pd.DataFrame, added: pd.DataFrame) -> str:
    """Return the check of the code: what must come out where the module holds the gradient."""
    return (
        "Modules that are linear in activation and label, with further features or without, hold the gradient of the "
        "squared error at every point by construction, so this is a check of the code and no evidence. The linear one "
        "has the stationary point of backprop in "
        f"{int(_preserved(exact).sum())} of {len(exact)} networks, where outputs differ by "
        f"{exact['distance'].max():.1e} at most and the true gradient is {exact['true_gradient_norm'].max():.1e} at "
        f"most; over starts such modules lose {_share(lost[constructed(lost)])} points and add "
        f"{_share(added[constructed(added)])}."
    )


def _share(counts: pd.DataFrame) -> str:
    return f"{int(counts['count'].sum())} of {int(counts['n'].sum())}"


def _findings(points: pd.DataFrame, exact: pd.DataFrame) -> Iterator[str]:
    linear = rows_of(points, problem="deep linear")
    yield (
        "In the linear network the losses at backprop's points equal the known optimum to a relative error of "
        f"{_largest_excess(rows_of(linear, family='backprop')):.1e}, and those of the SG with labels to "
        f"{_largest_excess(rows_of(exact, problem='deep linear')):.1e}."
    )
    free = rows_of(linear, family="linear")
    yield (
        "Without labels, every point with an optimal readout is stationary for a linear module: in the linear network "
        f"the median true gradient there is {free['true_gradient_norm'].median():.2g}, and the median loss is "
        f"{(free['loss'] / free['best']).median():.2f} times the optimum."
    )
    yield _on_log_loss(rows_of(points, problem="tanh, log loss"))


def _on_rest(points: pd.DataFrame, starts: pd.DataFrame) -> Iterator[str]:
    """Yield how many flows and trainings reached a stationary point; only these are counted."""
    restless = points[~points["at_rest"]]
    cases = restless[["problem", "family"]].drop_duplicates().itertuples(index=False)
    named = "; ".join(f"{PROBLEMS[problem].words} ({NAMES[family]})" for problem, family in cases)
    yield (
        f"{len(points) - len(restless)} of {len(points)} flows reached a stationary point"
        + (f"; the others: {named}." if named else ".")
    )
    rest = starts.groupby("family", sort=False)["at_rest"].agg(["sum", "size"])
    ends = ", ".join(f"{row['sum']} of {row['size']} ({NAMES[str(family)]})" for family, row in rest.iterrows())
    yield (
        f"Of the trainings from many starts, these came to rest: {ends}; {int(starts['diverged'].sum())} diverged. The "
        "others are not counted as points."
    )


def _largest_excess(points: pd.DataFrame) -> float:
    return float((points["loss"] / points["best"] - 1).abs().max())


def _on_log_loss(points: pd.DataFrame) -> str:
    medians = points.groupby("family", sort=False)[["distance", "norm", "data_loss", "test_loss"]].median()
    reference, linear = medians.loc["backprop"], medians.loc["linear-labels"]
    far = ", ".join(f"{medians.loc[name, 'distance']:.2g} ({NAMES[name]})" for name in medians.index[3:])
    return (
        f"With log loss no linear module can hold the true gradient; the outputs at the stationary point move by "
        f"(medians) {far}. The module that is linear with labels ends at weights of norm {linear['norm']:.2f} "
        f"(backprop {reference['norm']:.2f}), training loss {linear['data_loss']:.3f} ({reference['data_loss']:.3f}) "
        f"and test loss {linear['test_loss']:.3f} ({reference['test_loss']:.3f})."
    )


def _count_table(counts: pd.DataFrame) -> pd.DataFrame:
    words = counts["problem"].map({name: problem.words for name, problem in START_PROBLEMS.items()})
    shown = counts.assign(problem=words, family=counts["family"].map(NAMES))
    return shown.assign(
        low=shown["low"].round(3), high=shown["high"].round(3), by_construction=by_construction(counts)
    ).pipe(formatted, ".2g", ["median"])


def _point_table(points: pd.DataFrame) -> pd.DataFrame:
    columns = ["true_gradient_norm", "distance", "data_loss", "test_loss", "norm", "n_unstable", "n_negative"]
    groups = points.groupby(["problem", "family"], sort=False)
    table = groups[columns].median().reset_index()
    rounded = {name: table[name].round(4) for name in columns[2:]}
    shown = formatted(table.assign(**rounded), ".2g", columns[:2])
    return shown.assign(family=table["family"].map(NAMES), reached=groups["at_rest"].mean().to_numpy())
