"""Variables for MATLAB's ``load``: a MAT-file of version 7.3, which is HDF5 behind a header of 512 bytes.

MATLAB stores arrays column by column, so that a matrix of n rows and d columns is an HDF5 data set (d, n). The
attribute ``MATLAB_class`` says what a data set is; the cells of a cell array are references to data sets in the group
``#refs#``; text is UTF-16; an empty array is a data set of its sizes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, count
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.export.sources import ExportedAnalysis, ExportedRun, blocks
from checkpoints.storage.hdf5_files.sink import Sink

__all__ = ["write_analysis", "write_recording"]

_USERBLOCK = 512
_TITLE = "MATLAB 7.3 MAT-file, Platform: GLNXA64, Created by: repsim HDF5 schema 1.00 ."
_HEADER = _TITLE.encode().ljust(116) + bytes(8) + b"\x00\x02IM"  # nothing of a subsystem; version 2.0, little endian
_CLASSES = {"f8": "double", "f4": "single", "f2": "single", "i8": "int64", "i4": "int32", "b1": "logical"}
_ROWS, _COLUMNS = 64, 4096  # of a chunk, as MATLAB sees them
_LONGEST_NAME = 63

Put = Callable[[h5py.Group, str], Any]  # writes a variable of a name into a group, and returns what HDF5 calls it


def write_recording(run: ExportedRun, path: Path, done: Callable[[str], None]) -> None:
    """Write ``activations``, a cell array layer × step of n × d matrices, with layer, step and columns of the stimuli.

    Of gradients the variable is ``gradients``. In MATLAB: ``X = activations{strcmp(layer, 'hidden.1'), step == 38};``.
    Half precision becomes single.
    """
    steps = run.steps
    names = list(dict.fromkeys(place.layer.name for place in run.layers))
    places = {(place.layer.name, place.step): place.layer for place in run.layers}
    with _MatFile(path) as mat:

        def layer_at(name: str, step: int) -> Put:
            layer = places.get((name, step))
            if layer is None:
                return mat.numbers(np.empty((0, 0)))

            def put(group: h5py.Group, key: str) -> Any:
                written = mat.matrix(layer.shape, layer.dtype, blocks(layer, _ROWS))(group, key)
                done(name)
                return written

            return put

        for name, values in run.stimulus_columns.items():
            mat.save(name, mat.texts(values.tolist()) if values.dtype.kind == "U" else mat.numbers(values))
        mat.save("step", mat.numbers(np.array([steps], dtype=np.float64)))
        mat.save("layer", mat.texts(names))
        cells = [[layer_at(name, step) for step in steps] for name in names]
        mat.save(run.content, mat.cells(cells))


def write_analysis(analysis: ExportedAnalysis, path: Path, done: Callable[[str], None]) -> None:
    """Write ``rdm``, a cell array of row vectors as ``pdist`` returns them, and each table as a struct of columns.

    In MATLAB: ``squareform(rdm{k})`` of ``rdm_layer{k}`` and ``rdm_view{k}``; ``struct2table(probes)``.
    """
    matrices = analysis.matrices
    with _MatFile(path) as mat:

        def matrix_at(k: int) -> Put:
            def put(group: h5py.Group, key: str) -> Any:
                written = mat.numbers(analysis.rdm(matrices[k])[None])(group, key)
                done(matrices[k].layer)
                return written

            return put

        mat.save("stimulus_id", mat.texts(analysis.stimulus_ids.tolist()))
        mat.save("label", mat.numbers(analysis.labels))
        mat.save("distance", mat.text(analysis.method))
        mat.save("rdm", mat.cells([[matrix_at(k)] for k in range(len(matrices))]))
        mat.save("rdm_layer", mat.texts([matrix.layer for matrix in matrices]))
        mat.save("rdm_view", mat.texts([matrix.view.label for matrix in matrices]))
        mat.save("rdm_step", mat.numbers(np.array([matrix.view.step for matrix in matrices], dtype=np.float64)))
        for name, table in analysis.tables().items():
            mat.save(name, mat.struct({str(column): _column(mat, table[column]) for column in table}))


def _column(mat: _MatFile, values: pd.Series[Any]) -> Put:
    if pd.api.types.is_bool_dtype(values):
        return mat.numbers(values.to_numpy(bool))
    if pd.api.types.is_numeric_dtype(values):
        return mat.numbers(values.to_numpy(np.float64))
    return mat.texts(["" if pd.isna(value) else str(value) for value in values])


class _MatFile:
    """A MAT-file that is being written. Methods named after a type return a function that writes such a value."""

    def __init__(self, path: Path) -> None:
        self._sink = Sink(path)
        try:
            self._file = h5py.File(self._sink, "w", userblock_size=_USERBLOCK, libver=("earliest", "v108"))
        except BaseException:
            self._sink.close()
            raise
        self._cells = self._file.create_group("#refs#")
        self._n_cells = 0
        self._known: dict[str, h5py.Reference] = {}

    def __enter__(self) -> _MatFile:
        """Return the file."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the file, and write MATLAB's header in front of the HDF5 data."""
        try:
            self._file.close()
            self._sink.seek(0)
            self._sink.write(_HEADER)
            if kind is None:
                self._sink.check()
        finally:
            self._sink.close()

    def save(self, name: str, put: Put) -> None:
        """Write a variable, with a number if its name is taken; raise the first error of the disk, if there was one."""
        plain = identifier(name)
        numbered = (f"{plain[: _LONGEST_NAME - 6]}_{number}" for number in count(2))
        put(self._file, next(each for each in chain([plain], numbered) if each not in self._file))
        self._sink.check()

    def numbers(self, values: NDArray[Any]) -> Put:
        """Return a function that writes a matrix, or a vector as a column."""
        matrix = values[:, None] if values.ndim == 1 else values
        return self.matrix(matrix.shape, matrix.dtype, [(slice(0, len(matrix)), matrix)])

    def matrix(self, shape: tuple[int, ...], dtype: np.dtype[Any], parts: Iterable[tuple[slice, NDArray[Any]]]) -> Put:
        """Return a function that writes a matrix whose rows come in parts."""
        kind = _CLASSES[dtype.str.lstrip("<|=")]
        stored = {"logical": "u1", "single": "<f4"}.get(kind, dtype)

        def put(group: h5py.Group, name: str) -> Any:
            if 0 in shape:
                return self._empty(group, name, kind, shape)
            n, d = shape
            chunks = (min(d, _COLUMNS), min(n, _ROWS))
            data = group.create_dataset(name, (d, n), stored, chunks=chunks)  # MATLAB sees it as n x d
            for rows, part in parts:
                data[:, rows] = part.T.astype(stored, copy=False)
                self._sink.check()
            return _described(data, kind)

        return put

    def text(self, text: str) -> Put:
        """Return a function that writes a row of characters."""
        units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), dtype="<u2")

        def put(group: h5py.Group, name: str) -> Any:
            if not len(units):
                return self._empty(group, name, "char", (0, 0))
            return _described(group.create_dataset(name, data=units[:, None]), "char")

        return put

    def texts(self, texts: Sequence[str]) -> Put:
        """Return a function that writes a column of cells of text; equal ones are written once."""
        return lambda group, name: self._refer(group, name, [[self._text_cell(text)] for text in texts], 1)

    def cells(self, rows: Sequence[Sequence[Put]]) -> Put:
        """Return a function that writes a cell array, given those that write its cells."""

        def put(group: h5py.Group, name: str) -> Any:
            references = [[self._cell(each) for each in row] for row in rows]
            return self._refer(group, name, references, len(rows[0]) if rows else 1)

        return put

    def struct(self, fields: Mapping[str, Put]) -> Put:
        """Return a function that writes a struct of fields."""

        def put(group: h5py.Group, name: str) -> Any:
            inner = _described(group.create_group(name), "struct")
            names = [identifier(field) for field in fields]
            order = np.empty(len(names), dtype=object)
            for k, field in enumerate(names):
                order[k] = np.frombuffer(field.encode(), dtype="S1")
            inner.attrs.create("MATLAB_fields", order, dtype=h5py.vlen_dtype(np.dtype("S1")))
            for field, each in zip(names, fields.values(), strict=True):
                each(inner, field)
            return inner

        return put

    def _text_cell(self, text: str) -> h5py.Reference:
        if text not in self._known:
            self._known[text] = self._cell(self.text(text))
        return self._known[text]

    def _cell(self, put: Put) -> h5py.Reference:
        self._n_cells += 1
        cell = put(self._cells, f"cell_{self._n_cells}")
        _say(cell, "H5PATH", "/#refs#")
        return cell.ref

    def _refer(self, group: h5py.Group, name: str, references: Sequence[Sequence[Any]], n_columns: int) -> Any:
        if not references:
            return self._empty(group, name, "cell", (0, n_columns))
        data = group.create_dataset(name, (n_columns, len(references)), h5py.ref_dtype)
        for column in range(n_columns):
            data[column] = np.array([row[column] for row in references], dtype=h5py.ref_dtype)
        return _described(data, "cell")

    def _empty(self, group: h5py.Group, name: str, kind: str, shape: tuple[int, ...]) -> Any:
        data = group.create_dataset(name, data=np.array(shape, dtype=np.uint64))
        data.attrs["MATLAB_empty"] = np.uint8(1)
        return _described(data, kind)


def _described(item: Any, kind: str) -> Any:
    """Set the MATLAB class of a data set or group, and return it."""
    _say(item, "MATLAB_class", kind)
    if kind in ("char", "logical"):
        item.attrs["MATLAB_int_decode"] = np.int32(2 if kind == "char" else 1)
    return item


def _say(item: h5py.Dataset | h5py.Group, name: str, text: str) -> None:
    """Write an attribute as MATLAB does: of a null-terminated type, but without the final zero."""
    kind = _text_type(len(text))
    attribute = h5py.h5a.create(item.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
    attribute.write(np.array(text.encode()), mtype=kind)


@cache
def _text_type(length: int) -> Any:
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(length)
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    return kind


def identifier(name: str) -> str:
    """Return the name as a valid name of a variable in MATLAB.

    Examples
    --------
    >>> identifier("my table"), identifier("2nd")
    ('my_table', 'x2nd')
    """
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return (plain if plain[:1].isalpha() else f"x{plain}")[:_LONGEST_NAME]
