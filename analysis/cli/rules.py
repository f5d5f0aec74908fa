"""repsim rules."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from analysis.cli.options import Output, imports_parts, with_options
from analysis.cli.output import print_json

__all__ = ["rules"]


@imports_parts
@with_options
def rules(
    name: Annotated[str | None, typer.Argument(help="Name of a rule, to show its options and reference.")] = None,
    *,
    display: Output,
) -> None:
    """List the learning rules, the gradient that each chooses and its locks, and the synthetic input.

    Example: repsim rules synthetic-gradient
    """
    from dataclasses import asdict

    from repsim.learning import catalogue, input_entry

    all_entries = [*catalogue(), input_entry()]
    entries = [entry for entry in all_entries if name in (None, entry.name)]
    if not entries:
        known = ", ".join(entry.name for entry in all_entries)
        raise ValueError(f"Unknown rule '{name}'. Choose one of: {known}.")
    if display.json:
        print_json([asdict(entry) for entry in entries])
    elif name is None:
        *of_rules, of_input = entries
        _print_table([(entry.name, ", ".join(entry.locks) or "-", entry.formula) for entry in of_rules])
        print(f"\nEvery rule is forward locked, unless {of_input.name} is joined to it (NAME + {of_input.name}):")
        print(f"{of_input.formula}.\nOptions and references: repsim rules NAME")
    else:
        _print_entry(asdict(entries[0]))


def _print_table(rows: list[tuple[str, str, str]]) -> None:
    rows = [("rule", "locked", "g_k, in place of N · ∂L/∂h_k"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for first, second, third in rows:
        print(f"{first:{widths[0]}}  {second:{widths[1]}}  {third}")


def _print_entry(facts: dict[str, Any]) -> None:
    from repsim.learning import ESTIMATORS
    from repsim.learning.rules import is_observable

    options, meanings = facts.pop("options"), facts.pop("meanings")
    for label, value in facts.items():
        print(f"{label}: {', '.join(value) or '-' if isinstance(value, tuple) else value}")
    print("options:")
    for option, default in options.items():
        print(f"  {option}={_as_typed(default)}: {meanings[option]}")
    if facts["name"] in ESTIMATORS and is_observable(facts["name"]):
        print("  observe=false: whether the rule only learns, while the network uses backprop")


def _as_typed(value: object) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
