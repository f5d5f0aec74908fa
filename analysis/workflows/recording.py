"""Record the activations of saved weights: those of a run, or of a network that was trained elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from analysis.foreign import load_model, load_stimuli
from analysis.progress import Reporter, silent
from analysis.steps import choose_recorded_steps
from analysis.workflows.job import check_device, check_layers, choose_stimuli, configurations, using_threads
from checkpoints import Capture, Reduction, Run, Stimuli, parse_reduction
from checkpoints.files import sha256
from repsim.learning import Dataset, TrainingConfig, build_learner, load_dataset, split_dataset

__all__ = ["record_model", "record_run"]


def record_run(
    source: str | Path,
    output: str | Path,
    *,
    steps: str = "all",
    layers: Sequence[str] = ("hidden.*",),
    data: str | None = None,
    data_dir: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Write a new run directory with activations of the weights that another run saved.

    Parameters
    ----------
    source : path
        A run trained by ``train_run``; it is not changed.
    output : path
        Must not exist.
    steps : str, default "all"
        ``first``, ``last``, ``all`` or numbers, of the source's committed steps.
    layers : sequence of str
        Names or patterns.
    data : str, optional
        Another data set with as many features; the source's own by default.
    data_dir : path, optional
        For the data set ``mnist``.
    reporter : Reporter, optional

    Returns
    -------
    Run
        With one checkpoint a step, open for reading.

    Raises
    ------
    ValueError, OSError
        If the source, the data or the layers will not do; nothing is then written.
    """
    run = Run.open(source)
    training, recording = configurations(run)
    recording = replace(recording, layers=tuple(layers), steps="first,last")
    if not run.steps:
        raise ValueError(f"{source} has no committed step to record.")
    chosen = choose_recorded_steps(steps, run.steps)
    info = run.config["data"]
    dataset = load_dataset(data or training.data, data_dir or info["data_dir"])
    _check_shape(dataset, training, tuple(info["shape"]), source)
    learner = build_learner(training, tuple(info["shape"]), len(info["classes"]))
    stimuli = choose_stimuli(dataset, split_dataset(dataset, training.split_seed), recording.sizes, training.split_seed)
    check_layers(learner, layers, stimuli)
    for step in chosen:
        run[step].verify()
    config = {
        **run.config,
        "recording": recording.to_dict(),
        "source": {"path": str(source), "uuid": run.info["uuid"]},
        "data": {**info, "name": dataset.name, "classes": list(dataset.classes)},
    }
    reporter = reporter or silent()
    with (
        using_threads(training.threads),
        Run.create(output, config, stimuli) as new,
        _removed_if_empty(new),
        reporter.task(new.path.name, len(chosen)) as task,
    ):
        for step in chosen:
            learner.load_state_dict(run[step].weights())
            capture = Capture(learner.network, layers)
            new.checkpoint(step, learner, capture=capture, compress=recording.compress)
            task.advance()
        new.set_status("finished", step=chosen[-1], n_steps=run.status.get("n_steps", chosen[-1]))
    return Run.open(output)


def _check_shape(dataset: Dataset, training: TrainingConfig, shape: tuple[int, ...], source: str | Path) -> None:
    """See to it that a network which was trained on examples of a shape can take those of a data set."""
    if training.network == "mlp":  # flattens what it gets
        if dataset.X.shape[1] != prod(shape):
            raise ValueError(
                f"{dataset.name} has {dataset.X.shape[1]} features; the network of {source} takes {prod(shape)}."
            )
    elif dataset.shape != shape:
        raise ValueError(
            f"The examples of {dataset.name} have shape {dataset.shape}; the network of {source} takes {shape}."
        )


def record_model(
    model: str,
    output: str | Path,
    *,
    data: str | Path,
    weights: str | Path | None = None,
    step: int = 0,
    layers: Sequence[str] = ("**",),
    reduce: Sequence[str] = (),
    dtype: str = "float32",
    side: str = "output",
    batch_size: int | None = None,
    device: str = "cpu",
    compress: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """Write a new run directory with the activations of a network that was trained elsewhere.

    Parameters
    ----------
    model : str
        ``module:factory``; see ``analysis.foreign.load_model``.
    output : path
        Must not exist.
    data : path
        An ``.npz`` file; see ``analysis.foreign.load_stimuli``.
    weights : path, optional
        ``.safetensors`` or, with torch 2.10 or newer, ``.pt``; those that the factory gives by default.
    step : int, default 0
        The step that the weights are of.
    layers : sequence of str
        Names or patterns; see ``checkpoints.Capture``.
    reduce : sequence of str
        ``PATTERN=REDUCTION``, such as ``"conv*=spatial_mean"``; see ``checkpoints.parse_reduction``.
    dtype, side, batch_size : optional
        See ``checkpoints.Capture``.
    device : str, default "cpu"
        Where the network runs.
    compress : bool, default False
        Gzip the activations.
    reporter : Reporter, optional

    Returns
    -------
    Run
        With one checkpoint, open for reading.

    Raises
    ------
    ValueError, OSError
        If the model, the weights, the data or the layers will not do; nothing is then written.
    """
    reporter = reporter or silent()
    if step < 0:
        raise ValueError(f"Step is {step}; expected 0 or more.")
    loaded, network = load_stimuli(data), load_model(model, weights).to(check_device(device))
    reductions: dict[Any, Reduction] = dict(map(_reduction, reduce))
    options: dict[str, Any] = {"side": side, "dtype": dtype, "batch_size": batch_size}
    capture = Capture(network, layers, reduce=reductions, **options)
    _check_forward(capture, loaded.stimuli)
    config = {
        "source": {
            "model": model,
            "weights": None if weights is None else str(Path(weights).absolute()),
            "weights_sha256": None if weights is None else sha256(Path(weights).resolve()),
        },
        "recording": {"layers": list(layers), "reduce": list(reduce), "compress": compress, **options},
        "data": {"name": Path(data).name, "classes": list(loaded.classes)},
    }
    if weights is None:
        reporter.say(f"No weights were given: {model} is recorded with those that it makes or loads itself.")
    if not loaded.classes:
        reporter.say(f"{data} has no labels y, which repsim analyze needs.")
    with Run.create(output, config, loaded.stimuli) as new, _removed_if_empty(new), _naming_the_network():
        new.checkpoint(step, network, capture=capture, compress=compress)
        new.set_status("finished", step=step, n_steps=step)
    return Run.open(output)


@contextmanager
def _removed_if_empty(run: Run) -> Iterator[None]:
    """Remove a new run if the block fails before its first step, so that the same command can be given again."""
    try:
        yield
    except BaseException:
        if run.steps:
            run.set_status("interrupted", step=run.steps[-1], n_steps=run.steps[-1])
        else:
            shutil.rmtree(run.path)
        raise


@contextmanager
def _naming_the_network() -> Iterator[None]:
    """Turn whatever somebody's network raises into one sentence."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        raise ValueError(f"The network cannot be run on the stimuli ({type(error).__name__}: {message}).") from error


def _reduction(text: str) -> tuple[str, Reduction]:
    pattern, equals, reduction = text.rpartition("=") if "(" not in text else text.partition("=")
    if not equals or not pattern:
        raise ValueError(
            f"Reduction '{text}' is not understood; expected PATTERN=REDUCTION, such as conv*=spatial_mean."
        )
    return pattern, parse_reduction(reduction)


def _check_forward(capture: Capture, stimuli: Stimuli) -> None:
    """Show the network two stimuli, so that what cannot be recorded is found before anything is written."""
    with _naming_the_network():
        capture.record(stimuli.first_inputs(2))
