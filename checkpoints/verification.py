"""Verification of a run: comparison of every committed file with its manifest, and with the run itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.activations import Activations
from checkpoints.checkpoint import NO_WEIGHTS, Checkpoint
from checkpoints.errors import Damaged
from checkpoints.lineage import recorded_by
from checkpoints.metadata import checked_info
from checkpoints.stimuli import Stimuli
from checkpoints.storage.log import check_prefixes, read_log
from checkpoints.storage.regular_files import sha256

__all__ = ["verify_run"]

_ATTEMPTS = 5


def verify_run(path: Path, checkpoints: Iterable[Checkpoint], level: str) -> None:
    """Compare a run's own files and its committed steps with their hashes, and with each other; see ``Run.verify``."""
    info = checked_info(path)
    stimuli_path = path / "stimuli.h5"
    if sha256(stimuli_path) != info.get("stimuli_sha256"):
        raise Damaged(f"{stimuli_path} has changed since the run was created (SHA-256 differs).")
    stimuli = Stimuli.read(stimuli_path)
    read_log(path / "metrics.jsonl")
    prefixes = []
    for checkpoint in checkpoints:
        checkpoint.verify(level)
        prefixes.append((f"step {checkpoint.step}", checkpoint.state.get("metrics")))
        run_uuid = recorded_by(path, info, checkpoint.step)
        if "activations.h5" in checkpoint.manifest:
            _check_origin(run_uuid, checkpoint, checkpoint.activations, stimuli)
        if "gradients.h5" in checkpoint.manifest:
            _check_origin(run_uuid, checkpoint, checkpoint.gradients, stimuli)
            _check_sides(checkpoint.gradients)
    _check_log(path, info, prefixes)


def _check_log(path: Path, info: dict[str, Any], prefixes: list[tuple[str, Any]]) -> None:
    """Compare the log with its state at each commit; try again if a writer changes both meanwhile."""
    for _ in range(_ATTEMPTS):
        try:
            return check_prefixes(path / "metrics.jsonl", [("the status", info.get("metrics")), *prefixes])
        except Damaged:
            latest = checked_info(path)
            if latest == info:
                raise
            info = latest
    return check_prefixes(path / "metrics.jsonl", [("the status", info.get("metrics")), *prefixes])


def _check_sides(gradients: Activations) -> None:
    """Raise Damaged if activations stand in the place of gradients."""
    if any(layer.side != "gradient" for layer in gradients.values()):
        raise Damaged(f"{gradients.path} holds other tensors than gradients.")


def _check_origin(run_uuid: str, checkpoint: Checkpoint, activations: Activations, stimuli: Stimuli) -> None:
    """Raise Damaged unless activations, or gradients, state this run, step, weights and stimuli as their origin."""
    expected = {
        "run_uuid": run_uuid,
        "step": checkpoint.step,
        "stimulus_hash": stimuli.content_hash,
        "weights_hash": checkpoint.manifest.get("weights.safetensors", {}).get("sha256", NO_WEIGHTS),
    }
    stated = activations.header
    if wrong := [name for name, value in expected.items() if stated[name] != value]:
        raise Damaged(f"{activations.path} was recorded elsewhere: its {wrong[0]} differs from this run's.")
    if not np.array_equal(activations.stimulus_ids, stimuli.ids):
        raise Damaged(f"{activations.path} and stimuli.h5 hold different stimuli.")
    activations.check()
