"""The shape of a claim: tasks that compute tables, a conclusion from them, and its figures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

import repsim
from analysis.execution import Cache, Task
from analysis.plots.drawing import Drawing
from repsim.learning.checks import check_choice

__all__ = [
    "SCALES",
    "VERDICTS",
    "Claim",
    "Frames",
    "Plan",
    "Results",
    "Section",
    "claim_task",
    "verdict_of",
]

SCALES = ("quick", "full")
VERDICTS = ("holds", "holds in part", "does not hold", "undecided")

Frames = dict[str, pd.DataFrame]

_FEWEST_SEEDS = 4
_TOP_SEED = 1_000_000  # larger seeds are those of trainings that a claim tunes rates on
_QUICK_SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Scale, seeds, device and data of a reproduction.

    Attributes
    ----------
    scale : {"quick", "full"}
        "quick" takes minutes on two processor cores, "full" takes hours on a GPU or a cluster.
    seeds : tuple of int
        At least four, in ascending order. All random numbers are drawn from them.
    device : str
        Device on which networks are trained at full scale.
    data_dir : str or None
        Folder with the IDX files of MNIST, which full scale uses.
    """

    scale: str = "quick"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    device: str = "cpu"
    data_dir: str | None = None

    def __post_init__(self) -> None:
        """Check the scale and the seeds."""
        check_choice("scale", self.scale, SCALES)
        if len(self.seeds) < _FEWEST_SEEDS:
            raise ValueError(
                f"{len(self.seeds)} seeds were given; expected {_FEWEST_SEEDS} or more, as with fewer no test between "
                "methods can reach p < .05."
            )
        if max(self.seeds) >= _TOP_SEED:
            raise ValueError(f"Seed {max(self.seeds)} is too large; expected seeds below {_TOP_SEED:,}.")

    @property
    def is_full(self) -> bool:
        """Whether the scale is "full"."""
        return self.scale == "full"

    @property
    def few_seeds(self) -> tuple[int, ...]:
        """All seeds at full scale, and the first three at quick scale: for tasks that take long."""
        return self.seeds if self.is_full else self.seeds[:_QUICK_SEEDS]

    @property
    def dataset(self) -> str:
        """The set of digits that networks are trained on, as ``TrainingConfig`` names it."""
        return "mnist" if self.is_full else "mnist5k"

    @property
    def digits(self) -> str:
        """The training digits, for a sentence."""
        return "MNIST" if self.is_full else "3,500 MNIST digits"


def claim_task(
    name: str,
    function: Callable[..., Frames],
    /,
    *,
    cost: float,
    after: Sequence[Task] = (),
    alone: bool = False,
    **inputs: Any,
) -> Task:
    """Return a task of a claim, which is stale under another version of repsim.

    Parameters
    ----------
    name : str
        Starts with the name of the claim, or of what several claims share. Claims share tasks of equal name, function
        and inputs.
    function : callable
        A function of a module. ``function(folder, **inputs)`` returns tidy tables by name; ``folder`` is the folder of
        the whole reproduction, which holds the trained networks.
    cost : float
        Estimated seconds on one core.
    after : sequence of Task
        The tasks that must be finished before this one begins.
    alone : bool, default False
        Whether it runs when no other task runs, because it measures time.
    **inputs
        Values that may stand in the key of a task: JSON-ready, or dataclasses of settings.
    """
    keys = tuple(task.key for task in after)
    return Task(name, function, inputs, after=keys, cost=cost, version=repsim.__version__, alone=alone)


@dataclass(frozen=True, kw_only=True)
class Results:
    """Tables that the tasks of a claim returned.

    Attributes
    ----------
    plan : Plan
    folder : Path
        Folder of the whole reproduction.
    tables : dict of str to DataFrame
        Tables of equal name are concatenated, in the order of the tasks.
    """

    plan: Plan
    folder: Path
    tables: Frames

    @classmethod
    def read(cls, tasks: Sequence[Task], plan: Plan, folder: Path) -> Results:
        """Return the tables of finished tasks, and repeat the warnings that were raised while they ran.

        Tables without columns are left out; a column of numbers and None becomes one of numbers.
        """
        found: dict[str, list[pd.DataFrame]] = {}
        for task in tasks:
            result = task.result()
            for message in result.warnings:
                warnings.warn(f"{task.name}: {message}", RuntimeWarning, stacklevel=2)
            for name, table in result.tables.items():
                if not table.columns.empty:
                    found.setdefault(name, []).append(table)
        tables = {name: pd.concat(each, ignore_index=True).infer_objects() for name, each in found.items()}
        return cls(plan=plan, folder=folder, tables=tables)

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a table by name."""
        return self.tables[name]


@dataclass(frozen=True, kw_only=True)
class Section:
    """Conclusion about a claim: a section of the report, and the files beside it.

    Attributes
    ----------
    setting : str
        Data, networks, rates and seeds in words. Choices that the claim leaves open are marked as ours.
    verdict : str
        One of ``VERDICTS``.
    findings : sequence of str
        Sentences with numbers; the first gives the reason for the verdict.
    tables : dict of str to DataFrame
        Tables that are written as CSV.
    shown : dict of str to DataFrame
        Small tables of the report itself, by heading.
    drawings : sequence of Drawing
        Figures, which ``Claim.section`` adds.
    """

    setting: str
    verdict: str
    findings: Sequence[str]
    tables: Frames
    shown: Frames = field(default_factory=dict)
    drawings: Sequence[Drawing] = ()

    def __post_init__(self) -> None:
        """Check the verdict."""
        if self.verdict not in VERDICTS:
            raise ValueError(f"Unknown verdict '{self.verdict}'. Choose one of: {', '.join(VERDICTS)}.")


def verdict_of(held: Iterable[Any]) -> str:
    """Return "holds" if all conditions are true, "holds in part" if some are, and "does not hold" if none is.

    Conditions that could not be decided are None; where no other is true, the verdict is "undecided".

    Examples
    --------
    >>> verdict_of([True, False])
    'holds in part'
    >>> verdict_of([None, False])
    'undecided'
    """
    conditions = list(held)
    if any(conditions):
        return "holds" if all(conditions) else "holds in part"
    return "undecided" if any(each is None for each in conditions) else "does not hold"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the paper, and the test of it.

    Attributes
    ----------
    name : str
        Name on the command line.
    title : str
    statement : str
        What is claimed and by whom, in our words.
    parts : callable
        ``parts(plan)`` returns the tasks, each after those that it needs, in the order in which their tables are
        concatenated. It computes nothing.
    conclude : callable
        ``conclude(results)`` returns the ``Section`` without its figures. It is quick and draws no random numbers.
    figures : callable
        ``figures(results, section)`` returns the figures of a section.
    """

    name: str
    title: str
    statement: str
    parts: Callable[[Plan], Sequence[Task]]
    conclude: Callable[[Results], Section]
    figures: Callable[[Results, Section], Iterable[Drawing]]

    def tasks(self, plan: Plan, cache: Cache) -> list[Task]:
        """Return the tasks, whose results a cache keeps.

        Raises
        ------
        ValueError
            If a task needs one that does not come before it.
        """
        tasks: dict[str, Task] = {}
        for task in self.parts(plan):
            if missing := [key for key in task.after if key not in tasks]:
                raise ValueError(f"Task '{task.key}' needs '{missing[0]}', which is not among the tasks before it.")
            tasks[task.key] = replace(task, cache=cache)
        return list(tasks.values())

    def section(self, results: Results) -> Section:
        """Return the conclusion with its figures."""
        section = self.conclude(results)
        return replace(section, drawings=tuple(self.figures(results, section)))
