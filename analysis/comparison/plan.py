"""Which pieces an analysis consists of, and which of them are to be done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.comparison.compute import perform
from analysis.comparison.piece import Piece, Request, Source
from analysis.comparison.store import Store
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig
from analysis.execution.task import Task

__all__ = ["COMPARATORS_SHOWN", "Block", "Place", "Planned", "plan", "tasks_of"]

COMPARATORS_SHOWN = ("pearson", "spearman")  # of `COMPARATORS`; each a column of rdm_similarity.csv
_GROUP_BYTES = 128 * 2**20  # of layers that are in memory together, in double precision
_MOST_TOGETHER = 32  # layers whose probes are searched at once, which is faster than one by one

Place = tuple[int, str]  # a view's position, and a layer


@dataclass(frozen=True)
class Block:
    """A piece of similarities, and where its rows and columns belong among all layers of all views."""

    measure: str
    rows: tuple[Place, ...]
    columns: tuple[Place, ...]
    piece: Piece


@dataclass(frozen=True)
class Planned:
    """The pieces of an analysis by what they are of."""

    rdms: dict[Place, Piece]
    class_structure: dict[Place, Piece]
    rdm_similarity: dict[Place, Piece]
    probes: dict[tuple[Place, ...], Piece]
    similarity: list[Block]

    def pieces(self) -> Iterator[Piece]:
        """Yield every piece, each after those that it needs."""
        yield from self.rdms.values()
        for pieces in (self.probes, self.class_structure, self.rdm_similarity):
            yield from pieces.values()
        yield from (block.piece for block in self.similarity)


def plan(views: Sequence[View], config: AnalysisConfig) -> Planned:
    """Return the pieces of an analysis.

    Parameters
    ----------
    views : sequence of View
        On the same stimuli; the first is the reference.
    config : AnalysisConfig
    """
    places = [(index, layer) for index, view in enumerate(views) for layer in view.listed]
    whole = [Source.of(view) for view in views]
    sources = {(index, layer): replace(whole[index], layers=(layer,)) for index, layer in places}
    n_test, n_all = len(views[0].rows("test")), len(views[0].run.stimuli)
    widths = {(index, layer): views[index].listed[layer].shape[1] for index, layer in places}
    rdms = {
        place: Piece("rdm", (source,), {"distance": config.distance}, cost=0.05 + 1e-10 * n_test**2 * widths[place])
        for place, source in sources.items()
    }
    return Planned(
        rdms=rdms,
        class_structure={
            place: Piece("class_structure", matrix.sources, matrix.options, (matrix,)) for place, matrix in rdms.items()
        },
        rdm_similarity=_rdm_similarity(rdms),
        probes=_probes(views, whole, config, n_all),
        similarity=[block for measure in config.measures for block in _blocks(views, whole, measure, n_test)],
    )


def tasks_of(planned: Planned, folder: Path) -> list[Task]:
    """Return the pieces that are not in a folder yet, as tasks that do them."""
    store = Store(folder)
    tasks: dict[str, Task] = {}
    for piece in planned.pieces():
        if piece.key not in tasks and piece.key not in store:
            after = tuple(f"{folder}:{needed.key}" for needed in piece.needs)
            key = f"{folder}:{piece.key}"
            tasks[piece.key] = Task(key, perform, Request(piece, folder.absolute()), after, piece.cost)
    return list(tasks.values())


def _probes(
    views: Sequence[View], whole: Sequence[Source], config: AnalysisConfig, n_stimuli: int
) -> dict[tuple[Place, ...], Piece]:
    found = {}
    for index, view in enumerate(views):
        for layers in _groups(view, n_stimuli, _MOST_TOGETHER):
            d = sum(view.listed[layer].shape[1] for layer in layers)
            piece = Piece(
                "probes",
                (replace(whole[index], layers=layers),),
                {"Cs": list(config.Cs)},
                cost=0.2 + 4e-7 * n_stimuli * d,
            )
            found[tuple((index, layer) for layer in layers)] = piece
    return found


def _rdm_similarity(rdms: dict[Place, Piece]) -> dict[Place, Piece]:
    """Compare each later view's RDMs with the first view's of the same layers."""
    options = {"comparators": list(COMPARATORS_SHOWN)}
    found = {}
    for (index, layer), matrix in rdms.items():
        if index and (0, layer) in rdms:
            pair = (rdms[0, layer], matrix)
            sources = tuple(each.sources[0] for each in pair)
            found[index, layer] = Piece("rdm_similarity", sources, {**options, **matrix.options}, pair, 0.2)
    return found


def _blocks(views: Sequence[View], whole: Sequence[Source], measure: str, n_test: int) -> Iterator[Block]:
    groups = [(index, layers) for index, view in enumerate(views) for layers in _groups(view, n_test, len(view.listed))]
    for position, first in enumerate(groups):
        for second in groups[position:]:
            pair = (first,) if first == second else (first, second)
            sources = tuple(replace(whole[index], layers=layers) for index, layers in pair)
            rows, columns = (tuple((index, layer) for layer in layers) for index, layers in (first, second))
            cost = 0.2 + 1e-3 * len(rows) * len(columns)
            yield Block(measure, rows, columns, Piece("similarity", sources, {"measure": measure}, cost=cost))


def _groups(view: View, n_rows: int, most: int) -> list[tuple[str, ...]]:
    """Divide a view's layers, in order, into groups that fit in memory together."""
    groups: list[list[str]] = [[]]
    held = 0
    for name, layer in view.listed.items():
        size = 8 * n_rows * layer.shape[1]
        if groups[-1] and (held + size > _GROUP_BYTES or len(groups[-1]) == most):
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    return [tuple(group) for group in groups]
