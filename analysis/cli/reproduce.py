"""repsim reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Display, Given, execution_of, imports_parts, with_options
from analysis.cli.output import print_json
from analysis.config.execution import ExecutionConfig
from analysis.config.seed_list import parse_seeds
from analysis.config.toml_files import read_defaults
from analysis.reproduction.claims import CLAIMS

__all__ = ["reproduce"]


@imports_parts
@with_options
def reproduce(
    claims: Annotated[list[str], typer.Argument(help=f"{', '.join(CLAIMS)} or all; several may be named.")],
    execution: Given[ExecutionConfig],
    scale: Annotated[
        str, typer.Option(help="quick (two cores, under an hour for all) or full (a GPU or a cluster, hours).")
    ] = "quick",
    seeds: Annotated[
        str | None, typer.Option(help="Four or more seeds, such as 0-3. [default: 0-4, at full scale 0-9]")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder to write. [default: runs/reproduction-SCALE]")] = None,
    device: Annotated[str, typer.Option(help="Device where networks are trained: cpu, cuda, cuda:1 ...")] = "cpu",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the IDX files of mnist, for full scale.")] = None,
    *,
    display: Display,
) -> None:
    """Test the claims of the paper on synthetic gradients: runs, tables, figures, one report.

    Finished results are kept: the same command continues after Ctrl-C or a crash.
    Example: repsim reproduce depth rdm --seeds 0-3
    """
    if unknown := [name for name in claims if name not in (*CLAIMS, "all")]:
        raise ValueError(f"Unknown claim '{unknown[0]}'. Choose one of: {', '.join((*CLAIMS, 'all'))}.")
    with display.working("Reproduction"):
        from analysis.reproduction.claim import Plan
        from analysis.reproduction.reproduce import reproduce as run_reproduction

        seeds = seeds or ("0-9" if scale == "full" else "0-4")
        folder = None if data_dir is None else str(data_dir.absolute())
        plan = Plan(scale=scale, seeds=parse_seeds(seeds), device=device, data_dir=folder)
        where = execution_of(execution, read_defaults(), display)
        done = run_reproduction(claims, output=output, plan=plan, execution=where)
    if display.json:
        verdicts = {name: section.verdict for name, section in done.sections.items()}
        print_json({"report": str(done.report), "verdicts": verdicts, "summary": done.summary()})
        return
    for sentence in done.summary():
        print(sentence)
    print(f"Report: {done.report}")
