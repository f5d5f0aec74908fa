"""Reproduction of the paper: run the tasks of its claims, and write tables, figures and one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.config.execution import ExecutionConfig
from analysis.execution import Cache, Task, describe_error, make_executor, pending, run_tasks, total_cost
from analysis.execution.folders import check_folder, refreshed, remove_unfinished
from analysis.execution.interruption import Incomplete, Interrupted
from analysis.execution.progress import reporter_of
from analysis.plots.drawing import save_figures
from analysis.reproduction.claim import Claim, Plan, Results, Section
from analysis.reproduction.claims import load_claims
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

    Every result is stored as soon as its task has finished, under a key that its settings determine: the same call
    continues a reproduction that was stopped or killed, and equal seeds give equal numbers for any number of processes.

    Parameters
    ----------
    claims : sequence of str or Claim, default ("all",)
        Names of ``CLAIMS``, "all" of them, or claims of your own.
    output : path, optional
        ``runs/reproduction-<scale>`` by default. It gets run directories in ``networks``, results of the tasks in
        ``cache``, a folder per claim with its tables and figures, and ``report.html`` over all finished claims.
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
    check_device(plan.device)
    folder = Path(output) if output is not None else Path("runs") / f"reproduction-{plan.scale}"
    check_folder(folder)
    known, cache = load_claims(("all", *chosen)), Cache(folder.absolute())
    with reporter_of(execution.progress).task("Planning"):
        tasks = {claim.name: claim.tasks(plan, cache) for claim in known}
    wanted = [task for claim in chosen for task in tasks[claim.name]]
    executor = make_executor(execution, cost=total_cost(pending(wanted)))
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.html"
    lock = Lock(folder / "lock")
    try:
        cache.remove_staging()
        errors = run_tasks(wanted, execution, label="reproduce", executor=executor)
        with reporter_of(execution.progress).task("Writing tables, figures and report"):
            finished = [claim for claim in known if not pending(tasks[claim.name])]
            sections, failed = _conclude(finished, tasks, plan, folder)
            write_reproduction_report(report, known, plan, sections, folder)
    except KeyboardInterrupt:
        raise Interrupted("Stopped; the results of all tasks are kept. Continue with the same command.") from None
    finally:
        lock.release()
    names = {claim.name for claim in chosen}
    for name in failed.keys() - names:  # finished earlier and not chosen now
        message = f"The conclusion of {name} failed, and the report leaves it out: {failed[name]}"
        reporter_of(execution.progress).say(message)
    errors |= {f"the conclusion of {name}": error for name, error in failed.items() if name in names}
    if errors:
        listed = "; ".join(f"{name}: {describe_error(error)}" for name, error in errors.items())
        raise Incomplete(f"{len(errors)} tasks failed ({listed}). All other results are stored.")
    return Reproduction(report, sections, {claim.name: claim.title for claim in known})


def _conclude(
    claims: Sequence[Claim], tasks: Mapping[str, Sequence[Task]], plan: Plan, folder: Path
) -> tuple[dict[str, Section], dict[str, Exception]]:
    """Write the tables and figures of finished claims; return their sections, and the errors of conclusions."""
    sections: dict[str, Section] = {}
    failed: dict[str, Exception] = {}
    for claim in claims:
        remove_unfinished(folder / claim.name)
        try:
            section = claim.section(Results.read(tasks[claim.name], plan, folder))
            with refreshed(folder / claim.name) as staging:
                for name, table in section.tables.items():
                    table.to_csv(staging / f"{name}.csv", index=False)
                save_figures(section.drawings, staging / "figures")
        except Exception as error:  # the other claims are concluded
            failed[claim.name] = error
        else:
            sections[claim.name] = section
    return sections, failed
