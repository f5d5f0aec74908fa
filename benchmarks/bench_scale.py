"""Analyses of 40 runs x 20 layers beside their limits, and the cluster that does them.

Activations are random. The 40 runs have 900 stimuli, of which 300 are held out, and 64 units a layer. Of a cluster's
workers, each with one thread, two are timed against one at the tasks (probes, RDMs, CKA, Procrustes) of a comparison
of three networks of 128 units with the usual 3,500 stimuli, once all have imported what they need. The client is
measured while it hands out 10,000 tasks that do nothing, and a worker while it probes and compares two networks of four
layers of 20,000 units (each 144 MB in double precision).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from harness import Ratio
from torch import Tensor, nn

from analysis.comparison.analysis_plan import plan_tasks
from analysis.comparison.tasks import AnalysisCache
from analysis.comparison.view import views_of_runs
from analysis.config.analysis import AnalysisConfig
from analysis.config.execution import ExecutionConfig
from analysis.execution import Task
from analysis.execution.dask import DaskExecutor
from analysis.execution.serial import SerialExecutor
from checkpoints import Capture, Run, Stimuli

N_RUNS, N_LAYERS, WIDTH = 40, 20, 64
MOST_SECONDS, MOST_CLIENT, MOST_WORKER = 2.0, 500.0, 1000.0  # s, MB, MB
N_TASKS = 10_000
PAIRS = 3  # of runs with one worker and with two


class Random(nn.Module):
    """Layers that mix their input, each with weights of its own."""

    def __init__(self, seed: int, n_layers: int, width: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.hidden = nn.ModuleDict({str(k): nn.Linear(WIDTH, width) for k in range(1, n_layers + 1)})

    def forward(self, X: Tensor) -> Tensor:
        """Show every layer the input, and noise of its own."""
        for layer in self.hidden.values():
            torch.tanh(layer(X))
        return X


def run() -> list[Ratio]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [record(folder / f"run-{seed:02d}", seed) for seed in range(N_RUNS)]
        usual = [record(folder / f"usual-{seed}", seed, width=128, split=(2000, 500, 1000)) for seed in range(3)]
        return [again(paths), *two_workers(folder, usual), client(), worker(folder)]


def record(
    path: Path,
    seed: int,
    n_layers: int = N_LAYERS,
    width: int = WIDTH,
    split: tuple[int, int, int] = (450, 150, 300),
) -> Path:
    """Record a random network on random images of ten classes."""
    rng = np.random.default_rng(0)  # the same stimuli for all
    labels = np.arange(sum(split)) % 10
    inputs = (rng.normal(size=(10, WIDTH))[labels] + 3 * rng.normal(size=(len(labels), WIDTH))).astype(np.float32)
    parts = np.repeat(["train", "validation", "test"], split)
    stimuli = Stimuli.of([f"s{i:04d}" for i in range(len(labels))], labels, parts, inputs)
    model = Random(seed, n_layers, width)
    with Run.create(path, {"seed": seed}, stimuli) as made:
        made.checkpoint(0, model, capture=Capture(model, ["hidden.*"]))
    return path


def again(paths: list[Path]) -> Ratio:
    """Analyse all runs, then once more with nothing changed: the whole command, from the shell."""
    command = [sys.executable, "-m", "analysis", "analyze", *map(str, paths), "--steps", "last", "--quiet"]
    seconds = [_timed(command) for _ in range(4)]
    print(f"first {seconds[0]:.0f} s, again {', '.join(f'{each:.2f}' for each in seconds[1:])} s", file=sys.stderr)
    return Ratio(
        f"analyze of {N_RUNS} runs, nothing changed",
        f"{MOST_SECONDS:g} s",
        [each / MOST_SECONDS for each in seconds[1:]],
        "<= 1",
    )


def _timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def two_workers(folder: Path, paths: list[Path]) -> list[Ratio]:
    """Run the tasks of a comparison with one worker and with two, in turn."""
    views, config = views_of_runs(paths), AnalysisConfig(measures=("cka", "procrustes"))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(PAIRS):
        for n_workers in (1, 2) if repeat % 2 == 0 else (2, 1):
            target = folder / f"comparison-{repeat}-{n_workers}"
            with cluster(folder, n_workers) as address:
                executor = DaskExecutor(ExecutionConfig(scheduler=address))
                tasks = list(plan_tasks(views, config, AnalysisCache(target)))
                started = time.perf_counter()
                _do(executor, tasks)
                seconds[n_workers].append(time.perf_counter() - started)
    print(f"one worker {seconds[1]}, two {seconds[2]} s", file=sys.stderr)
    values = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return [Ratio("one worker of one thread", "two of them", values, ">= 1.7")]


def _do(executor: DaskExecutor | SerialExecutor, tasks: list[Task]) -> None:
    for task, error in executor.completed(tasks):
        if error is not None:
            raise RuntimeError(task.key) from error


@contextmanager
def cluster(folder: Path, n_workers: int) -> Iterator[str]:
    """Start a scheduler and workers in processes of their own, and end them."""
    contact = folder / "scheduler.json"
    contact.unlink(missing_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    options = {"cwd": folder, "env": environment, "stderr": subprocess.DEVNULL}
    module = [sys.executable, "-m"]
    scheduler = [*module, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = [*module, "distributed.cli.dask_worker", "--scheduler-file", str(contact), "--nthreads", "1", "--no-nanny"]
    processes = [subprocess.Popen([*scheduler, "--scheduler-file", str(contact)], **options)]
    try:
        deadline = time.monotonic() + 60
        while not contact.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        processes += [subprocess.Popen([*worker, "--no-dashboard"], **options) for _ in range(n_workers)]
        address = json.loads(contact.read_text())["address"]
        _wait_for(address, n_workers)
        yield address
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _wait_for(address: str, n_workers: int) -> None:
    import distributed

    with distributed.Client(address) as client:
        client.wait_for_workers(n_workers, timeout=60)
        client.run(
            exec, "import analysis.comparison.tasks.compute, probes.table.layer_table"
        )  # which takes each some seconds, once


def client() -> Ratio:
    """Measure by how much a process grows that hands out tasks which do nothing."""
    found = json.loads(_output([sys.executable, __file__, "--client"]))
    print(f"{N_TASKS} tasks in {found['seconds']:.1f} s, {found['megabytes']:.0f} MB more", file=sys.stderr)
    return Ratio(f"growth of a client of {N_TASKS:,} tasks", "500 MB", [found["megabytes"] / MOST_CLIENT], "<= 1")


def worker(folder: Path) -> Ratio:
    """Measure the peak memory of a process that runs the tasks of two wide networks."""
    paths = [record(folder / f"wide-{seed}", seed, n_layers=4, width=20_000) for seed in range(2)]
    peak = float(_output([sys.executable, __file__, "--worker", str(folder / "wide"), *map(str, paths)]))
    print(f"peak of a worker {peak:.0f} MB", file=sys.stderr)
    return Ratio("peak memory of a worker, layers of 20,000 units", f"{MOST_WORKER:g} MB", [peak / MOST_WORKER], "<= 1")


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def idle(*, number: int) -> None:
    """Do nothing."""


def _hand_out() -> None:
    module = __import__("bench_scale")  # by a name under which workers can import it
    before, started = _peak(), time.perf_counter()
    tasks = [Task("idle", module.idle, {"number": i}) for i in range(N_TASKS)]
    for _, error in DaskExecutor(ExecutionConfig(jobs=2)).completed(tasks):
        assert error is None
    print(json.dumps({"seconds": time.perf_counter() - started, "megabytes": _peak() - before}))


def _work(target: Path, paths: list[Path]) -> None:
    _do(
        SerialExecutor(ExecutionConfig()),
        list(plan_tasks(views_of_runs(paths), AnalysisConfig(), AnalysisCache(target))),
    )
    print(_peak())


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        _hand_out()
    elif sys.argv[1:2] == ["--worker"]:
        _work(Path(sys.argv[2]), [Path(path) for path in sys.argv[3:]])
    else:
        for line in run():
            print(f"{line.work} / {line.against}: {line.median:.3g} (target {line.target})")
