"""Export of runs and analyses to files for other programs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from analysis.execution.progress import Shown, reporter_of
from analysis.export import FORMATS, ExportedAnalysis, ExportedRun, Format, open_source
from checkpoints.storage.commit import staged_directory, staged_file
from checkpoints.storage.regular_files import is_system_file

__all__ = ["export"]


def export(
    source: str | Path,
    output: str | Path,
    *,
    format: str,  # noqa: A002 (the name of the option)
    steps: str | None = None,
    layers: Sequence[str] | None = None,
    gradients: bool = False,
    reporter: Shown = None,
) -> list[Path]:
    """Write the activations of a run, or the results of an analysis, in a format of other programs.

    Parameters
    ----------
    source : path
        A run: its recorded activations. The folder of an analysis: its tables and dissimilarity matrices.
    output : path
        A new file, or, for ``csv``, ``parquet``, ``xarray-zarr`` and ``tensorboard``, a new folder; it appears complete
        or not at all.
    format : str
        A key of ``analysis.export.FORMATS``.
    steps : str, optional
        Of a run: ``first``, ``last``, ``all`` or step numbers joined by commas; ``last`` by default.
    layers : sequence of str, optional
        Of a run: names or patterns, as when recording; all by default.
    gradients : bool, default False
        Of a run: export the recorded gradients, such as ``chosen/hidden.1``, in place of the activations.
    reporter : bool or Reporter, optional

    Returns
    -------
    list of Path
        The files, in order of their names.

    Raises
    ------
    ValueError, OSError
        If the source cannot be read, a step, layer or gradient was not recorded, the format is unknown or its package
        is missing, ``output`` exists, or a file cannot be written.
    """
    output, chosen = Path(output), _chosen(format)
    _check_output(output, format, chosen)
    reporter = reporter_of(reporter)
    with reporter.task(f"Reading {source}"):
        opened = open_source(source, steps, layers, gradients=gradients, needs_layers=chosen.needs_layers)
    if isinstance(opened, ExportedRun) and chosen.write_recording is None:
        raise ValueError(
            f"The format {format} holds dissimilarity matrices, and {source} is a run. Make them with: repsim analyze "
            f"{source}; then export the folder that it wrote."
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    staged = staged_directory if chosen.is_folder else staged_file
    task = reporter.task(f"export ({format})", chosen.count(opened))
    with _naming(output), staged(output) as staging, task as progress:
        _write(chosen, opened, staging, lambda note: progress.advance(1, note))
    if not chosen.is_folder:
        return [output]
    return sorted(path for path in output.rglob("*") if path.is_file() and not is_system_file(path.name))


def _chosen(name: str) -> Format:
    if name not in FORMATS:
        raise ValueError(f"Unknown format '{name}'. Choose one of: {', '.join(FORMATS)}.")
    package, _, extra = FORMATS[name].needs.rstrip("]").partition("[")
    if package and importlib.util.find_spec(package) is None:
        raise ValueError(
            f"The format {name} needs the package {package}, which is not installed. Install it with: pip install "
            f"'repsim-sg[{extra}]'."
        )
    return FORMATS[name]


def _check_output(output: Path, name: str, chosen: Format) -> None:
    for parent in output.parents:
        if parent.exists() and not parent.is_dir():
            raise NotADirectoryError(f"{parent} is a file; {output} cannot be made inside it. Choose another --output.")
    if output.exists() or output.is_symlink():
        raise FileExistsError(f"{output} exists already, and nothing is overwritten. Choose another --output.")
    if chosen.suffixes and output.suffix.lower() not in chosen.suffixes:
        endings = " or ".join(chosen.suffixes)
        raise ValueError(
            f"{output} should end in {endings}, by which {name} files are known. Use {output.name}{chosen.suffixes[0]}."
        )


def _write(chosen: Format, source: ExportedRun | ExportedAnalysis, path: Path, done: Callable[[str], None]) -> None:
    if isinstance(source, ExportedAnalysis):
        chosen.write_analysis(source, path, done)
    else:
        assert chosen.write_recording is not None  # refused above
        chosen.write_recording(source, path, done)


@contextmanager
def _naming(output: Path) -> Iterator[None]:
    """Add the name of the output to an error of the disk that names no file."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, f"{error.strerror}; it could not be written", str(output)) from error
