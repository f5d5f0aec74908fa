"""Content-addressed cache: the results of tasks, one file per key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from checkpoints.storage.commit import remove_staging, replace_file
from checkpoints.storage.regular_files import check_folder, check_regular, is_regular

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Cache", "TaskResult", "Undefined"]

_TABLE = "table"  # prefix of the arrays that are columns of tables


class Undefined(NamedTuple):
    """A value that is not defined for a layer.

    Attributes
    ----------
    source : int
        Position of the layer's source among the inputs of the task.
    layer : str
        Name of the layer.
    result : str
        ``rdm``, ``class_structure``, ``rdm_similarity``, ``probes`` or the name of a measure.
    reason : str
        A sentence.
    """

    source: int
    layer: str
    result: str
    reason: str


@dataclass(frozen=True)
class TaskResult:
    """Result of a task.

    Attributes
    ----------
    arrays : mapping of str to array
        Read back bit for bit.
    tables : mapping of str to DataFrame
        Read back with the same columns, dtypes and values; the index is not kept.
    values : mapping of str to object
        Small JSON-ready values; None stands for a number that is not defined.
    warnings : sequence of str
        Messages of the warnings that were raised.
    undefined : sequence of Undefined
        Values that are not defined; NaN or None stands in their place.
    """

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    undefined: Sequence[Undefined] = ()


class Cache:
    """Results in a folder, each a file named after its key. A pickled cache is its folder.

    A file holds arrays in the format of safetensors, all else as JSON in its header; nothing in it is executed. It is
    written durably and all at once. Links are not followed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[type[Cache], tuple[Path]]:
        """Pickle as the folder alone."""
        return type(self), (self.folder,)

    def __contains__(self, key: str) -> bool:
        """Return whether a result is stored under a key."""
        return is_regular(self._path(key))

    @property
    def path(self) -> Path:
        """The folder of the files."""
        return self.folder / "cache"

    def write(self, key: str, result: TaskResult) -> None:
        """Store a result."""
        from safetensors.numpy import save

        arrays = {name: np.asarray(array, order="C") for name, array in result.arrays.items()}
        tables = {}
        for name, table in result.tables.items():
            columns, described = _pack_table(name, table)
            arrays |= columns
            tables[name] = described
        about = {
            "tables": tables,
            "values": dict(result.values),
            "warnings": list(result.warnings),
            "undefined": [list(each) for each in result.undefined],
        }
        self.make_folder()
        replace_file(self._path(key), save(arrays, {"about": json.dumps(about, default=_scalar)}))

    def read(self, key: str) -> TaskResult:
        """Return the result that is stored under a key.

        Raise ``Damaged`` if there is no regular file of this key, ValueError if it is damaged.
        """
        from safetensors import SafetensorError, safe_open

        path = self._path(key)
        check_regular(path)
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads(file.metadata()["about"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
            tables = {name: _unpack_table(name, columns, arrays) for name, columns in about["tables"].items()}
            undefined = tuple(Undefined(*each) for each in about["undefined"])
            return TaskResult(arrays, tables, dict(about["values"]), tuple(about["warnings"]), undefined)
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} is damaged ({error}). Remove it, and give the same command again.") from error

    def remove(self, keys: Iterable[str]) -> None:
        """Remove the files of some keys."""
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def make_folder(self) -> None:
        """Create the folder of the files; ``Damaged`` if it is a link to a folder elsewhere."""
        if not self.path.is_symlink():
            self.path.mkdir(parents=True, exist_ok=True)
        check_folder(self.path)

    def remove_staging(self) -> None:
        """Remove files that killed processes left unfinished; only the holder of the folder's lock may do so."""
        self.make_folder()
        remove_staging(self.path)

    def _path(self, key: str) -> Path:
        return self.path / f"{key}.safetensors"


def _scalar(value: Any) -> Any:
    """Return a scalar of NumPy as JSON takes it."""
    return value.item()


def _pack_table(name: str, table: pd.DataFrame) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the columns of a table that are plain arrays, and the dtypes of all with the values of the others.

    A categorical column is described by its codes, and by its categories as a table.
    """
    arrays: dict[str, NDArray[Any]] = {}
    columns: list[list[Any]] = []
    for number, column in enumerate(table.columns):
        values, dtype = table.iloc[:, number], str(table.dtypes.iloc[number])
        if isinstance(values.dtype, np.dtype) and values.dtype.kind in "biuf":
            arrays[f"{_TABLE}/{name}/{number}"] = np.ascontiguousarray(values.to_numpy())
            columns.append([column, dtype, None])
        elif dtype == "category":
            categories, described = _pack_table(f"{name}/{number}", values.cat.categories.to_frame())
            arrays |= categories
            columns.append([column, [described, values.cat.ordered], values.cat.codes.tolist()])
        else:
            listed = [None if each else value for value, each in zip(values.tolist(), values.isna(), strict=True)]
            columns.append([column, dtype, listed])
    return arrays, {"n_rows": len(table), "columns": columns}


def _unpack_table(name: str, described: Mapping[str, Any], arrays: dict[str, NDArray[Any]]) -> pd.DataFrame:
    """Return a table that ``_pack_table`` packed, taking its arrays out of a dictionary."""
    import pandas as pd

    columns = {}
    for number, (column, dtype, values) in enumerate(described["columns"]):
        stored = arrays.pop(f"{_TABLE}/{name}/{number}") if values is None else values
        if len(stored) != described["n_rows"]:
            raise ValueError(f"column {column} of table {name} has {len(stored)} of {described['n_rows']} values")
        if isinstance(dtype, list):
            categories = pd.Index(_unpack_table(f"{name}/{number}", dtype[0], arrays).iloc[:, 0]).rename(None)
            columns[column] = pd.Series(pd.Categorical.from_codes(stored, categories, ordered=dtype[1]))
        else:
            columns[column] = pd.Series(stored, dtype=dtype)
    return pd.DataFrame(columns, index=range(described["n_rows"]))
