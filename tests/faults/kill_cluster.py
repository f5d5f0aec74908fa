"""Kill a worker, the scheduler or the client of a comparison at a random time, and run the command again.

    python tests/faults/kill_cluster.py --kills 20

Every comparison runs on a scheduler and two workers in processes of their own. It must survive the loss of a worker.
After the scheduler or the client is killed, the same command on another cluster must complete. All files, including
figures and report, must equal those of an undisturbed comparison byte for byte (``rdm.h5`` in its arrays), and no
result that was stored before the kill may be computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from analysis import train_run
from analysis.config.recording import RecordingConfig
from repsim.learning import TrainingConfig

VICTIMS = ("worker", "scheduler", "client")
TRAINING = TrainingConfig(data="digits", depth=4, width=16, epochs=2, batch_size=64)
RECORDING = RecordingConfig(steps="first,last", n_train=200, n_validation=60, n_test=100)
MOST_SECONDS = 180


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=list(VICTIMS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = kill_comparisons(
            Path(folder), arguments.kills, random.Random(arguments.seed), tuple(arguments.victims)
        )
    print(figures)
    raise SystemExit(bool(figures.unfinished or figures.differing or figures.done_again))


@dataclass
class Figures:
    """Counts of events, and descriptions of violated guarantees."""

    kills: Counter[str] = field(default_factory=Counter)
    too_late: int = 0  # the comparison was done before the victim died
    kept: int = 0  # results that were stored when the victim died
    unfinished: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    done_again: list[str] = field(default_factory=list)


def kill_comparisons(folder: Path, n_kills: int, rng: random.Random, victims: tuple[str, ...] = VICTIMS) -> Figures:
    """Disturb ``n_kills`` comparisons, and compare each with an undisturbed one."""
    runs = []
    for rule in ("backprop", "synthetic-gradient"):
        runs.append(folder / rule)
        train_run(runs[-1], TrainingConfig(**{**TRAINING.to_dict(), "rule": rule}), RECORDING)
    undisturbed = folder / "undisturbed"
    with cluster(folder / "cluster") as (address, _):
        started = time.monotonic()
        code, said = _finish(start(runs, undisturbed, address))
        if code != 0:
            raise RuntimeError(f"the undisturbed comparison failed: {said}")
        duration = time.monotonic() - started
    figures = Figures()
    for number in range(n_kills):
        victim = victims[number % len(victims)]
        _disturb(folder / f"disturbed-{number}", runs, victim, rng.uniform(0, duration), figures)
        figures.differing += [f"{number} ({victim}): {name}" for name in differences(undisturbed, folder, number)]
        shutil.rmtree(folder / f"disturbed-{number}")
        print(f"{number + 1}: {victim}; so far {figures}", flush=True)
    return figures


def _disturb(place: Path, runs: list[Path], victim: str, delay: float, figures: Figures) -> None:
    with cluster(place.parent / f"cluster-{place.name}") as (address, processes):
        client = start(runs, place, address)
        processes["client"] = client
        time.sleep(delay)
        figures.too_late += client.poll() is not None
        processes[victim].kill()
        figures.kills[victim] += 1
        code, said = _finish(client)
    if victim == "worker" and code != 0:
        figures.unfinished.append(f"{place.name}: a lost worker stopped it: {said}")
    whole = {path: path.stat().st_mtime_ns for path in (place / "out" / "cache").glob("*.safetensors")}
    figures.kept += len(whole)
    with cluster(place.parent / f"again-{place.name}") as (address, _):
        code, said = _finish(start(runs, place, address))
    if code != 0:
        figures.unfinished.append(f"{place.name}: {said}")
    changed = [path.name for path, when in whole.items() if path.is_file() and path.stat().st_mtime_ns != when]
    figures.done_again += [f"{place.name}: {name}" for name in changed]


def start(runs: list[Path], place: Path, address: str) -> subprocess.Popen[str]:
    """Start the comparison in a folder of its own; only the address differs between command lines."""
    place.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "analysis", "compare", *map(str, runs), "--steps", "all", "--output", "out"]
    return subprocess.Popen(
        [*command, "--scheduler", address, "--quiet"],
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(client: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        _, said = client.communicate(timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        client.kill()
        client.communicate()
        return -1, f"it was not done after {MOST_SECONDS} s"
    return client.returncode, said.strip()


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, dict[str, subprocess.Popen[str]]]]:
    """Start a scheduler and two workers, and end those that still run after the block."""
    folder.mkdir()
    contact = folder / "scheduler.json"
    module = [sys.executable, "-m"]
    scheduler = [*module, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = [*module, "distributed.cli.dask_worker", "--scheduler-file", str(contact), "--nthreads", "1", "--no-nanny"]
    options = {"cwd": folder, "stderr": subprocess.DEVNULL, "text": True, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    processes = {"scheduler": subprocess.Popen([*scheduler, "--scheduler-file", str(contact)], **options)}
    try:
        deadline = time.monotonic() + 60
        while not contact.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        for name in ("worker", "other worker"):
            processes[name] = subprocess.Popen([*worker, "--no-dashboard"], **options)
        yield json.loads(contact.read_text())["address"], processes
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def differences(undisturbed: Path, folder: Path, number: int) -> list[str]:
    """Return the files that differ between a disturbed comparison and the undisturbed one."""
    found = folder / f"disturbed-{number}" / "out"
    expected = undisturbed / "out"
    names = {_inside(expected, path) for path in _files(expected)}
    wrong = sorted(names ^ {_inside(found, path) for path in _files(found)})
    for name in sorted(names - set(wrong)):
        equal = _equal_arrays if name == "rdm.h5" else _equal_bytes
        wrong += [] if equal(expected / name, found / name) else [name]
    return wrong


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("lock"))


def _inside(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder))


def _equal_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _equal_arrays(one: Path, other: Path) -> bool:
    with h5py.File(one) as first, h5py.File(other) as second:
        names: list[str] = []
        first.visit(names.append)
        return all(
            name in second and (not isinstance(first[name], h5py.Dataset) or _equal(first[name], second[name]))
            for name in names
        )


def _equal(one: h5py.Dataset, other: h5py.Dataset) -> bool:
    return bool(np.array_equal(one[()], other[()]))


if __name__ == "__main__":
    main()
