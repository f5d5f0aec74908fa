"""repsim demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Display, with_options
from analysis.cli.output import print_results
from analysis.config.execution import ExecutionConfig

__all__ = ["demo"]


@with_options
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the runs and the comparison.")] = Path("runs/demo"),
    *,
    display: Display,
) -> None:
    """Train five networks of 20 hidden layers on real digits and compare their layers (a few minutes).

    One uses backprop, one a synthetic gradient in the middle, one synthetic gradients between all hidden layers. Two
    are controls: decoupled greedy learning in the middle, and backprop with the schedule of the third.
    Example: repsim demo --output runs/demo
    """
    with display.working("Demonstration"):
        from analysis.workflows.demo import demo as run_demo

        result = run_demo(output, execution=ExecutionConfig(progress=display.reporter()))
    print_results([result], as_json=display.json)
