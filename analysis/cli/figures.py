"""repsim figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Display, Given, analysis_of, execution_of, imports_parts, with_options
from analysis.cli.output import print_json
from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.figure_style import FigureConfig, FigureFilesConfig
from analysis.config.toml_files import read_defaults

__all__ = ["figures"]


@imports_parts
@with_options
def figures(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER|RUNS...",
            help="The folder of an analysis or comparison, which is drawn as it is; or runs, or patterns such as "
            "'runs/sg/seed-*', which are compared first if they are not yet.",
        ),
    ],
    look: Given[FigureConfig],
    files: FigureFilesConfig,
    analysis: Given[AnalysisConfig],
    design: Given[DesignConfig],
    execution: Given[ExecutionConfig],
    output: Annotated[
        Path | None, typer.Option(help="Folder of the files. [default: paper, in the folder of the analysis]")
    ] = None,
    *,
    display: Display,
) -> None:
    """Draw the figures of an analysis or comparison for a paper: vector PDF and SVG, and captions.

    Example: repsim figures runs/comparison --width column --only cka --only probe_accuracy
    """
    from analysis.comparison.attribution.grouping import expand
    from analysis.workflows.paper_figures import write_figures

    defaults = read_defaults()
    paths = [path for source in sources for path in expand(source)]
    _check_sources(paths, [*analysis.flags, *design.flags])
    with analysis_of(analysis, defaults) as config:
        written = write_figures(
            paths,
            output,
            config=replace(FigureConfig(style="paper"), **look.values),
            files=files,
            analysis=config,
            design=design.merged([defaults]),
            execution=execution_of(execution, defaults, display),
        )
    if display.json:
        print_json({"files": [str(path) for path in written]})
    else:
        names = len({path.stem for path in written}) - 1
        print(f"Wrote {written[0].parent}: {names} {'figure' if names == 1 else 'figures'}, and captions.md.")


def _check_sources(paths: Sequence[Path], flags: Sequence[str]) -> None:
    """Refuse settings for the folder of an analysis, which is drawn as it is, and such a folder among other paths."""
    from analysis.comparison.analysis_plan import read_outcome

    for path in paths:
        if read_outcome(path) is None:
            continue
        if len(paths) > 1:
            raise ValueError(f"{path} is an analysis; draw one analysis at a time, or give runs only.")
        if flags:
            raise ValueError(
                f"{path} is an analysis and is drawn as it is; {flags[0]} belongs to runs. Leave it out, or give runs."
            )
