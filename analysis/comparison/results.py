"""Results of pieces that are done, put together for tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.piece import Piece
from analysis.comparison.plan import Place, Planned
from analysis.comparison.store import Store
from analysis.comparison.undefined import Undefined
from analysis.comparison.view import View

__all__ = ["facts_of", "probe_rows", "similarities", "undefined_of", "warnings_of"]


def facts_of(pieces: Mapping[Place, Piece], store: Store) -> dict[Place, dict[str, Any]]:
    """Return the facts of pieces, by view and layer."""
    return {place: dict(store.read(piece.key).facts) for place, piece in pieces.items()}


def probe_rows(planned: Planned, store: Store) -> dict[Place, dict[str, Any]]:
    """Return the row of each probe, by view and layer."""
    rows: dict[Place, dict[str, Any]] = {}
    for places, piece in planned.probes.items():
        found = _part(store.read(piece.key).facts, "rows", piece)
        rows |= {(index, layer): found[layer] for index, layer in places}
    return rows


def similarities(views: Sequence[View], planned: Planned, store: Store) -> dict[str, NDArray[Any]]:
    """Put the blocks of each measure together: all layers of all views, by all."""
    position = {(index, layer): 0 for index, view in enumerate(views) for layer in view.listed}
    position = {place: number for number, place in enumerate(position)}
    measures = dict.fromkeys(block.measure for block in planned.similarity)
    whole = {measure: np.full((len(position), len(position)), np.nan) for measure in measures}
    for block in planned.similarity:
        rows, columns = ([position[place] for place in side] for side in (block.rows, block.columns))
        arrays = store.read(block.piece.key).arrays
        whole[block.measure][np.ix_(rows, columns)] = _part(arrays, "forth", block.piece)
        if "back" in arrays:
            whole[block.measure][np.ix_(columns, rows)] = arrays["back"]
    return whole


def _part(found: Mapping[str, Any], name: str, piece: Piece) -> Any:
    if name not in found:
        raise ValueError(f"{piece.key} in pieces/ is damaged: it has no {name}. Remove it, and give the command again.")
    return found[name]


def undefined_of(views: Sequence[View], planned: Planned, store: Store) -> dict[Place, list[Undefined]]:
    """Return the results that layers do not have, by view and layer, probes last."""
    positions = {(str(view.run.path.absolute()), view.step): index for index, view in enumerate(views)}
    found: dict[Place, list[Undefined]] = {}
    for piece in sorted(_told(planned, store), key=lambda piece: piece.kind == "probes"):
        for each in store.read(piece.key).undefined:
            source = piece.sources[each.source]
            found.setdefault((positions[source.run, source.step], each.layer), []).append(each)
    return found


def warnings_of(views: Sequence[View], planned: Planned, store: Store) -> list[str]:
    """Return what the pieces had to say of results that are defined, each with the views that it is about."""
    labels = {(str(view.run.path.absolute()), view.step): view.label for view in views}
    said = []
    for piece in _told(planned, store):
        about = " and ".join(labels[source.run, source.step] for source in piece.sources)
        said += [f"{about}: {message}" for message in store.read(piece.key).warnings]
    return list(dict.fromkeys(said))


def _told(planned: Planned, store: Store) -> Iterator[Piece]:
    """Yield the pieces that are there, but no matrices: the piece that is made from a matrix keeps what that said."""
    return (piece for piece in planned.pieces() if piece.kind != "rdm" and piece.key in store)
