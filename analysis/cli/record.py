"""repsim record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.cli.options import DataDir, Given, Json, Quiet, flags_of, reporter_of, with_options
from analysis.cli.output import print_json
from analysis.config.recording import CaptureConfig
from analysis.config.toml_files import merge, read_defaults

__all__ = ["record"]

_FOR_RUNS_TOO = ("layers", "save_weights")


@with_options(capture=CaptureConfig)
def record(
    output: Annotated[Path, typer.Option(help="New run directory for the activations.")],
    capture: Given,
    run: Annotated[Path | None, typer.Argument(help="A trained run; it is not changed. Or give --model.")] = None,
    steps: Annotated[
        str | None, typer.Option(help="Steps of RUN: first, last, all or numbers with commas. [default: all]")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Stimuli: an .npz file, for RUN also a data set with as many features. [default: the run's]"),
    ] = None,
    data_dir: DataDir = None,
    model: Annotated[
        str | None,
        typer.Option(help="A network of yours: module:factory. The module is imported, so its code runs."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The model's weights: .safetensors, or .pt without code.")
    ] = None,
    step: Annotated[int | None, typer.Option(help="Training step of the weights. [default: 0]")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Record the activations of weights that a run has saved, or of a network that was trained elsewhere.

    Example: repsim record runs/sg --output runs/sg-logits --layers output

    A network of yours: repsim record --model my_models:resnet --weights resnet.safetensors --data stimuli.npz
    --layers 'layer*' --output runs/resnet
    """
    if run is None and model is None:
        raise ValueError("Give either a trained run or --model module:factory.")
    if run is not None and model is not None:
        raise ValueError(
            f"Both --model and a run, {run}, were given; leave one out. For several patterns, repeat --layers for each."
        )
    progress = reporter_of(quiet=quiet)
    if run is not None:
        _refuse(_options_of_model(capture, weights, step), "--model")
        from analysis.training.record import record_run

        given = _without_none(steps=steps, data_dir=data_dir)
        recorded = record_run(run, output, data=data, progress=progress, **given, **capture)
    else:
        assert model is not None
        _refuse({"--steps": steps, "--data-dir": data_dir}, "a trained run")
        if data is None:
            raise ValueError("--data is missing; give an .npz file with the stimuli for the model.")
        from analysis.training.record import record_model

        config = merge(CaptureConfig.from_dict, "capture", [read_defaults()], capture)
        given = _without_none(weights=weights, step=step)
        recorded = record_model(model, output, data=data, capture=config, progress=progress, **given)
    if json:
        print_json({"run": str(output), "steps": list(recorded.steps)})
        return
    command = "analyze" if len(set(recorded.stimuli.labels.tolist())) > 1 else "info"
    print(f"Recorded steps {', '.join(map(str, recorded.steps))}. Next: repsim {command} {output}")


def _options_of_model(capture: Given, weights: Path | None, step: int | None) -> dict[str, Any]:
    """Return the options that only a model takes, by flag; the value is None if one was not given."""
    settings = [each for each in CaptureConfig.settings() if each.name not in _FOR_RUNS_TOO]
    return {"--weights": weights, "--step": step, **{flags_of(each)[0]: capture.get(each.name) for each in settings}}


def _refuse(options: dict[str, Any], owner: str) -> None:
    """Raise ValueError if an option was given that belongs to the other kind of source."""
    if given := [flag for flag, value in options.items() if value is not None]:
        raise ValueError(f"{given[0]} belongs to {owner}; leave it out.")


def _without_none(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
