"""Folders of results whose files are replaced only when the new ones are complete."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["check_folder", "refreshed", "remove_stale", "remove_unfinished"]


def check_folder(target: Path) -> None:
    """Check that results can be written to a folder, which need not exist."""
    for path in (target, *target.parents):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"{path} is a file; the results need a folder. Choose another with --output.")
    if (target / "run.json").exists():
        raise FileExistsError(f"{target} is a run; choose another folder with --output.")


@contextmanager
def refreshed(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside the target; if the block succeeds, move its files, one by one, into the target.

    Files of the same name there are replaced, others left alone.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
    try:
        yield staging
        _move(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def remove_stale(target: Path, written: Mapping[str, int], *, kept: Container[str]) -> None:
    """Remove the files that were written to a folder, given by name and size, except those that are kept.

    A file whose size has changed is somebody else's by now, and stays, as do links and files outside of the folder.
    """
    for name, size in written.items():
        path = target / name
        is_inside = path.parent.resolve().is_relative_to(target.resolve())
        is_own = is_inside and not path.is_symlink() and path.is_file() and path.stat().st_size == size
        if name not in kept and is_own:
            path.unlink()


def remove_unfinished(target: Path) -> None:
    """Remove the folders that ``refreshed`` left beside the target when its process was killed."""
    for left in target.parent.glob(f"{glob.escape(_prefix(target))}*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)


def _prefix(target: Path) -> str:
    return f".part-{target.name}-"


def _move(staging: Path, target: Path) -> None:
    for folder, _, names in os.walk(staging):
        destination = target / Path(folder).relative_to(staging)
        destination.mkdir(parents=True, exist_ok=True)
        for name in names:
            Path(folder, name).replace(destination / name)
