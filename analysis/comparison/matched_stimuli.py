"""Statements about the stimuli of a comparison: how many are compared, and how they were matched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.comparison.stimulus_matching import compare_inputs
from analysis.comparison.view import View

__all__ = ["describe_matching", "matched_stimuli"]


def matched_stimuli(views: Sequence[View]) -> dict[str, Any]:
    """Return which stimuli views compare, ready for JSON.

    ``match`` is "inputs" or "ids"; ``n`` is the number of stimuli; ``runs`` has for each run how many it recorded, and
    whether it saw the inputs that the first run saw: "same", "other" or "unknown".
    """
    first, runs = views[0], {str(view.run.path.absolute()): view for view in views}
    described = [
        {"run": path, "n_recorded": len(view.run.stimuli), "inputs": _compared_inputs(view, first)}
        for path, view in runs.items()
    ]
    match = "inputs" if first.matching is None else first.matching.by
    return {"match": match, "n": len(first.stimuli), "runs": described}


def describe_matching(views: Sequence[View]) -> list[str]:
    """Return a sentence about the stimuli of views whose runs did not record the same ones in the same order."""
    matching = views[0].matching
    if matching is None:
        return []
    if matching.by == "inputs":
        return [
            f"The runs recorded the same stimuli in different orders; all are compared in that of {views[0].network}."
        ]
    networks = {view.network: view for view in views}
    groups = {
        kind: [name for name, view in networks.items() if _compared_inputs(view, views[0]) == kind]
        for kind in ("other", "unknown")
    }
    n = len(views[0].stimuli)
    counts = [f"{len(view.run.stimuli)} of {name}" for name, view in networks.items() if len(view.run.stimuli) != n]
    return [
        f"Stimuli are matched by id: {n} are compared" + (f", of {', '.join(counts)}" if counts else "") + ".",
        *([f"{', '.join(groups['other'])} saw other inputs than {views[0].network}."] if groups["other"] else []),
        *(
            [f"Whether {', '.join(groups['unknown'])} saw the inputs of {views[0].network} is not known."]
            if groups["unknown"]
            else []
        ),
    ]


def _compared_inputs(view: View, reference: View) -> str:
    if view.matching != reference.matching:  # of arms that were trained on other splits
        return "other"
    return compare_inputs(view.run, reference.run, reference.matching)
