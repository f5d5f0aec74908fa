"""repsim analyze."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import PENALTIES, Penalties, numbers
from analysis.cli.output import print_findings

__all__ = ["analyze"]


def analyze(
    run: Annotated[Path, typer.Argument(help="A run directory with recorded steps.")],
    steps: Annotated[str, typer.Option(help="Recorded steps: first, last, all or numbers with commas.")] = "first,last",
    distance: Annotated[
        str,
        typer.Option(
            help="correlation, cosine, euclidean, sqeuclidean, mahalanobis, poisson, or a metric of SciPy by name."
        ),
    ] = "correlation",
    Cs: Penalties = PENALTIES,
    output: Annotated[Path | None, typer.Option(help="Folder to write. [default: RUN/analysis]")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Probe and compare the layers of one run: tables, RDMs, figures, report.

    Example: repsim analyze runs/sg --steps all
    """
    from analysis.progress import Reporter
    from analysis.workflows import analyze_run

    findings = analyze_run(
        run, steps=steps, output=output, distance=distance, Cs=numbers(Cs, "--Cs"), reporter=Reporter()
    )
    print_findings(findings, as_json=json)
