"""repsim record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["record"]


def record(
    run: Annotated[Path, typer.Argument(help="A trained run; it is not changed.")],
    output: Annotated[Path, typer.Option(help="New run directory for the activations.")],
    steps: Annotated[str, typer.Option(help="first, last, all or step numbers with commas.")] = "all",
    layer: Annotated[
        list[str] | None, typer.Option(help="Layer or pattern to record; repeatable. [default: hidden.*]")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Other stimuli with as many features. [default: the run's]")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the IDX files of mnist.")] = None,
) -> None:
    """Record the activations of weights that a run has saved.

    Example: repsim record runs/sg --output runs/sg-logits --layer output
    """
    from analysis.progress import Reporter
    from analysis.workflows import record_run

    recorded = record_run(
        run,
        output,
        steps=steps,
        layers=tuple(layer) if layer else ("hidden.*",),
        data=data,
        data_dir=data_dir,
        reporter=Reporter(),
    )
    print(f"Recorded steps {', '.join(map(str, recorded.steps))}. Next: repsim analyze {output}")
