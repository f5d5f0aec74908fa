"""repsim record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Json, Quiet, given, reporter_of
from analysis.cli.output import print_json

__all__ = ["record"]


def record(
    output: Annotated[Path, typer.Option(help="New run directory for the activations.")],
    run: Annotated[Path | None, typer.Argument(help="A trained run; it is not changed. Or give --model.")] = None,
    steps: Annotated[
        str | None, typer.Option(help="Of RUN: first, last, all or numbers with commas. [default: all]")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers",
            "--layer",
            help="Layer or pattern to record; repeatable. [default: hidden.* of RUN, ** of a model]",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Stimuli: an .npz, for RUN also a data set with as many features. [default: the run's]"),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the IDX files of mnist.")] = None,
    model: Annotated[
        str | None, typer.Option(help="A network of yours: module:factory. The module is imported, that is, run.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The model's weights: .safetensors, or .pt without code.")
    ] = None,
    step: Annotated[int | None, typer.Option(help="The step that the weights are of. [default: 0]")] = None,
    reduce: Annotated[
        list[str] | None,
        typer.Option(help="PATTERN=REDUCTION, e.g. conv*=spatial_mean or h.*=token(-1); repeatable."),
    ] = None,
    side: Annotated[str | None, typer.Option(help="output, input or both. [default: output]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or float64. [default: float32]")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Stimuli in a forward pass. [default: by memory, at most 512]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where the model runs, e.g. cuda. [default: cpu]")] = None,
    compress: Annotated[bool | None, typer.Option("--compress", help="Gzip the model's activations.")] = None,
    no_weights: Annotated[
        bool, typer.Option("--no-weights", help="Record activations alone, without the weights.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Record the activations of weights that a run has saved, or of a network that was trained elsewhere.

    Example: repsim record runs/sg --output runs/sg-logits --layers output

    A network of yours: repsim record --model my_models:resnet --weights resnet.safetensors --data stimuli.npz
    --layers 'layer*' --output runs/resnet
    """
    from analysis.training.record import record_model, record_run

    for_run = given(steps=steps, data_dir=data_dir)
    for_model = given(
        weights=weights,
        step=step,
        reduce=reduce,
        side=side,
        dtype=dtype,
        batch_size=batch_size,
        device=device,
        compress=compress,
    )
    for_both = given(
        layers=tuple(layers) if layers else None,
        data=data,
        save_weights=False if no_weights else None,
        reporter=reporter_of(quiet=quiet),
    )
    if run is None and model is None:
        raise ValueError("Give either a trained run or --model module:factory.")
    if run is not None and model is not None:
        raise ValueError(f"Both --model and a run, {run}, were given. Repeat --layers for each pattern of several.")
    if misplaced := for_run if run is None else for_model:
        option = "--" + next(iter(misplaced)).replace("_", "-")
        raise ValueError(f"{option} belongs to {'a trained run' if run is None else '--model'}; leave it out.")
    if run is not None:
        recorded = record_run(run, output, **for_run, **for_both)
    elif data is None:
        raise ValueError("No --data was given: an .npz file with the stimuli that the model is to be shown.")
    else:
        assert model is not None
        recorded = record_model(model, output, **for_model, **for_both)
    if json:
        print_json({"run": str(output), "steps": list(recorded.steps)})
        return
    command = "analyze" if len(set(recorded.stimuli.labels.tolist())) > 1 else "info"
    print(f"Recorded steps {', '.join(map(str, recorded.steps))}. Next: repsim {command} {output}")
