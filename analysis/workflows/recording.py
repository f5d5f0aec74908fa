"""Record the activations of weights that a run has saved: other layers, other stimuli, or steps recorded without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.progress import Reporter, silent
from analysis.settings import choose_recorded_steps
from analysis.workflows.training import check_layers, choose_stimuli, configurations, using_threads
from checkpoints import Capture, Run
from repsim.learning import build_learner, load_dataset, split_dataset

__all__ = ["record_run"]


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
    if dataset.X.shape[1] != info["n_features"]:
        raise ValueError(
            f"{dataset.name} has {dataset.X.shape[1]} features; the network of {source} takes {info['n_features']}."
        )
    learner = build_learner(training, info["n_features"], len(info["classes"]))
    stimuli = choose_stimuli(dataset, split_dataset(dataset, training.seed), recording.sizes, training.seed)
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
        reporter.task(new.path.name, len(chosen)) as task,
    ):
        for step in chosen:
            learner.load_state_dict(run[step].weights())
            with Capture(learner.network, layers) as capture:
                new.checkpoint(step, learner, capture=capture, compress=recording.compress)
            task.advance()
        new.set_status("finished", step=chosen[-1], n_steps=run.status.get("n_steps", chosen[-1]))
    return Run.open(output)
