"""What a piece of an analysis costs, against the number of stimuli and units: seconds on one core, and peak memory.

Prints the tables of docs/scaling.md. Each line is measured in a process of its own, on one run (two for similarity) of
eight layers with random activations of ten classes.
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
from torch import Tensor, nn

from analysis.comparison.analysis_plan import plan_tasks
from analysis.comparison.tasks import AnalysisCache
from analysis.comparison.view import views_of_runs
from analysis.config.analysis import AnalysisConfig
from analysis.execution import one_thread
from checkpoints import Capture, Run, Stimuli

SIZES = [(1000, 64), (1000, 256), (1000, 1024), (4000, 64), (4000, 256)]
FEATURES, N_LAYERS = 64, 8


class Random(nn.Module):
    """Layers that mix their input, each with weights of its own."""

    def __init__(self, seed: int, width: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.hidden = nn.ModuleDict({str(k): nn.Linear(FEATURES, width) for k in range(1, N_LAYERS + 1)})

    def forward(self, X: Tensor) -> Tensor:
        """Show every layer the input."""
        for layer in self.hidden.values():
            torch.tanh(layer(X))
        return X


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, type=int, metavar=("N", "D"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(*arguments.one)))
        return
    kinds: list[str] = []
    for n, d in SIZES:
        command = [sys.executable, __file__, "--one", str(n), str(d)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        if not kinds:
            kinds = list(found["seconds"])
            print(f"| stimuli | units | {' | '.join(kinds)} | MB |\n|{'---|' * (len(kinds) + 3)}")
        cells = [f"{found['seconds'][kind]:.3f}" for kind in kinds]
        print(f"| {n} | {d} | {' | '.join(cells)} | {found['megabytes']:.0f} |", flush=True)


def measured(n: int, d: int) -> dict[str, object]:
    """Return seconds a layer, or a pair of layers, of each kind of task, and the peak of memory."""
    with tempfile.TemporaryDirectory() as folder, one_thread():
        paths = [_record(Path(folder, f"run-{seed}"), seed, n, d) for seed in range(2)]
        config = AnalysisConfig(measures=("cka", "procrustes"))
        spent: dict[str, list[float]] = {}
        for task in plan_tasks(views_of_runs(paths), config, AnalysisCache(Path(folder, "analysis"))):
            started = time.perf_counter()
            task.run()
            seconds = time.perf_counter() - started
            n_layers = [len(source.layers) for source in task.inputs["sources"]]
            each = n_layers[0] * n_layers[-1] if task.name == "similarity" else n_layers[0]
            name = task.inputs["measure"] if task.name == "similarity" else task.name.replace("_", " ")
            spent.setdefault(name, []).append(seconds / each)
    # the first of a kind also waits for imports
    seconds = {kind: float(np.median(values[1:] or values)) for kind, values in spent.items()}
    return {"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _record(path: Path, seed: int, n: int, d: int) -> Path:
    """Record n held-out stimuli, and as many for training and a quarter for validation."""
    rng = np.random.default_rng(0)
    total = 2 * n + n // 4
    labels = np.arange(total) % 10
    inputs = (rng.normal(size=(10, FEATURES))[labels] + 3 * rng.normal(size=(total, FEATURES))).astype(np.float32)
    split = np.repeat(["train", "validation", "test"], [n, n // 4, n])
    stimuli = Stimuli.of([f"s{i:06d}" for i in range(total)], labels, split, inputs)
    model = Random(seed, d)
    with Run.create(path, {"seed": seed}, stimuli) as made:
        made.checkpoint(0, model, capture=Capture(model, ["hidden.*"]))
    return path


if __name__ == "__main__":
    main()
