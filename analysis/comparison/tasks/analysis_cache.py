"""Cache of an analysis: files of the cache, and the RDMs in ``rdm.h5`` of a finished analysis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from analysis.comparison.tasks.rdm_file import RDM_FILE
from analysis.execution.cache import Cache, TaskResult, Undefined
from checkpoints import Damaged
from checkpoints.storage.hdf5_files.hdf5_datasets import checked_dataset, checked_group
from checkpoints.storage.regular_files import check_regular

__all__ = ["AnalysisCache"]

_KEYS = "keys"  # the group of RDM_FILE that links every matrix by its key


class AnalysisCache(Cache):
    """Results of the analysis in a folder. RDMs that have no file of their own any more are read from ``rdm.h5``."""

    def __contains__(self, key: str) -> bool:
        """Return whether a result is stored under a key."""
        return super().__contains__(key) or key in self._archived

    def read(self, key: str) -> TaskResult:
        """Return the result that is stored under a key; raises as ``Cache.read`` does."""
        if super().__contains__(key):
            return super().read(key)
        path = self.folder / RDM_FILE
        with _opened(path) as file:
            matrix = checked_dataset(path, checked_group(path, file, _KEYS), key, "<f4", 1)
            undefined = [
                Undefined(0, str(layer), "rdm", str(why)) for layer, why in _pairs(matrix.attrs.get("undefined"))
            ]
            messages = tuple(map(str, _listed(matrix.attrs.get("warnings"))))
            return TaskResult({"rdm": np.asarray(matrix[()])}, warnings=messages, undefined=undefined)

    @cached_property
    def _archived(self) -> frozenset[str]:
        """Keys of the matrices in ``rdm.h5``; none if the file is damaged or not one of this package."""
        path = self.folder / RDM_FILE
        try:
            with _opened(path) as file:
                group = checked_group(path, file, _KEYS)
                return frozenset(key for key in group if _is_matrix(path, group, key))
        except Damaged:
            return frozenset()


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open the file of RDMs; whatever is wrong with it raises Damaged."""
    check_regular(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except Damaged:
        raise
    except (OSError, RuntimeError, KeyError) as error:
        raise Damaged(f"{path} cannot be read ({error}).") from error


def _listed(text: Any) -> list[Any]:
    """Return a value from JSON if it is a list, otherwise an empty list."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _pairs(text: Any) -> list[tuple[Any, Any]]:
    return [(each[0], each[1]) for each in _listed(text) if isinstance(each, list) and len(each) == 2]


def _is_matrix(path: Path, group: h5py.Group, key: str) -> bool:
    try:
        checked_dataset(path, group, key, "<f4", 1)
    except Damaged:
        return False
    return True
