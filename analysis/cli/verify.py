"""repsim verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Display, with_options
from analysis.cli.output import print_json

__all__ = ["verify"]


@with_options
def verify(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    level: Annotated[str, typer.Option(help="size: compare file sizes; sha256: compare every byte.")] = "sha256",
    *,
    display: Display,
) -> None:
    """Check that no committed file of a run has changed since it was written.

    Example: repsim verify runs/sg
    """
    with display.working(f"Verifying {run}"):
        from checkpoints import Run

        steps = Run.open(run).verify(level)
    if display.json:
        print_json({"run": str(run), "level": level, "steps": steps, "intact": True})
    else:
        print(f"{run}: {len(steps)} checkpoints intact ({level}).")
