"""repsim record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import DataDir, Display, Given, imports_parts, with_options
from analysis.cli.output import print_json
from analysis.config.existing import ContinuedConfig
from analysis.config.recording import CaptureConfig, ModelConfig
from analysis.config.stimulus_files import StimulusConfig
from analysis.config.toml_files import read_defaults
from repsim.settings import setting

__all__ = ["record"]


@dataclass(frozen=True, kw_only=True)
class RecordedSteps(ContinuedConfig):
    """Steps of a trained run that are recorded, and what is done about a recording that exists already."""

    steps: str | None = setting(None, help="Steps of RUN: first, last, all or numbers with commas.", shown="all")


@imports_parts
@with_options
def record(
    output: Annotated[Path, typer.Option(help="New run directory for the activations.")],
    capture: Given[CaptureConfig],
    source: Given[ModelConfig],
    stimuli: Given[StimulusConfig],
    chosen: RecordedSteps,
    run: Annotated[
        list[Path] | None, typer.Argument(help="A trained run; it is not changed. Or give --model.", metavar="[RUN]")
    ] = None,
    data_dir: DataDir = None,
    *,
    display: Display,
) -> None:
    """Record the activations of weights that a run has saved, or of a network that was trained elsewhere.

    Example: repsim record runs/sg --output runs/sg-logits --layers output

    A network of yours: repsim record --model my_models:resnet --weights resnet.safetensors --data stimuli.npz
    --layers 'layer*' --output runs/resnet

    Ten checkpoints of it: repsim record --model my_models:resnet --weights 'ckpt/epoch_*.pt' --data stimuli.npz
    --layers 'layer*' --output runs/resnet
    """
    with display.working("Recording"):
        model = ModelConfig(**source.values)
        trained = _only_run(run or [], model)
        progress, exists = display.reporter(), chosen.exists
        if trained is not None:
            _refuse([flag for flag in [*source.flags, *stimuli.flags] if flag != "--data"], "--model")
            from analysis.training.record import record_run

            layers = CaptureConfig(**{"layers": ("hidden.*",), **capture.values})
            recorded = record_run(
                trained,
                output,
                steps=chosen.steps or "all",
                capture=layers,
                data=stimuli.values.get("data"),
                data_dir=data_dir,
                exists=exists,
                progress=progress,
            )
        else:
            own = {"--steps": chosen.steps, "--data-dir": data_dir}
            _refuse([flag for flag, value in own.items() if value is not None], "a trained run")
            if "data" not in stimuli.values:
                raise ValueError("--data is missing; give a file or folder with the stimuli, such as stimuli.npz.")
            from analysis.training.record_models import record_model

            given = StimulusConfig(**stimuli.values)
            config = capture.merged([read_defaults()])
            recorded = record_model(model, output, data=given, capture=config, exists=exists, progress=progress)
    if display.json:
        print_json({"run": str(output), "steps": list(recorded.steps)})
        return
    from checkpoints.html_tables import abbreviated

    command = "analyze" if len(set(recorded.stimuli.labels.tolist())) > 1 else "info"
    print(f"Recorded steps {abbreviated(recorded.steps)}. Next: repsim {command} {output}")


def _only_run(runs: Sequence[Path], source: ModelConfig) -> Path | None:
    """Return the run that was given in place of a model, or None."""
    if not runs and source.model is None:
        raise ValueError("Give either a trained run or --model module:factory.")
    if runs and source.weights and source.model is not None:
        raise ValueError(
            f"--weights was followed by other files, such as {runs[0]}. Put a pattern in quotes, such as "
            "--weights 'ckpt/epoch_*.pt', or give --weights before each file."
        )
    if runs and source.model is not None:
        raise ValueError(
            f"Both --model and a run, {runs[0]}, were given; leave one out. For several patterns, repeat --layers."
        )
    if len(runs) > 1:
        raise ValueError(f"{len(runs)} runs were given; record one at a time. For several patterns, repeat --layers.")
    return runs[0] if runs else None


def _refuse(flags: Sequence[str], owner: str) -> None:
    """Raise ValueError if options were given that belong to the other kind of source."""
    if flags:
        raise ValueError(f"{flags[0]} belongs to {owner}; leave it out.")
