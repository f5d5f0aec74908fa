"""repsim compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Display, Given, analysis_of, execution_of, with_options
from analysis.cli.output import print_results
from analysis.config.analysis import AnalysisConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.toml_files import read_defaults

__all__ = ["compare"]


@with_options
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Two or more run directories with the same stimuli; the first is the reference."),
    ],
    analysis: Given[AnalysisConfig],
    execution: Given[ExecutionConfig],
    output: Annotated[
        Path | None, typer.Option(help="Folder to write. [default: comparison, beside the first run]")
    ] = None,
    *,
    display: Display,
) -> None:
    """Compare the layers of runs with one another: tables, RDMs, figures, report.

    Only results that are missing or out of date are computed; after Ctrl-C the same command continues.
    Example: repsim compare runs/backprop runs/sg-middle runs/sg-all
    """
    from analysis.workflows.analyze import compare_runs

    defaults = read_defaults()
    where = execution_of(execution, defaults, display)
    with analysis_of(analysis, defaults) as config:
        result = compare_runs(runs, config=config, output=output, execution=where)
    print_results([result], as_json=display.json)
