"""Similarity of the layers of one or two sources, with NaN where it is undefined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.undefined import Attempt, attempt
from analysis.execution.cache import Undefined
from repsim.similarity import MEASURES, pairwise

__all__ = ["Similarities", "compare_layers"]

Layers = Mapping[str, NDArray[Any]]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Similarities:
    """Values of a measure for all pairs of layers, NaN where it is undefined, with the reasons and warnings."""

    values: Values
    undefined: list[Undefined]
    warnings: list[str]


def compare_layers(sides: Sequence[Layers], measure: str) -> Similarities:
    """Return the similarity of every layer of the first side with every layer of the last.

    Layers that the measure rejects have NaN in their rows and columns; the others are compared without them. The layers
    of a single side are compared with one another.
    """
    names = [list(side) for side in sides]
    whole = attempt(lambda: pairwise(*sides, measure=measure).values)
    if whole.value is not None:
        return _explained(whole, names, [{} for _ in sides], measure)
    rejected = [_rejected(side, measure) for side in sides]
    return _explained(_rest(sides, rejected, measure), names, rejected, measure)


def _rest(sides: Sequence[Layers], rejected: Sequence[Mapping[str, str]], measure: str) -> Attempt[Values]:
    """Compare the layers that are not rejected; NaN in the rows and columns of those that are."""
    kept = [
        {name: layer for name, layer in side.items() if name not in bad}
        for side, bad in zip(sides, rejected, strict=True)
    ]
    rows, columns = ([k for k, name in enumerate(sides[s]) if name in kept[s]] for s in (0, -1))
    values = np.full((len(sides[0]), len(sides[-1])), np.nan)
    if not rows or not columns:
        return Attempt(values, [], "")
    found = attempt(lambda: pairwise(*kept, measure=measure).values)
    if found.value is None:  # each layer is comparable with itself, but some pair is not
        found = _one_by_one(kept, measure)
    values[np.ix_(rows, columns)] = found.value
    return replace(found, value=values, error="")


def _rejected(side: Layers, measure: str) -> dict[str, str]:
    """Return the layers that cannot be compared with themselves, each with the reason."""
    alone = {name: attempt(partial(pairwise, {name: layer}, measure=measure)) for name, layer in side.items()}
    return {name: each.error for name, each in alone.items() if each.value is None}


def _one_by_one(sides: Sequence[Layers], measure: str) -> Attempt[Values]:
    values = np.full((len(sides[0]), len(sides[-1])), np.nan)
    messages = []
    for i, (first, X) in enumerate(sides[0].items()):
        for j, (second, Y) in enumerate(sides[-1].items()):
            pair = attempt(partial(pairwise, {"X": X}, {"Y": Y}, measure=measure))
            if pair.value is not None:
                values[i, j] = pair.value.values.item()
            else:
                messages.append(f"{measure} of {first} and {second} is not defined: {pair.error}")
    return Attempt(values, messages, "")


def _explained(
    found: Attempt[Values], names: list[list[str]], rejected: list[dict[str, str]], measure: str
) -> Similarities:
    """Separate layers without any similarity from single pairs without one; keep warnings about NaN for pairs only."""
    values = found.value
    assert values is not None
    undefined = [Undefined(s, name, measure, why) for s, side in enumerate(rejected) for name, why in side.items()]
    missing = np.isnan(values)
    if len(names) == 1:
        why = f"Its activations {MEASURES[measure].undefined}."
        dead = [name for name, is_missing in zip(names[0], missing.diagonal(), strict=True) if is_missing]
        undefined += [Undefined(0, name, measure, why) for name in dead if name not in rejected[0]]
    explained = np.logical_or.outer(missing.all(axis=1), missing.all(axis=0))
    messages = (
        found.warnings if (missing & ~explained).any() else [said for said in found.warnings if "NaN" not in said]
    )
    return Similarities(values, undefined, messages)
