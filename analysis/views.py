"""What is compared: networks at a step, seen on the same stimuli."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.settings import choose_recorded_steps, is_trained_here
from checkpoints import Activations, Run

__all__ = ["View", "views_of_run", "views_of_runs"]


@dataclass(frozen=True)
class View:
    """One network at one recorded step.

    Attributes
    ----------
    label : str
        What it is called in tables and figures.
    run : Run
    step : int
    """

    label: str
    run: Run
    step: int

    @cached_property
    def activations(self) -> Activations:
        """The recorded layers, after comparing every byte with the manifest."""
        checkpoint = self.run[self.step]
        checkpoint.verify("sha256")
        return checkpoint.activations

    @property
    def classes(self) -> dict[int, str]:
        """Names of the classes, by label."""
        data = self.run.config.get("data")
        classes = data.get("classes") if isinstance(data, dict) else None
        labels = self.run.stimuli.labels
        if isinstance(classes, list) and labels.min() >= 0 and labels.max() < len(classes):
            return dict(enumerate(map(str, classes)))
        return {int(label): str(label) for label in np.unique(labels)}

    def rows(self, part: str) -> NDArray[np.int64]:
        """Return the rows of the stimuli in one part of the split."""
        return np.flatnonzero(self.run.stimuli.split == part)


def views_of_run(path: str | Path, steps: str) -> list[View]:
    """Return one view for each chosen recorded step of a run.

    Raises
    ------
    ValueError, OSError
        If there is no such run or step.
    """
    run = Run.open(path)
    run.last()  # raises if nothing was recorded
    chosen = choose_recorded_steps(steps, run.recorded_steps)
    untrained = 0 if is_trained_here(run.config) else None  # in others' runs step 0 may come after an update
    return [View("untrained" if step == untrained else f"step {step}", run, step) for step in chosen]


def views_of_runs(paths: Sequence[str | Path]) -> list[View]:
    """Return the last recorded step of each run; the first run is the reference.

    Raises
    ------
    ValueError
        If fewer than two runs are given, one is given twice, or they did not record the same stimuli.
    OSError
        If there is no such run.
    """
    runs = [Run.open(path) for path in paths]
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} run was given; a comparison needs two or more.")
    uuids = [run.info["uuid"] for run in runs]
    if len(set(uuids)) != len(uuids):
        raise ValueError("The same run was given twice; each run can be compared once.")
    first = runs[0].stimuli
    for run in runs[1:]:
        if not run.stimuli.is_same_as(first):
            raise ValueError(
                f"{run.path} and {runs[0].path} recorded different stimuli; train or record them with the same data, "
                "split seed and numbers of stimuli."
            )
    return [View(label, run, run.last().step) for label, run in zip(_labels(runs), runs, strict=True)]


def _labels(runs: Sequence[Run]) -> list[str]:
    """Name runs by their folder, or by as much of the path as tells them apart."""
    parts = [run.path.absolute().parts for run in runs]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-depth:]) for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    raise ValueError("The same run was given twice; each run can be compared once.")
