"""Registry of formats: the functions that write them, their suffixes and the packages they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analysis.export import matlab, npz, rsatoolbox, tensorboard, xarray_zarr
from analysis.export.csv_folder import CSV
from analysis.export.parquet_folder import PARQUET
from analysis.export.sources import ExportedAnalysis, ExportedRun
from analysis.own_parts.registries import KINDS
from repsim.registration import add_installed

__all__ = ["FORMATS", "Done", "Format"]

Done = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    Attributes
    ----------
    what : str
        Description for help texts.
    suffixes : tuple of str
        Allowed ends of the file name; empty if the format is a folder.
    write_recording, write_analysis : callable (source, path, done)
        Write the new file, or fill the empty folder, at ``path``, and call ``done`` with the name of each layer after
        it is written. None if the format cannot hold such a source.
    count : callable (source) -> int
        How often ``done`` is called; the number of layers, or of matrices, by default.
    needs_layers : bool
        Whether a run must have recorded layers.
    needs : str
        Package that must be installed, with the extra of ``repsim-sg`` that installs it: "package[extra]".
    """

    what: str
    suffixes: tuple[str, ...]
    write_recording: Callable[[ExportedRun, Path, Done], None] | None
    write_analysis: Callable[[ExportedAnalysis, Path, Done], None]
    count: Callable[[ExportedRun | ExportedAnalysis], int] = len
    needs_layers: bool = True
    needs: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of files."""
        return not self.suffixes


FORMATS: dict[str, Format] = {
    "csv": Format(
        what="a folder of tables as text",
        suffixes=(),
        write_recording=CSV.write_recording,
        write_analysis=CSV.write_analysis,
    ),
    "parquet": Format(
        what="a folder of tables of Apache Parquet",
        suffixes=(),
        write_recording=PARQUET.write_recording,
        write_analysis=PARQUET.write_analysis,
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
    "xarray-zarr": Format(
        what="a data set for xarray.open_zarr, a folder",
        suffixes=(),
        write_recording=xarray_zarr.write_recording,
        write_analysis=xarray_zarr.write_analysis,
        needs="zarr[zarr]",
    ),
    "tensorboard": Format(
        what="curves, and layers for the projector, of TensorBoard, a folder",
        suffixes=(),
        write_recording=tensorboard.write_recording,
        write_analysis=tensorboard.write_analysis,
        count=tensorboard.count,
        needs_layers=False,
        needs="tensorboard[tensorboard]",
    ),
}

add_installed(KINDS["formats"])
