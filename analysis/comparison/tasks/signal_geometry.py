"""Function of the task that compares recorded teaching signals with one another and with the change that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.tasks.source import Source
from analysis.comparison.undefined import Attempt, attempt, finite
from analysis.execution.cache import TaskResult
from checkpoints import Layer, Run
from checkpoints.storage.regular_files import check_unchanged
from repsim.similarity import compare_rdms, linear_cka, rdm

__all__ = ["compare_signals"]

_CHOSEN, _TRUE, _CHANGE = "The gradients", "The true gradients", "The changes in activations"  # as messages name them
_PAIRS = {"": (_CHOSEN, _TRUE), "change_": (_CHOSEN, _CHANGE), "true_change_": (_TRUE, _CHANGE)}

Patterns = Mapping[str, NDArray[Any]]


def compare_signals(
    folder: Path, *, sources: Sequence[Source], boundaries: Sequence[int], gradients_sha256: str, later: Source | None
) -> TaskResult:
    """Return how the gradient at each boundary relates to the true one and to the change until ``later``, in ``rows``.

    Only held-out stimuli are used. ``later`` is the next recorded step; without it nothing is compared with a change.
    """
    (source,) = sources
    _, stimuli = source.read()
    test = np.flatnonzero(stimuli.split == "test")
    checkpoint = Run.open(source.run)[source.step]
    check_unchanged(checkpoint.path / "gradients.h5", gradients_sha256)
    moments = [source.select(checkpoint.activations)]
    if later is not None:
        later.read()  # for its checks
        moments.append(later.select(Run.open(later.run)[later.step].activations))
    gradients = source.select(checkpoint.gradients)
    rows = [_row(*_patterns(gradients, moments, k, test)) for k in boundaries]
    return TaskResult(values={"rows": rows})


def _patterns(
    gradients: Mapping[str, Layer], moments: Sequence[Mapping[str, Layer]], boundary: int, rows: NDArray[np.int64]
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the gradient, the true one and the change in activations, as far as recorded, and what is missing."""
    layer = f"hidden.{boundary}"
    wanted = [(_CHOSEN, gradients, f"chosen/{layer}"), (_TRUE, gradients, f"true/{layer}")]
    patterns = {name: file[key][rows].astype(np.float64) for name, file, key in wanted if key in file}
    missing = [f"{key} is not in gradients.h5." for _, file, key in wanted if key not in file]
    if len(moments) == 2 and not all(layer in each for each in moments):
        missing.append(f"The activations of {layer} are not recorded.")
    elif len(moments) == 2:
        before, after = (each[layer][rows].astype(np.float64) for each in moments)
        patterns[_CHANGE] = after - before
    return patterns, missing


def _row(patterns: Patterns, missing: Sequence[str]) -> dict[str, Any]:
    """Return the cells of one boundary, with a message about those that are empty."""
    row: dict[str, Any] = {}
    rdms = {name: attempt(partial(rdm, X, method="correlation", name=name)).value for name, X in patterns.items()}
    reasons = [f"{name} are the same for all stimuli." for name, X in patterns.items() if not np.ptp(X, axis=0).any()]
    for prefix, (first, second) in _PAIRS.items():
        if first in patterns and second in patterns:
            found: dict[str, Attempt[Any]] = {
                f"{prefix}cka": attempt(partial(linear_cka, patterns[first], patterns[second])),
                f"{prefix}rdm_correlation": attempt(partial(_correlation, rdms[first], rdms[second])),
            }
            row |= {name: finite(each.value) for name, each in found.items()}
            reasons += [each.reason for name, each in found.items() if row[name] is None and not reasons]
    for name, column in ((_CHOSEN, "change_cosine"), (_TRUE, "true_change_cosine")):
        if name in patterns and _CHANGE in patterns:
            row[column] = _mean_cosine(-patterns[name], patterns[_CHANGE])
    return {**row, "message": " ".join([*missing, *reasons])}


def _correlation(a: NDArray[Any] | None, b: NDArray[Any] | None) -> float | None:
    """Return the correlation of two RDMs over the pairs of stimuli whose distance is defined in both."""
    if a is None or b is None:
        return None
    pair = np.stack([a, b])
    pair[:, np.isnan(pair).any(axis=0)] = np.nan
    return float(compare_rdms(pair[0], pair[1], method="pearson"))


def _mean_cosine(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    """Return the mean over stimuli of the cosine of their patterns; those with a zero pattern are left out."""
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    known = sizes > 0
    return float(((a * b).sum(axis=1)[known] / sizes[known]).mean()) if known.any() else None
