"""repsim export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli.options import Display, imports_parts, with_options
from analysis.cli.output import print_json
from analysis.execution.interruption import Interrupted

__all__ = ["export"]


@imports_parts
@with_options
def export(
    source: Annotated[Path, typer.Argument(help="A run (its activations), or the folder of an analysis.")],
    output: Annotated[
        Path, typer.Option(help="New file; for csv, parquet, xarray-zarr and tensorboard, a new folder.")
    ],
    format: Annotated[  # noqa: A002 (the name of the option)
        str,
        typer.Option(
            help="File format: csv, parquet, npz, rsatoolbox (RDMs of an analysis), matlab, xarray-zarr, or "
            "tensorboard (curves of training and results by step)."
        ),
    ],
    steps: Annotated[
        str | None, typer.Option(help="Steps of a run: first, last, all or numbers with commas. [default: last]")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", "--layer", help="Layers or patterns of a run; repeat the option. [default: all]"),
    ] = None,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Recorded gradients of a run in place of its activations.")
    ] = False,
    *,
    display: Display,
) -> None:
    """Write recorded activations, or tables and RDMs, to files of other programs.

    Example: repsim export runs/sg --format matlab --output sg.mat

    An analysis: repsim export runs/sg/analysis --format rsatoolbox --output sg-rdms.h5

    Curves: repsim export runs/sg --format tensorboard --output logs/sg; then tensorboard --logdir logs
    """
    with display.working(f"Exporting {source}"):
        from analysis.export.exporting import export as write

        reporter = display.reporter()
        try:
            files = write(
                source, output, format=format, steps=steps, layers=layers, gradients=gradients, reporter=reporter
            )
        except KeyboardInterrupt:
            raise Interrupted(f"Stopped; {output} was not written. The same command starts again.") from None
    size = sum(path.stat().st_size for path in files)
    if display.json:
        print_json(
            {
                "source": str(source),
                "format": format,
                "output": str(output),
                "bytes": size,
                "files": [str(path) for path in files],
            }
        )
    else:
        print(f"Wrote {output}: {len(files)} {'file' if len(files) == 1 else 'files'}, {_readable(size)}.")


def _readable(n_bytes: float) -> str:
    """Return a size with three digits in a unit in which it is below 1000.

    Examples
    --------
    >>> _readable(999), _readable(12_345_678)
    ('999 B', '12.3 MB')
    """
    unit, *larger = ("B", "kB", "MB", "GB", "TB")
    while n_bytes >= 999.5 and larger:
        n_bytes, unit = n_bytes / 1000, larger.pop(0)
    return f"{n_bytes:.3g} {unit}"
