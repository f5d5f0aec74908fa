"""Measurement of one layer in all networks of all arms at one aligned step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.tasks.pairs import compare_layers
from analysis.comparison.tasks.source import Source
from analysis.comparison.undefined import attempt
from analysis.execution.cache import TaskResult, Undefined
from checkpoints import Stimuli
from repsim.similarity import MEASURES, class_structure, participation_ratio, rdm

__all__ = ["QUANTITIES", "measure_layer"]

QUANTITIES = ("class_structure", "log_dimension")


def measure_layer(folder: Path, *, sources: Sequence[Source], measures: Sequence[str]) -> TaskResult:
    """Return similarities of a layer between all networks, and numbers that describe it in each.

    Each source is the layer in one network. The arrays of the result are one (n, n) array per measure, the mean of both
    directions if it is asymmetric, and one (n,) array per quantity: ``class_structure``, of the correlation distance,
    and ``log_dimension``, the logarithm of the participation ratio. Only held-out stimuli are used. Values are NaN
    where they are undefined. Warnings about defined values name the layer, the result and the first network.
    """
    networks, labels = _read(sources)
    arrays: dict[str, NDArray[Any]] = {}
    undefined: dict[tuple[int, str], Undefined] = {}
    raised: dict[str, dict[int, str]] = {}  # the first message by result and position of the network
    for measure in measures:
        found = compare_layers([networks], measure)
        arrays[measure] = found.values if MEASURES[measure].is_symmetric else (found.values + found.values.T) / 2
        for each in found.undefined:
            undefined[int(each.layer), measure] = _at(int(each.layer), sources, measure, each.reason)
        if found.warnings:
            raised[measure] = dict.fromkeys(range(len(sources)), found.warnings[0])
    described = {name: np.full(len(sources), np.nan) for name in QUANTITIES}
    for k, X in enumerate(networks.values()):
        for name, describe in (
            ("class_structure", partial(_structure, labels=labels, name=sources[k].layers[0])),
            ("log_dimension", _log_dimension),
        ):
            attempted = attempt(partial(describe, X))
            if attempted.value is None or not np.isfinite(attempted.value):
                undefined[k, name] = _at(k, sources, name, attempted.reason)
            else:
                described[name][k] = attempted.value
                if attempted.warnings:
                    raised.setdefault(name, {})[k] = attempted.warnings[0]
    messages = [_warning(result, by_network, sources) for result, by_network in raised.items()]
    return TaskResult({**arrays, **described}, warnings=messages, undefined=list(undefined.values()))


def _warning(result: str, messages: Mapping[int, str], sources: Sequence[Source]) -> str:
    """Return one warning about a result of a layer in some networks, whose positions the messages have."""
    position, message = next(iter(messages.items()))
    first = sources[position]
    return (
        f"{result.replace('_', ' ')} of layer {first.layers[0]!r} in {len(messages)} of {len(sources)} networks, the "
        f"first {first.run} at step {first.step}: {message}"
    )


def _structure(X: NDArray[Any], labels: NDArray[Any], name: str) -> float:
    return float(class_structure(rdm(X, method="correlation", name=name), labels))


def _log_dimension(X: NDArray[Any]) -> float:
    return float(np.log(participation_ratio(X)))


def _read(sources: Sequence[Source]) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Return the held-out rows of each layer by its position, and their labels."""
    networks: dict[str, NDArray[Any]] = {}
    labels: NDArray[Any] = np.empty(0)
    for k, source in enumerate(sources):
        layers, stimuli = source.read()
        rows = _test_rows(stimuli)
        (layer,) = layers.values()
        networks[str(k)], labels = layer[rows], stimuli.labels[rows]
    return networks, labels


def _test_rows(stimuli: Stimuli) -> NDArray[np.int64]:
    return np.flatnonzero(stimuli.split == "test")


def _at(position: int, sources: Sequence[Source], result: str, reason: str) -> Undefined:
    return Undefined(position, sources[position].layers[0], result, reason)
