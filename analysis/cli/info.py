"""repsim info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Output, with_options
from analysis.cli.output import print_json

__all__ = ["info"]


@with_options
def info(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    *,
    display: Output,
) -> None:
    """Show the settings, the state, the recorded steps and the layers of a run.

    Example: repsim info runs/sg
    """
    from checkpoints import Run

    opened = Run.open(run)
    recorded = opened.recorded_steps
    layers = {name: layer.shape[1] for name, layer in opened.last().activations.items()} if recorded else {}
    facts = {
        "run": str(run),
        "uuid": opened.info["uuid"],
        "created": opened.info["created"],
        "status": opened.status,
        "steps": opened.steps,
        "recorded_steps": recorded,
        "stimuli": len(opened.stimuli),
        "layers": layers,
        "config": opened.config,
        "environment": opened.info["environment"],
    }
    if display.json:
        print_json(facts)
    else:
        _print(facts)


def _print(facts: dict[str, object], indent: str = "") -> None:
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            print(f"{indent}{name}:")
            _print(value, indent + "  ")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            print(f"{indent}{name}: {shown if shown not in (None, '', {}) else '-'}")
