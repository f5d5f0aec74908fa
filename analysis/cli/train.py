"""repsim train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.cli.options import Json, Quiet, given, reporter_of
from analysis.cli.output import print_json

if TYPE_CHECKING:
    from checkpoints import Run

__all__ = ["train"]


def train(
    run: Annotated[Path, typer.Argument(help="New run directory, e.g. runs/backprop; with --resume an existing one.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="mnist5k, digits, mnist, the path of an .npz with X and y, or artificial: linear, noisy-linear, "
            "random-labels, xor, in 2 dimensions or as in xor:100. [default: mnist5k]"
        ),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the IDX files of mnist.")] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME[:option=value,...][@boundaries], see `repsim rules`; repeat it for a mixed chain, "
            "whose later rules win where two name a boundary. [default: backprop]"
        ),
    ] = None,
    boundaries: Annotated[
        str | None,
        typer.Option(
            help="Where rules act that do not say it: middle, every:N, inner, all or 4,8-12. [default: the rule's own]"
        ),
    ] = None,
    loss: Annotated[str | None, typer.Option(help="log_loss or mse. [default: log_loss]")] = None,
    network: Annotated[str | None, typer.Option(help="mlp, conv or residual. [default: mlp]")] = None,
    depth: Annotated[int | None, typer.Option(help="Hidden layers. [default: 20]")] = None,
    width: Annotated[int | None, typer.Option(help="Units, or channels, a hidden layer. [default: 128]")] = None,
    norm: Annotated[str | None, typer.Option(help="batch, layer or none. [default: batch]")] = None,
    activation: Annotated[str | None, typer.Option(help="relu, tanh, sigmoid or linear. [default: relu]")] = None,
    shift: Annotated[
        float | None,
        typer.Option(
            help="Where the shifts of the norms, or else the biases, start; 1 helps very deep relu networks. "
            "[default: 0.0]"
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training examples. [default: 30]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples an update. [default: 128]")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam, sgd or momentum. [default: adam]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size for the network. [default: 0.001]")] = None,
    estimator_learning_rate: Annotated[
        float | None, typer.Option(help="Step size for what learns in the rule. [default: 0.001]")
    ] = None,
    schedule: Annotated[str | None, typer.Option(help="constant or cosine. [default: constant]")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides initial weights and order. [default: 0]")] = None,
    split_seed: Annotated[int | None, typer.Option(help="Decides split and stimuli. [default: 0]")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ... [default: cpu]")] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Processor threads; more pay for wide networks and many seeds. [default: 1]"),
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(
            help="Steps to record: first, last, every:N, log:N, 25% (of the training), numbers; with commas. "
            "[default: first,last]"
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layers", "--layer", help="Layer or pattern to record; repeatable. [default: hidden.*]"),
    ] = None,
    compress: Annotated[bool | None, typer.Option("--compress", help="Gzip the activations.")] = None,
    diagnose: Annotated[
        str | None,
        typer.Option(
            help="Steps that log how far the rule's gradients are from the true ones, or none. "
            "[default: 1,every:50,last]"
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with tables [training] and [recording]; options here win over it.")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Train a run a seed, e.g. 0-9 or 0,3,5, in RUN/seed-0 and so on; at once if that is faster."),
    ] = None,
    how: Annotated[
        str | None, typer.Option(help="With --seeds: auto, stacked (all at once) or loop. [default: auto]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run from its last checkpoint with its own settings.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network and record its layers.

    Example: repsim train runs/sg --rule synthetic-gradient:hidden_layers=1 --boundaries middle --record log:8,last
    """
    training = given(
        data=data,
        network=network,
        loss=loss,
        rule=" + ".join(rule) if rule else None,
        boundaries=boundaries,
        depth=depth,
        width=width,
        norm=norm,
        activation=activation,
        shift=shift,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=learning_rate,
        estimator_learning_rate=estimator_learning_rate,
        schedule=schedule,
        seed=seed,
        split_seed=split_seed,
        device=device,
        threads=threads,
    )
    recording = given(steps=record, layers=tuple(layer) if layer else None, compress=compress, diagnose=diagnose)

    from analysis.config.defaults import read_defaults
    from analysis.config.files import read_config
    from analysis.training.seeds import resume_seeds, train_seeds
    from analysis.training.train import resume_run, train_run
    from repsim.learning import keep_freed_memory

    keep_freed_memory()
    reporter = reporter_of(quiet=quiet)
    if seeds is None and how is not None:
        raise ValueError("--how says how several seeds are trained; give --seeds too.")
    if seeds is not None and seed is not None:
        raise ValueError("--seed and --seeds were both given; leave one out.")
    if resume:
        if set_anew := sorted({**training, **recording, **given(data_dir=data_dir, config=config)}):
            raise ValueError(f"--resume continues with the run's own settings; leave out {_flag(set_anew[0])}.")
        trained = [resume_run(run, reporter=reporter)] if seeds is None else resume_seeds(run, seeds, how, reporter)
    else:
        training_config, recording_config = read_config(config, training, recording, read_defaults())
        settings = training_config, recording_config
        if seeds is None:
            trained = [train_run(run, *settings, data_dir=data_dir, reporter=reporter)]
        else:
            trained = train_seeds(run, *settings, seeds=seeds, how=how, data_dir=data_dir, reporter=reporter)
    if json:
        print_json([{"run": str(each.path), **each.status} for each in trained])
    else:
        _say(run, trained)


def _say(run: Path, trained: list[Run]) -> None:
    scores = [
        f"{each.status['test_accuracy']:.3f}" if "test_accuracy" in each.status else str(each.status.get("state"))
        for each in trained
    ]
    runs = str(trained[0].path) if len(trained) == 1 else f"{run}/seed-*"
    print(f"Test accuracy {', '.join(scores)}. Next: repsim {'analyze' if len(trained) == 1 else 'compare'} {runs}")


def _flag(setting: str) -> str:
    named = {"steps": "record"}
    return f"--{named.get(setting, setting.replace('_', '-'))}"
