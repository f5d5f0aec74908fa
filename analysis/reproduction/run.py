"""Reproduction of the paper: run the tasks of its claims, and write tables, figures and one report."""

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
from analysis.execution.task import NotBegun
from analysis.plots.drawing import save_figures
from analysis.reproduction.claim import Claim, ClaimTask, Plan, Section
from analysis.reproduction.claims import load_claims
from analysis.reproduction.parts import Assignment, is_done, perform, read_results
from analysis.reproduction.report import write_reproduction_report
from analysis.training.setup import check_device
from checkpoints.storage.lock import Lock

__all__ = ["Reproduction", "reproduce"]


@dataclass(frozen=True)
class Reproduction:
    """Report of a reproduction, and a section for each claim whose tasks are all finished."""

    report: Path
    sections: dict[str, Section]
    titles: Mapping[str, str]

    def summary(self) -> list[str]:
        """Return one sentence per claim: its verdict, and the reason."""
        return [
            f"{self.titles[name]}: {section.verdict}. {section.findings[0]}" for name, section in self.sections.items()
        ]


def reproduce(
    claims: Sequence[str | Claim] = ("all",),
    *,
    output: str | Path | None = None,
    plan: Plan | None = None,
    execution: ExecutionConfig | None = None,
) -> Reproduction:
    """Test some claims: run what has not run yet, and write tables, figures and the report.

    Every result is stored as soon as its task has finished, in a place that its settings determine: the same call
    continues a reproduction that was stopped or killed, and equal seeds give equal numbers for any number of processes.

    Parameters
    ----------
    claims : sequence of str or Claim, default ("all",)
        Names of ``CLAIMS``, "all" of them, or claims of your own.
    output : path, optional
        ``runs/reproduction-<scale>`` by default. It gets run directories in ``networks``, tables of the tasks in
        ``parts``, a folder per claim with its tables and figures, and ``report.html`` over all finished claims.
    plan : Plan, optional
        Scale, seeds, device. Quick, with seeds 0 to 4, by default.
    execution : ExecutionConfig, optional
        Where the tasks run and who is told about their progress.

    Raises
    ------
    ValueError
        If a claim, the device or a setting is unknown; nothing is written then.
    OSError
        If the output is a file or a run.
    Interrupted
        After Ctrl-C.
    Locked
        If another process is reproducing in this folder.
    Incomplete
        If tasks or conclusions failed, or processes died. All other results are stored.
    """
    chosen, plan, execution = load_claims(claims), plan or Plan(), execution or ExecutionConfig()
    reporter = execution.progress or silent()
    chosen_executor = make_executor(execution)
    check_device(plan.device)
    folder = Path(output) if output is not None else Path("runs") / f"reproduction-{plan.scale}"
    check_folder(folder)
    known = load_claims(("all", *chosen))
    every = {claim.name: list(claim.parts(plan)) for claim in known}
    pending = _pending([task for claim in chosen for task in every[claim.name]], folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.html"
    lock = Lock(folder / "lock")
    try:
        cost = max(1, round(sum(task.cost for task in pending)))
        with reporter.task("reproduce", cost) as task, chosen_executor if pending else nullcontext():
            sections, errors = _work(chosen, every, plan, folder, chosen_executor, _Progress(task, reporter))
        for claim in known:
            if claim in chosen or _pending(every[claim.name], folder):
                continue
            try:
                sections[claim.name] = _conclude(claim, every[claim.name], plan, folder)
            except Exception as error:  # of a claim that was finished earlier and not chosen now
                reporter.say(f"The conclusion of {claim.name} failed, and the report leaves it out: {error}")
        sections = {claim.name: sections[claim.name] for claim in known if claim.name in sections}
        write_reproduction_report(report, known, plan, sections, folder)
    except KeyboardInterrupt:
        done = sum(is_done(task, folder) for task in pending)
        raise Interrupted(
            f"Stopped; of {len(pending)} tasks {done} are finished and stored. Continue with the same command."
        ) from None
    finally:
        lock.release()
    if errors:
        listed = "; ".join(f"{name}: {error}" for name, error in errors.items())
        raise Incomplete(f"{len(errors)} tasks failed ({listed}). All other results are stored.")
    return Reproduction(report, sections, {claim.name: claim.title for claim in known})


class _Progress:
    """Count finished tasks in seconds of one core."""

    def __init__(self, work: Work, reporter: Reporter) -> None:
        self.work, self.reporter = work, reporter
        self._done = 0.0
        self._shown = 0

    def advance(self, task: ClaimTask, error: Exception | None) -> None:
        self._done += task.cost
        self.work.advance(round(self._done) - self._shown, task.key.rpartition("-")[0])
        self._shown = round(self._done)
        if error is not None:
            self.reporter.say(f"{task.key} failed: {error}")


def _pending(tasks: Iterable[ClaimTask], folder: Path) -> list[ClaimTask]:
    unique = {task.key: task for task in tasks}
    return [task for task in unique.values() if not is_done(task, folder)]


def _work(
    chosen: Sequence[Claim],
    every: Mapping[str, Sequence[ClaimTask]],
    plan: Plan,
    folder: Path,
    executor: Executor,
    progress: _Progress,
) -> tuple[dict[str, Section], dict[str, Exception]]:
    """Run the tasks of each claim and conclude it; return the sections and the errors."""
    sections: dict[str, Section] = {}
    errors: dict[str, Exception] = {}
    for claim in chosen:
        tasks = every[claim.name]
        if failed := _perform(tasks, folder, executor, progress):
            errors |= failed
            continue
        try:
            sections[claim.name] = _conclude(claim, tasks, plan, folder)
        except Exception as error:  # the other claims go on
            errors[f"the conclusion of {claim.name}"] = error
    return sections, errors


def _perform(tasks: Sequence[ClaimTask], folder: Path, executor: Executor, progress: _Progress) -> dict[str, Exception]:
    """Run the tasks that have no results yet, each after those that it needs; return the errors."""
    errors: dict[str, Exception] = {}
    for task, error in executor.completed(
        [
            Task(task.key, perform, Assignment(task, folder.absolute()), after=tuple(task.after), cost=task.cost)
            for task in _ordered(_pending(tasks, folder))
        ]
    ):
        if isinstance(error, Interrupted):
            raise KeyboardInterrupt
        if isinstance(error, NotBegun):
            continue
        progress.advance(task.argument.part, error)
        if error is not None:
            errors[task.key] = error
    return errors


def _ordered(tasks: Sequence[ClaimTask]) -> list[ClaimTask]:
    """Return tasks after those that they need, and otherwise those that take longest first."""
    level: dict[str, int] = {}
    for task in tasks:
        level[task.key] = 1 + max((level.get(key, 0) for key in task.after), default=0)
    return sorted(tasks, key=lambda task: (level[task.key], -task.cost))


def _conclude(claim: Claim, tasks: Sequence[ClaimTask], plan: Plan, folder: Path) -> Section:
    section = claim.section(read_results(tasks, plan, folder))
    with refreshed(folder / claim.name) as staging:
        for name, table in section.tables.items():
            table.to_csv(staging / f"{name}.csv", index=False)
        save_figures(section.drawings, staging / "figures")
    return section
