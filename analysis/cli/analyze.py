"""repsim analyze."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Given, Json, Quiet, execution_of, with_options
from analysis.cli.output import print_results
from analysis.config.analysis import AnalysisConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.toml_files import merge, read_defaults

__all__ = ["analyze"]


@with_options(analysis=AnalysisConfig, execution=ExecutionConfig)
def analyze(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directories with recorded steps; each is analyzed by itself.")
    ],
    analysis: Given,
    execution: Given,
    output: Annotated[Path | None, typer.Option(help="Folder to write, for one run. [default: RUN/analysis]")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Probe and compare the layers of runs, each by itself: tables, RDMs, figures, report.

    Only results that are missing or out of date are computed; after Ctrl-C the same command continues.
    Example: repsim analyze runs/sg --steps all
    """
    from analysis.workflows.analyze import analyze_runs

    defaults = read_defaults()
    results = analyze_runs(
        runs,
        config=merge(AnalysisConfig.from_dict, "analysis", [defaults], analysis),
        output=output,
        execution=execution_of(execution, defaults, quiet=quiet),
    )
    print_results(results, as_json=json)
