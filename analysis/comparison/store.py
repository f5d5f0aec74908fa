"""Where pieces are kept: a file each, and the large ones, once an analysis is whole, in its file of RDMs."""

from __future__ import annotations

import glob
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from analysis.comparison.rdm_file import RDM_FILE
from analysis.comparison.undefined import Undefined
from checkpoints import Damaged
from checkpoints.storage.commit import remove_staging, replace_file
from checkpoints.storage.hdf5_datasets import checked_dataset, checked_group
from checkpoints.storage.regular_files import check_folder, check_regular, is_regular

__all__ = ["Found", "Store"]

_PIECES = "pieces"
_KEYS = "keys"  # the group of RDM_FILE in which every matrix has its piece's key as a second name


@dataclass(frozen=True)
class Found:
    """What a piece came to.

    Attributes
    ----------
    arrays : mapping of str to array
    facts : mapping
        JSON-ready; NaN is kept as null.
    warnings : sequence of str
        What was to be said on the way.
    undefined : sequence of Undefined
        Results that a layer does not have; NaN or null stands in their place.
    """

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    undefined: Sequence[Undefined] = ()


class Store:
    """The pieces of the analysis in a folder.

    Parameters
    ----------
    folder : Path
        Of the analysis; pieces are in ``pieces/``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, key: str) -> bool:
        """Tell whether a piece is there."""
        return is_regular(self._path(key)) or key in self._in_rdm_file

    def write(self, key: str, found: Found) -> None:
        """Keep what a piece came to, durably and all at once.

        Raises
        ------
        Damaged
            If the folder of pieces is a link.
        """
        from safetensors.numpy import save

        texts = {
            "facts": dict(found.facts),
            "warnings": list(found.warnings),
            "undefined": [list(each) for each in found.undefined],
        }
        about = {"about": json.dumps(texts)}
        arrays = {name: np.ascontiguousarray(array) for name, array in found.arrays.items()}
        self.make_folder()
        replace_file(self._path(key), save(arrays, about))

    def make_folder(self) -> None:
        """Make the folder of pieces, if there is none."""
        folder = self.folder / _PIECES
        if not folder.is_symlink():
            folder.mkdir(parents=True, exist_ok=True)
        check_folder(folder)  # or files elsewhere would be written and removed

    def read(self, key: str) -> Found:
        """Return what a piece came to.

        Raises
        ------
        ValueError, Damaged
            If its file is damaged.
        """
        path = self._path(key)
        if not is_regular(path):
            return self._matrix(key)
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads(file.metadata()["about"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
            undefined = [Undefined(*each) for each in about["undefined"]]
            return Found(arrays, dict(about["facts"]), list(about["warnings"]), undefined)
        except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is damaged ({error}). Remove it, and give the same command again.") from error

    def forget(self, keys: Iterable[str]) -> None:
        """Remove the files of pieces that are kept elsewhere."""
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def clear_staging(self) -> None:
        """Remove what killed processes left; only for who holds the analysis' lock."""
        self.make_folder()
        remove_staging(self.folder / _PIECES)
        for left in self.folder.parent.glob(f".part-{glob.escape(self.folder.name)}-*"):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self.folder / _PIECES / f"{key}.safetensors"

    def _matrix(self, key: str) -> Found:
        path = self.folder / RDM_FILE
        with _opened(path) as file:
            matrix = checked_dataset(path, checked_group(path, file, _KEYS), key, "<f4", 1)
            undefined = [Undefined(0, layer, "rdm", why) for layer, why in _pairs(matrix.attrs.get("undefined"))]
            said = _texts(matrix.attrs.get("warnings"))
            return Found({"rdm": np.asarray(matrix[()])}, warnings=said, undefined=undefined)

    @cached_property
    def _in_rdm_file(self) -> frozenset[str]:
        """Keys of the matrices in the file of RDMs; a file that somebody else wrote, or damaged, has none."""
        path = self.folder / RDM_FILE
        try:
            with _opened(path) as file:
                group = checked_group(path, file, _KEYS)
                return frozenset(key for key in group if _is_matrix(path, group, key))
        except Damaged:
            return frozenset()


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open the file of RDMs, of which no more is believed than what is looked at."""
    check_regular(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except Damaged:
        raise
    except (OSError, RuntimeError, KeyError) as error:
        raise Damaged(f"{path} cannot be read ({error}).") from error


def _texts(value: Any) -> list[str]:
    try:
        return [str(text) for text in json.loads(value)]
    except (TypeError, ValueError, RecursionError):
        return []  # of a file without them


def _pairs(value: Any) -> list[tuple[str, str]]:
    try:
        return [(str(layer), str(reason)) for layer, reason in json.loads(value)]
    except (TypeError, ValueError, RecursionError):
        return []  # of a file without them


def _is_matrix(path: Path, group: h5py.Group, key: str) -> bool:
    try:
        checked_dataset(path, group, key, "<f4", 1)
    except Damaged:
        return False
    return True
