"""repsim train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import given

__all__ = ["train"]


def train(
    run: Annotated[Path, typer.Argument(help="New run directory, e.g. runs/backprop; with --resume an existing one.")],
    data: Annotated[
        str | None, typer.Option(help="mnist5k, digits, mnist or the path of an .npz with X and y. [default: mnist5k]")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the IDX files of mnist.")] = None,
    rule: Annotated[str | None, typer.Option(help="backprop or synthetic-gradient. [default: backprop]")] = None,
    boundaries: Annotated[
        str | None,
        typer.Option(help="Where the rule acts: middle, every:N, inner, all or 4,8,12. [default: middle]"),
    ] = None,
    depth: Annotated[int | None, typer.Option(help="Hidden layers. [default: 20]")] = None,
    width: Annotated[int | None, typer.Option(help="Units a hidden layer. [default: 128]")] = None,
    norm: Annotated[str | None, typer.Option(help="batch, layer or none. [default: batch]")] = None,
    activation: Annotated[str | None, typer.Option(help="relu, tanh, sigmoid or linear. [default: relu]")] = None,
    sg_hidden_layers: Annotated[
        int | None, typer.Option(help="Hidden layers of each synthetic-gradient module; 0 is linear. [default: 0]")
    ] = None,
    sg_hidden_width: Annotated[
        int | None, typer.Option(help="Units of those layers. [default: the boundary's width]")
    ] = None,
    sg_label_conditioned: Annotated[
        bool | None,
        typer.Option("--sg-labels/--no-sg-labels", help="Show the modules the label. [default: sg-labels]"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training examples. [default: 30]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples an update. [default: 128]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's rate for the network. [default: 0.001]")] = None,
    sg_learning_rate: Annotated[
        float | None, typer.Option(help="Adam's rate for the modules. [default: 0.001]")
    ] = None,
    schedule: Annotated[str | None, typer.Option(help="constant or cosine. [default: constant]")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides split, weights and order. [default: 0]")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Processor threads; more pay for wide networks. [default: 1]")
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(help="Steps to record: first, last, every:N, log:N, numbers, with commas. [default: first,last]"),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layers", "--layer", help="Layer or pattern to record; repeatable. [default: hidden.*]"),
    ] = None,
    compress: Annotated[bool | None, typer.Option("--compress", help="Gzip the activations.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run from its last checkpoint with its own settings.")
    ] = False,
) -> None:
    """Train a network and record its layers.

    Example: repsim train runs/sg --rule synthetic-gradient --boundaries middle --record first,log:8,last
    """
    training = given(
        data=data,
        rule=rule,
        boundaries=boundaries,
        depth=depth,
        width=width,
        norm=norm,
        activation=activation,
        sg_hidden_layers=sg_hidden_layers,
        sg_hidden_width=sg_hidden_width,
        sg_label_conditioned=sg_label_conditioned,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        sg_learning_rate=sg_learning_rate,
        schedule=schedule,
        seed=seed,
        threads=threads,
    )
    recording = given(steps=record, layers=tuple(layer) if layer else None, compress=compress)

    from analysis.progress import Reporter
    from analysis.workflows import RecordingConfig, resume_run, train_run
    from repsim.learning import TrainingConfig

    if resume:
        if set_anew := sorted({**training, **recording, **given(data_dir=data_dir)}):
            raise ValueError(f"--resume continues with the run's own settings; leave out {_flag(set_anew[0])}.")
        trained = resume_run(run, reporter=Reporter())
    else:
        trained = train_run(
            run, TrainingConfig(**training), RecordingConfig(**recording), data_dir=data_dir, reporter=Reporter()
        )
    print(f"Test accuracy {trained.status['test_accuracy']:.3f}. Next: repsim analyze {run}")


def _flag(setting: str) -> str:
    named = {"sg_label_conditioned": "sg-labels", "steps": "record"}
    return f"--{named.get(setting, setting.replace('_', '-'))}"
