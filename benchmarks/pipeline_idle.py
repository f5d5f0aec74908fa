"""How long the stages of a pipeline wait for one another: backprop, synthetic gradients, and synthetic inputs too.

``python benchmarks/pipeline_idle.py`` prints two tables: for each stage the share of its time that it waits for a
message, the seconds from the common start, and how many times faster that is than the same training in one process.

1. The schedule alone: eight segments that sleep 5 ms on the way up and 10 ms on the way down, and compute next to
   nothing, so that neither the number of processors nor other programs matter. One process would take 9.6 s.
2. Computing: 8 x 512 with batch norm on mnist5k, batches of 256, one processor thread a stage; medians of three. If
   there are more stages than free processors they wait for a processor too, which counts as busy.
"""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import nn

from repsim.learning import TrainingConfig, build_learner, build_optimizer, load_dataset, split_dataset, train
from repsim.learning.decoupled.pipeline import PipelineResult, train_pipeline

REPEATS = 3
CUTS = {"2 stages": (4,), "4 stages": (2, 4, 6)}
RULES = ("backprop", "synthetic-gradient", "synthetic-gradient + synthetic-input")

HEADER = """
| stages | rule | idle, from the input up | seconds | speed-up against one process | last loss |
|---|---|---|---|---|---|"""
UP, DOWN, SLEEPS = 0.005, 0.010, 80


class Sleeping(nn.Module):
    """A segment that takes its time without a processor."""

    def __init__(self, segment: nn.Module) -> None:
        super().__init__()
        self.segment = segment

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Sleep, and let the gradient sleep on its way back."""
        time.sleep(UP)
        h = self.segment(X)
        h.register_hook(lambda gradient: time.sleep(DOWN))
        return h


def main() -> None:
    torch.set_num_threads(1)
    print("The schedule alone", HEADER, sep="\n")
    for name, cuts in CUTS.items():
        for rule in RULES:
            _print(name, rule, [_sleep(rule, cuts)])
    dataset = load_dataset("mnist5k")
    rows = split_dataset(dataset, 0)["train"]
    X, y = torch.from_numpy(dataset.X[rows]), torch.from_numpy(dataset.y[rows])
    print("\nComputing", HEADER, sep="\n")
    for name, cuts in CUTS.items():
        for rule in RULES:
            boundaries = ",".join(map(str, cuts))
            config = TrainingConfig(depth=8, width=512, rule=rule, boundaries=boundaries, epochs=2, batch_size=256)
            _print(name, rule, [_run(config, X, y, cuts) for _ in range(REPEATS)])


def _print(name: str, rule: str, runs: list[tuple[PipelineResult, float]]) -> None:
    idle = [median(shares) for shares in zip(*([s.idle_fraction for s in run.stages] for run, _ in runs), strict=True)]
    seconds, speed_up = (median(run.seconds for run, _ in runs), median(alone / run.seconds for run, alone in runs))
    last = median(sum(step.loss for step in run.steps[-13:]) / 13 for run, _ in runs)
    shares = ", ".join(f"{share:.2f}" for share in idle)
    print(f"| {name} | {rule} | {shares} | {seconds:.1f} | {speed_up:.2f} | {last:.3f} |", flush=True)


def _sleep(rule: str, cuts: tuple[int, ...]) -> tuple[PipelineResult, float]:
    """Return what a pipeline of sleepers made, and the seconds that one process would sleep."""
    generator = torch.Generator().manual_seed(0)
    X, y = torch.randn(SLEEPS * 32, 16, generator=generator), torch.randint(4, (SLEEPS * 32,), generator=generator)
    boundaries = ",".join(map(str, cuts))
    config = TrainingConfig(depth=7, width=16, rule=rule, boundaries=boundaries, epochs=1, batch_size=32)
    learner = build_learner(config, 16, 4, together=False)
    network = learner.network
    for k, segment in network.hidden.items():
        network.hidden[k] = Sleeping(segment)
    network.output = Sleeping(network.output)
    piped = train_pipeline(learner, X, y, config, cuts=cuts)
    return piped, SLEEPS * len(network.segments) * (UP + DOWN)


def _run(
    config: TrainingConfig, X: torch.Tensor, y: torch.Tensor, cuts: tuple[int, ...]
) -> tuple[PipelineResult, float]:
    """Return what the pipeline made, and the seconds that one process takes for the same."""
    learner = build_learner(config, X.shape[1], 10, together=False)
    piped = train_pipeline(learner, X, y, config, cuts=cuts)
    optimizer = build_optimizer(learner, config)
    started = time.perf_counter()
    for _ in train(learner, optimizer, X, y, config):
        pass
    return piped, time.perf_counter() - started


if __name__ == "__main__":
    main()
