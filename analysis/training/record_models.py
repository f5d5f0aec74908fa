"""Recording of a network that was trained elsewhere, with its weights from files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analysis.config.recording import CaptureConfig, ModelConfig
from analysis.execution.progress import Reporter, Shown, reporter_of
from analysis.training.continuing import check_continues
from analysis.training.existing_runs import check_not_read, existing_run
from analysis.training.recording_checks import check_forward, check_storable, on_device, reductions_of
from analysis.training.setup import check_device
from analysis.training.steps_to_record import StepsToRecord, StepToRecord, steps_lacking
from analysis.training.user_networks.foreign import load_model
from analysis.training.user_networks.model_spec import build_model
from analysis.training.user_networks.weight_series import StepWeights, weight_series
from analysis.training.user_stimuli.stimulus_columns import UserStimuli
from analysis.training.user_stimuli.stimulus_loading import load_stimuli
from checkpoints import Capture, Run
from checkpoints.storage.weight_paths import weight_digest

__all__ = ["record_model"]

_USUAL = CaptureConfig()


def record_model(
    source: ModelConfig,
    output: str | Path,
    *,
    data: Any,
    capture: CaptureConfig = _USUAL,
    exists: str = "resume",
    progress: Shown = None,
) -> Run:
    """Write a run directory with the activations of a network that was trained elsewhere, one step per file of weights.

    If ``output`` holds some of the steps already, of the same network, weights, settings and stimuli, only the others
    are recorded: a recording that was stopped continues, and files that have been added to a series are added.

    Parameters
    ----------
    source : ModelConfig
        The network (see ``analysis.training.user_networks.model_spec.build_model``), and its weights: none, one file,
        or a series.
    output : path
        The run directory.
    data : path, Dataset, DataLoader, Stimuli or StimulusConfig
        The stimuli; see ``analysis.training.user_stimuli.stimulus_loading.load_stimuli``.
    capture : CaptureConfig, optional
        Layers to record, reductions, storage and device; all layers on the CPU by default. A network that accelerate
        has offloaded stays where it is.
    exists : {"resume", "error", "replace"}, default "resume"
        If there is a run at ``output``: record the steps that it lacks, if all else is the same; raise an error; or
        remove it first, which is refused if it is not a run or holds files that are not of a run.
    progress : bool or Reporter, optional
        Whether progress and messages are shown; by default on a terminal and in a notebook.

    Returns
    -------
    Run
        With one checkpoint per file, open for reading.

    Raises
    ------
    ValueError, OSError
        If the model cannot be built, run on the stimuli or saved, if weights do not belong to it or their steps are
        unclear, if the data cannot be read, or if no layer matches; nothing is written then. If ``output`` holds
        anything else; it is not changed then.
    Interrupted
        After Ctrl-C, if one step or more is recorded; the same call continues.
    """
    progress = reporter_of(progress)
    if source.model is None:
        raise ValueError("model is missing; give module:factory.")
    reductions, device, series = reductions_of(capture.reduce), check_device(capture.device), weight_series(source)
    check_not_read(output, exists, [each.path for each in series if each.path is not None])
    with progress.task("Reading stimuli"):
        build_model(source.model)  # raises before large data are read
        loaded = load_stimuli(data, progress.say)
    load = partial(_network_with, source.model, source.key, device)
    capturing = partial(Capture, layers=capture.layers, reduce=reductions, side=capture.side, dtype=capture.dtype)
    config = _described_recording(source, capture, loaded)
    found = _found(output, exists, config, loaded, series)
    if pending := steps_lacking(series, found, progress.say):
        network = _first_network(pending, load, progress)
        with progress.task("Trying the network"):
            if capture.save_weights:
                check_storable(network)
            check_forward(partial(capturing, network), loaded.stimuli, capture.batch_size)
        del network  # before others are made
        _say_what_is_missing(source, loaded, progress)
    recorded = StepsToRecord(
        steps=[StepToRecord(each.step, partial(_twice, load, each), each.described) for each in series],
        capturing=partial(capturing, batch_size=capture.batch_size),
        capture=capture,
        n_steps=series[-1].step,
    )
    return recorded.write(output, config, loaded.stimuli, found, exists, progress)


def _found(
    output: str | Path, exists: str, config: dict[str, Any], loaded: UserStimuli, series: Sequence[StepWeights]
) -> Run | None:
    """Return the run that is to be continued, or None if a new one is to be written."""
    if exists != "resume":
        return existing_run(output, exists, {})
    return check_continues(output, config, loaded.stimuli, series)


def _twice(load: Callable[[StepWeights], nn.Module], weights: StepWeights) -> tuple[nn.Module, nn.Module]:
    """Return the network of a step as the one that is saved and the one that is recorded."""
    network = load(weights)
    return network, network


def _say_what_is_missing(source: ModelConfig, loaded: UserStimuli, progress: Reporter) -> None:
    if not source.weights:
        progress.say(f"No weights were given: {source.model} is recorded with those that it makes or loads itself.")
    if not loaded.classes:
        progress.say(f"{loaded.name} has no labels, which repsim analyze needs.")


def _network_with(
    model: str, key: str | None, device: torch.device, weights: StepWeights, say: Callable[[str], None] | None = None
) -> nn.Module:
    """Return a new network with the weights of a step, after checking that their file did not change meanwhile."""
    before = weights.digest
    network = load_model(model, weights.path, key=key, say=say)
    if weights.path is not None and weight_digest(weights.path) != before:
        raise ValueError(f"{weights.path} has changed while it was recorded. Repeat the command once it is complete.")
    return on_device(network, device)


def _first_network(series: Sequence[StepWeights], load: Callable[..., nn.Module], progress: Reporter) -> nn.Module:
    """Return the network with the first weights, after checking that all others fit it, and say what was chosen."""
    if len(series) > 1:
        first, last = series[0], series[-1]
        progress.say(f"{first.path} is recorded as step {first.step}, ..., {last.path} as step {last.step}.")
    notes: dict[str, list[Path]] = defaultdict(list)
    with progress.task("reading weights", len(series) if len(series) > 1 else None) as task:
        for each in reversed(series):
            network = load(each, lambda note, path=each.path: notes[note].insert(0, path))
            task.advance()
    for note, paths in notes.items():
        progress.say(f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {note}")
    return network


def _described_recording(source: ModelConfig, capture: CaptureConfig, loaded: UserStimuli) -> dict[str, Any]:
    """Return the config that a run stores; the files of the weights are in its steps."""
    weights = [str(Path(each).absolute()) for each in source.weights]
    recording = {name: value for name, value in capture.to_dict().items() if name != "device"}
    return {
        "source": {"model": source.model, "key": source.key, "weights": weights},
        "recording": {**recording, "rows": "stimuli" if loaded.stimuli.mask is None else "tokens"},
        "data": {"name": Path(loaded.name).name, "classes": list(loaded.classes)},
    }
