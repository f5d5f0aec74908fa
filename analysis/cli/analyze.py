"""repsim analyze."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Display, Given, analysis_of, execution_of, imports_parts, with_options
from analysis.cli.output import print_results
from analysis.config.analysis import AnalysisConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.existing import ExistingConfig
from analysis.config.toml_files import read_defaults

__all__ = ["analyze"]


@imports_parts
@with_options
def analyze(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directories with recorded steps; each is analyzed by itself.")
    ],
    analysis: Given[AnalysisConfig],
    execution: Given[ExecutionConfig],
    existing: ExistingConfig,
    output: Annotated[Path | None, typer.Option(help="Folder to write, for one run. [default: RUN/analysis]")] = None,
    *,
    display: Display,
) -> None:
    """Probe and compare the layers of runs, each by itself: tables, RDMs, figures, report.

    Only results that are missing or out of date are computed; after Ctrl-C the same command continues.
    Example: repsim analyze runs/sg --steps all
    """
    with display.working("Analyzing"):
        from analysis.workflows.analyze import analyze_runs

        defaults = read_defaults()
        where = execution_of(execution, defaults, display)
        with analysis_of(analysis, defaults) as config:
            results = analyze_runs(runs, config=config, output=output, exists=existing.exists, execution=where)
    print_results(results, as_json=display.json)
