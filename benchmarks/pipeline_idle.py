"""How long the stages of a pipeline wait for one another, under backprop and under synthetic gradients.

``python benchmarks/pipeline_idle.py`` trains a chain of 8 x 512 with batch norm on mnist5k, batches of 256, as stages
in processes of their own, on one processor thread each, and prints the table: for each stage the share of its time that it
waits for a message, the seconds from the common start, and how many times faster that is than the same training in one
process. Medians of three.
"""

from __future__ import annotations

import time
from statistics import median

import torch

from repsim.learning import TrainingConfig, build_learner, build_optimizer, load_dataset, split_dataset, train
from repsim.learning.pipeline import PipelineResult, train_pipeline

REPEATS = 3
CUTS = {"2 stages": (4,), "4 stages": (2, 4, 6)}
PLAN = {"epochs": 2, "batch_size": 256, "seed": 0}


def main() -> None:
    torch.set_num_threads(1)
    dataset = load_dataset("mnist5k")
    rows = split_dataset(dataset, 0)["train"]
    X, y = torch.from_numpy(dataset.X[rows]), torch.from_numpy(dataset.y[rows])
    print("| stages | rule | idle, from the input up | seconds | speed-up against one process | last loss |")
    print("|---|---|---|---|---|---|")
    for name, cuts in CUTS.items():
        for rule in ("backprop", "synthetic-gradient"):
            config = TrainingConfig(depth=8, width=512, rule=rule, boundaries=",".join(map(str, cuts)), **PLAN)
            runs = [_run(config, X, y, cuts) for _ in range(REPEATS)]
            idle = [median(run.stages[i].idle_fraction for run, _ in runs) for i in range(len(cuts) + 1)]
            seconds, alone = median(run.seconds for run, _ in runs), median(each for _, each in runs)
            last = median(sum(step.loss for step in run.steps[-13:]) / 13 for run, _ in runs)
            shares = ", ".join(f"{share:.2f}" for share in idle)
            print(f"| {name} | {rule} | {shares} | {seconds:.1f} | {alone / seconds:.2f} | {last:.3f} |", flush=True)


def _run(
    config: TrainingConfig, X: torch.Tensor, y: torch.Tensor, cuts: tuple[int, ...]
) -> tuple[PipelineResult, float]:
    """Return what the pipeline made, and the seconds that one process takes for the same."""
    learner = build_learner(config, X.shape[1], 10, together=False)
    piped = train_pipeline(learner, X, y, cuts=cuts, **PLAN)
    optimizer = build_optimizer(learner, config)
    started = time.perf_counter()
    for _ in train(learner, optimizer, X, y, **PLAN):
        pass
    return piped, time.perf_counter() - started


if __name__ == "__main__":
    main()
