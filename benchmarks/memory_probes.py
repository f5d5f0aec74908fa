"""A probe of 60,000 stimuli x 4,096 units, ten classes, from a recorded run (0.98 GB in single precision).

Records the run, then probes its layer in a process of its own, whose peak memory is printed (target: 1.5 GB, packages
included). ``--stimuli`` and ``--units`` scale it down.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from checkpoints import Capture, Run, Stimuli

FEATURES, CLASSES = 64, 10
MEMORY = 1500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stimuli", type=int, default=60_000)
    parser.add_argument("--units", type=int, default=4096)
    parser.add_argument("--folder", default=None, help="where to write; the system's temporary folder by default")
    parser.add_argument("--probe", metavar="RUN", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        _probe(Path(arguments.probe))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder, "run")
        size = _record(path, arguments.stimuli, arguments.units)
        command = [sys.executable, __file__, "--probe", str(path)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(
        f"{arguments.stimuli} x {arguments.units} ({size / 1e9:.2f} GB): peak memory {found['peak']:.0f} MB, of which "
        f"{found['before']:.0f} MB before probing (target {MEMORY}); {found['seconds']:.0f} s, {found['n_iter']} "
        f"iterations over all C, relative gap {found['relative_gap']:.1e}, C = {found['C']:g}, test accuracy "
        f"{found['accuracy']:.3f}, {found['status']}"
    )
    raise SystemExit(int(found["peak"] > MEMORY or not found["converged"]))


def _record(path: Path, n: int, units: int) -> int:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(FEATURES, units), nn.ReLU())
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=n)
    inputs = rng.normal(size=(CLASSES, FEATURES))[labels] + 2.0 * rng.normal(size=(n, FEATURES))
    split = np.where(rng.random(n) < 0.8, "train", np.where(rng.random(n) < 0.5, "validation", "test"))
    stimuli = Stimuli.of([f"{i:08d}" for i in range(n)], labels, split, inputs.astype(np.float32))
    with Run.create(path, {}, stimuli) as run:
        checkpoint = run.checkpoint(0, network, capture=Capture(network, ["1"]))
        return (checkpoint.path / "activations.h5").stat().st_size


def _probe(path: Path) -> None:
    from probes import ProbeConfig, probe_layers

    run = Run.open(path)
    before, started = _peak(), time.perf_counter()
    row = probe_layers(run.last().activations, run.stimuli, config=ProbeConfig(Cs=(0.001, 0.01))).iloc[0]
    columns = ("n_iter", "relative_gap", "converged", "C", "accuracy", "status")
    found = {name: row[name].item() if hasattr(row[name], "item") else row[name] for name in columns}
    print(json.dumps({"peak": _peak(), "before": before, "seconds": time.perf_counter() - started, **found}))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
