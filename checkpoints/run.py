"""A run directory: what was trained, how, and what was recorded on the way."""

from __future__ import annotations

import hashlib
import json
import math
import operator
import os
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from checkpoints.activations import encode_activations
from checkpoints.capture import Capture
from checkpoints.checkpoint import Checkpoint
from checkpoints.commit import append_line, remove_staging, replace_file, staged_directory, sync, write_file
from checkpoints.environment import environment
from checkpoints.errors import Damaged
from checkpoints.lock import Lock, is_locked
from checkpoints.manifest import encode_json, read_json, sha256, write_json, write_manifest
from checkpoints.state import pack, rng_state
from checkpoints.stimuli import Stimuli

__all__ = ["Run"]

FORMAT, FORMAT_VERSION = "repsim-run", 1
_STEP_PREFIX = "step_"


class Run:
    """A run directory. ``Run.open`` reads; ``Run.create`` and ``Run.resume`` also write and hold the run's lock.

    Examples
    --------
    Record any model in any training loop::

        stimuli = Stimuli.of(ids, labels, split, inputs)
        with Run.create("runs/mine", {"lr": 0.1}, stimuli) as run, Capture(model, ["block.*"]) as capture:
            for step, batch in enumerate(batches):
                ...
                run.checkpoint(step, model, optimizer, capture=capture)
    """

    def __init__(self, path: Path, info: dict[str, Any], lock: Lock | None, inputs: Stimuli | None) -> None:
        """Use ``create``, ``open`` or ``resume`` instead."""
        self.path = path
        self.info = info
        self._lock = lock
        self._given_stimuli = inputs

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any], stimuli: Stimuli) -> Run:
        """Make a new run directory, whole or not at all, and hold its lock.

        Parameters
        ----------
        path : path
            Must not exist; parents are made.
        config : mapping
            JSON-ready settings.
        stimuli : Stimuli
            With inputs.

        Raises
        ------
        FileExistsError
            If something stands at ``path``.
        NotADirectoryError
            If a parent of ``path`` is a file.
        TypeError, ValueError
            If the config is not JSON, or holds NaN or infinity.
        """
        path = Path(path)
        settings = json.loads(encode_json(dict(config)))  # a copy, as a reader will see it
        encoded_stimuli = stimuli.encode()
        info = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "uuid": str(uuid.uuid4()),
            "created": _now(),
            "config": settings,
            "config_hash": _config_hash(settings),
            "stimuli_sha256": hashlib.sha256(encoded_stimuli).hexdigest(),
            "environment": environment(),
            "status": {"state": "created"},
        }
        _make_parents(path)
        lock = None
        try:
            with staged_directory(path) as staging:
                lock = Lock(staging / "run.lock")  # it goes with the file when the directory is renamed
                write_json(staging / "run.json", info)
                write_file(staging / "stimuli.h5", encoded_stimuli)
                write_file(staging / "metrics.jsonl", b"")
                (staging / "checkpoints").mkdir()
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return cls(path, info, lock, stimuli)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run directory for reading.

        Raises
        ------
        FileNotFoundError, NotADirectoryError
            If there is no run directory at ``path``.
        Damaged
            If its ``run.json`` cannot be read or is of another format.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"{path} is a file; expected the directory of a run.")
        if not path.is_dir():
            raise FileNotFoundError(f"There is no run at {path}.")
        if not (path / "run.json").is_file():
            raise FileNotFoundError(f"{path} is not a run directory: it has no run.json.")
        return cls(path, _read_info(path), None, None)

    @classmethod
    def resume(cls, path: str | Path, stimuli: Stimuli) -> Run:
        """Open a run directory to continue it, hold its lock and remove what a crashed writer left half done.

        Raises
        ------
        Locked
            If another process writes it.
        ValueError
            If the stimuli are not those that the run records.
        """
        run = cls.open(path)
        run._given_stimuli = Stimuli.read(run.path / "stimuli.h5").with_inputs(stimuli)
        run._lock = Lock(run.path / "run.lock")
        try:
            remove_staging(run.path)
            remove_staging(run.path / "checkpoints")
            _cut_torn_line(run.path / "metrics.jsonl")
            run.info = _read_info(run.path)
        except BaseException:
            run.close()
            raise
        return run

    def __enter__(self) -> Run:
        """Return the run."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self.close()

    def close(self) -> None:
        """Release the lock, if held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def config(self) -> dict[str, Any]:
        """The settings given at creation."""
        return dict(self.info["config"])

    @property
    def status(self) -> dict[str, Any]:
        """``state`` (created, running, finished, interrupted, diverged) and what belongs to it.

        A run that says it is running while nobody holds its lock is reported as ``stopped``.
        """
        # The lock is looked at first: a writer says how it ended before it lets go.
        held = is_locked(self.path / "run.lock")
        status = dict(_read_info(self.path)["status"])
        if status.get("state") == "running" and not held:
            status["state"] = "stopped"
        return status

    def set_status(self, state: str, **details: Any) -> None:
        """Replace the status in ``run.json``; non-finite numbers become null."""
        self._require_lock()
        info = {**self.info, "status": {"state": state, "time": _now(), **_finite(details)}}
        replace_file(self.path / "run.json", encode_json(info))
        self.info = info

    @cached_property
    def stimuli(self) -> Stimuli:
        """The stimulus set, with its inputs if this process created or resumed the run."""
        return self._given_stimuli or Stimuli.read(self.path / "stimuli.h5")

    @property
    def steps(self) -> list[int]:
        """Committed steps, ascending."""
        folder = self.path / "checkpoints"
        entries = folder.glob(f"{_STEP_PREFIX}*")
        digits = [entry.name.removeprefix(_STEP_PREFIX) for entry in entries]
        numbers = {int(text) for text in digits if text.isascii() and text.isdigit()}
        return sorted(step for step in numbers if self._step_path(step).is_dir())

    @property
    def recorded_steps(self) -> list[int]:
        """Committed steps that hold activations, ascending."""
        return [step for step in self.steps if (self._step_path(step) / "activations.h5").is_file()]

    def __getitem__(self, step: int) -> Checkpoint:
        """Return a committed step; a KeyError lists those there are."""
        if step not in self.steps:
            committed = ", ".join(map(str, self.steps)) or "none"
            raise KeyError(f"{self.path} has no checkpoint of step {step}; committed are: {committed}.")
        return Checkpoint(self._step_path(step), step)

    def last(self) -> Checkpoint:
        """Return the last step that holds activations.

        Raises
        ------
        FileNotFoundError
            If none does.
        """
        recorded = self.recorded_steps
        if not recorded:
            raise FileNotFoundError(f"{self.path} has no checkpoint with activations yet.")
        return self[recorded[-1]]

    def checkpoint(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        capture: Capture | None = None,
        extra: Mapping[str, Any] | None = None,
        compress: bool = False,
    ) -> Checkpoint:
        """Commit weights, optimizer, generator state and, with ``capture``, activations of the stimuli.

        When this returns, the step is on disk whole; if it raises, the step is absent.

        Parameters
        ----------
        step : int
            0 or more.
        model : nn.Module
        optimizer : torch.optim.Optimizer, optional
        capture : Capture, optional
            Entered; it runs its own model on the run's stimuli.
        extra : mapping, optional
            JSON-ready values kept in ``state.json``.
        compress : bool, default False
            Gzip the activations.

        Raises
        ------
        FileExistsError
            If the step is committed already.
        PermissionError
            If the run was opened for reading only.
        TypeError, ValueError
            If the step is not a whole number of 0 or more, or the state cannot be written as JSON and tensors.
        """
        self._require_lock()
        step = operator.index(step)
        if step < 0:
            raise ValueError(f"Step is {step}; expected 0 or more.")
        sync(self.path / "metrics.jsonl")  # a step never outlives the log that led to it
        weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
        tensors, skeleton = pack(optimizer.state_dict() if optimizer is not None else None)
        with staged_directory(self._step_path(step)) as staging:
            encoded_weights = safetensors.torch.save(weights)
            write_file(staging / "weights.safetensors", encoded_weights)
            write_file(staging / "optimizer.safetensors", safetensors.torch.save(tensors))
            state = {"step": step, "optimizer": skeleton, "rng": rng_state(), "extra": dict(extra or {})}
            write_json(staging / "state.json", state)
            if capture is not None:
                content = self._encode_activations(step, capture, encoded_weights, compress)
                write_file(staging / "activations.h5", content)
            write_manifest(staging)
        return self[step]

    def _encode_activations(self, step: int, capture: Capture, weights: bytes, compress: bool) -> bytes:
        if self.stimuli.inputs is None:
            raise ValueError("This run has no stimulus inputs at hand; give Stimuli with inputs when creating it.")
        header: dict[str, str | int] = {
            "run_uuid": self.info["uuid"],
            "step": step,
            "stimulus_hash": self.stimuli.content_hash,
            "weights_hash": hashlib.sha256(weights).hexdigest(),
        }
        return encode_activations(capture.record(self.stimuli.inputs), self.stimuli.ids, header, compress=compress)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one object to ``metrics.jsonl``; non-finite numbers become null.

        Raises
        ------
        ValueError
            If it has no whole number ``step``, by which a resumed run knows what to log anew.
        """
        self._require_lock()
        if not isinstance(record.get("step"), int):
            raise ValueError(f"A metric has step {record.get('step')!r}; expected a whole number.")
        line = json.dumps(_finite(dict(record)), allow_nan=False)
        append_line(self.path / "metrics.jsonl", line.encode())

    def metrics(self) -> list[dict[str, Any]]:
        """Return the logged objects; a torn last line is ignored.

        Raises
        ------
        Damaged
            If any other line is not a JSON object.
        """
        path = self.path / "metrics.jsonl"
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        return [_parse_metric(path, number, line) for number, line in enumerate(lines[:-1], start=1)]

    def cut_metrics(self, step: int) -> None:
        """Drop what was logged after ``step`` (and a torn last line), so that a resumed run logs it once."""
        self._require_lock()
        kept = [record for record in self.metrics() if record.get("step", 0) <= step]
        content = "".join(json.dumps(record) + "\n" for record in kept)
        replace_file(self.path / "metrics.jsonl", content.encode())

    def verify(self, level: str = "sha256") -> list[int]:
        """Compare every committed step with its manifest and return the steps.

        Parameters
        ----------
        level : str, default "sha256"
            Or "size".

        Raises
        ------
        Damaged
            For the first difference found; the message names the file.
        """
        info = _read_info(self.path)
        if _config_hash(info["config"]) != info.get("config_hash"):
            raise Damaged(f"{self.path / 'run.json'} has a config that differs from its hash.")
        stimuli_path = self.path / "stimuli.h5"
        stored = Stimuli.read(stimuli_path)
        if sha256(stimuli_path) != info.get("stimuli_sha256"):
            raise Damaged(f"{stimuli_path} has changed since the run was created (SHA-256 differs).")
        self.metrics()
        for step in self.steps:
            checkpoint = self[step]
            checkpoint.verify(level)
            if step in self.recorded_steps:
                self._check_origin(checkpoint, stored)
        return self.steps

    def _check_origin(self, checkpoint: Checkpoint, stimuli: Stimuli) -> None:
        """Raise unless the activations say that they are of this run, step, weights and stimuli."""
        expected = {
            "run_uuid": self.info["uuid"],
            "step": checkpoint.step,
            "stimulus_hash": stimuli.content_hash,
            "weights_hash": sha256(checkpoint.path / "weights.safetensors"),
        }
        found = checkpoint.activations.header
        if wrong := [name for name, value in expected.items() if found[name] != value]:
            raise Damaged(f"{checkpoint.activations.path} was recorded elsewhere: its {wrong[0]} is not this run's.")
        if not _equal(checkpoint.activations.stimulus_ids, stimuli.ids):
            raise Damaged(f"{checkpoint.activations.path} records other stimuli than stimuli.h5 lists.")

    def _step_path(self, step: int) -> Path:
        return self.path / "checkpoints" / f"{_STEP_PREFIX}{step:08d}"

    def _require_lock(self) -> None:
        if self._lock is None:
            raise PermissionError(f"{self.path} was opened for reading; use Run.create or Run.resume to write.")


def _read_info(path: Path) -> dict[str, Any]:
    info = read_json(path / "run.json")
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise Damaged(f"{path / 'run.json'} is not of the format '{FORMAT}'.")
    if info.get("format_version") != FORMAT_VERSION:
        found = info.get("format_version")
        raise Damaged(f"{path} has format version {found}; this version of repsim reads {FORMAT_VERSION}.")
    for key, kind in {"uuid": str, "created": str, "config": dict, "environment": dict, "status": dict}.items():
        if not isinstance(info.get(key), kind):
            raise Damaged(f"{path / 'run.json'} has no {key}.")
    return info


def _config_hash(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _make_parents(path: Path) -> None:
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise NotADirectoryError(f"{parent} is a file; {path} cannot be made inside it.")
    path.parent.mkdir(parents=True, exist_ok=True)


def _parse_metric(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise Damaged(f"Line {number} of {path} is not a JSON object.")
    return record


def _cut_torn_line(path: Path) -> None:
    if path.is_file():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _equal(ids: Any, others: Any) -> bool:
    return len(ids) == len(others) and bool((ids == others).all())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
