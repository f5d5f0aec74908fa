"""The estimate of the remaining time in simulated runs, whose costs were expected wrongly."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from analysis.execution.progress.work import Work
from analysis.execution.remaining_tasks import TaskForecast, measure_slowness
from analysis.execution.task import Task, TaskGraph

START_SECONDS = 2.0  # that the first task of each process takes longer


@dataclass
class Simulated:
    """A clock, and what was estimated when."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def nothing(*, number: int) -> None:
    """Stand for a task."""


def tasks_of(kind: str, n: int, cost: float, after: Sequence[Task] = ()) -> list[Task]:
    keys = tuple(task.key for task in after)
    return [Task(kind, nothing, {"number": number}, after=keys, cost=cost) for number in range(n)]


@dataclass
class Estimated:
    """What was estimated in a simulated run: (time, estimated rest, true rest), twice a second."""

    rows: list[tuple[float, float, float]]
    total: float
    learnt: float  # when three tasks of every kind but the report had ended

    def worst_factor(self, start: float, end: float = 0.95) -> float:
        """Return by which factor the estimate is wrong at most after a time, until a share of the total."""
        within = [(left, rest) for now, left, rest in self.rows if start <= now <= end * self.total]
        return max(max(left / rest, rest / max(left, 1e-9)) for left, rest in within)


def simulate(tasks: Sequence[Task], seconds: Callable[[Task], float], jobs: int, *, reports: bool = True) -> Estimated:
    """Run tasks in simulated time, and ask for the remaining time as a log does."""
    clock, ended = Simulated(), Counter[str]()
    forecast = TaskForecast(tasks, lambda: jobs, clock)
    work = Work("tasks", forecast, clock)
    graph, count = TaskGraph(tasks), itertools.count()
    running: list[tuple[float, int, Task]] = []
    asked: list[tuple[float, float]] = []
    n_started, learnt, names = 0, 0.0, {task.name for task in tasks} - {"report"}
    while graph or running:
        while graph and len(running) < jobs:
            task = graph.pop()
            if reports:
                forecast.start(task)
            took = seconds(task) + START_SECONDS * (n_started < jobs)
            heapq.heappush(running, (clock.now + took, next(count), task))
            n_started += 1
        end, _, task = heapq.heappop(running)
        while len(asked) * 0.5 < end:
            clock.now = len(asked) * 0.5
            asked.append((clock.now, work.left() or 0.0))
        clock.now = end
        forecast.end(task)
        work.advance()
        graph.settle(task, None)
        ended[task.name] += 1
        if not learnt and all(ended[name] >= 3 for name in names):
            learnt = end
    rows = [(now, left, clock.now - now) for now, left in asked]
    return Estimated(rows, clock.now, learnt)


def comparison(n_views: int = 16) -> list[Task]:
    """Return tasks as those of a comparison: many short ones, some that need others, and a report at the end."""
    rdms = tasks_of("rdm", 8 * n_views, 0.3)
    correlated = [tasks_of("rdm_similarity", 1 + k, 0.3, after=[rdm])[-1] for k, rdm in enumerate(rdms)]
    tasks = [*rdms, *correlated, *tasks_of("similarity", n_views * 5, 0.5), *tasks_of("probes", n_views, 3.0)]
    return [*tasks, *tasks_of("report", 1, 12.0, after=tasks)]


def wrong_by(**factors: float) -> Callable[[Task], float]:
    """Return the true seconds of tasks, which differ from the costs by factors and by chance."""
    rng = random.Random(0)
    return lambda task: task.cost * factors.get(task.name, 1.0) * rng.uniform(0.5, 1.5)


KINDS = ("rdm", "rdm_similarity", "similarity", "probes", "report")


@pytest.mark.parametrize(("jobs", "factor"), [(1, 1.6), (2, 0.7), (2, 1.0), (2, 1.6), (4, 1.0)])
def test_the_estimate_is_within_a_factor_of_two_from_the_first_percent_on(jobs: int, factor: float) -> None:
    found = simulate(comparison(), wrong_by(**dict.fromkeys(KINDS, factor)), jobs)
    assert found.worst_factor(0.01 * found.total, 0.9) < 2


@pytest.mark.parametrize(
    "factors",
    [
        dict.fromkeys(KINDS, 5.0),
        dict.fromkeys(KINDS, 0.2),
        {"rdm": 5.0, "probes": 0.2},
        {"rdm": 0.2, "probes": 5.0},
        {"similarity": 5.0},
        {"rdm_similarity": 5.0},
    ],
    ids=str,
)
def test_a_few_tasks_of_each_kind_correct_costs_that_are_wrong_by_a_factor_of_five(
    factors: dict[str, float],
) -> None:
    found = simulate(comparison(), wrong_by(**factors), jobs=2)
    assert found.learnt < 0.25 * found.total
    assert found.worst_factor(found.learnt + 1, 0.9) < 2


def test_a_last_task_that_takes_five_times_as_long_is_only_noticed_while_it_runs() -> None:
    found = simulate(comparison(), wrong_by(report=5.0), jobs=2)
    assert found.worst_factor(0.1 * found.total, 0.2) < 2.5  # its 60 s are taken for 12
    began = found.total - 60
    by_time = {now: (left, rest) for now, left, rest in found.rows}
    left, rest = by_time[round(2 * (began + 35)) / 2]
    assert 0.5 < left / rest < 2


def test_starts_that_an_executor_does_not_report_make_estimates_coarser_only() -> None:
    found = simulate(comparison(), wrong_by(rdm=2.0, probes=0.5), jobs=2, reports=False)
    assert found.worst_factor(0.2 * found.total, 0.9) < 2


def test_the_estimate_does_not_jump() -> None:
    rows = simulate(comparison(), wrong_by(rdm=3.0), jobs=2).rows[20:]
    assert max(abs(after[1] - before[1] + 0.5) / max(before[1], 10) for before, after in itertools.pairwise(rows)) < 0.2


def test_tasks_that_run_alone_are_expected_one_after_the_other() -> None:
    timed = [replace(task, alone=True) for task in tasks_of("timed", 10, 4.0)]
    forecast = TaskForecast(timed, lambda: 4, Simulated())
    assert forecast.left(0.0) == pytest.approx(40, abs=2)


def test_a_task_that_cannot_start_says_nothing_about_the_others() -> None:
    clock = Simulated()
    tasks = tasks_of("rdm", 10, 1.0)
    forecast = TaskForecast(tasks, lambda: 1, clock)
    for task in tasks[:5]:
        forecast.end(task, is_run=False)
    assert forecast.left(0.0) == pytest.approx(5, abs=2)


def test_a_machine_that_is_slow_from_the_start_is_expected_to_stay_so() -> None:
    tasks = tasks_of("rdm", 10, 2.0)
    usual, slow = (TaskForecast(tasks, lambda: 1, Simulated(), slowness) for slowness in (1.0, 4.0))
    assert slow.left(0.0) == pytest.approx(4 * usual.left(0.0))
    assert 0.25 <= measure_slowness() <= 20
