"""repsim compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import (
    Distance,
    ExecutorName,
    Jobs,
    Json,
    Layers,
    Measures,
    Penalties,
    Quiet,
    Scheduler,
    names,
    numbers,
    reporter_of,
)
from analysis.cli.output import print_findings

__all__ = ["compare"]


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more runs on the same stimuli; the first is the reference.")
    ],
    steps: Annotated[
        str | None,
        typer.Option(help="Recorded steps of each: first, last, all or numbers with commas. [default: last]"),
    ] = None,
    layers: Layers = None,
    distance: Distance = None,
    measures: Measures = None,
    Cs: Penalties = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write. [default: comparison, beside the first run]")
    ] = None,
    executor: ExecutorName = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare the layers of runs with one another: tables, RDMs, figures, report.

    Only what is missing or has changed is computed; after Ctrl-C the same command goes on.
    Example: repsim compare runs/backprop runs/sg-middle runs/sg-all
    """
    from analysis.config.analysis import AnalysisConfig
    from analysis.config.defaults import read_defaults
    from analysis.config.execution import ExecutionConfig
    from analysis.workflows.analyze import compare_runs

    defaults = read_defaults()
    asked = defaults.asked(
        steps=steps,
        layers=layers,
        distance=distance,
        measures=names(measures, "--measures"),
        Cs=numbers(Cs, "--Cs"),
    )
    findings = compare_runs(
        runs,
        config=AnalysisConfig.from_dict(asked),
        output=output,
        execution=ExecutionConfig(
            progress=reporter_of(quiet=quiet), **defaults.place(executor=executor, jobs=jobs, scheduler=scheduler)
        ),
    )
    print_findings([findings], as_json=json)
