"""Conclusion: number of layers that differ from backprop's, in total and beyond each control."""

from __future__ import annotations

import pandas as pd

from analysis.reproduction.claim import Results, Section, verdict_of
from analysis.reproduction.kit import deep_findings as findings
from analysis.reproduction.kit import deep_networks as deep
from analysis.reproduction.kit.numbers import seed_intervals

__all__ = ["STRUCTURE", "conclude"]

STRUCTURE = "class_structure"


def conclude(results: Results) -> Section:
    """Return the verdict: a third of the layers have to differ, by both measures, in total and beyond each control."""
    attribution, layers = results["attribution"], results["layers"]
    counts = {name: findings.contrasts_at_end(attribution, name) for name in (*deep.MEASURES, STRUCTURE)}
    first = findings.first_layers(layers, STRUCTURE)
    above = findings.first_layer_contrasts(first, attribution)
    reached = seed_intervals(first, ["arm"], "depth")
    by_measure = [
        sentence for name, label in deep.MEASURES.items() for sentence in findings.describe_layers(counts[name], label)
    ]
    return Section(
        setting=_setting(results),
        verdict=verdict_of(held for name in deep.MEASURES for held in findings.is_different(counts[name])),
        findings=[
            findings.describe_verdicts({label: counts[name] for name, label in deep.MEASURES.items()}),
            *by_measure,
            *findings.describe_layers(counts[STRUCTURE], "Class structure"),
            findings.describe_first_layers(reached, "class structure"),
            findings.describe_contrasts(above, "class structure"),
        ],
        tables={
            "networks": results["networks"],
            "arms": results["arms"],
            "attribution": attribution,
            "similarity_tests": results["similarity_tests"],
            "layers": layers,
            "first_layers": first,
            "first_layer_contrasts": above,
        },
        shown={
            f"Layers by verdict at the end of training, {label}": counts[name]
            for name, label in (*deep.MEASURES.items(), (STRUCTURE, "class structure"))
        }
        | {"Networks": _network_table(results["networks"])},
    )


def _setting(results: Results) -> str:
    return (
        f"{findings.describe_networks(results)} RDMs hold correlation distances between held-out digits in the order "
        "of their labels. The difference between two arms in a similarity is the mean similarity within them less that "
        "between them. For the claim to hold in full, a third of the layers have to differ at the end of training, by "
        "both measures and for both methods, in total and beyond every control."
    )


def _network_table(networks: pd.DataFrame) -> pd.DataFrame:
    table = networks.groupby("network", sort=False)
    columns = table.agg(
        networks=("seed", "size"), training=("train_accuracy", "mean"), test=("test_accuracy", "mean")
    ).reset_index()
    return columns.round(3)
