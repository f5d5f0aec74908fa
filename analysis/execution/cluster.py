"""Clusters in the queue of a computing center, described in a TOML file."""

from __future__ import annotations

import gc
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.config.toml_files import read_toml

__all__ = ["cluster_of", "read_cluster_file"]


def cluster_of(path: Path, say: Callable[[str], None]) -> Any:
    """Start the cluster that a TOML file describes.

    Parameters
    ----------
    path : Path
        A file with the table ``[cluster]``: ``kind`` is a class of dask-jobqueue, such as ``"SLURMCluster"`` or
        ``"LocalCluster"`` (its jobs run on this machine); ``jobs`` is the number of jobs to submit; all other settings
        are passed to the class (``queue``, ``cores``, ``processes``, ``memory``, ``walltime``, ...).
        Every task uses one thread, so ``cores`` and ``processes`` must be equal; both are 1 by default.
    say : callable
        Called with a message when the jobs are submitted.

    Returns
    -------
    dask_jobqueue.JobQueueCluster
        A context manager.
    """
    kind, jobs, settings = read_cluster_file(path)
    usual = {"cores": 1, "processes": 1, "scheduler_options": {"dashboard_address": "127.0.0.1:0"}}
    said = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of a cluster that was half made
        try:
            cluster = _kinds()[kind](**{**usual, **settings})
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
        if said:
            gc.collect()
            raise ValueError(f"{path}: {kind} cannot be started with these settings ({said}).")
    cluster.scale(jobs=jobs)
    say(f"{jobs} jobs were asked for by {kind}; work begins with the first that starts.")
    return cluster


def read_cluster_file(path: Path) -> tuple[str, int, dict[str, Any]]:
    """Return the kind of the cluster that a file describes, its number of jobs, and its other settings."""
    settings, kinds = _settings(path), _kinds()
    kind, jobs = settings.pop("kind", None), settings.pop("jobs", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"{path}: kind is {kind!r}. Choose one of: {', '.join(sorted(kinds))}.")
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise ValueError(f"{path}: jobs is {jobs!r}; expected the number of jobs, such as jobs = 20.")
    cores, processes = settings.get("cores", 1), settings.get("processes", 1)
    if cores != processes:
        raise ValueError(
            f"{path}: cores are {cores!r} and processes {processes!r}; expected equal numbers, because a task has "
            "one thread."
        )
    submit = str(getattr(kinds[kind].job_cls, "submit_command", "") or "")
    if submit and shutil.which(submit.split()[0]) is None:
        raise ValueError(
            f"{path}: {kind} needs the command {submit.split()[0]}, which was not found. Give the command on a "
            "machine that can submit jobs."
        )
    return kind, jobs, settings


def _settings(path: Path) -> dict[str, Any]:
    tables = read_toml(path)
    if set(tables) != {"cluster"} or not isinstance(tables["cluster"], dict):
        raise ValueError(f"{path} has {', '.join(tables) or 'nothing'}; expected one table, [cluster].")
    return dict(tables["cluster"])


def _kinds() -> dict[str, Any]:
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue  # which lets Ctrl-C end the process without a word
        from dask_jobqueue.local import LocalCluster
    except ImportError:
        raise ValueError(
            "A cluster in a queue needs the package dask-jobqueue, which is not installed: "
            "pip install 'repsim-sg[cluster]'."
        ) from None
    finally:
        if signal.getsignal(signal.SIGINT) is not on_interrupt:
            signal.signal(signal.SIGINT, on_interrupt)
    kinds = {name: getattr(dask_jobqueue, name) for name in dir(dask_jobqueue) if name.endswith("Cluster")}
    kinds.pop("JobQueueCluster", None)  # what they have in common
    return {**kinds, "LocalCluster": LocalCluster}
