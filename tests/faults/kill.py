"""Kill a recording training run at random times until it has finished, and compare it with an undisturbed one.

    python tests/faults/kill.py --kills 500

After each kill, every step that ``Run.checkpoint`` had acknowledged must verify; at the end, every file must be that of
the uninterrupted run, bit for bit (``activations.h5``, which names its run, in its arrays).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from injection import forked

from analysis import resume_run, train_run
from analysis.config.recording import RecordingConfig
from checkpoints import Checkpoint, Damaged, Run
from checkpoints.storage.lock import Lock
from repsim.learning import TrainingConfig

TRAINING = TrainingConfig(data="digits", depth=3, width=16, epochs=10, rule="synthetic-gradient")
RECORDING = RecordingConfig(steps="first,every:3,last", n_train=60, n_validation=20, n_test=20)
RUN_FILES = {"run.json", "run.lock", "metrics.jsonl", "stimuli.h5", "checkpoints"}
LEASE = "run.lease-"
COMPARED = ("weights.safetensors", "optimizer.safetensors", "state.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=60, help="begin no further run after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default=None, help="where to write; the system's temporary folder by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        figures = kill_runs(Path(folder), arguments.kills, arguments.minutes, random.Random(arguments.seed))
    print(figures)
    raise SystemExit(bool(figures.lost or figures.differing or figures.unfinished))


@dataclass
class Figures:
    """Counts of events, and descriptions of violated guarantees."""

    kills: int = 0
    while_creating: int = 0
    acknowledged: int = 0
    unacknowledged: int = 0  # committed, but killed before it could say so
    runs: int = 0
    lost: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    seconds: float = 0

    def __str__(self) -> str:
        """Return one line a figure, and what is wrong below it."""
        lines = [
            f"{self.kills} kills, {self.while_creating} of them before the run was there",
            f"{self.acknowledged} acknowledged steps, {self.unacknowledged} committed just before a kill",
            f"{len(self.lost)} lost or damaged (target 0)",
            f"{self.runs} runs finished and compared, {len(self.differing)} differing files (target 0)",
            f"{len(self.unfinished)} processes that ended by themselves with an error (target 0)",
            f"{self.seconds:.0f} s",
        ]
        return "\n".join(lines + self.lost + self.differing + self.unfinished)


def kill_runs(folder: Path, kills: int, minutes: float, dice: random.Random) -> Figures:
    """Run after run, each killed until it finishes, until there were so many kills or the time is over."""
    figures, started = Figures(), time.monotonic()
    train_run(folder / "first", TRAINING, RECORDING)  # imports what is imported late, once for all processes
    whole = folder / "whole"
    began = time.monotonic()
    if os.waitpid(forked(lambda: train_run(whole, TRAINING, RECORDING)), 0)[1]:
        raise SystemExit("The uninterrupted run failed.")
    longest = (time.monotonic() - began) / 3  # so that most runs are killed several times
    while figures.kills < kills and not figures.unfinished and time.monotonic() - started < 60 * minutes:
        killed = folder / f"killed-{figures.runs}"
        _kill_until_finished(killed, figures, dice, longest, Run.open(whole).steps)
        figures.differing += _differences(killed, whole)
        figures.runs += 1
        shutil.rmtree(killed, ignore_errors=True)
    figures.seconds = time.monotonic() - started
    return figures


def _kill_until_finished(path: Path, figures: Figures, dice: random.Random, longest: float, planned: list[int]) -> None:
    known: set[int] = set()
    while True:
        acknowledged, status = _until_killed(path, dice.uniform(0, longest))
        figures.acknowledged += len(acknowledged)
        known |= acknowledged
        present = _present(path, known, figures)
        figures.unacknowledged += len(present - known)
        known |= present
        if not present <= set(planned):
            figures.lost.append(f"{path} has steps that nobody asked for: {sorted(present - set(planned))}")
        if status != signal.SIGKILL:
            if status:
                figures.unfinished.append(f"{path} ended with status {status}")
            return
        figures.kills += 1
        figures.while_creating += not path.exists()


def _until_killed(path: Path, seconds: float) -> tuple[set[int], int]:
    """Start or resume the run in a process and kill it after some time; return what it acknowledged and its status."""
    reading, writing = os.pipe()
    child = forked(lambda: _train_and_tell(path, writing))
    os.close(writing)
    deadline = time.monotonic() + seconds
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(min(0.002, max(0, deadline - time.monotonic())))
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    with os.fdopen(reading) as said:
        return {int(line) for line in said if line.endswith("\n")}, ended[1]


def _train_and_tell(path: Path, writing: int) -> None:
    with _telling(lambda step: os.write(writing, f"{step}\n".encode())):
        if path.exists():
            resume_run(path)
        else:
            train_run(path, TRAINING, RECORDING)


class _telling:
    """Say which step was acknowledged the moment that ``Run.checkpoint`` returns."""

    def __init__(self, tell: Callable[[int], object]) -> None:
        self._tell, self._real = tell, Run.checkpoint

    def __enter__(self) -> None:
        real, tell = self._real, self._tell

        def checkpoint(run: Run, step: int, *arguments: Any, **options: Any) -> Checkpoint:
            committed = real(run, step, *arguments, **options)
            tell(step)
            return committed

        Run.checkpoint = checkpoint  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        Run.checkpoint = self._real  # type: ignore[method-assign]


def _present(path: Path, known: set[int], figures: Figures) -> set[int]:
    """Return the steps on disk, all of which must verify; note missing steps and unexpected files as lost."""
    if not path.exists():
        figures.lost += [f"{path} is gone with step {step}" for step in sorted(known)]
        return set()
    try:
        present = set(Run.open(path).verify("sha256"))
    except (Damaged, OSError) as error:
        figures.lost.append(f"{path} does not verify: {error}")
        return set()
    figures.lost += [f"step {step} of {path} is lost" for step in sorted(known - present)]
    figures.lost += [f"{other} should not be there" for other in _strangers(path)]
    return present


def _strangers(path: Path) -> Iterator[Path]:
    """Yield files other than those of a run and those that resuming removes."""
    for entry in path.iterdir():
        if entry.name not in RUN_FILES and not entry.name.startswith((".tmp-", LEASE)):
            yield entry
    for entry in (path / "checkpoints").iterdir():
        if not entry.name.startswith(("step_", ".tmp-step_")):
            yield entry


def _differences(path: Path, whole: Path) -> list[str]:
    """Return the files that differ between a finished run and the uninterrupted one."""
    if not path.exists():
        return [f"{path} is absent"]
    run, reference = Run.open(path), Run.open(whole)
    # A process that is killed between its last word and its end leaves its lease: the next writer replaces it at once.
    Lock(path / "run.lock").release()
    left_over = [*path.rglob(".tmp-*"), *path.glob(f"{LEASE}*")]
    found = [f"{path}/{left.relative_to(path)} was left" for left in left_over]
    if run.status["state"] != "finished" or run.steps != reference.steps:
        found.append(f"{path} is {run.status['state']} with steps {run.steps}")
    if (path / "metrics.jsonl").read_bytes() != (whole / "metrics.jsonl").read_bytes():
        found.append(f"{path}/metrics.jsonl")
    for step in set(run.steps) & set(reference.steps):
        one, other = run[step], reference[step]
        names = [name for name in COMPARED if (one.path / name).read_bytes() != (other.path / name).read_bytes()]
        names += [] if _same_activations(one, other) else ["activations.h5"]
        found += [str(one.path / name) for name in names]
    return found


def _same_activations(one: Checkpoint, other: Checkpoint) -> bool:
    if not (other.path / "activations.h5").exists():
        return not (one.path / "activations.h5").exists()
    return list(one.activations) == list(other.activations) and all(
        np.array_equal(layer[:].view(np.uint32), other[name][:].view(np.uint32))
        for name, layer in one.activations.items()
    )


if __name__ == "__main__":
    main()
