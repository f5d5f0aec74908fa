"""Write the reference pages that follow from the code: commands, learning rules, similarity measures.

``python docs/generate.py`` writes them; with ``--check`` it only says which are out of date, and fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import typer
from typer.core import TyperGroup

from analysis.cli import app
from repsim.learning import ESTIMATORS, locks
from repsim.similarity import MEASURES

HERE = Path(__file__).parent
NOTE = "<!-- Written by `make docs` from the code; do not edit. -->\n\n"


def commands() -> str:
    """Return the help of every command."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    sections = ["# Commands\n\nAlso as `python -m analysis COMMAND`.\n"]
    for name, command in group.commands.items():
        context = command.make_context(name, [], parent=None, resilient_parsing=True, terminal_width=80)
        context.info_name = f"repsim {name}"
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        sections.append(f"## repsim {name}\n\n```text\n{text}\n```\n")
    return "\n".join(sections)


def rules() -> str:
    """Return the table of estimators with what each needs and the locks that follow."""
    lines = [
        "# Learning rules\n",
        "Locks follow from what an estimator declares that it needs; every rule is forward locked.\n",
        "| rule | class | g_k needs | locked |",
        "|---|---|---|---|",
    ]
    for name, rule in ESTIMATORS.items():
        estimator = rule.build(1, 2, options={}, generator=torch.Generator())
        needs, locked = ", ".join(sorted(estimator.needs)), ", ".join(sorted(locks(estimator))) or "-"
        lines.append(f"| `{name}` | `{type(estimator).__name__}` | {needs} | {locked} |")
    return "\n".join(lines) + "\n"


def measures() -> str:
    """Return the table of similarity measures."""
    lines = [
        "# Similarity measures\n",
        "| name | grows with | range | metric | invariant to | reference |",
        "|---|---|---|---|---|---|",
    ]
    for name, measure in MEASURES.items():
        low, high = measure.range
        cells = (
            f"`{name}`",
            measure.direction,
            f"{low:g} to {high:g}",
            "yes" if measure.is_metric else "no",
            ", ".join(sorted(measure.invariances)),
            measure.reference,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {"commands.md": commands, "rules.md": rules, "measures.md": measures}


def main() -> None:
    """Write or check the pages."""
    check = "--check" in sys.argv
    stale = []
    for name, page in PAGES.items():
        path, text = HERE / name, NOTE + page()
        if not path.is_file() or path.read_text() != text:
            stale.append(name)
            if not check:
                path.write_text(text)
    if check and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run make docs")
    print(f"{len(PAGES)} pages, {len(stale)} changed")


if __name__ == "__main__":
    main()
