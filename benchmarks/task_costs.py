"""The cost that each kind of task of a comparison is planned with, against the measured one.

``python benchmarks/task_costs.py RUN RUN ...`` compares runs, one task after the other in this process, and prints for
each kind of task: how many there are, their planned cost, their processor seconds, and the ratio, which should be
between 0.5 and 2. Correct the costs where the tasks are planned, in ``analysis/comparison/``, if it is not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.execution import Task, one_thread
from analysis.workflows.analyze import tasks_of_plan
from analysis.workflows.comparisons import plan_comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--steps", default="last")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, one_thread():
        config = AnalysisConfig(steps=arguments.steps)
        plan = plan_comparison(arguments.runs, config, DesignConfig(), Path(folder, "comparison"))
        print_costs(measured(tasks_of_plan(plan)))


def measured(tasks: list[Task]) -> dict[str, list[tuple[float, float]]]:
    """Run tasks; return the planned cost and the processor seconds of each, by kind."""
    found = defaultdict(list)
    for task in tasks:
        if not task.is_done():
            started = time.process_time()
            task.run()
            found[task.name].append((task.cost, time.process_time() - started))
    return found


def print_costs(found: dict[str, list[tuple[float, float]]]) -> None:
    """Print a table; the first task of a kind, which may import packages, is only counted if it is the only one."""
    print("| kind | tasks | planned s | measured s | ratio |\n|---|---|---|---|---|")
    for kind, costs in found.items():
        planned, seconds = map(sum, zip(*(costs[1:] or costs), strict=True))
        print(f"| {kind.replace('_', ' ')} | {len(costs)} | {planned:.2f} | {seconds:.2f} | {seconds / planned:.2f} |")


if __name__ == "__main__":
    main()
