"""Continuation of the recording of a network that was trained elsewhere: the steps that a run lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.execution.progress import Reporter
from analysis.training.weight_series import StepWeights
from checkpoints import Run, Stimuli
from checkpoints.html_tables import abbreviated

__all__ = ["open_or_create", "steps_to_record"]

_DIGEST = "weights_sha256"


def steps_to_record(
    path: str | Path, config: Mapping[str, Any], stimuli: Stimuli, series: Sequence[StepWeights], progress: Reporter
) -> list[StepWeights]:
    """Return the weights of a series whose steps a run lacks: all, if there is no run.

    Raises
    ------
    FileExistsError
        If there is something else at the path, or a run of another network, other settings, stimuli or weights.
    """
    path = Path(path)
    if not path.exists():
        return list(series)
    run = Run.open(path) if (path / "run.json").is_file() else None
    if run is None or series[0].path is None or not _is_recorded_so(run):
        raise FileExistsError(f"{path} exists already. Choose another --output.")
    for difference in _differences(run, config, stimuli, series):
        raise FileExistsError(
            f"{path} exists already, and {difference}. Choose another --output, or repeat the command that began it."
        )
    pending = [each for each in series if each.step not in run.steps]
    if not run.steps:
        return pending
    what = f"recording {len(pending)} more" if pending else "there is nothing to record"
    progress.say(f"{path} holds steps {abbreviated(run.steps)} of these weights already; {what}.")
    return pending


def _is_recorded_so(run: Run) -> bool:
    """Return whether a run was recorded from files of weights, whose digests it holds."""
    source = run.config.get("source")
    is_of_model = isinstance(source, dict) and "model" in source
    return is_of_model and all(_DIGEST in run[step].state.get("extra", {}) for step in run.steps)


def open_or_create(path: str | Path, config: Mapping[str, Any], stimuli: Stimuli) -> Run:
    """Open a run for writing, and create it if there is none."""
    return Run.resume(path, stimuli) if Path(path).exists() else Run.create(path, config, stimuli)


def _differences(run: Run, config: Mapping[str, Any], stimuli: Stimuli, series: Sequence[StepWeights]) -> Iterator[str]:
    """Yield how what a run holds differs from what is to be recorded, as the end of a sentence."""
    for part in ("source", "recording"):
        stored = run.config.get(part, {})
        for name, value in config[part].items():
            if name != "weights" and stored.get(name) != value:
                yield f"records {name} {_shown(stored.get(name))}, not {_shown(value)}"
    if not run.stimuli.is_same_as(stimuli) or run.config["data"]["classes"] != config["data"]["classes"]:
        yield "records other stimuli"
    elif not _have_equal_targets(run.stimuli, stimuli):
        yield "records other targets or groups of the stimuli"
    given = {each.step: each for each in series}
    for step in run.steps:
        held = run[step].state["extra"]
        if step not in given:
            yield f"holds step {step} of {held['weights']}, which is not among the weights given"
        elif given[step].digest != held[_DIGEST]:
            yield f"the weights of step {step} there are not those of {given[step].path}"


def _have_equal_targets(stored: Stimuli, given: Stimuli) -> bool:
    names = [*stored.targets, *given.targets]
    pairs = [(stored.groups, given.groups), *((stored.targets.get(name), given.targets.get(name)) for name in names)]
    return all(a is b is None or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else "none" if value is None else str(value)
