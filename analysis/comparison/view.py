"""Views: networks at recorded steps, on the same stimuli."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.stimulus_matching import MatchedLayer, Matching, class_names, match_stimuli
from analysis.config.recorded_steps import choose_recorded_steps, is_trained_here
from checkpoints import Layer, Run, Stimuli
from checkpoints.name_patterns import choose_names
from checkpoints.storage.regular_files import check_unchanged

__all__ = ["View", "as_text", "views_of_run", "views_of_runs"]

_SEED = re.compile(r"seed-\d+")  # the folder of a run that was trained with --seeds


@dataclass(frozen=True)
class View:
    """One network at one recorded step. Pickling keeps paths and names only, not the data that were read.

    Attributes
    ----------
    label : str
        Name in tables and figures.
    run : Run
    step : int
    layers : tuple of str
        Names or patterns of the chosen layers.
    network : str
        The label without the step; the label itself by default.
    matching : Matching or None
        How the stimuli are matched with those of other runs; None if all recorded the same ones in the same order.
    """

    label: str
    run: Run
    step: int
    layers: tuple[str, ...] = ("**",)
    network: str = ""
    matching: Matching | None = None

    def __post_init__(self) -> None:
        """Use the label as the name of the network if none was given."""
        if not self.network:
            object.__setattr__(self, "network", self.label)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the fields, without cached data."""
        return View, (self.label, self.run, self.step, self.layers, self.network, self.matching)

    @cached_property
    def activations(self) -> Mapping[str, Layer]:
        """The chosen layers that were recorded, after comparing the hashes of all files with the manifest."""
        checkpoint = self.run[self.step]
        checkpoint.verify("size")
        for name, entry in checkpoint.manifest.items():
            check_unchanged(checkpoint.path / name, entry["sha256"])
        return self.listed

    @cached_property
    def listed(self) -> Mapping[str, Layer]:
        """The chosen layers that were recorded, after comparing the sizes of files with the manifest."""
        checkpoint = self.run[self.step]
        checkpoint.verify("size")
        recorded = checkpoint.activations
        if self.layers == ("**",) and self.matching is None:
            return recorded
        chosen = {name: recorded[name] for name in choose_names(list(recorded), self.layers)}
        if self.matching is None or self.matching.keeps(self.run.stimuli):
            return chosen
        rows = self.matching.rows(self.run.stimuli)
        return {name: MatchedLayer.of(layer, rows) for name, layer in chosen.items()}

    @cached_property
    def stimuli(self) -> Stimuli:
        """The stimuli of the rows of every layer: those of the run, or those that all compared runs have in common."""
        return self.run.stimuli if self.matching is None else self.matching.stimuli

    @property
    def classes(self) -> dict[int, str]:
        """Name of each class, by its label."""
        named = class_names(self.run)
        return {int(label): str(label) for label in np.unique(self.run.stimuli.labels)} if named is None else named

    @property
    def location(self) -> str:
        """The absolute path of the run as text. Bytes that are not UTF-8 are escaped."""
        return as_text(self.run.path.absolute())

    @property
    def run_name(self) -> str:
        """The folder of the run as text. Bytes that are not UTF-8 are escaped."""
        return as_text(self.run.path.absolute().name)

    def rows(self, part: str) -> NDArray[np.int64]:
        """Return the rows of the stimuli in one part of the split (train, validation or test)."""
        return np.flatnonzero(self.stimuli.split == part)


def as_text(path: str | Path) -> str:
    r"""Return a path as text that can be encoded. Bytes that are not UTF-8 are escaped.

    Examples
    --------
    >>> as_text("run-\udcff")
    'run-\\udcff'
    """
    return str(path).encode("utf-8", "backslashreplace").decode()


def views_of_run(path: str | Path, steps: str, layers: Sequence[str] = ("**",)) -> list[View]:
    """Return one view for each chosen recorded step of a run."""
    run = Run.open(path)
    untrained = 0 if is_trained_here(run.config) else None  # elsewhere, step 0 may come after an update
    name = as_text(run.path.absolute().name)
    return [
        View("untrained" if step == untrained else f"step {step}", run, step, tuple(layers), name)
        for step in _steps_of(run, steps)
    ]


def views_of_runs(
    paths: Sequence[str | Path], steps: str = "last", layers: Sequence[str] = ("**",), match: str = "inputs"
) -> list[View]:
    """Return one view for each chosen recorded step of each run. The first view is the reference.

    ``match`` as for ``match_stimuli``.
    """
    runs = [Run.open(path) for path in paths]
    if len(runs) < 2:
        were = "run was" if len(runs) == 1 else "runs were"
        raise ValueError(f"{len(runs)} {were} given; a comparison needs two or more.")
    uuids = [run.info["uuid"] for run in runs]
    if len(set(uuids)) != len(uuids):
        raise ValueError("The same run was given twice; each run can be compared once.")
    matching = match_stimuli(runs, match)
    chosen = [_steps_of(run, steps) for run in runs]
    one = all(len(each) == 1 for each in chosen)
    return [
        View(name if one else f"{name}, step {step}", run, step, tuple(layers), name, matching)
        for name, run, each in zip(_labels(runs), runs, chosen, strict=True)
        for step in each
    ]


def _steps_of(run: Run, steps: str) -> tuple[int, ...]:
    recorded = run.recorded_steps
    if not recorded:
        run.last()  # raises
    try:
        return choose_recorded_steps(steps, recorded)
    except ValueError as error:
        raise ValueError(f"{run.path}: {error}") from None


def _labels(runs: Sequence[Run]) -> list[str]:
    """Name runs by their folder, or by as many folders of the path as tell them apart; a seed is no name by itself."""
    parts = [Path(as_text(run.path.absolute())).parts for run in runs]
    extra = [1 if _SEED.fullmatch(part[-1]) else 0 for part in parts]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-(depth + more) :]) for part, more in zip(parts, extra, strict=True)]
        if len(set(labels)) == len(labels):
            return labels
    raise ValueError("The same run was given twice; each run can be compared once.")
