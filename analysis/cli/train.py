"""repsim train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.cli.options import DataDir, Display, Given, imports_parts, with_options
from analysis.cli.output import print_json
from analysis.config.existing import ExistingConfig
from analysis.config.recording import RecordingConfig
from analysis.config.seed_list import SeedsConfig
from analysis.config.toml_files import read_defaults, read_settings
from repsim.learning.config import TrainingConfig
from repsim.settings import setting

if TYPE_CHECKING:
    from checkpoints import Run

__all__ = ["train"]


_FORK_FLAGS = ("--rule", "--boundaries", "--estimator-learning-rate", "--epochs")


@dataclass(frozen=True, kw_only=True)
class TrainingStart(ExistingConfig):
    """Where a training starts, if not from initial weights, and what is done about a run that exists already."""

    resume: bool = setting(False, help="Continue the run from its last checkpoint with its own settings.")
    source: str | None = setting(
        None,
        help="Fork this run: continue it from --step in the new run RUN. Of its settings, "
        "--rule, --boundaries, --estimator-learning-rate and --epochs can be changed.",
        flags=("--from",),
    )
    step: int | None = setting(None, help="With --from: committed step of the run to fork.", lowest=0)


@imports_parts
@with_options
def train(
    run: Annotated[Path, typer.Argument(help="New run directory, e.g. runs/backprop; with --resume an existing one.")],
    training: Given[TrainingConfig],
    recording: Given[RecordingConfig],
    several: SeedsConfig,
    start: TrainingStart,
    data_dir: DataDir = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with tables [training] and [recording]; options on the command line override it."),
    ] = None,
    *,
    display: Display,
) -> None:
    """Train a network and record its layers.

    Example: repsim train runs/sg --rule synthetic-gradient:hidden_layers=1 --boundaries middle --record log:8,last

    A fork: repsim train runs/late-sg --from runs/backprop --step 400 --rule synthetic-gradient@10
    """
    seeds, how = several.seeds, several.how
    if seeds is None and how is not None:
        raise ValueError("--how chooses how several seeds are trained; give --seeds too.")
    if seeds is not None and "seed" in training.values:
        raise ValueError("--seed and --seeds were both given; leave one out.")
    own = {"--data-dir": data_dir, "--config": config}
    given = [*training.flags, *recording.flags, *(flag for flag, value in own.items() if value is not None)]
    if start.resume and start.exists != "error":
        raise ValueError("--resume continues with the run's own settings, and --exists compares them; leave one out.")
    if start.resume and given:
        raise ValueError(f"--resume continues with the run's own settings; leave out {given[0]}.")
    _check_start(start, [flag for flag in given if flag not in _FORK_FLAGS], seeds)

    with display.working("Preparing to train"):
        from analysis.training.fork import fork_run
        from analysis.training.seed_runs import resume_seeds, train_seeds
        from analysis.training.train import resume_run, train_run
        from repsim.learning import keep_freed_memory

        keep_freed_memory()
        progress, exists = display.reporter(), start.exists
        if start.source is not None and start.step is not None:
            trained = [fork_run(run, start.source, start.step, training.values, exists=exists, progress=progress)]
        elif start.resume:
            trained = [resume_run(run, progress=progress)] if seeds is None else resume_seeds(run, seeds, how, progress)
        else:
            files = [read_defaults(), *([] if config is None else [read_settings(config, ("training", "recording"))])]
            settings = training.merged(files), recording.merged(files)
            if seeds is None:
                trained = [train_run(run, *settings, data_dir=data_dir, exists=exists, progress=progress)]
            else:
                trained = train_seeds(
                    run, *settings, seeds=seeds, how=how, data_dir=data_dir, exists=exists, progress=progress
                )
    if display.json:
        print_json([{"run": str(each.path), **each.status} for each in trained])
    else:
        _print_accuracy(run, trained)


def _check_start(start: TrainingStart, unchangeable: Sequence[str], seeds: str | None) -> None:
    """Raise ValueError unless the options say where one training starts; ``unchangeable`` are those no fork takes."""
    if (start.source is None) is not (start.step is None):
        raise ValueError("--from names the run to fork and --step its step; give both or neither.")
    if start.source is None:
        return
    if start.resume:
        raise ValueError("--from starts a fork; leave it out to continue one with --resume.")
    if seeds is not None:
        raise ValueError("--from forks one run; leave out --seeds, and fork the run of each seed.")
    if unchangeable:
        raise ValueError(
            f"A fork keeps the settings of its source except {', '.join(_FORK_FLAGS)}; leave out {unchangeable[0]}."
        )


def _print_accuracy(run: Path, trained: list[Run]) -> None:
    scores = [
        str(each.status.get("state")) if "test_loss" not in each.status else _score(each.status) for each in trained
    ]
    runs = str(trained[0].path) if len(trained) == 1 else f"{run}/seed-*"
    kind = "loss" if any(each.status.get("test_accuracy", 0) is None for each in trained) else "accuracy"
    print(f"Test {kind} {', '.join(scores)}. Next: repsim {'analyze' if len(trained) == 1 else 'compare'} {runs}")


def _score(status: Mapping[str, Any]) -> str:
    """Return the test accuracy, or the loss of a regression, which has no accuracy."""
    accuracy = status["test_accuracy"]
    return f"{status['test_loss']:.4g}" if accuracy is None else f"{accuracy:.3f}"
