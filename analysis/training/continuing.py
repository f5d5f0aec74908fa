"""Continuation of the recording of a network that was trained elsewhere: the steps that a run lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.config.existing import advice
from analysis.training.user_networks.weight_series import StepWeights
from checkpoints import Run, Stimuli

__all__ = ["check_continues"]

_DIGEST = "weights_sha256"


def check_continues(
    path: str | Path, config: Mapping[str, Any], stimuli: Stimuli, series: Sequence[StepWeights]
) -> Run | None:
    """Return the run at a path if its recording can be continued with a series of weights; None if there is none.

    Raises
    ------
    FileExistsError
        If there is something else at the path, or a run of another network, other settings, stimuli or weights.
    """
    path = Path(path)
    if not path.exists():
        return None
    run = Run.open(path) if (path / "run.json").is_file() else None
    if run is None or series[0].path is None or not _is_recorded_so(run):
        raise FileExistsError(f"{path} exists already. {advice('another --output', 'replace')}")
    for difference in _differences(run, config, stimuli, series):
        raise FileExistsError(
            f"{path} exists already, and {difference}. Repeat the command that began it, or choose another --output."
        )
    return run


def _is_recorded_so(run: Run) -> bool:
    """Return whether a run was recorded from files of weights, whose digests it holds."""
    source = run.config.get("source")
    is_of_model = isinstance(source, dict) and "model" in source
    return is_of_model and all(_DIGEST in run[step].state.get("extra", {}) for step in run.steps)


def _differences(run: Run, config: Mapping[str, Any], stimuli: Stimuli, series: Sequence[StepWeights]) -> Iterator[str]:
    """Yield how what a run holds differs from what is to be recorded, as the end of a sentence."""
    for part in ("source", "recording"):
        stored = run.config.get(part, {})
        for name, value in config[part].items():
            if name != "weights" and stored.get(name) != value:
                yield f"records {name} {_shown(stored.get(name))}, not {_shown(value)}"
    kept, same_names = run.stimuli, run.config["data"]["classes"] == config["data"]["classes"]
    if not np.array_equal(kept.ids, stimuli.ids) or kept.content_hash != stimuli.content_hash or not same_names:
        yield "records other stimuli"
    elif not np.array_equal(kept.split, stimuli.split) or not _have_equal_targets(kept, stimuli):
        yield "records other targets, groups or parts of the stimuli (repsim analyze takes --targets and --groups too)"
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
