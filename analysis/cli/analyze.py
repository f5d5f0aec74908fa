"""repsim analyze."""

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

__all__ = ["analyze"]


def analyze(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directories with recorded steps; each is analysed by itself.")
    ],
    steps: Annotated[
        str | None, typer.Option(help="Recorded steps: first, last, all or numbers with commas. [default: first,last]")
    ] = None,
    layers: Layers = None,
    distance: Distance = None,
    measures: Measures = None,
    Cs: Penalties = None,
    output: Annotated[Path | None, typer.Option(help="Folder to write, for one run. [default: RUN/analysis]")] = None,
    executor: ExecutorName = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Probe and compare the layers of runs, each by itself: tables, RDMs, figures, report.

    Only what is missing or has changed is computed; after Ctrl-C the same command goes on.
    Example: repsim analyze runs/sg --steps all
    """
    from analysis.config.analysis import AnalysisConfig
    from analysis.config.defaults import read_defaults
    from analysis.config.execution import ExecutionConfig
    from analysis.workflows.analyze import analyze_runs

    defaults = read_defaults()
    asked = defaults.asked(
        steps=steps,
        layers=layers,
        distance=distance,
        measures=names(measures, "--measures"),
        Cs=numbers(Cs, "--Cs"),
    )
    findings = analyze_runs(
        runs,
        config=AnalysisConfig.from_dict(asked),
        output=output,
        execution=ExecutionConfig(
            progress=reporter_of(quiet=quiet), **defaults.place(executor=executor, jobs=jobs, scheduler=scheduler)
        ),
    )
    print_findings(findings, as_json=json)
