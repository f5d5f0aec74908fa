"""Claim: synthetic gradients change what linear classifiers read from the layers."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Claim, Results, Section, verdict_of
from analysis.reproduction.kit import deep_findings as findings
from analysis.reproduction.kit import deep_networks as deep
from analysis.reproduction.kit.numbers import rows_of, seed_intervals

__all__ = ["CLAIM"]

_ACCURACY = "accuracy"


def _conclude(results: Results) -> Section:
    attribution, layers = results["attribution"], results["layers"]
    counts = findings.contrasts_at_end(attribution, _ACCURACY)
    first = findings.first_layers(layers, _ACCURACY)
    means = seed_intervals(layers, ["at", "arm", "layer", "depth"], _ACCURACY)
    return Section(
        setting=_setting(results),
        verdict=verdict_of(findings.is_different(counts)),
        findings=[
            findings.describe_verdicts({"probe accuracy": counts}),
            *findings.describe_layers(counts, "Probe accuracy"),
            *_early(attribution),
            findings.describe_first_layers(seed_intervals(first, ["arm"], "depth"), "probe accuracy"),
        ],
        tables={
            "attribution": rows_of(attribution, quantity=_ACCURACY),
            "accuracy": means,
            "layers": layers,
            "first_layers": first,
        },
        shown={"Layers by verdict at the end of training, probe accuracy": counts},
    )


def _setting(results: Results) -> str:
    return (
        f"{findings.describe_networks(results)} Each probe is a logistic regression with an L2 penalty, fitted on "
        "training digits; the penalty is chosen on validation digits, and accuracy is measured on held-out digits. For "
        "the claim to hold in full, a third of the layers have to differ at the end of training, for both methods, in "
        "total and beyond every control."
    )


def _early(attribution: pd.DataFrame) -> Iterator[str]:
    """Yield the largest difference in total of each method during training."""
    totals = rows_of(attribution, quantity=_ACCURACY, contrast="total", status="ok")
    during = totals[totals["at"] != totals["at"].iloc[-1]]
    for method, rows in during.groupby("method", sort=False):
        most = rows.iloc[int(rows["difference"].abs().to_numpy().argmax())]
        yield (
            f"During training, probes of {method} differ from backprop's at an equal share of training most at "
            f"{most['layer']}, {most['at']}: {most['difference']:+.3f} [{most['band_low']:+.3f}, "
            f"{most['band_high']:+.3f}]; {(rows['verdict'] == 'different').sum()} of {len(rows)} layers and steps are "
            "different."
        )


def _figures(results: Results, section: Section) -> Iterator[Drawing]:
    yield Drawing(
        "probe_accuracy",
        "Probe accuracy by layer",
        "Test accuracy of a linear classifier of each layer's activations, at shares of each arm's training; means "
        "over networks with 95 % intervals, layer by layer.",
        findings.layer_panels(results, _ACCURACY, "probe accuracy on test"),
    )
    yield findings.attribution_drawing(results, _ACCURACY, "probe accuracy", "mean of the first arm less the second's")


CLAIM = Claim(
    name="probes",
    title="Linear probes by layer",
    statement="[S] The drastically different layer-wise representations are seen in linear classifier probes (Alain "
    "and Bengio 2016) over the layers of the same networks.",
    parts=deep.compared_tasks,
    conclude=_conclude,
    figures=_figures,
)
