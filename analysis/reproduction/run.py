"""Reproduce the paper: every claim as runs, numbers and figures, and one report of them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from analysis.config.execution import ExecutionConfig
from analysis.execution import Executor, Task, make_executor
from analysis.execution.folders import check_folder, refreshed
from analysis.execution.interruption import Incomplete, Interrupted
from analysis.execution.progress import Reporter, silent
from analysis.execution.progress import Task as Work
from analysis.plots.drawing import save_figures
from analysis.reproduction.claims import EXPERIMENTS, Experiment, Part, Plan, Section
from analysis.reproduction.parts import Assignment, is_done, perform, read_results
from analysis.reproduction.report import write_reproduction_report
from analysis.training.setup import check_device
from checkpoints.storage.lock import Lock
from repsim.learning.checks import check_choice

__all__ = ["Reproduction", "reproduce"]


@dataclass(frozen=True)
class Reproduction:
    """What came of it: the report, and a section for each experiment whose parts are all done."""

    report: Path
    sections: dict[str, Section]

    def summary(self) -> list[str]:
        """Return a sentence an experiment: its verdict, and why."""
        return [
            f"{EXPERIMENTS[name].title}: {section.verdict}. {section.findings[0]}"
            for name, section in self.sections.items()
        ]


def reproduce(
    claims: Sequence[str] = ("all",),
    *,
    output: str | Path | None = None,
    plan: Plan | None = None,
    execution: ExecutionConfig | None = None,
) -> Reproduction:
    """Test some claims: run what has not run yet, and write tables, figures and the report.

    Every part is kept as soon as it is done, in a place that its settings decide: the same call continues what was
    stopped or killed, and equal seeds give equal numbers, whatever the number of processes.

    Parameters
    ----------
    claims : sequence of str, default ("all",)
        Keys of ``EXPERIMENTS``, or "all".
    output : path, optional
        ``runs/reproduction-<scale>`` by default: run directories in ``networks``, tables of the parts in ``parts``, a
        folder an experiment with its tables and figures, and ``report.html`` over all that are done.
    plan : Plan, optional
        Scale, seeds, device. Quick, with seeds 0 to 4, by default.
    execution : ExecutionConfig, optional
        Where the tasks run and who is told about their progress.

    Raises
    ------
    ValueError, OSError
        If a name, a setting or the folder will not do; nothing is then written.
    Interrupted
        After Ctrl-C.
    Locked
        If another process is reproducing in this folder.
    Incomplete
        If parts or conclusions failed, or processes died. What could be done is done, and kept.
    """
    chosen, plan, execution = _choose(claims), plan or Plan(), execution or ExecutionConfig()
    reporter = execution.progress or silent()
    chosen_executor = make_executor(execution)
    check_device(plan.device)
    folder = Path(output) if output is not None else Path("runs") / f"reproduction-{plan.scale}"
    check_folder(folder)
    every = {experiment.name: list(experiment.parts(plan)) for experiment in EXPERIMENTS.values()}
    pending = _pending([part for experiment in chosen for part in every[experiment.name]], folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.html"
    lock = Lock(folder / "lock")
    try:
        cost = max(1, round(sum(part.cost for part in pending)))
        with reporter.task("reproduce", cost) as task, chosen_executor if pending else nullcontext():
            sections, errors = _work(chosen, every, plan, folder, chosen_executor, _Progress(task, reporter))
        for experiment in EXPERIMENTS.values():
            if experiment in chosen or _pending(every[experiment.name], folder):
                continue
            try:
                sections[experiment.name] = _conclude(experiment, every[experiment.name], plan, folder)
            except Exception as error:  # of what nobody asked for now
                reporter.say(f"{experiment.name}, done before, has no section: {error}")
        sections = {name: sections[name] for name in EXPERIMENTS if name in sections}
        write_reproduction_report(report, plan, sections, folder)
    except KeyboardInterrupt:
        done = sum(is_done(part, folder) for part in pending)
        raise Interrupted(
            f"Stopped; of {len(pending)} parts {done} are done and kept. Continue with the same command."
        ) from None
    finally:
        lock.release()
    if errors:
        listed = "; ".join(f"{name}: {error}" for name, error in errors.items())
        raise Incomplete(f"{len(errors)} parts failed ({listed}). The rest is done and kept.")
    return Reproduction(report, sections)


class _Progress:
    """Counts what is done in seconds of one core."""

    def __init__(self, task: Work, reporter: Reporter) -> None:
        self.task, self.reporter = task, reporter
        self._done = 0.0
        self._shown = 0

    def advance(self, part: Part, error: Exception | None) -> None:
        """Tell that a part is done, or has failed."""
        self._done += part.cost
        self.task.advance(round(self._done) - self._shown, part.key.rpartition("-")[0])
        self._shown = round(self._done)
        if error is not None:
            self.reporter.say(f"{part.key} failed: {error}")


def _choose(names: Sequence[str]) -> list[Experiment]:
    for name in names:
        check_choice("experiment", name, (*EXPERIMENTS, "all"))
    return [each for each in EXPERIMENTS.values() if "all" in names or each.name in names]


def _pending(parts: Iterable[Part], folder: Path) -> list[Part]:
    unique = {part.key: part for part in parts}
    return [part for part in unique.values() if not is_done(part, folder)]


def _work(
    chosen: Sequence[Experiment],
    every: Mapping[str, Sequence[Part]],
    plan: Plan,
    folder: Path,
    executor: Executor,
    progress: _Progress,
) -> tuple[dict[str, Section], dict[str, Exception]]:
    """Do the parts of experiments and conclude each; return their sections, and what failed."""
    sections: dict[str, Section] = {}
    errors: dict[str, Exception] = {}
    for experiment in chosen:
        parts = every[experiment.name]
        if failed := _perform(parts, folder, executor, progress):
            errors |= failed
            continue
        try:
            sections[experiment.name] = _conclude(experiment, parts, plan, folder)
        except Exception as error:  # of one conclusion, for which the others should not be lost
            errors[f"the conclusion of {experiment.name}"] = error
    return sections, errors


def _perform(parts: Sequence[Part], folder: Path, executor: Executor, progress: _Progress) -> dict[str, Exception]:
    """Do the parts that are not done, stage by stage, the long ones of a stage first; return what failed."""
    for stage in sorted({part.stage for part in parts}):
        pending = _pending([part for part in parts if part.stage == stage], folder)
        pending.sort(key=lambda part: -part.cost)
        tasks = [Task(part.key, perform, Assignment(part, folder.absolute())) for part in pending]
        errors: dict[str, Exception] = {}
        for task, error in executor.completed(tasks):
            if isinstance(error, Interrupted):
                raise KeyboardInterrupt
            progress.advance(task.argument.part, error)
            if error is not None:
                errors[task.key] = error
        if errors:
            return errors  # later stages need this one
    return {}


def _conclude(experiment: Experiment, parts: Sequence[Part], plan: Plan, folder: Path) -> Section:
    section = experiment.conclude(read_results(parts, plan, folder))
    with refreshed(folder / experiment.name) as staging:
        for name, table in section.tables.items():
            table.to_csv(staging / f"{name}.csv", index=False)
        save_figures(section.drawings, staging / "figures")
    return section
