"""Cache of an analysis: files of the cache, and the RDMs in ``rdm.h5`` of a finished analysis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py

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
            group = checked_group(path, checked_group(path, file, _KEYS), key)
            return _result(path, group)

    @cached_property
    def _archived(self) -> frozenset[str]:
        """Keys of the results in ``rdm.h5``; none if the file is damaged or not one of this package."""
        path = self.folder / RDM_FILE
        try:
            with _opened(path) as file:
                group = checked_group(path, file, _KEYS)
                return frozenset(key for key in group if _is_result(path, group, key))
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


def _result(path: Path, group: h5py.Group) -> TaskResult:
    """Return the result in a group; ``Damaged`` if it is malformed."""
    values, warnings, undefined = _described(path, group)
    arrays = {name: matrix[()] for name, matrix in _matrices(path, group).items()}
    return TaskResult(arrays, values=values, warnings=warnings, undefined=undefined)


def _matrices(path: Path, group: h5py.Group) -> dict[str, h5py.Dataset]:
    return {str(k): checked_dataset(path, group, str(k), "<f4", 1) for k in range(len(group))}


def _described(path: Path, group: h5py.Group) -> tuple[dict[str, Any], tuple[str, ...], list[Undefined]]:
    """Return the values of a result, its warnings, and what is undefined."""
    try:
        result = json.loads(group.attrs["result"])
        values, warnings = dict(result["values"]), tuple(map(str, result["warnings"]))
        undefined = [Undefined(int(k), str(a), str(b), str(c)) for k, a, b, c in result["undefined"]]
        if len(values["class_structure"]) == len(group):
            return values, warnings, undefined
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise Damaged(f"{group.name} in {path} is malformed ({error}).") from error
    raise Damaged(f"{group.name} in {path} has {len(group)} matrices and {len(values['class_structure'])} values.")


def _is_result(path: Path, group: h5py.Group, key: str) -> bool:
    try:
        result = checked_group(path, group, key)
        _described(path, result)
        _matrices(path, result)
    except Damaged:
        return False
    return True
