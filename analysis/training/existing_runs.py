"""Runs that exist already: refused, continued if their settings are the same, or replaced."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from analysis.config.existing import EXISTS, advice, describe_differences
from analysis.config.recording import RecordingConfig
from checkpoints import Damaged, Run
from checkpoints.storage.commit import STAGING_PREFIX
from checkpoints.storage.lock import Lock, Locked, is_locked
from checkpoints.storage.manifest import read_json
from checkpoints.storage.regular_files import is_system_file
from repsim.learning import TrainingConfig
from repsim.learning.checks import check_choice

__all__ = ["check_not_read", "existing_run", "remove_replaced"]

_OWN = ("run.json", "run.lock", "metrics.jsonl", "stimuli.h5")
_OWN_PREFIXES = ("run.lease-", STAGING_PREFIX, ".part-analysis-")


def existing_run(path: str | Path, exists: str, made_with: Mapping[str, Any]) -> Run | None:
    """Return the run that is to be continued at a path, or None if a new one is to be created there.

    Nothing is written or removed. Before ``Run.create``, call ``remove_replaced``.

    Parameters
    ----------
    path : path
        Where the run is to be.
    exists : {"error", "resume", "replace"}
        What is done if the path exists.
    made_with : mapping
        Entries of the run's ``config`` that must be equal for it to be continued. Of nested mappings, settings that
        the run does not state, because an older version made it, are not compared.

    Raises
    ------
    FileExistsError
        If the path exists and ``exists`` is "error"; with "replace", if it is not a run directory or holds files
        that are not of the run.
    ValueError
        If ``exists`` is unknown; or, with "resume", if the run was made with other settings.
    Locked
        If the run is to be replaced and a process is writing or analyzing it.
    """
    check_choice("exists", exists, EXISTS)
    path = Path(path)
    if not path.exists() and not path.is_symlink():
        return None
    if exists == "error":
        raise FileExistsError(f"{path} exists already. {advice('another name', 'resume', 'replace')}")
    if exists == "replace":
        _check_replaceable(path)
        return None
    run = Run.open(path)
    if differences := describe_differences(made_with, _with_later_settings(run.config)):
        raise ValueError(f"{path} was made with other settings ({differences}). {advice('another name', 'replace')}")
    return run


def _with_later_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a run with the settings that it leaves out because they have their defaults."""
    later = {"training": TrainingConfig.later_defaults(), "recording": RecordingConfig.later_defaults()}
    return {name: later[name] | value if name in later else value for name, value in config.items()}


def check_not_read(path: str | Path, exists: str, sources: Iterable[str | Path]) -> None:
    """Raise ValueError if a run is to be replaced that is, or holds, something that its replacement is made from."""
    place = Path(path).resolve()
    for source in sources if exists == "replace" else ():
        if Path(source).resolve().is_relative_to(place):
            raise ValueError(f"{path} is not replaced, because {source} is read for the new run. Choose another name.")


def remove_replaced(path: str | Path, exists: str) -> None:
    """Remove the run at a path if ``exists`` is "replace" and there is one; raise as ``existing_run`` if it may not."""
    path = Path(path)
    if exists != "replace" or not path.exists():
        return
    _check_replaceable(path)
    lock = Lock(path / "run.lock")
    try:
        aside = path.with_name(f"{STAGING_PREFIX}{path.name}-{uuid.uuid4().hex}")  # removed later if this process dies
        path.rename(aside)
        lock.moved_to(aside / "run.lock")
    finally:
        lock.release()
    shutil.rmtree(aside)


def _check_replaceable(path: Path) -> None:
    """Raise unless a path is a run directory without files of others that no process is writing."""
    if path.is_symlink() or not (path / "run.json").is_file():
        raise FileExistsError(f"{path} is not a run directory, so it is not replaced. Choose another name.")
    Run.open(path)
    if is_locked(path / "run.lock") or is_locked(path / "analysis" / "cache" / "lock"):
        raise Locked(f"{path} is being written or analyzed by a process, so it is not replaced. Stop that first.")
    foreign = next(_foreign_files(path), None)
    if foreign is not None:
        raise FileExistsError(
            f"{path} holds {foreign.relative_to(path)}, which is no file of the run, or was changed since, so that the "
            "run is not replaced. Move that file away, or choose another name."
        )


def _foreign_files(path: Path) -> Iterator[Path]:
    """Yield the files and folders in a run directory that neither the run nor its analysis has written."""
    for entry in sorted(path.iterdir()):
        is_own = entry.name in _OWN or entry.name.startswith(_OWN_PREFIXES) or is_system_file(entry.name)
        if entry.is_symlink():
            yield entry
        elif entry.name == "checkpoints" and entry.is_dir():
            yield from _foreign_in_steps(entry)
        elif entry.name == "analysis" and entry.is_dir():
            yield from _foreign_in_analysis(entry)
        elif not is_own:
            yield entry


def _foreign_in_steps(checkpoints: Path) -> Iterator[Path]:
    for step in sorted(checkpoints.iterdir()):
        if step.name.startswith(STAGING_PREFIX) or is_system_file(step.name):
            continue
        if step.is_symlink() or not (step / "MANIFEST.json").is_file():
            yield step
            continue
        own = {"MANIFEST.json", *_names(step / "MANIFEST.json")}
        yield from (each for each in sorted(step.iterdir()) if each.name not in own and not is_system_file(each.name))


def _foreign_in_analysis(folder: Path) -> Iterator[Path]:
    """Yield what is in the folder of an analysis without being listed in its ``analysis.json`` at its size."""
    sizes = _names(folder / "analysis.json")
    for file in sorted(each for each in folder.rglob("*") if each.is_symlink() or not each.is_dir()):
        name = file.relative_to(folder)
        is_listed = not file.is_symlink() and sizes.get(name.as_posix()) == file.stat().st_size
        if not (is_listed or name.parts[0] in ("cache", "analysis.json") or is_system_file(file.name)):
            yield file


def _names(path: Path) -> dict[str, Any]:
    """Return the entry ``files`` of a JSON file, or nothing if it cannot be read."""
    try:
        return dict(read_json(path)["files"])
    except (Damaged, ValueError, KeyError, TypeError):
        return {}
