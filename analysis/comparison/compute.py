"""The kinds of pieces: what each finds out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.pairs import compare_layers
from analysis.comparison.piece import Piece, Request, Source
from analysis.comparison.store import Found, Store
from analysis.comparison.undefined import Undefined, attempt
from analysis.config.analysis import AnalysisConfig
from checkpoints import Stimuli
from probes import probe_layers
from repsim.similarity import MEASURES, class_structure, compare_rdms, rdm

__all__ = ["KINDS", "perform"]


def perform(request: Request) -> None:
    """Compute a piece and keep it with its warnings; a piece that is already kept is left alone.

    A result that a layer does not have (its activations are NaN, constant, too narrow for the measure) is kept as NaN
    with the reason, as it follows from the same bits every time.
    """
    store, piece = Store(request.folder), request.piece
    if piece.key in store:
        return
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        found = KINDS[piece.kind](piece, store)
    said = [str(each.message) for each in given if issubclass(each.category, RuntimeWarning | UserWarning)]
    messages = list(dict.fromkeys([*found.warnings, *said]))
    store.write(piece.key, Found(found.arrays, found.facts, messages, found.undefined))


def _rdm(piece: Piece, store: Store) -> Found:
    """Dissimilarity of the held-out stimuli in one layer, in single precision; all NaN if there is none."""
    (source,) = piece.sources
    layers, stimuli = source.read()
    ((name, layer),) = layers.items()
    rows = _test(stimuli)
    found = attempt(lambda: rdm(layer[rows], method=piece.options["distance"], name=name))
    if found.value is None or np.isnan(found.value).all():
        nothing = np.full(len(rows) * (len(rows) - 1) // 2, np.nan, dtype=np.float32)
        return Found({"rdm": nothing}, undefined=[Undefined(0, name, "rdm", found.reason)])
    return Found({"rdm": found.value.astype(np.float32)}, warnings=found.warnings)


def _class_structure(piece: Piece, store: Store) -> Found:
    """Mean distance between classes less that within, from the layer's RDM, and what was to be said of this one."""
    (source,), (needed,) = piece.sources, piece.needs
    _, stimuli = source.read()
    matrix = store.read(needed.key)
    undefined = list(matrix.undefined)
    if undefined:
        value, messages, reason = math.nan, [], undefined[0].reason
    else:
        found = attempt(lambda: class_structure(matrix.arrays["rdm"], stimuli.labels[_test(stimuli)]))
        value, messages, reason = math.nan if found.value is None else found.value, found.warnings, found.reason
    if math.isnan(value):
        undefined.append(Undefined(0, source.layers[0], "class_structure", reason))
        messages = []
    return Found(facts={"class_structure": _plain(value)}, warnings=[*matrix.warnings, *messages], undefined=undefined)


def _rdm_similarity(piece: Piece, store: Store) -> Found:
    """Correlations of two RDMs, of the pairs of stimuli whose distance is defined in both."""
    matrices = [store.read(needed.key) for needed in piece.needs]
    names = list(piece.options["comparators"])
    for position, matrix in enumerate(matrices):
        if matrix.undefined:
            return _no_similarity(piece, position, dict.fromkeys(names), matrix.undefined[0].reason)
    pair = np.stack([matrix.arrays["rdm"] for matrix in matrices])
    pair[:, np.isnan(pair).any(axis=0)] = np.nan
    found = {name: attempt(partial(compare_rdms, pair[0], pair[1], method=name)) for name in names}
    facts = {name: _plain(each.value) for name, each in found.items()}
    missing = [each for name, each in found.items() if facts[name] is None]
    if missing:
        return _no_similarity(piece, 1, facts, missing[0].reason)
    return Found(facts=facts, warnings=[message for each in found.values() for message in each.warnings])


def _no_similarity(piece: Piece, position: int, facts: dict[str, Any], reason: str) -> Found:
    """Return correlations of which some are not defined, because of the layer of one of the two sources."""
    layer = piece.sources[position].layers[0]
    return Found(facts=facts, undefined=[Undefined(position, layer, "rdm_similarity", reason)])


def _similarity(piece: Piece, store: Store) -> Found:
    """Similarity of every layer of one source with every layer of another, in both directions."""
    sides = [_arrays(source) for source in piece.sources]
    measure = piece.options["measure"]
    forth = compare_layers(sides, measure)
    if len(sides) == 1:
        return Found({"forth": forth.values}, warnings=forth.warnings, undefined=forth.undefined)
    back = forth.values.T if MEASURES[measure].is_symmetric else compare_layers(sides[::-1], measure).values
    return Found({"forth": forth.values, "back": back}, warnings=forth.warnings, undefined=forth.undefined)


def _probes(piece: Piece, store: Store) -> Found:
    """Fit a linear probe to each of some layers: the rows that ``probe_layers`` returns, by layer."""
    (source,) = piece.sources
    layers, stimuli = source.read()
    Cs = piece.options["Cs"]
    grid = "auto" if tuple(Cs) == AnalysisConfig.Cs else Cs  # the default grid may be extended, any other may not
    table = probe_layers(layers, stimuli.labels, stimuli.split, Cs=grid, ids=stimuli.ids)
    rows = {row["layer"]: {name: _plain(value) for name, value in row.items()} for row in table.to_dict("records")}
    return Found(facts={"rows": rows}, undefined=_failed(rows.values()))


def _failed(rows: Iterable[Mapping[Any, Any]]) -> list[Undefined]:
    return [
        Undefined(0, row["layer"], "probes", str(row["message"]).removeprefix("ValueError: "))
        for row in rows
        if row["status"] != "ok"
    ]


KINDS: dict[str, Callable[[Piece, Store], Found]] = {
    "rdm": _rdm,
    "class_structure": _class_structure,
    "rdm_similarity": _rdm_similarity,
    "similarity": _similarity,
    "probes": _probes,
}


def _arrays(source: Source) -> dict[str, NDArray[Any]]:
    layers, stimuli = source.read()
    return {name: layer[_test(stimuli)] for name, layer in layers.items()}


def _test(stimuli: Stimuli) -> NDArray[np.int64]:
    return np.flatnonzero(stimuli.split == "test")


def _plain(value: Any) -> Any:
    """Return a scalar as JSON takes it; what is not a number becomes null."""
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain
