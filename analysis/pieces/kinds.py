"""The kinds of pieces: what each finds out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.pieces.piece import Piece, Request, Source
from analysis.pieces.store import Found, Store
from checkpoints import Stimuli
from probes import probe_layers
from repsim.similarity import MEASURES, class_structure, compare_rdms, pairwise, rdm

__all__ = ["KINDS", "perform"]


def perform(request: Request) -> None:
    """Find out a piece and keep it, with the warnings that it gave; one that is there is left alone."""
    store, piece = Store(request.folder), request.piece
    if piece.key in store:
        return
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        found = KINDS[piece.kind](piece, store)
    said = [str(each.message) for each in given if issubclass(each.category, RuntimeWarning | UserWarning)]
    store.write(piece.key, Found(found.arrays, found.facts, list(dict.fromkeys([*found.warnings, *said]))))


def _rdm(piece: Piece, store: Store) -> Found:
    """Dissimilarity of the held-out stimuli in one layer, in single precision."""
    (source,) = piece.sources
    layers, stimuli = source.read()
    ((name, layer),) = layers.items()
    matrix = rdm(layer[_test(stimuli)], method=piece.options["distance"], name=name)
    return Found({"rdm": matrix.astype(np.float32)})


def _class_structure(piece: Piece, store: Store) -> Found:
    """Mean distance between classes less that within, from the layer's RDM, and what was to be said of this one."""
    _, stimuli = piece.sources[0].read()
    matrix = store.read(piece.needs[0].key)
    structure = class_structure(matrix.arrays["rdm"], stimuli.labels[_test(stimuli)])
    return Found(facts={"class_structure": _plain(structure)}, warnings=matrix.warnings)


def _rdm_similarity(piece: Piece, store: Store) -> Found:
    """Correlations of two RDMs, of the pairs of stimuli whose distance is defined in both."""
    pair = np.stack([_matrix(each, store) for each in piece.needs])
    pair[:, np.isnan(pair).any(axis=0)] = np.nan
    return Found(
        facts={name: _plain(compare_rdms(pair[0], pair[1], method=name)) for name in piece.options["comparators"]}
    )


def _similarity(piece: Piece, store: Store) -> Found:
    """Similarity of every layer of one source with every layer of another, in both directions."""
    arrays = [_arrays(source) for source in piece.sources]
    measure = piece.options["measure"]
    forth = pairwise(*arrays, measure=measure).values
    if len(arrays) == 1:
        return Found({"forth": forth})
    back = forth.T if MEASURES[measure].is_symmetric else pairwise(*arrays[::-1], measure=measure).values
    return Found({"forth": forth, "back": back})


def _probes(piece: Piece, store: Store) -> Found:
    """Fit a linear probe to each of some layers: the rows that ``probe_layers`` returns, by layer."""
    (source,) = piece.sources
    layers, stimuli = source.read()
    table = probe_layers(layers, stimuli.labels, stimuli.split, Cs=piece.options["Cs"], ids=stimuli.ids)
    rows = {row["layer"]: {name: _plain(value) for name, value in row.items()} for row in table.to_dict("records")}
    return Found(facts={"rows": rows})


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


def _matrix(piece: Piece, store: Store) -> NDArray[Any]:
    return store.read(piece.key).arrays["rdm"]


def _plain(value: Any) -> Any:
    """Return a scalar as JSON takes it; what is not a number becomes null."""
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain
