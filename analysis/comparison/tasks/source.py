"""Sources of comparisons: layers of a run at a step, with the checksums of the files that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.stimulus_matching import MatchedLayer, Matching
from analysis.comparison.view import View
from checkpoints import Activations, Layer, Run, Stimuli
from checkpoints.storage.regular_files import check_unchanged, sha256

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """Layers of one run at one step, and the checksums of their files when the analysis was planned.

    ``matching`` says which rows are compared, and in which order, unless it is all rows in the order of the files.
    """

    run: str
    step: int
    layers: tuple[str, ...]
    activations_sha256: str
    stimuli_sha256: str
    matching: Matching | None = None

    @classmethod
    def of(cls, view: View) -> Source:
        """Return the source of a view, without layers."""
        entry = view.run[view.step].manifest["activations.h5"]
        stimuli = str(view.run.info.get("stimuli_sha256") or sha256(view.run.path / "stimuli.h5"))
        matching = None if view.matching is None or view.matching.keeps(view.run.stimuli) else view.matching
        return cls(str(view.run.path.absolute()), view.step, (), str(entry["sha256"]), stimuli, matching)

    @property
    def identity(self) -> list[Any]:
        """The layers and the contents of the files, wherever they lie."""
        matched = [] if self.matching is None else [[file.sha256 for file in self.matching.files]]
        return [list(self.layers), self.activations_sha256, self.stimuli_sha256, *matched]

    @property
    def stimuli(self) -> Stimuli:
        """The stimuli of the rows, as ``read`` returns them, before the files are checked."""
        return Run.open(self.run).stimuli if self.matching is None else self.matching.stimuli

    def read(self) -> tuple[dict[str, Layer], Stimuli]:
        """Return the layers, still on disk, and the stimuli, after checking every byte of the files."""
        activations, stimuli = _opened_step(self.run, self.step, self.activations_sha256, self.stimuli_sha256)
        check_unchanged(activations.path, self.activations_sha256)
        layers = self.select({layer: activations[layer] for layer in self.layers})
        return layers, stimuli if self.matching is None else self.matching.stimuli

    def select(self, layers: Mapping[str, Layer]) -> dict[str, Layer]:
        """Return recorded layers of the run with the rows that are compared."""
        if self.matching is None:
            return dict(layers)
        rows = _matched_rows(self.matching, self.run)
        return {name: MatchedLayer.of(layer, rows) for name, layer in layers.items()}


@lru_cache(maxsize=256)
def _matched_rows(matching: Matching, path: str) -> NDArray[np.int64]:
    return matching.rows(Run.open(path).stimuli)


@lru_cache(maxsize=256)
def _opened_step(path: str, step: int, activations_sha256: str, stimuli_sha256: str) -> tuple[Activations, Stimuli]:
    """Open a step once per process, because many tasks read it."""
    run = Run.open(path)
    checkpoint = run[step]
    check_unchanged(checkpoint.path / "activations.h5", activations_sha256)
    check_unchanged(run.path / "stimuli.h5", stimuli_sha256)
    return checkpoint.activations, run.stimuli
