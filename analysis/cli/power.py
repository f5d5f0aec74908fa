"""repsim power."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Display, Given, execution_of, imports_parts, with_options
from analysis.cli.output import print_json
from analysis.comparison.attribution.contrasts import USUAL_SEEDS
from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.toml_files import read_defaults

__all__ = ["power"]

_USUAL = ",".join(map(str, USUAL_SEEDS))


@imports_parts
@with_options
def power(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Runs of a pilot, as for repsim compare, or a TOML file with [arms.NAME]."),
    ],
    analysis: Given[AnalysisConfig],
    design: Given[DesignConfig],
    execution: Given[ExecutionConfig],
    effect: Annotated[
        float, typer.Option(help="Size of the true effect, in units of the smallest effect of interest.")
    ] = 2.0,
    seeds: Annotated[str, typer.Option(help="Numbers of seeds per arm, with commas.")] = _USUAL,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the comparison, whose results are used. [default: as of compare]")
    ] = None,
    *,
    display: Display,
) -> None:
    """Say how many seeds a comparison of arms needs, from the spread between the seeds of a pilot.

    A pilot needs three seeds or more per arm.

    Example: repsim power 'runs/backprop/*' 'runs/sg/*' --effect 2
    """
    with display.working("Measuring the pilot"):
        from analysis.comparison.attribution.grouping import expand
        from analysis.workflows.comparisons import plan_comparison, plan_design
        from analysis.workflows.pilots import describe_power, power_of

        defaults = read_defaults()
        if len(runs) == 1 and runs[0].suffix == ".toml":
            plan = plan_design(runs[0], None, defaults, {**analysis.values, **design.values}, output)
        else:
            paths = [path for run in runs for path in expand(run)]
            plan = plan_comparison(paths, analysis.merged([defaults]), design.merged([defaults]), output)
        numbers = _numbers(seeds)
        table = power_of(plan, n_seeds=numbers, effect=effect, execution=execution_of(execution, defaults, display))
    if display.json:
        print_json({"effect": effect, "power": table.to_dict("records")})
        return
    print("\n".join(describe_power(table, effect)))


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"seeds is '{text}'; expected whole numbers with commas, such as 3,5,10.") from None
