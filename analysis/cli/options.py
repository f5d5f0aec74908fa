"""What the options of commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from analysis.execution.progress import Reporter

__all__ = [
    "Distance",
    "ExecutorName",
    "Jobs",
    "Json",
    "Layers",
    "Measures",
    "Penalties",
    "Quiet",
    "Scheduler",
    "given",
    "names",
    "numbers",
    "reporter_of",
]

Penalties = Annotated[
    str | None,
    typer.Option(
        "--Cs",
        help="Values of C, with commas, that probes choose from; small ones penalise more. "
        "[default: 0.001,0.01,0.1,1,10]",
    ),
]
Distance = Annotated[
    str | None,
    typer.Option(
        help="correlation, cosine, euclidean, sqeuclidean, mahalanobis, poisson, or a metric of SciPy by name. "
        "[default: correlation]"
    ),
]
Measures = Annotated[
    str | None,
    typer.Option(
        help="How layers are compared: names with commas, see docs/measures.md; figures show the first. [default: cka]"
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layers", "--layer", help="Recorded layer or pattern; repeatable. [default: all]"),
]
ExecutorName = Annotated[
    str | None,
    typer.Option(
        "--executor",
        help="Where work is done: serial, processes or dask. [default: processes where that is worth while]",
    ),
]
Jobs = Annotated[int | None, typer.Option(help="Processes, one thread each. [default: as many as processors]")]
Scheduler = Annotated[
    str | None,
    typer.Option(help="A Dask scheduler, e.g. tcp://10.0.0.1:8786, or a TOML file that describes a cluster."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing of how the work goes.")]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that the user gave; those left out keep the defaults of the function behind the command."""
    return {name: value for name, value in options.items() if value is not None}


def reporter_of(*, quiet: bool) -> Reporter:
    """Return who tells on standard error how the work goes."""
    from analysis.execution.progress import Reporter

    return Reporter(quiet=quiet)


def names(text: str | None, option: str) -> tuple[str, ...] | None:
    """Return the names in a text with commas; None if there is no text.

    Raises
    ------
    ValueError
        If one is empty.

    Examples
    --------
    >>> names("cka, procrustes", "--measures")
    ('cka', 'procrustes')
    """
    if text is None:
        return None
    found = tuple(part.strip() for part in text.split(","))
    if not all(found):
        raise ValueError(f"{option} is {text!r}; expected names with commas between them.")
    return found


def numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """Return the numbers in a text with commas; None if there is no text.

    Raises
    ------
    ValueError
        If something else is among them.

    Examples
    --------
    >>> numbers("0.1,1", "--Cs")
    (0.1, 1.0)
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} is {text!r}; expected numbers with commas, such as 0.01,0.1,1.") from None
