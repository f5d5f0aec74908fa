"""A run directory: settings, log and status of a training, and its committed steps."""

from __future__ import annotations

import glob
import hashlib
import json
import operator
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex

from checkpoints.checkpoint import NO_WEIGHTS, Checkpoint
from checkpoints.errors import Damaged
from checkpoints.html_tables import abbreviated, run_as_html
from checkpoints.lineage import ancestors, copy_steps
from checkpoints.metadata import new_info, now, read_info, sealed
from checkpoints.stimuli import Stimuli
from checkpoints.storage.commit import STAGING_PREFIX, remove_staging, replace_file, staged_directory, write_file
from checkpoints.storage.hdf5_files.activation_file import LayerValues, write_activations
from checkpoints.storage.hdf5_files.even_blocks import even_blocks
from checkpoints.storage.lock import Lock, Locked, is_locked
from checkpoints.storage.log import Log, finite, read_log
from checkpoints.storage.manifest import checked_json, encode_json, write_json, write_manifest
from checkpoints.storage.regular_files import check_folder, read_bytes, sha256
from checkpoints.verification import verify_run

if TYPE_CHECKING:
    import torch
    from torch import nn

    from checkpoints.capture.capture import Capture

__all__ = ["Run"]

_STEP_PREFIX = "step_"
_ABANDONED = 60  # seconds after which an unlocked staging directory may be removed


class GradientSource(Protocol):
    """What ``Run.checkpoint`` records gradients with, such as a ``Capture`` with the side "gradient"."""

    @property
    def model(self) -> nn.Module:
        """The network, or a module that contains it."""

    @property
    def side(self) -> str:
        """``"gradient"``."""

    def blocks(self, inputs: Any, labels: Any) -> Iterator[Mapping[str, LayerValues]]:
        """Yield the gradients of consecutive blocks of stimuli, by layer."""


class Run:
    """A run directory. ``Run.open`` reads; ``Run.create`` and ``Run.resume`` also write, and hold the run's lock.

    Examples
    --------
    Record any model in any training loop::

        stimuli = Stimuli.of(ids, labels, split, inputs)
        capture = Capture(model, ["block.*"])
        with Run.create("runs/mine", {"lr": 0.1}, stimuli) as run:
            for step, batch in enumerate(batches):
                ...
                run.checkpoint(step, model, optimizer, capture=capture)
    """

    def __init__(self, path: Path, info: dict[str, Any], lock: Lock | None, inputs: Stimuli | None) -> None:
        """Use ``create``, ``open`` or ``resume`` instead."""
        self.path = path
        self.info = info
        self._lock = lock
        self._log = Log(path / "metrics.jsonl", lock.confirm) if lock is not None else None
        self._given_stimuli = inputs

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any], stimuli: Stimuli) -> Run:
        """Create a run directory, completely or not at all, and hold its lock.

        Parameters
        ----------
        path : path
            Must not exist; missing parents are created.
        config : mapping
            JSON-ready settings.
        stimuli : Stimuli
            Must have inputs.

        Raises
        ------
        FileExistsError
            If ``path`` exists.
        NotADirectoryError
            If a parent of ``path`` is a file.
        TypeError, ValueError
            If the config cannot be written as JSON, or holds NaN or infinity.
        """
        return cls._create(Path(path), new_info(_as_read(config)), stimuli)

    @classmethod
    def fork(cls, path: str | Path, source: Run, step: int, config: Mapping[str, Any], stimuli: Stimuli) -> Run:
        """Create a run directory that continues another run from one of its steps, and hold its lock.

        The committed steps of the source up to ``step``, and its log up to there, are copied byte for byte after every
        file has been compared with its hash. ``ancestors`` in ``run.json`` names the source. Otherwise as ``create``.

        Parameters
        ----------
        path : path
            Must not exist; missing parents are created.
        source : Run
            Is not changed.
        step : int
            A committed step of the source, with weights and optimizer.
        config : mapping
            JSON-ready settings.
        stimuli : Stimuli
            Those of the source, with inputs.

        Raises
        ------
        ValueError
            If the step is not committed, holds no weights or no optimizer, or was itself copied from another run; or if
            these are not the stimuli of the source.
        Locked
            If the source is being written.
        Damaged
            If a file of the source differs from its hash.
        FileExistsError, NotADirectoryError, TypeError
            As for ``create``.
        """
        source.check_forkable(step)
        source.stimuli.with_inputs(stimuli)
        shared = [source[each] for each in source.steps if each <= step]
        verify_run(source.path, shared, "size")  # copying compares hashes
        lineage = [*ancestors(source.path, source.info), {"uuid": source.info["uuid"], "step": step}]
        info = {**new_info(_as_read(config)), "ancestors": lineage}
        log = read_bytes(source.path / "metrics.jsonl")[: shared[-1].state["metrics"]["size"]]
        return cls._create(Path(path), info, stimuli, log, lambda folder: copy_steps(shared, folder))

    def check_forkable(self, step: int) -> None:
        """Raise an error unless ``fork`` can continue this run from a step; no file is compared with its hash."""
        if step not in self.steps:
            steps = abbreviated(self.steps) if self.steps else "(none)"
            raise ValueError(f"Step {step} is not among the committed steps {steps} of {self.path}.")
        if (own := ancestors(self.path, self.info)) and step <= own[-1]["step"]:
            raise ValueError(
                f"Step {step} of {self.path} was copied from the run that it was forked from at step "
                f"{own[-1]['step']}. Fork that run, or choose a later step."
            )
        if not self[step].has_weights or self[step].state.get("optimizer") is None:
            raise ValueError(f"Step {step} of {self.path} holds no weights or no optimizer, which training needs.")
        if is_locked(self.path / "run.lock"):
            raise Locked(f"{self.path} is being written. Fork it once its training has ended or been stopped.")

    @classmethod
    def _create(
        cls,
        path: Path,
        info: dict[str, Any],
        stimuli: Stimuli,
        log: bytes = b"",
        fill: Callable[[Path], object] = lambda checkpoints: None,
    ) -> Run:
        """Create a run directory with a log, and with the steps that ``fill`` writes into a folder."""
        _make_parents(path)
        _remove_abandoned(path)
        lock = None
        try:
            with staged_directory(path) as staging:
                lock = Lock(staging / "run.lock")  # stays with the file when the directory is renamed
                stimuli.write(staging / "stimuli.h5")
                write_file(staging / "metrics.jsonl", log)
                info["stimuli_sha256"] = sha256(staging / "stimuli.h5")
                info["metrics"] = {"size": len(log), "sha256": hashlib.sha256(log).hexdigest()}
                write_json(staging / "run.json", sealed(info))
                (staging / "checkpoints").mkdir()
                fill(staging / "checkpoints")
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        lock.moved_to(path / "run.lock")
        return cls(path, sealed(info), lock, stimuli)

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
            hint = " Patterns are not expanded here; use glob.glob." if glob.has_magic(str(path)) else ""
            raise FileNotFoundError(f"There is no run at {path}.{hint}")
        if not (path / "run.json").is_file():
            runs = sorted(child.parent.name for child in path.glob("*/run.json"))
            held = f" It holds {len(runs)} runs; name one of them, such as {path / runs[0]}." if runs else ""
            raise FileNotFoundError(f"{path} is not a run directory: it has no run.json.{held}")
        return cls(path, read_info(path), None, None)

    @classmethod
    def resume(cls, path: str | Path, stimuli: Stimuli) -> Run:
        """Open a run directory to continue it, hold its lock, and remove unfinished writes of a crashed process.

        Raises
        ------
        Locked
            If another process is writing the run.
        ValueError
            If the run records other stimuli.
        """
        run = cls.open(path)
        run._given_stimuli = Stimuli.read(run.path / "stimuli.h5").with_inputs(stimuli)
        run._lock = Lock(run.path / "run.lock")
        try:
            check_folder(run.path / "checkpoints")  # otherwise files outside of the run might be removed
            remove_staging(run.path)
            remove_staging(run.path / "checkpoints")
            run._log = Log(run.path / "metrics.jsonl", run._lock.confirm)
            run.info = read_info(run.path)
        except BaseException:
            run.close()
            raise
        return run

    def __repr__(self) -> str:
        """Return the class and the path."""
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Return state, steps, layers and settings as HTML, for a notebook."""
        values = {
            "state": lambda: self.status.get("state"),
            "steps": lambda: abbreviated(self.steps),
            "recorded steps": lambda: abbreviated(self.recorded_steps),
            "stimuli": lambda: len(self.stimuli),
        }
        return run_as_html(self.path, values, self._last_as_html, self.config)

    def _last_as_html(self) -> str:
        last = self.last()
        return f"Step {last.step}: {last.activations._repr_html_()}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the path, which another process opens for reading."""
        if self._lock is not None:
            raise TypeError(
                f"{self!r} is open for writing, which only one process can do. Send Run.open({str(self.path)!r})."
            )
        return Run.open, (self.path.absolute(),)

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
            self._lock = self._log = None

    @property
    def taken_over_from(self) -> str | None:
        """The process that held the lock before and ended without releasing it, or None."""
        return None if self._lock is None else self._lock.taken_over_from

    @property
    def config(self) -> dict[str, Any]:
        """The settings given at creation."""
        return dict(self.info["config"])

    @property
    def status(self) -> dict[str, Any]:
        """``state`` (created, running, finished, interrupted, diverged) and its details.

        The state is ``stopped`` if the run is marked as running but no process holds its lock.
        """
        # The lock comes first, because a writer sets its last status before it releases the lock.
        held = is_locked(self.path / "run.lock")
        status = dict(read_info(self.path)["status"])
        if status.get("state") == "running" and not held:
            status["state"] = "stopped"
        return status

    def set_status(self, state: str, **details: Any) -> None:
        """Replace the status in ``run.json``; non-finite numbers become null."""
        status = {"state": state, "time": now(), **finite(details)}
        self._replace_info(status=status, metrics=self._writable().sync())

    def _replace_info(self, **changes: Any) -> None:
        info = sealed({**self.info, **changes})
        replace_file(self.path / "run.json", encode_json(info), self._confirm)
        self.info = info

    @cached_property
    def stimuli(self) -> Stimuli:
        """The stimulus set, with its inputs if this process created or resumed the run."""
        return self._given_stimuli or Stimuli.read(self.path / "stimuli.h5")

    @property
    def steps(self) -> list[int]:
        """Numbers of the committed steps, ascending."""
        folder = self.path / "checkpoints"
        if folder.is_symlink():
            raise Damaged(f"{folder} is a link; links are not followed.")
        entries = folder.glob(f"{_STEP_PREFIX}*")
        digits = [entry.name.removeprefix(_STEP_PREFIX) for entry in entries]
        numbers = {int(text) for text in digits if text.isascii() and text.isdigit()}
        return sorted(step for step in numbers if self._step_path(step).is_dir())

    @property
    def recorded_steps(self) -> list[int]:
        """Numbers of the committed steps with activations, ascending."""
        return [step for step in self.steps if "activations.h5" in Checkpoint(self._step_path(step), step).manifest]

    def __getitem__(self, step: int) -> Checkpoint:
        """Return a committed step; a KeyError lists the committed steps."""
        if (self.path / "checkpoints").is_symlink() or not self._exists(step):
            committed = ", ".join(map(str, self.steps)) or "none"
            raise KeyError(f"{self.path} has no checkpoint of step {step}; committed are: {committed}.")
        check_folder(self._step_path(step))
        return Checkpoint(self._step_path(step), step)

    def last(self) -> Checkpoint:
        """Return the last step with activations.

        Raises
        ------
        FileNotFoundError
            If no step has activations.
        """
        recorded = self.recorded_steps
        if not recorded:
            raise FileNotFoundError(f"{self.path} has no checkpoint with activations yet.")
        return self[recorded[-1]]

    def checkpoint(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
        *,
        capture: Capture | None = None,
        gradients: GradientSource | None = None,
        weights: str | None = "all",
        extra: Mapping[str, Any] | None = None,
        compress: bool = False,
    ) -> Checkpoint:
        """Commit weights, optimizer and generator state and, if asked for, activations and gradients of the stimuli.

        When this returns, the complete step is on disk; if it raises, the step is absent. The weights are encoded
        before the capture runs, so they are the weights that the activations were computed with.

        Parameters
        ----------
        step : int
            0 or more.
        model : nn.Module
            Wrappers of ``torch.compile`` and of data-parallel training are removed before its weights are saved.
        optimizer : torch.optim.Optimizer or sequence of them, optional
        capture : Capture, optional
            Runs its own model on the run's stimuli; activations are written as they are computed.
        gradients : Capture, optional
            With the side "gradient": runs likewise, on the stimuli and their labels.
        weights : "all" or None, default "all"
            None records activations without weights, for networks whose weights cannot or need not be stored. Such a
            step cannot be restored.
        extra : mapping, optional
            JSON-ready values, stored in ``state.json``.
        compress : bool, default False
            Whether to compress the activations with gzip.

        Raises
        ------
        FileExistsError
            If the step is committed already.
        PermissionError
            If the run was opened for reading only.
        TypeError, ValueError
            If the step is not a whole number of 0 or more; if a capture is of another model, or ``capture`` records
            gradients and ``gradients`` does not; if neither weights nor a capture are given; or if weights or optimizer
            state cannot be stored exactly (the message names the entry).
        """
        log = self._writable()
        step = _whole(step, "Step")
        self._check_request(step, model, capture, gradients, weights)
        from checkpoints.training_state.state_files import encode_training  # here, because reading needs no torch

        extra = checked_json(dict(extra or {}), "extra")
        files, state = encode_training(model, optimizer, with_weights=weights is not None)
        with staged_directory(self._step_path(step), self._confirm) as staging:
            for name, content in files.items():
                write_file(staging / name, content)
            state = {"step": step, **state, "metrics": log.sync(), "extra": extra}  # the log is durable before the step
            write_json(staging / "state.json", state)
            recorded: dict[str, Iterable[Mapping[str, LayerValues]]] = {}
            if capture is not None:
                captured = capture.blocks(self.stimuli.inputs, mask=self.stimuli.mask)
                recorded["activations.h5"] = captured if self.stimuli.mask is None else even_blocks(captured)
            if gradients is not None:
                recorded["gradients.h5"] = gradients.blocks(self.stimuli.inputs, self.stimuli.labels)
            header = self._header(step, files.get("weights.safetensors")) if recorded else {}
            for name, blocks in recorded.items():
                write_activations(staging / name, blocks, self.stimuli.ids, header, compress=compress)
            write_manifest(staging)
        return Checkpoint(self._step_path(step), step)

    def _check_request(
        self,
        step: int,
        model: nn.Module,
        capture: Capture | None,
        gradients: GradientSource | None,
        weights: str | None,
    ) -> None:
        """Raise ValueError if ``checkpoint`` is called with arguments that cannot be saved."""
        if step < 0:
            raise ValueError(f"Step is {step}; expected 0 or more.")
        if weights not in ("all", None):
            raise ValueError(f"Unknown weights {weights!r}. Choose 'all' or None.")
        if weights is None and capture is None:
            raise ValueError("There is nothing to save: give a capture to record, or save the weights (weights='all').")
        if capture is not None and capture.side == "gradient":
            raise ValueError("The capture records gradients; give it as gradients, beside a capture of activations.")
        if gradients is not None and gradients.side != "gradient":
            raise ValueError(f"gradients records the side '{gradients.side}'; expected a capture with side 'gradient'.")
        if gradients is not None and self.stimuli.mask is not None:
            raise ValueError(
                "Gradients have one row per stimulus, and the rows of this run are tokens; leave them out."
            )
        recorded = [each.model for each in (capture, gradients) if each is not None]
        if any(all(module is not each for module in model.modules()) for each in recorded):
            raise ValueError(
                "The capture records another model than the one whose weights are saved. Make a Capture of this model, "
                "or of a part of it."
            )
        if recorded and self.stimuli.inputs is None:
            raise ValueError("The stimuli of this run have no inputs; give Stimuli with inputs when creating it.")

    def _header(self, step: int, weights: bytes | None) -> dict[str, str | int]:
        return {
            "run_uuid": self.info["uuid"],
            "step": step,
            "stimulus_hash": self.stimuli.content_hash,
            "weights_hash": NO_WEIGHTS if weights is None else hashlib.sha256(weights).hexdigest(),
        }

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one object to ``metrics.jsonl``; non-finite numbers become null, scalar arrays plain numbers.

        Raises
        ------
        TypeError
            If the record has no whole number ``step``, or a value cannot be written as JSON.
        """
        log = self._writable()
        plain = finite({**record, "step": _whole(record.get("step"), "The step of a metric")})
        log.append(json.dumps(plain, allow_nan=False).encode())

    def metrics(self) -> list[dict[str, Any]]:
        """Return the logged objects; a torn last line is ignored.

        Raises
        ------
        Damaged
            If any other line is not a JSON object.
        """
        return read_log(self.path / "metrics.jsonl")

    def cut_metrics(self, step: int) -> None:
        """Remove the log from the first line of a later step on, so that a resumed run logs each step once.

        Lines that were logged before the last step was committed are never removed.

        Raises
        ------
        ValueError
            If a later step is committed, because its log must be preserved.
        """
        log = self._writable()
        if (steps := self.steps) and steps[-1] > step:
            raise ValueError(
                f"{self.path} has a checkpoint of step {steps[-1]}; move it out of the run before the log is cut at "
                f"step {step}."
            )
        lines = log.upto(step, self[steps[-1]].state["metrics"]["size"] if steps else 0)
        self._replace_info(metrics={"size": len(lines), "sha256": hashlib.sha256(lines).hexdigest()})
        log.replace(lines)

    def verify(self, level: str = "sha256") -> list[int]:
        """Compare every committed step with its manifest, and return the steps.

        Parameters
        ----------
        level : str, default "sha256"
            "size" compares file sizes only, "sha256" every byte.

        Raises
        ------
        Damaged
            If a file differs from its manifest; the message names the first.
        """
        steps = self.steps  # steps committed meanwhile are left to the next call
        verify_run(self.path, (self[step] for step in steps), level)
        return steps

    def _step_path(self, step: int) -> Path:
        return self.path / "checkpoints" / f"{_STEP_PREFIX}{step:08d}"

    def _exists(self, step: Any) -> bool:
        return isinstance(step, SupportsIndex) and self._step_path(operator.index(step)).is_dir()

    def _confirm(self) -> None:
        """Raise Locked if another process has taken the run over."""
        if self._lock is not None:
            self._lock.confirm()

    def _writable(self) -> Log:
        if self._log is None:
            raise PermissionError(f"{self.path} was opened for reading; use Run.create or Run.resume to write.")
        return self._log


def _as_read(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of settings that equals what a reader gets."""
    return dict(json.loads(encode_json(dict(config))))


def _whole(number: Any, name: str) -> int:
    if isinstance(number, bool) or not isinstance(number, SupportsIndex):
        raise TypeError(f"{name} is {number!r}; expected a whole number.")
    return operator.index(number)


def _make_parents(path: Path) -> None:
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise NotADirectoryError(f"{parent} is a file; {path} cannot be made inside it.")
    path.parent.mkdir(parents=True, exist_ok=True)


def _remove_abandoned(path: Path) -> None:
    """Remove staging directories of processes that died while they created this run."""
    for left in path.parent.glob(f"{STAGING_PREFIX}{glob.escape(path.name)}-*"):
        old = time.time() - left.lstat().st_mtime > _ABANDONED
        if old and left.is_dir() and not left.is_symlink() and not is_locked(left / "run.lock"):
            shutil.rmtree(left, ignore_errors=True)
