"""What is computed once: rows of a table in a file, so that a table that was cut off can go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]

_FIRST = b'{"key": "'  # what a line begins with


class RowCache:
    """Groups of rows in a file of one JSON object a line, found again by what they were computed from.

    A line is written whole or, where the process died, not whole; such a last line is dropped. Lines are never
    changed.

    Parameters
    ----------
    path : str or Path
        Need not exist; its folder does.

    Raises
    ------
    ValueError
        If the file is no such journal.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._known: dict[str, list[Row]] = {}
        if not self._path.absolute().parent.is_dir():
            raise FileNotFoundError(f"There is no folder for the journal {self._path}. Make it first.")
        if self._path.is_dir():
            raise IsADirectoryError(f"The journal {self._path} is a folder. Name a file in it.")
        content = self._path.read_bytes() if self._path.exists() else b""
        self._size, self._whole = len(content), content.rfind(b"\n") + 1  # of the file, and of its whole lines
        for number, line in enumerate(content[: self._whole].splitlines(), start=1):
            try:
                entry = json.loads(line)
                self._known[str(entry["key"])] = list(entry["rows"])
            except (ValueError, KeyError, TypeError) as error:
                raise self._foreign(number) from error
        torn = content[self._whole :]
        if not (torn.startswith(_FIRST) or _FIRST.startswith(torn)):
            raise self._foreign(content.count(b"\n") + 1)

    def rows(self, key: str) -> list[Row] | None:
        """Return the rows of a key, or None."""
        return self._known.get(key)

    def _foreign(self, number: int) -> ValueError:
        return ValueError(
            f"Line {number} of {self._path} is not one of a journal of probes. Give another file, or remove it."
        )

    def add(self, key: str, rows: Sequence[Row]) -> None:
        """Append the rows of a key, durably.

        Raises
        ------
        ValueError
            If somebody else has changed the file.
        """
        plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
        line = json.dumps({"key": key, "rows": plain}).encode() + b"\n"
        with self._path.open("ab") as file:
            if file.seek(0, os.SEEK_END) != self._size:
                raise ValueError(f"{self._path} was changed by somebody else; give each table a journal of its own.")
            file.truncate(self._whole)  # of a line that was cut off
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._whole += len(line)
        self._size = self._whole
        self._known[key] = plain


def key_of(**parts: Any) -> str:
    """Return a digest of what rows are computed from: plain values, and arrays by their content.

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
