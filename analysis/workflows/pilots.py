"""Number of seeds that a design needs, from the runs of a pilot."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from analysis.comparison.analysis_plan import AnalysisPlan
from analysis.comparison.attribution.contrasts import USUAL_SEEDS
from analysis.config.execution import ExecutionConfig
from analysis.execution.folders import check_folder
from analysis.execution.progress import reporter_of
from checkpoints.storage.lock import Lock

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["describe_power", "power_of"]

_ENOUGH = 0.8


def power_of(
    plan: AnalysisPlan,
    *,
    n_seeds: Sequence[int] = USUAL_SEEDS,
    effect: float = 2.0,
    execution: ExecutionConfig | None = None,
) -> pd.DataFrame:
    """Return the chance of each verdict for several numbers of seeds.

    Parameters
    ----------
    plan : AnalysisPlan
        Comparison of the arms of the pilot. What it needs is computed, and kept in its folder.
    n_seeds : sequence of int
        Numbers of seeds per arm, 3 or more.
    effect : float, default 2.0
        Size of the true effect, in units of the smallest difference of interest; above 1.
    execution : ExecutionConfig, optional

    Returns
    -------
    DataFrame
        As of ``analysis.comparison.attribution.verdict_chances.power_table``.

    Raises
    ------
    ValueError
        If the runs are no arms of three seeds or more, or a number is out of range.
    """
    from analysis.comparison.attribution.verdict_chances import check_question, power_table
    from analysis.comparison.tables.arm_tables import effects_of
    from analysis.execution import Cache, run_tasks

    check_question(n_seeds, effect)
    plan.config.check_choices()
    check_folder(plan.folder)
    if plan.design is None:
        raise ValueError(
            "There are no two arms of three seeds or more; train a pilot of the reference and each method, such as "
            "repsim train runs/sg --seeds 0-2."
        )
    cache = Cache(plan.folder)
    cache.make_folder()
    with ExitStack() as locks:
        locks.callback(Lock(cache.path / "lock").release)
        errors = run_tasks(plan.tasks.by_table["attribution"], execution or ExecutionConfig(), label="pilot")
    if errors:
        raise next(iter(errors.values()))
    with reporter_of((execution or ExecutionConfig()).progress).task("Simulating experiments"):
        return power_table(effects_of(plan.tasks, plan.design), n_seeds=n_seeds, effect=effect)


def describe_power(table: pd.DataFrame, effect: float) -> list[str]:
    """Return sentences: for each contrast and quantity, how many seeds find an effect, and how many exclude one."""
    sentences = [
        f"An effect of {effect:g} times the smallest of interest is called different, and no effect equivalent, in "
        f"{100 * _ENOUGH:.0f} % of layers and steps with this many seeds per arm:"
    ]
    for (method, _, control, quantity), rows in table.groupby(
        ["method", "contrast", "control", "quantity"], sort=False, dropna=False
    ):
        if rows["contrast"].iloc[0] == "alone":
            continue
        what = f"{method} beyond {control}" if control else f"{method} in total"
        found, excluded = (_fewest(rows, name) for name in ("different", "equivalent"))
        sentences.append(f"{what}, {quantity}: different {found}; equivalent {excluded}.")
    return sentences


def _fewest(rows: pd.DataFrame, name: str) -> str:
    enough = rows.loc[rows[name] >= _ENOUGH, "n_seeds"]
    return str(int(enough.min())) if len(enough) else f"more than {int(rows['n_seeds'].max())}"
