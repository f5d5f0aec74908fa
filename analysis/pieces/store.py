"""Where pieces are kept: a file each, and the large ones, once an analysis is whole, in its file of RDMs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.commit import remove_staging, replace_file

__all__ = ["RDM_FILE", "Found", "Store"]

RDM_FILE = "rdm.h5"
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
    """

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()


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
        return self._path(key).is_file() or key in self._in_rdm_file

    def write(self, key: str, found: Found) -> None:
        """Keep what a piece came to, durably and all at once."""
        from safetensors.numpy import save

        about = {"about": json.dumps({"facts": dict(found.facts), "warnings": list(found.warnings)})}
        arrays = {name: np.ascontiguousarray(array) for name, array in found.arrays.items()}
        self._path(key).parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._path(key), save(arrays, about))

    def read(self, key: str) -> Found:
        """Return what a piece came to.

        Raises
        ------
        ValueError
            If its file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        path = self._path(key)
        if not path.is_file():
            with h5py.File(self.folder / RDM_FILE, "r") as file:
                return Found({"rdm": np.asarray(file[_KEYS][key][()])})
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads(file.metadata()["about"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
            return Found(arrays, about["facts"], about["warnings"])
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}). Remove it, and give the same command again.") from error

    def forget(self, keys: Iterable[str]) -> None:
        """Remove the files of pieces that are kept elsewhere."""
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def clear_staging(self) -> None:
        """Remove what killed processes left; only for who holds the analysis' lock."""
        if (self.folder / "pieces").is_dir():
            remove_staging(self.folder / "pieces")

    def _path(self, key: str) -> Path:
        return self.folder / "pieces" / f"{key}.safetensors"

    @cached_property
    def _in_rdm_file(self) -> frozenset[str]:
        """Keys of the matrices in the file of RDMs; a file that somebody else wrote, or damaged, has none."""
        try:
            with h5py.File(self.folder / RDM_FILE, "r") as file:
                return frozenset(file[_KEYS])
        except (OSError, KeyError):
            return frozenset()
