"""repsim sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import DataDir, Display, Given, execution_of, imports_parts, with_options
from analysis.cli.output import print_json
from analysis.config.execution import ExecutionConfig
from analysis.config.toml_files import read_defaults

__all__ = ["sweep"]


@imports_parts
@with_options
def sweep(
    file: Annotated[
        Path,
        typer.Argument(help="TOML file with [training], [recording], [grid], [cases.NAME] or [arms.NAME], [analysis]."),
    ],
    execution: Given[ExecutionConfig],
    output: Annotated[Path | None, typer.Option(help="Folder for the runs. [default: runs/NAME of the file]")] = None,
    data_dir: DataDir = None,
    only_list: Annotated[
        bool, typer.Option("--list", help="List the trainings and their states without training.")
    ] = False,
    *,
    display: Display,
) -> None:
    """Train every combination of rules, depths, seeds ...; those that fail do not stop the others.

    Finished trainings are not repeated: the same command continues after Ctrl-C or a crash.
    Example: repsim sweep sweep.toml --output runs/sweep
    """
    with display.working("Sweep"):
        from analysis.workflows.sweep import sweep as run_sweep

        defaults = read_defaults()
        swept = run_sweep(
            file,
            output=output,
            data_dir=data_dir,
            defaults=defaults,
            only_list=only_list,
            execution=execution_of(execution, defaults, display),
        )
    if display.json:
        print_json({"folder": str(swept.folder), "runs": swept.records()})
        return
    print(swept.table.to_string(index=False) if only_list else "\n".join(swept.summary()))
    print(f"Table: {swept.folder / 'sweep.csv'}" if not only_list else f"Folder: {swept.folder}")
