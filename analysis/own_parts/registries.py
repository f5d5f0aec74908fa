"""All registries that are open to users, and the decorator that adds to any of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from repsim.registration import RegistryKind, add_installed, installed_points, registering
from repsim.registry_kinds import KINDS as OF_REPSIM

__all__ = ["KINDS", "register"]

G = TypeVar("G")

_TABLES = "analysis.comparison.tables.comparison_table"
_SECTIONS = "analysis.report.sections"
_HERE = "analysis.own_parts.lower_entries"
KINDS: dict[str, RegistryKind] = OF_REPSIM | {
    name: RegistryKind(name, noun, place, make)
    for name, noun, place, make in (
        ("reductions", "reduction", "checkpoints.capture.reductions:REDUCTIONS", f"{_HERE}:make_reduction"),
        ("columns", "column of probes", "probes.table.columns:COLUMNS", "probes.table.columns:ProbeColumn"),
        ("solvers", "probe solver", "probes.solvers:SOLVERS", f"{_HERE}:make_solver"),
        ("baselines", "baseline", "probes.controls:BASELINES", f"{_HERE}:make_baseline"),
        ("executors", "executor", "analysis.config.execution:EXECUTORS", "analysis.config.execution:own_executor"),
        ("tables", "table", "analysis.comparison.tables.schema:TABLES", f"{_TABLES}:ComparisonTable"),
        (
            "figures",
            "figure",
            "analysis.comparison.figures.figure_registry:FIGURES",
            "analysis.comparison.figures.comparison_figure:own_figure",
        ),
        ("report_tables", "report table", f"{_SECTIONS}:TABLES_SHOWN", f"{_SECTIONS}:own_report_table"),
        ("charts", "chart", "analysis.report.charts:CHARTS", "analysis.report.charts:LayerChart"),
        ("formats", "format", "analysis.export.formats:FORMATS", "analysis.export.formats:Format"),
    )
}


def register(kind: str, name: str, **declared: Any) -> Callable[[G], G]:
    """Return a decorator that adds what it decorates to a registry, under a name, and returns it unchanged.

    Parameters
    ----------
    kind : str
        The registry: ``"measures"``, ``"distances"``, ``"comparators"``, ``"statistics"``, ``"rules"``, ``"networks"``,
        ``"norms"``, ``"activations"``, ``"losses"``, ``"optimizers"``, ``"schedules"``, ``"datasets"``,
        ``"reductions"``, ``"columns"`` (of the table of probes), ``"solvers"``, ``"baselines"``, ``"executors"``,
        ``"tables"`` (of a comparison), ``"figures"``, ``"report_tables"``, ``"charts"`` or ``"formats"``.
    name : str
        Key of the entry: letters, digits, dots, hyphens and underscores; the first is a letter.
    **declared
        What is declared about the entry; see the page on your own parts.

    Raises
    ------
    ValueError
        If there is no such registry, if the name is taken, or if the entry fails the checks of its kind.
    TypeError
        If the entry is not of the type that the registry holds.

    Examples
    --------
    >>> from repsim.learning import SCHEDULES
    >>> @register("schedules", "linear")
    ... def linear(progress):
    ...     return 1 - progress
    >>> SCHEDULES["linear"](0.25)
    0.75
    >>> del SCHEDULES["linear"]
    """
    if kind not in KINDS:
        raise ValueError(f"There is no registry '{kind}'. Choose one of: {', '.join(KINDS)}.")
    return registering(KINDS[kind], name, declared)


def add_installed_below() -> None:
    """Add the entry points of other packages to the registries of ``probes`` and ``checkpoints``.

    Registries that get none are not imported for this, because that takes seconds.
    """
    for kind in ("reductions", "columns", "solvers", "baselines"):
        if installed_points(kind) or KINDS[kind].place.partition(":")[0] in sys.modules:
            add_installed(KINDS[kind])


add_installed_below()
