"""The formats: what each is called, whether it is a file or a folder, and what writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analysis.export import csv_folder, matlab, npz, parquet_folder, rsatoolbox
from analysis.export.sources import Analysis, Recording

__all__ = ["FORMATS", "Done", "Format"]

Done = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    Attributes
    ----------
    what : str
        What it is, for people.
    suffixes : tuple of str
        How the name of the file may end; without any, the format is a folder.
    write_recording, write_analysis : callable (source, path, done)
        Fill the new file or the empty folder at ``path`` and call ``done`` with a note after each layer; None if the
        format has no place for such a source.
    needs : str
        A package that must be installed, with the extra of ``repsim-sg`` that installs it: "package[extra]".
    """

    what: str
    suffixes: tuple[str, ...]
    write_recording: Callable[[Recording, Path, Done], None] | None
    write_analysis: Callable[[Analysis, Path, Done], None]
    needs: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of files."""
        return not self.suffixes


FORMATS: dict[str, Format] = {
    "csv": Format(
        what="a folder of tables as text",
        suffixes=(),
        write_recording=csv_folder.write_recording,
        write_analysis=csv_folder.write_analysis,
    ),
    "parquet": Format(
        what="a folder of tables of Apache Parquet",
        suffixes=(),
        write_recording=parquet_folder.write_recording,
        write_analysis=parquet_folder.write_analysis,
        needs="pyarrow[parquet]",
    ),
    "npz": Format(
        what="arrays for numpy.load",
        suffixes=(".npz",),
        write_recording=npz.write_recording,
        write_analysis=npz.write_analysis,
    ),
    "rsatoolbox": Format(
        what="dissimilarity matrices for rsatoolbox.rdm.load_rdm",
        suffixes=(".h5", ".hdf5"),
        write_recording=None,
        write_analysis=rsatoolbox.write_analysis,
    ),
    "matlab": Format(
        what="variables for MATLAB's load (v7.3)",
        suffixes=(".mat",),
        write_recording=matlab.write_recording,
        write_analysis=matlab.write_analysis,
    ),
}
