"""Recording of the weights that a run has saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

from torch import nn

from analysis.config.recorded_steps import choose_recorded_steps
from analysis.config.recording import CaptureConfig
from analysis.execution.progress import Shown, reporter_of
from analysis.execution.threads import using_threads
from analysis.training.existing_runs import check_not_read, existing_run
from analysis.training.rebuilding import learner_at
from analysis.training.recording_checks import reductions_of
from analysis.training.setup import check_layers, choose_stimuli, configurations, for_network
from analysis.training.steps_to_record import StepsToRecord, StepToRecord, steps_lacking
from analysis.training.transplant import configuration_at
from analysis.training.user_networks.own_data import load_data
from checkpoints import Capture, Run
from repsim.learning import Dataset, TrainingConfig, split_dataset

__all__ = ["record_run"]

_USUAL = CaptureConfig(layers=("hidden.*",))


def record_run(
    source: str | Path,
    output: str | Path,
    *,
    steps: str = "all",
    capture: CaptureConfig = _USUAL,
    data: str | None = None,
    data_dir: str | Path | None = None,
    exists: str = "resume",
    progress: Shown = None,
) -> Run:
    """Write a run directory with activations of the weights that another run saved.

    Parameters
    ----------
    source : path
        A run trained by ``train_run``; it is not changed.
    output : path
        The run directory of the recording.
    steps : str, default "all"
        Committed steps of the source: ``first``, ``last``, ``all`` or numbers joined by commas.
    capture : CaptureConfig, optional
        Layers to record, reductions and storage; all hidden layers by default. The network runs on the CPU.
    data : str, optional
        Another data set with as many features; the source's own by default.
    data_dir : path, optional
        Folder of the IDX files of the data set ``mnist``.
    exists : {"resume", "error", "replace"}, default "resume"
        If there is a run at ``output``: record the steps that it lacks, if all else is the same; raise an error; or
        remove it first, which is refused if it is not a run or holds files that are not of a run.
    progress : bool or Reporter, optional
        Whether progress and messages are shown; by default on a terminal and in a notebook.

    Returns
    -------
    Run
        With one checkpoint per step, open for reading.

    Raises
    ------
    ValueError, OSError
        If the source was not trained by ``train_run`` or has no weights; if it was forked from a fork, and the first
        of these made a step; if the network cannot take the data or has no such layer; or if ``output`` exists and
        ``exists`` does not allow that. Nothing is written then.
    Interrupted
        After Ctrl-C, if one step or more is recorded; the same call continues.
    """
    run = Run.open(source)
    training, recording = configurations(run)
    recording = replace(recording, layers=capture.layers, steps="first,last", record_signals=False)
    if not run.steps:
        raise ValueError(f"{source} has no committed step to record.")
    if capture.device != "cpu":
        raise ValueError(f"device is '{capture.device}', but a trained run is recorded on the CPU. Leave it out.")
    chosen = choose_recorded_steps(steps, run.steps)
    info = run.config["data"]
    progress = reporter_of(progress)
    with progress.task("Loading data"):
        dataset = for_network(load_data(data or training.data, data_dir or info["data_dir"]), training)
    _check_shape(dataset, training, tuple(info["shape"]), source)
    stimuli = choose_stimuli(dataset, split_dataset(dataset, training.split_seed), recording.sizes, training.split_seed)
    with progress.task("Checking weights"):
        _check_weights(run, chosen)
    reductions = reductions_of(capture.reduce)
    check_layers(learner_at(run, chosen[0]), capture.layers, stimuli)
    made_with = {
        "training": training.to_dict(),
        "recording": recording.to_dict(),
        "capture": capture.to_dict(),
        "source": {"uuid": run.info["uuid"]},
    }
    config = {
        **run.config,
        **made_with,
        "source": {"path": str(source), "uuid": run.info["uuid"]},
        "data": {**info, "name": dataset.name, "classes": list(dataset.classes), "sha256": dataset.sha256},
    }
    check_not_read(output, exists, [source])
    found = existing_run(output, exists, made_with)
    recorded = StepsToRecord(
        steps=[StepToRecord(step, partial(_learner, run, step)) for step in chosen],
        capturing=partial(
            Capture,
            layers=capture.layers,
            reduce=reductions,
            side=capture.side,
            dtype=capture.dtype,
            batch_size=capture.batch_size,
        ),
        capture=replace(capture, compress=capture.compress or recording.compress),
        n_steps=run.status.get("n_steps", chosen[-1]),
    )
    steps_lacking(recorded.steps, found, progress.say)
    with using_threads(training.threads):
        return recorded.write(output, config, stimuli, found, exists, progress)


def _learner(run: Run, step: int) -> tuple[nn.Module, nn.Module]:
    """Return the learner of a step, whose weights are saved, and its network, which is recorded."""
    learner = learner_at(run, step)
    return learner, learner.network


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
