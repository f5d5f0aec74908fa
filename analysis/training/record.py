"""Recording of saved weights: those of a run, or of a network that was trained elsewhere."""

from __future__ import annotations

import shutil
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from analysis.config.recorded_steps import choose_recorded_steps
from analysis.config.recording import CaptureConfig, ModelConfig
from analysis.execution.interruption import Interrupted
from analysis.execution.progress import Reporter, silent
from analysis.execution.threads import using_threads
from analysis.training.continuing import open_or_create, steps_to_record
from analysis.training.foreign import load_model
from analysis.training.own_data import load_data
from analysis.training.rebuilding import learner_at
from analysis.training.setup import check_device, check_layers, choose_stimuli, configurations
from analysis.training.transplant import configuration_at
from analysis.training.user_stimuli.stimulus_loading import load_stimuli
from analysis.training.weight_series import StepWeights, weight_series
from checkpoints import Capture, Reduction, Run, Stimuli, parse_reduction
from checkpoints.capture.modules import unwrapped
from checkpoints.html_tables import abbreviated
from checkpoints.storage.tensors import NotStorable
from checkpoints.storage.weight_paths import weight_digest
from checkpoints.training_state.model_state import model_state
from repsim.learning import Dataset, TrainingConfig, split_dataset

__all__ = ["record_model", "record_run"]

_FEW = 4  # stimuli that a network is tried on


def record_run(
    source: str | Path,
    output: str | Path,
    *,
    steps: str = "all",
    layers: Sequence[str] = ("hidden.*",),
    data: str | None = None,
    data_dir: str | Path | None = None,
    save_weights: bool = True,
    progress: Reporter | None = None,
) -> Run:
    """Write a new run directory with activations of the weights that another run saved.

    Parameters
    ----------
    source : path
        A run trained by ``train_run``; it is not changed.
    output : path
        Must not exist.
    steps : str, default "all"
        Committed steps of the source: ``first``, ``last``, ``all`` or numbers joined by commas.
    layers : sequence of str
        Names or patterns of layers to record.
    data : str, optional
        Another data set with as many features; the source's own by default.
    data_dir : path, optional
        Folder of the IDX files of the data set ``mnist``.
    save_weights : bool, default True
        Whether the new run holds the weights too, or activations alone.
    progress : Reporter, optional
        Shows progress and messages; by default nothing is shown.

    Returns
    -------
    Run
        With one checkpoint per step, open for reading.

    Raises
    ------
    ValueError, OSError
        If the source was not trained by ``train_run`` or has no weights; if it was forked from a fork, and the first
        of these made a step; or if the network cannot take the data or has no such layer. Nothing is written then.
    """
    run = Run.open(source)
    training, recording = configurations(run)
    recording = replace(recording, layers=tuple(layers), steps="first,last", record_signals=False)
    if not run.steps:
        raise ValueError(f"{source} has no committed step to record.")
    chosen = choose_recorded_steps(steps, run.steps)
    info = run.config["data"]
    dataset = load_data(data or training.data, data_dir or info["data_dir"])
    _check_shape(dataset, training, tuple(info["shape"]), source)
    stimuli = choose_stimuli(dataset, split_dataset(dataset, training.split_seed), recording.sizes, training.split_seed)
    _check_weights(run, chosen)
    check_layers(learner_at(run, chosen[0]), layers, stimuli)
    config = {
        **run.config,
        "recording": recording.to_dict(),
        "source": {"path": str(source), "uuid": run.info["uuid"]},
        "data": {**info, "name": dataset.name, "classes": list(dataset.classes)},
    }
    with (
        using_threads(training.threads),
        Run.create(output, config, stimuli) as new,
        _removed_if_empty(new, "Record the others with --steps and another --output."),
        (progress or silent()).task(new.path.name, len(chosen)) as task,
    ):
        for step in chosen:
            learner = learner_at(run, step)
            capture = Capture(learner.network, layers)
            weights = "all" if save_weights else None
            new.checkpoint(step, learner, capture=capture, weights=weights, compress=recording.compress)
            task.advance()
        new.set_status("finished", step=chosen[-1], n_steps=run.status.get("n_steps", chosen[-1]))
    return Run.open(output)


def _check_weights(run: Run, steps: Sequence[int]) -> None:
    """Raise an error if the weights of a step are damaged or missing, or if their learner is not known."""
    for step in steps:
        run[step].verify()
        if not run[step].has_weights:
            raise ValueError(f"Step {step} of {run.path} was recorded without weights, so it cannot be recorded anew.")
        configuration_at(run, step)


def _check_shape(dataset: Dataset, training: TrainingConfig, shape: tuple[int, ...], source: str | Path) -> None:
    """Raise ValueError unless a network that was trained on examples of a shape can take those of a data set."""
    if training.network == "mlp" and training.model is None:  # flattens what it gets
        if dataset.X.shape[1] != prod(shape):
            raise ValueError(
                f"{dataset.name} has {dataset.X.shape[1]} features; the network of {source} takes {prod(shape)}."
            )
    elif dataset.shape != shape:
        raise ValueError(
            f"The examples of {dataset.name} have shape {dataset.shape}; the network of {source} takes {shape}."
        )


def record_model(
    source: ModelConfig,
    output: str | Path,
    *,
    data: Any,
    capture: CaptureConfig | None = None,
    progress: Reporter | None = None,
) -> Run:
    """Write a run directory with the activations of a network that was trained elsewhere, one step per file of weights.

    If ``output`` holds some of the steps already, of the same network, weights, settings and stimuli, only the others
    are recorded: a recording that was stopped continues, and files that have been added to a series are added.

    Parameters
    ----------
    source : ModelConfig
        The network (see ``analysis.training.model_spec.build_model``), and its weights: none, one file, or a series;
        and further targets of the stimuli.
    output : path
        Must not exist, or hold a run that the same call has begun.
    data : path, Dataset, DataLoader, Stimuli or StimulusConfig
        The stimuli; see ``analysis.training.user_stimuli.stimulus_loading.load_stimuli``.
    capture : CaptureConfig, optional
        Layers to record, reductions, storage and device; all layers on the CPU by default. A network that accelerate
        has offloaded stays where it is.
    progress : Reporter, optional
        Shows progress and messages; by default nothing is shown.

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
    progress, capture = progress or silent(), capture or CaptureConfig()
    if source.model is None:
        raise ValueError("model is missing; give module:factory.")
    reductions = _reductions(capture.reduce)
    device, loaded = check_device(capture.device), load_stimuli(data, progress.say)
    load = partial(_network_with, source.model, source.key, device)
    capturing = partial(Capture, layers=capture.layers, reduce=reductions, side=capture.side, dtype=capture.dtype)
    config = _described_recording(source, capture, loaded.name, loaded.classes)
    series = weight_series(source)
    pending = steps_to_record(output, config, loaded.stimuli, series, progress)
    if not pending:
        return Run.open(output)
    network = _first_network(pending, load, progress)
    if capture.save_weights:
        _check_storable(network)
    _check_forward(partial(capturing, network), loaded.stimuli, capture.batch_size)
    if not source.weights:
        progress.say(f"No weights were given: {source.model} is recorded with those that it makes or loads itself.")
    if not loaded.classes:
        progress.say(f"{loaded.name} has no labels, which repsim analyze needs.")
    with (
        open_or_create(output, config, loaded.stimuli) as run,
        _removed_if_empty(run, "Continue with the same command."),
        _naming_the_network(),
        _shown(progress, pending).task(run.path.name, len(pending)) as task,
    ):
        run.set_status("running", step=pending[0].step, n_steps=series[-1].step)
        for each in pending:
            network = network if each is pending[0] else load(each)
            run.checkpoint(
                each.step,
                network,
                capture=capturing(network, batch_size=capture.batch_size),
                weights="all" if capture.save_weights else None,
                extra=each.described,
                compress=capture.compress,
            )
            task.advance()
        run.set_status("finished", step=run.steps[-1], n_steps=run.steps[-1])
    return Run.open(output)


def _network_with(
    model: str, key: str | None, device: torch.device, weights: StepWeights, say: Callable[[str], None] | None = None
) -> nn.Module:
    """Return a new network with the weights of a step, after checking that their file did not change meanwhile."""
    before = weights.digest
    network = load_model(model, weights.path, key=key, say=say)
    if weights.path is not None and weight_digest(weights.path) != before:
        raise ValueError(f"{weights.path} has changed while it was recorded. Repeat the command once it is complete.")
    return _on_device(network, device)


def _first_network(series: Sequence[StepWeights], load: Callable[..., nn.Module], progress: Reporter) -> nn.Module:
    """Return the network with the first weights, after checking that all others fit it, and say what was chosen."""
    notes: dict[str, list[Path]] = defaultdict(list)
    with _shown(progress, series).task("reading weights", len(series)) as task:
        for each in reversed(series):
            network = load(each, lambda note, path=each.path: notes[note].insert(0, path))
            task.advance()
    for note, paths in notes.items():
        progress.say(f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {note}")
    return network


def _shown(progress: Reporter, series: Sequence[StepWeights]) -> Reporter:
    """Return a reporter that shows the progress of several steps, but not of one."""
    return progress if len(series) > 1 else silent()


def _described_recording(
    source: ModelConfig, capture: CaptureConfig, data: str | Path, classes: Sequence[str]
) -> dict[str, Any]:
    """Return the config that a run stores; the files of the weights are in its steps."""
    weights = [str(Path(each).absolute()) for each in source.weights]
    return {
        "source": {"model": source.model, "key": source.key, "weights": weights},
        "recording": {name: value for name, value in capture.to_dict().items() if name != "device"},
        "data": {"name": Path(data).name, "classes": list(classes)},
    }


@contextmanager
def _removed_if_empty(run: Run, advice: str) -> Iterator[None]:
    """Remove a run if the block fails before its first step; if it is interrupted later, add advice to the message."""
    try:
        yield
    except BaseException as error:
        if not run.steps:
            shutil.rmtree(run.path)
            raise
        run.set_status("interrupted", step=run.steps[-1], n_steps=run.steps[-1])
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"Stopped; {run.path} holds steps {abbreviated(run.steps)}. {advice}") from None
        raise


@contextmanager
def _naming_the_network(act: str = "run on the stimuli") -> Iterator[None]:
    """Raise any error of the network as a ValueError of one sentence."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        raise ValueError(f"The network cannot be {act} ({_described(error)}).") from error


def _reductions(texts: Sequence[str]) -> dict[Any, Reduction]:
    """Return the reductions by pattern; the first pattern that matches applies."""
    reductions: dict[Any, Reduction] = {}
    for pattern, reduction in map(_reduction, texts):
        if pattern in reductions:
            raise ValueError(f"Two reductions were given for '{pattern}'; give one for each pattern.")
        reductions[pattern] = reduction
    return reductions


def _reduction(text: str) -> tuple[str, Reduction]:
    pattern, equals, reduction = text.rpartition("=") if "(" not in text else text.partition("=")
    if not equals or not pattern:
        raise ValueError(
            f"Reduction '{text}' is not understood; expected PATTERN=REDUCTION, such as conv*=spatial_mean."
        )
    return pattern, parse_reduction(reduction)


def _on_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network on a device; one that accelerate has offloaded is returned as it is."""
    if any(parameter.is_meta for parameter in network.parameters()):
        if device.type != "cpu":
            raise ValueError(f"The network is offloaded, so it cannot be moved to {device}. Leave --device out.")
        return network
    with _naming_the_network(f"moved to {device}"):
        return network.to(device)


def _check_storable(network: nn.Module) -> None:
    """Raise ValueError if the weights cannot be saved."""
    try:
        model_state(unwrapped(network))
    except NotStorable as error:
        raise ValueError(
            f"The weights of the network cannot be saved: {error}; give --no-weights to record activations alone."
        ) from error


def _check_forward(capturing: Callable[..., Capture], stimuli: Stimuli, batch_size: int | None) -> None:
    """Run the network on a few stimuli, to find errors before anything is written.

    If that fails, run it on blocks of the sizes that a recording has, as some networks take one batch size only.
    """
    n = stimuli.n_inputs
    size = min(n, _FEW, batch_size or n)
    rest = n % batch_size if batch_size is not None and batch_size < n else 0
    shown = min(n, max(2, size + (rest == 1)))
    inputs = _spread_inputs(stimuli, shown)
    with _naming_the_network(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are given when the network is recorded
        try:
            capturing(batch_size=size).record(inputs)
        except Exception:
            if batch_size is None or n <= _FEW:
                raise
            _check_blocks(capturing(batch_size=batch_size), stimuli, min(n, batch_size), rest)


def _check_blocks(capture: Capture, stimuli: Stimuli, size: int, rest: int) -> None:
    """Run the network on a whole block of stimuli, and on a block of the size of the last one."""
    try:
        capture.record(stimuli.first_inputs(size + rest))
    except Exception as error:
        if rest == 0:
            raise
        capture.record(stimuli.first_inputs(size))  # raises if the last block is not the cause
        cause = error.__cause__ or error
        raise ValueError(
            f"The network runs on {size} stimuli but not on the {rest} of the last block ({_described(cause)}). Give a "
            f"--batch-size that divides {stimuli.n_inputs}."
        ) from error


def _spread_inputs(stimuli: Stimuli, n: int) -> Any:
    """Return the inputs of ``n`` stimuli, evenly spaced, so that they are of several classes."""
    rows = np.linspace(0, stimuli.n_inputs - 1, n).round().astype(int)
    return stimuli.inputs_at(rows.tolist())


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
