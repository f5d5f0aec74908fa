"""Tables of targets: a CSV file with one row per stimulus, by id, and one column per target."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from checkpoints import Stimuli

__all__ = ["TargetTable", "TargetValues", "chosen_table"]

Kind = Literal["categorical", "continuous"]

_IDS = ("id", "stimulus_id")  # names of the column of ids; by default it is the first column
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)")
_CODE = re.compile(r"[+-]?0\d+")  # such as 007, which would lose digits as a number
_LARGEST = 2**63 - 1
_ABSENT = {"", "nan", "na", "n/a", "null", "none"}  # among numbers; among text only an empty cell is missing


def chosen_table(targets: str | None, groups: str | None) -> TargetTable | None:
    """Return the table that settings choose by its path, with its column of groups; None if there is none.

    Raises
    ------
    ValueError, OSError
        As ``TargetTable.open``, and if a column of groups is named without a table.
    """
    if targets is not None:
        return TargetTable.open(targets, groups)
    if groups is not None:
        raise ValueError(f"groups is '{groups}', a column of the table of targets; give the table too, by --targets.")
    return None


@dataclass(frozen=True)
class TargetValues:
    """Targets by name, and the group of each stimulus if a column of groups was named; shape (n,) each."""

    targets: dict[str, NDArray[Any]]
    groups: NDArray[Any] | None


@dataclass(frozen=True)
class TargetTable:
    """A table of targets, by its path, and the hash of its content when it was opened.

    The column of ids is called ``id`` or ``stimulus_id``, or is the first. Every other column is a target. A column of
    whole numbers, or of text, holds classes; one of numbers of which some have decimals holds the values of a
    continuous target. The name of a column may end in ``:continuous`` or ``:categorical``, which decides in place of
    its values, and is not part of the name. The table may have stimuli that are not recorded.

    Attributes
    ----------
    path : str
    sha256 : str
    groups : str or None
        Name of the column of groups, such as speakers, which is then no target.
    """

    path: str
    sha256: str
    groups: str | None = None

    @classmethod
    def open(cls, path: str | Path, groups: str | None = None) -> TargetTable:
        """Return the table of a file after checking that it can be read.

        Raises
        ------
        ValueError, OSError
            If the file is missing or not such a table, or has no such column of groups.
        """
        table = cls(str(Path(path).absolute()), _sha256(Path(path)), groups)
        table._read()
        return table

    @property
    def identity(self) -> list[Any]:
        """The content of the file, wherever it lies, and the column of groups."""
        return [self.sha256, self.groups]

    @property
    def names(self) -> list[str]:
        """Names of the targets."""
        return list(self._read().kinds)

    def values_of(self, ids: Sequence[str]) -> TargetValues:
        """Return the targets and the groups of some stimuli, in their order.

        Raises
        ------
        ValueError
            If a stimulus has no row, or no value in a column, or a column cannot be read as its kind; the message names
            the column and the stimulus.
        """
        columns = self._read()
        if missing := [each for each in ids if each not in columns.rows]:
            raise ValueError(
                f"{self.path} has no row for {len(missing)} of {len(ids)} stimuli, such as '{missing[0]}'; expected "
                f"one row for each, with its id in the column '{columns.id_name}' (it has "
                f"{_listed(list(columns.rows))}). Ids are compared as text."
            )
        rows = [columns.rows[each] for each in ids]
        targets = {
            name: _values(f"Column '{name}' of {self.path}", kind, [row[name] for row in rows], ids)
            for name, kind in columns.kinds.items()
        }
        if self.groups is None:
            return TargetValues(targets, None)
        groups = [row[self.groups] for row in rows]
        return TargetValues(targets, _texts(f"Column '{self.groups}' of {self.path}", groups, ids))

    def added_to(self, stimuli: Stimuli) -> Stimuli:
        """Return stimuli with the targets of the table beside their own, and with its groups in place of their own.

        Raises
        ------
        ValueError
            As ``values_of``, and if the stimuli have a target of the same name with other values.
        """
        import numpy as np

        found = self.values_of(stimuli.ids.tolist())
        for name, values in found.targets.items():
            own = stimuli.targets.get(name, values)
            if name == "label" or not np.array_equal(own, values):
                raise ValueError(
                    f"The stimuli have a target '{name}' already, and column '{name}' of {self.path} has other values. "
                    "Give the column another name."
                )
        groups = stimuli.groups if found.groups is None else found.groups
        return replace(stimuli, targets={**stimuli.targets, **found.targets}, groups=groups)

    def _read(self) -> _Columns:
        columns = _columns(Path(self.path), self.sha256)
        if self.groups is None:
            return columns
        if self.groups not in columns.kinds:
            raise ValueError(
                f"{self.path} has no column '{self.groups}' of groups. Choose one of: {', '.join(columns.kinds)}."
            )
        kinds = {name: kind for name, kind in columns.kinds.items() if name != self.groups}
        return _Columns(columns.id_name, columns.rows, kinds)


@dataclass(frozen=True)
class _Columns:
    """The rows of a table by id, as text, and the kind of each target."""

    id_name: str
    rows: Mapping[str, Mapping[str, str]]
    kinds: Mapping[str, Kind]


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; expected a .csv file of targets, one row per stimulus.")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=4)
def _columns(path: Path, sha256: str) -> _Columns:
    """Read a file, whose content must have the hash."""
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} has changed since it was opened. Give the command again.")
    try:
        lines = list(csv.reader(StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a table of comma-separated values in UTF-8 ({error}).") from error
    if not lines:
        raise ValueError(f"{path} is empty; expected a header and one row per stimulus.")
    header, forced = _header(path, lines[0])
    id_name = _id_column(path, header)
    rows: dict[str, dict[str, str]] = {}
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise ValueError(f"Line {number} of {path} has {len(cells)} cells; the header has {len(header)}.")
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        if row[id_name] in rows:
            raise ValueError(f"{path} has stimulus '{row[id_name]}' twice; expected one row per stimulus.")
        rows[row[id_name]] = row
    names = [name for name in header if name != id_name]
    kinds = {name: forced.get(name) or _kind(path, name, rows) for name in names}
    return _Columns(id_name, rows, kinds)


def _header(path: Path, cells: Iterable[str]) -> tuple[list[str], dict[str, Kind]]:
    """Return the names of the columns, and the kinds that they state."""
    names, forced = list[str](), dict[str, Kind]()
    for cell in cells:
        name, _, kind = cell.strip().rpartition(":")
        if name and (kind == "categorical" or kind == "continuous"):
            names.append(name.strip())
            forced[names[-1]] = "categorical" if kind == "categorical" else "continuous"
        else:
            names.append(cell.strip())
    if "" in names or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), "")
        what = f"has two columns '{twice}'" if twice else f"has no name for column {names.index('') + 1}"
        raise ValueError(f"{path} {what}; give every column a name of its own in the first line.")
    if len(names) < 2:
        raise ValueError(
            f"{path} has the one column '{names[0]}'; expected ids and one column per target, separated by commas."
        )
    return names, forced


def _id_column(path: Path, header: Sequence[str]) -> str:
    named = [name for name in _IDS if name in header]
    if len(named) > 1:
        raise ValueError(f"{path} has the columns {' and '.join(named)}; rename the one that does not hold the ids.")
    return named[0] if named else header[0]


# Kinds and values


def _kind(path: Path, name: str, rows: Mapping[str, Mapping[str, str]]) -> Kind:
    """Return the kind of a column by its values; ValueError if some have decimals and others are text."""
    cells = {id_: row[name] for id_, row in rows.items() if row[name].lower() not in _ABSENT}
    decimal = next((each for each, cell in cells.items() if _is_decimal(cell)), None)
    if decimal is None:
        return "categorical"
    text = next((each for each, cell in cells.items() if not _NUMBER.fullmatch(cell) or _CODE.fullmatch(cell)), None)
    if text is not None:
        raise ValueError(
            f"Column '{name}' of {path} has the number {cells[decimal]} (stimulus '{decimal}') and the text "
            f"'{cells[text]}' (stimulus '{text}'). Correct one of them, or call the column '{name}:categorical'."
        )
    return "continuous"


def _is_decimal(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell)) and not _WHOLE.fullmatch(cell) and not _CODE.fullmatch(cell)


def _values(what: str, kind: Kind, cells: Sequence[str], ids: Sequence[str]) -> NDArray[Any]:
    """Return the cells of a column as float64, int64 or text."""
    import numpy as np

    if kind == "continuous":
        return np.array([_number(what, cell, each) for cell, each in zip(cells, ids, strict=True)])
    present = [cell for cell in cells if cell.lower() not in _ABSENT]
    if present and all(_WHOLE.fullmatch(cell) and abs(int(cell)) <= _LARGEST for cell in present):
        absent = next((each for cell, each in zip(cells, ids, strict=True) if cell.lower() in _ABSENT), None)
        if absent is not None:
            raise _missing(what, absent)
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    return _texts(what, cells, ids)


def _texts(what: str, cells: Sequence[str], ids: Sequence[str]) -> NDArray[Any]:
    import numpy as np

    if "" in cells:
        raise _missing(what, ids[list(cells).index("")])
    return np.array(cells, dtype=str)


def _number(what: str, cell: str, stimulus: str) -> float:
    if cell.lower() in _ABSENT:
        raise _missing(what, stimulus)
    if not _NUMBER.fullmatch(cell) or not math.isfinite(value := float(cell)):
        raise ValueError(f"{what} has '{cell}' for stimulus '{stimulus}'; expected a finite number.")
    return value


def _missing(what: str, stimulus: str) -> ValueError:
    return ValueError(
        f"{what} has no value for stimulus '{stimulus}'; every recorded stimulus needs one. Fill it in, or remove the "
        "column."
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:3]))
    return f"{shown}, …" if len(names) > 3 else shown or "no rows"
