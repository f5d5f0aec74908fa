"""A piece of an analysis: what is found out, of which activations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from analysis.comparison.view import View
from checkpoints import Activations, Layer, Run, Stimuli
from checkpoints.storage.regular_files import check_unchanged, sha256

__all__ = ["Piece", "Request", "Source"]

_VERSION = 2  # of what the kinds compute; a later one makes every earlier piece stale


@dataclass(frozen=True)
class Source:
    """Layers of one run at one step, and what their files held when the piece was planned.

    Attributes
    ----------
    run : str
        Absolute path.
    step : int
    layers : tuple of str
    activations_sha256, stimuli_sha256 : str
    """

    run: str
    step: int
    layers: tuple[str, ...]
    activations_sha256: str
    stimuli_sha256: str

    @classmethod
    def of(cls, view: View) -> Source:
        """Return a view as a source, of which no layer is chosen yet."""
        entry = view.run[view.step].manifest["activations.h5"]
        stimuli = str(view.run.info.get("stimuli_sha256") or sha256(view.run.path / "stimuli.h5"))
        return cls(str(view.run.path.absolute()), view.step, (), str(entry["sha256"]), stimuli)

    @property
    def identity(self) -> list[Any]:
        """All that decides what is read."""
        return [list(self.layers), self.activations_sha256, self.stimuli_sha256]

    def read(self) -> tuple[dict[str, Layer], Stimuli]:
        """Return the layers, still on disk, and the stimuli, after comparing every byte with what was planned.

        Raises
        ------
        Damaged
            If a file has changed.
        """
        activations, stimuli = _listed(self.run, self.step, self.activations_sha256, self.stimuli_sha256)
        check_unchanged(activations.path, self.activations_sha256)
        return {layer: activations[layer] for layer in self.layers}, stimuli


@lru_cache(maxsize=16)
def _listed(path: str, step: int, activations_sha256: str, stimuli_sha256: str) -> tuple[Activations, Stimuli]:
    """List the layers of a step once a process, as many pieces read of it."""
    run = Run.open(path)
    checkpoint = run[step]
    check_unchanged(checkpoint.path / "activations.h5", activations_sha256)
    check_unchanged(run.path / "stimuli.h5", stimuli_sha256)
    return checkpoint.activations, run.stimuli


@dataclass(frozen=True)
class Piece:
    """One result that depends on its kind, sources and options alone.

    Attributes
    ----------
    kind : str
        A key of ``KINDS``.
    sources : tuple of Source
    options : mapping
        JSON-ready.
    needs : tuple of Piece
        Pieces that this one is made from; they do not change what it is called.
    cost : float
        About how many seconds it takes on one core.
    """

    kind: str
    sources: tuple[Source, ...]
    options: Mapping[str, Any]
    needs: tuple[Piece, ...] = ()
    cost: float = field(default=0.1, compare=False)

    @cached_property
    def key(self) -> str:
        """Kind and hash: the same wherever the runs lie and whatever they are called."""
        identity = [_VERSION, self.kind, [source.identity for source in self.sources], dict(self.options)]
        return f"{self.kind}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]}"


@dataclass(frozen=True)
class Request:
    """A piece, and the folder of the analysis that keeps it."""

    piece: Piece
    folder: Path
