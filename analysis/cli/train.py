"""repsim train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.cli.options import DataDir, Display, Given, with_options
from analysis.cli.output import print_json
from analysis.config.recording import RecordingConfig
from analysis.config.seed_list import SeedsConfig
from analysis.config.toml_files import read_defaults, read_settings
from repsim.learning.config import TrainingConfig

if TYPE_CHECKING:
    from checkpoints import Run

__all__ = ["train"]


@with_options
def train(
    run: Annotated[Path, typer.Argument(help="New run directory, e.g. runs/backprop; with --resume an existing one.")],
    training: Given[TrainingConfig],
    recording: Given[RecordingConfig],
    several: SeedsConfig,
    data_dir: DataDir = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with tables [training] and [recording]; options on the command line override it."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run from its last checkpoint with its own settings.")
    ] = False,
    *,
    display: Display,
) -> None:
    """Train a network and record its layers.

    Example: repsim train runs/sg --rule synthetic-gradient:hidden_layers=1 --boundaries middle --record log:8,last
    """
    seeds, how = several.seeds, several.how
    if seeds is None and how is not None:
        raise ValueError("--how chooses how several seeds are trained; give --seeds too.")
    if seeds is not None and "seed" in training.values:
        raise ValueError("--seed and --seeds were both given; leave one out.")
    own = {"--data-dir": data_dir, "--config": config}
    given = [*training.flags, *recording.flags, *(flag for flag, value in own.items() if value is not None)]
    if resume and given:
        raise ValueError(f"--resume continues with the run's own settings; leave out {given[0]}.")

    from analysis.training.seed_runs import resume_seeds, train_seeds
    from analysis.training.train import resume_run, train_run
    from repsim.learning import keep_freed_memory

    keep_freed_memory()
    progress = display.reporter()
    if resume:
        trained = [resume_run(run, progress=progress)] if seeds is None else resume_seeds(run, seeds, how, progress)
    else:
        files = [read_defaults(), *([] if config is None else [read_settings(config, ("training", "recording"))])]
        settings = training.merged(files), recording.merged(files)
        if seeds is None:
            trained = [train_run(run, *settings, data_dir=data_dir, progress=progress)]
        else:
            trained = train_seeds(run, *settings, seeds=seeds, how=how, data_dir=data_dir, progress=progress)
    if display.json:
        print_json([{"run": str(each.path), **each.status} for each in trained])
    else:
        _print_accuracy(run, trained)


def _print_accuracy(run: Path, trained: list[Run]) -> None:
    scores = [
        f"{each.status['test_accuracy']:.3f}" if "test_accuracy" in each.status else str(each.status.get("state"))
        for each in trained
    ]
    runs = str(trained[0].path) if len(trained) == 1 else f"{run}/seed-*"
    print(f"Test accuracy {', '.join(scores)}. Next: repsim {'analyze' if len(trained) == 1 else 'compare'} {runs}")
