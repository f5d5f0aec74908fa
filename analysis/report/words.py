"""What the page says of its numbers: which method they come from, and what they are not."""

from __future__ import annotations

from typing import Any

from analysis.comparison.result import Findings
from analysis.report.layers import measures_of
from repsim.similarity import MEASURES

__all__ = ["measures_in_words", "methods_in_words"]

_NAMES = {"cka": "unbiased linear CKA", "rsa": "RSA (Pearson)"}


def methods_in_words(findings: Findings) -> dict[str, str]:
    """Return a few sentences for each section of the page."""
    n_test = len(findings.views[0].rows("test"))
    return {
        "probes": _probes(n_test) + " " + _bands(findings),
        "differences": _differences(findings),
        "structure": (
            f"Mean {findings.distance} distance between stimuli of different classes minus the mean within a class, "
            f"over all pairs of {n_test} held-out stimuli."
        ),
        "rdm": f"{findings.distance.capitalize()} distance between the activations of held-out stimuli, by class.",
        "first": "First layer whose probe's accuracy is that share of the accuracy at the last layer; later layers may "
        "fall below again.",
    }


def _probes(n_test: int) -> str:
    return (
        "Each point is the accuracy of a linear classifier (multinomial logistic regression with an L2 penalty), "
        "fitted to a layer's activations on the training stimuli; the penalty is chosen by log loss on the validation "
        f"stimuli, and the accuracy is on {n_test} test stimuli that took no part in either."
    )


def _bands(findings: Findings) -> str:
    if findings.probe_bands["n_seeds"].max() < 2:
        return (
            "Bands are one standard error from the number of test stimuli, \u221a(p (1 \u2212 p) / n): they say "
            "nothing of other seeds."
        )
    return (
        "Bands are simultaneous 95 % bands over seeds: mean \u00b1 q standard errors, with q the quantile of the "
        "largest |t| over all layers (Monte Carlo, correlated layers), so that they cover all layers of a method at "
        "once. A single seed has none."
    )


def _differences(findings: Findings) -> str:
    reference = findings.probes["method"].iloc[0]
    return (
        f"Accuracy less that of {reference}, in pairs of networks of equal seed. The p-value of a layer alone is of a "
        "paired Student t-test. The p-value for all layers is of a permutation test: the signs of whole seeds are "
        "flipped, and the largest |t| over layers is compared (single-step max-T of Westfall and Young); with few "
        "seeds it cannot be below the smallest p possible. Bands are simultaneous 95 % bands over layers, for normal "
        "differences."
    )


def measures_in_words(findings: Findings) -> list[dict[str, Any]]:
    """Return name, range, direction and formula of each measure in the table of similarities."""
    return [_measure(name) for name in measures_of(findings.similarity)]


def _measure(name: str) -> dict[str, Any]:
    label = _NAMES.get(name, name.replace("_", " "))
    if name not in MEASURES:
        return {"name": name, "label": label, "range": None, "words": label}
    measure = MEASURES[name]
    low, high = measure.range
    return {
        "name": name,
        "label": label,
        "range": [max(low, 0.0), high] if measure.direction == "similarity" else None,
        "words": f"{label[:1].upper()}{label[1:]}, a {measure.direction} from {low:g} to {high:.3g}: {measure.formula}",
    }
