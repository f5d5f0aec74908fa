"""repsim compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Display, Given, analysis_of, execution_of, imports_parts, with_options
from analysis.cli.output import print_results
from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.existing import ExistingConfig
from analysis.config.toml_files import read_defaults

__all__ = ["compare"]


@imports_parts
@with_options
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more run directories with the same stimuli, or patterns such as 'runs/sg/seed-*'; the first "
            "is the reference. Or one TOML file with [arms.NAME], which repsim sweep has trained."
        ),
    ],
    analysis: Given[AnalysisConfig],
    design: Given[DesignConfig],
    execution: Given[ExecutionConfig],
    existing: ExistingConfig,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write. [default: comparison, beside the first run]")
    ] = None,
    *,
    display: Display,
) -> None:
    """Compare the layers of runs with one another: tables, RDMs, figures, report.

    Runs that differ in their seeds only are an arm; arms of three seeds or more are compared as groups. Only results
    that are missing or out of date are computed; after Ctrl-C the same command continues.

    Example: repsim compare 'runs/backprop/*' 'runs/sg/*' --control decoupled='runs/greedy/*'
    """
    with display.working("Comparing"):
        from analysis.comparison.attribution.grouping import expand
        from analysis.workflows.comparisons import compare_design, compare_runs

        defaults = read_defaults()
        where = execution_of(execution, defaults, display)
        if len(runs) == 1 and runs[0].suffix == ".toml":
            given = {**analysis.values, **design.values}
            result = compare_design(
                runs[0], defaults=defaults, given=given, output=output, exists=existing.exists, execution=where
            )
        else:
            paths = [path for run in runs for path in expand(run)]
            with analysis_of(analysis, defaults) as config:
                arms = design.merged([defaults])
                result = compare_runs(
                    paths, config=config, design=arms, output=output, exists=existing.exists, execution=where
                )
    print_results([result], as_json=display.json)
