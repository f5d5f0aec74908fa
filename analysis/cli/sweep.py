"""repsim sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import ExecutorName, Jobs, Json, Quiet, Scheduler, reporter_of
from analysis.cli.output import print_json

__all__ = ["sweep"]


def sweep(
    file: Annotated[
        Path, typer.Argument(help="TOML file with [training], [recording], [grid], [cases.NAME] and [analysis].")
    ],
    output: Annotated[Path | None, typer.Option(help="Folder for the runs. [default: runs/NAME of the file]")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the IDX files of mnist.")] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Train nothing; say what ran, failed and remains.")] = False,
    executor: ExecutorName = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train every combination of rules, depths, seeds ...; those that fail do not stop the others.

    What is trained already is left alone: the same command continues after Ctrl-C or a crash.
    Example: repsim sweep sweep.toml --output runs/sweep
    """
    from analysis.config.defaults import read_defaults
    from analysis.config.execution import ExecutionConfig
    from analysis.workflows.sweep import sweep as run_sweep

    defaults = read_defaults()
    swept = run_sweep(
        file,
        defaults=defaults,
        only_list=only_list,
        output=output,
        data_dir=data_dir,
        execution=ExecutionConfig(
            progress=reporter_of(quiet=quiet), **defaults.place(executor=executor, jobs=jobs, scheduler=scheduler)
        ),
    )
    if json:
        print_json({"folder": str(swept.folder), "runs": swept.records()})
        return
    print(swept.table.to_string(index=False) if only_list else "\n".join(swept.summary()))
    print(f"Table: {swept.folder / 'sweep.csv'}" if not only_list else f"Folder: {swept.folder}")
