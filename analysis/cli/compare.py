"""repsim compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import PENALTIES, Penalties, numbers
from analysis.cli.output import print_findings

__all__ = ["compare"]


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more runs on the same stimuli; the first is the reference.")
    ],
    distance: Annotated[
        str,
        typer.Option(
            help="correlation, cosine, euclidean, sqeuclidean, mahalanobis, poisson, or a metric of SciPy by name."
        ),
    ] = "correlation",
    Cs: Penalties = PENALTIES,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write. [default: comparison, beside the first run]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare the layers of runs at their last recorded steps: tables, RDMs, figures, report.

    Example: repsim compare runs/backprop runs/sg-middle runs/sg-all
    """
    from analysis.progress import Reporter
    from analysis.workflows import compare_runs

    findings = compare_runs(runs, output=output, distance=distance, Cs=numbers(Cs, "--Cs"), reporter=Reporter())
    print_findings(findings, as_json=json)
