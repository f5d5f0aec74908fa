"""repsim compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Given, Json, Quiet, execution_of, with_options
from analysis.cli.output import print_results
from analysis.config.analysis import AnalysisConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.toml_files import merge, read_defaults

__all__ = ["compare"]


@with_options(analysis=AnalysisConfig, execution=ExecutionConfig)
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Two or more run directories with the same stimuli; the first is the reference."),
    ],
    analysis: Given,
    execution: Given,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write. [default: comparison, beside the first run]")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare the layers of runs with one another: tables, RDMs, figures, report.

    Only results that are missing or out of date are computed; after Ctrl-C the same command continues.
    Example: repsim compare runs/backprop runs/sg-middle runs/sg-all
    """
    from analysis.workflows.analyze import compare_runs

    defaults = read_defaults()
    result = compare_runs(
        runs,
        config=merge(AnalysisConfig.from_dict, "analysis", [defaults], analysis),
        output=output,
        execution=execution_of(execution, defaults, quiet=quiet),
    )
    print_results([result], as_json=json)
