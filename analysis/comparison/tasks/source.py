"""Sources of comparisons: layers of a run at a step, with the checksums of the files that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from analysis.comparison.view import View
from checkpoints import Activations, Layer, Run, Stimuli
from checkpoints.storage.regular_files import check_unchanged, sha256

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """Layers of one run at one step, and the checksums of their files when the analysis was planned."""

    run: str
    step: int
    layers: tuple[str, ...]
    activations_sha256: str
    stimuli_sha256: str

    @classmethod
    def of(cls, view: View) -> Source:
        """Return the source of a view, without layers."""
        entry = view.run[view.step].manifest["activations.h5"]
        stimuli = str(view.run.info.get("stimuli_sha256") or sha256(view.run.path / "stimuli.h5"))
        return cls(str(view.run.path.absolute()), view.step, (), str(entry["sha256"]), stimuli)

    @property
    def identity(self) -> list[Any]:
        """The layers and the contents of the files, wherever they lie."""
        return [list(self.layers), self.activations_sha256, self.stimuli_sha256]

    def read(self) -> tuple[dict[str, Layer], Stimuli]:
        """Return the layers, still on disk, and the stimuli, after checking every byte of the files."""
        activations, stimuli = _opened_step(self.run, self.step, self.activations_sha256, self.stimuli_sha256)
        check_unchanged(activations.path, self.activations_sha256)
        return {layer: activations[layer] for layer in self.layers}, stimuli


@lru_cache(maxsize=16)
def _opened_step(path: str, step: int, activations_sha256: str, stimuli_sha256: str) -> tuple[Activations, Stimuli]:
    """Open a step once per process, because many tasks read it."""
    run = Run.open(path)
    checkpoint = run[step]
    check_unchanged(checkpoint.path / "activations.h5", activations_sha256)
    check_unchanged(run.path / "stimuli.h5", stimuli_sha256)
    return checkpoint.activations, run.stimuli
