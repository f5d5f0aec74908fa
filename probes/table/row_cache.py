"""Cache of rows in a file, so that an interrupted table continues where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]

_FIRST = b'{"key": "'  # the beginning of every line


class RowCache:
    """Groups of rows in a file with one JSON object per line; the key of a group is a digest of its inputs.

    Lines are only ever appended. The last line may be incomplete if the process died while it wrote; it is ignored when
    the file is read, and removed when the next line is added.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._known: dict[str, list[Row]] = {}
        if not self._path.absolute().parent.is_dir():
            raise FileNotFoundError(f"There is no folder for the cache {self._path}. Create the folder first.")
        if self._path.is_dir():
            raise IsADirectoryError(f"The cache {self._path} is a folder. Give the name of a file.")
        content = self._path.read_bytes() if self._path.exists() else b""
        self._size, self._whole = len(content), content.rfind(b"\n") + 1  # of the file, and of its complete lines
        for number, line in enumerate(content[: self._whole].splitlines(), start=1):
            try:
                entry = json.loads(line)
                self._known[str(entry["key"])] = list(entry["rows"])
            except (ValueError, KeyError, TypeError) as error:
                raise self._not_a_cache(number) from error
        incomplete = content[self._whole :]
        if not (incomplete.startswith(_FIRST) or _FIRST.startswith(incomplete)):
            raise self._not_a_cache(content.count(b"\n") + 1)

    def _not_a_cache(self, number: int) -> ValueError:
        return ValueError(
            f"Line {number} of {self._path} is not a line of a cache of probes. Give another file, or remove this one."
        )

    def rows(self, key: str) -> list[Row] | None:
        """Return the rows under a key, or None if there are none."""
        return self._known.get(key)

    def add(self, key: str, rows: Sequence[Row]) -> None:
        """Append the rows of a key and wait until they are on disk.

        Raise ValueError if another program has changed the file since it was read.
        """
        plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
        line = json.dumps({"key": key, "rows": plain}).encode() + b"\n"
        with self._path.open("ab") as file:
            if file.seek(0, os.SEEK_END) != self._size:
                raise ValueError(f"{self._path} was changed by another program; give each table a cache of its own.")
            file.truncate(self._whole)  # removes an incomplete last line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._whole += len(line)
        self._size = self._whole
        self._known[key] = plain


def key_of(**parts: Any) -> str:
    """Return a digest of plain values, and of arrays by dtype, shape and content.

    Examples
    --------
    >>> key_of(C=1.0, y=np.arange(3)) == key_of(y=np.arange(3), C=1.0)
    True
    >>> key_of(y=np.arange(3)) == key_of(y=np.arange(3.0))
    False
    """
    return hashlib.sha256(json.dumps(_described(parts), sort_keys=True).encode()).hexdigest()


def _described(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        content = "\0".join(map(str, value.flat)).encode() if value.dtype.kind in "OUT" else value.tobytes()
        return [str(value.dtype.kind), list(value.shape), hashlib.sha256(content).hexdigest()]
    if isinstance(value, Mapping):
        return {str(name): _described(each) for name, each in value.items()}
    return [_described(each) for each in value] if isinstance(value, list | tuple) else _plain(value)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
