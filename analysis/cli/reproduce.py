"""repsim reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import ExecutorName, Jobs, Json, Quiet, Scheduler, reporter_of
from analysis.cli.output import print_json

__all__ = ["EXPERIMENT_NAMES", "reproduce"]

# The keys of EXPERIMENTS, which is slow to import.
EXPERIMENT_NAMES = (
    "critical-points",
    "artificial",
    "tracking",
    "depth",
    "rdm",
    "probes",
    "implied-loss",
    "rules",
    "value-gradients",
)


def reproduce(
    experiments: Annotated[
        list[str],
        typer.Argument(help=f"{', '.join(EXPERIMENT_NAMES)} or all; several may be named."),
    ],
    scale: Annotated[
        str, typer.Option(help="quick (two cores, under an hour for all) or full (a GPU or a cluster, hours).")
    ] = "quick",
    seeds: Annotated[
        str | None, typer.Option(help="Four or more, such as 0-3. [default: 0-4, at full scale 0-9]")
    ] = None,
    jobs: Jobs = None,
    output: Annotated[Path | None, typer.Option(help="Folder to write. [default: runs/reproduction-SCALE]")] = None,
    device: Annotated[str, typer.Option(help="Where networks are trained: cpu, cuda, cuda:1 ...")] = "cpu",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the IDX files of mnist, for full scale.")] = None,
    executor: ExecutorName = None,
    scheduler: Scheduler = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put the claims of the paper on synthetic gradients to the test: runs, tables, figures, one report.

    What is done is kept: the same command continues after Ctrl-C or a crash.
    Example: repsim reproduce depth rdm --seeds 0-3
    """
    if unknown := [name for name in experiments if name not in (*EXPERIMENT_NAMES, "all")]:
        listed = ", ".join((*EXPERIMENT_NAMES, "all"))
        raise ValueError(f"Unknown experiment '{unknown[0]}'. Choose one of: {listed}.")
    from analysis.config.defaults import read_defaults
    from analysis.config.execution import ExecutionConfig
    from analysis.config.seeds import parse_seeds
    from analysis.reproduction.claims import Plan
    from analysis.reproduction.run import reproduce as run_reproduction

    seeds = seeds or ("0-9" if scale == "full" else "0-4")
    folder = None if data_dir is None else str(data_dir.absolute())
    plan = Plan(scale=scale, seeds=parse_seeds(seeds), device=device, data_dir=folder)
    place = read_defaults().place(executor=executor, jobs=jobs, scheduler=scheduler)
    execution = ExecutionConfig(progress=reporter_of(quiet=quiet), **place)
    done = run_reproduction(experiments, plan=plan, output=output, execution=execution)
    if json:
        verdicts = {name: section.verdict for name, section in done.sections.items()}
        print_json({"report": str(done.report), "verdicts": verdicts, "summary": done.summary()})
        return
    for sentence in done.summary():
        print(sentence)
    print(f"Report: {done.report}")
