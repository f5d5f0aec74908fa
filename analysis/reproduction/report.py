"""The page of a reproduction: a section an experiment, with claim, setting, figures, numbers and verdict."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.plots.drawing import embedded
from analysis.report.page import as_html, render
from analysis.reproduction.claims import EXPERIMENTS, Plan, Section
from checkpoints.storage.commit import replace_file

__all__ = ["write_reproduction_report"]


def write_reproduction_report(path: Path, plan: Plan, sections: Mapping[str, Section], folder: Path) -> None:
    """Write the page.

    Parameters
    ----------
    path : Path
        The HTML file, replaced if it is there.
    plan : Plan
    sections : mapping of str to Section
        By the experiment's name.
    folder : Path
        Holds a folder for each, with its figures.
    """
    page = render(
        "reproduction.html.j2",
        title=f"Reproduction at {plan.scale} scale",
        seeds=", ".join(map(str, plan.seeds)),
        options=_options(plan, folder),
        missing=[EXPERIMENTS[name].title for name in EXPERIMENTS if name not in sections],
        sections=[_shown(name, section, folder / name) for name, section in sections.items()],
    )
    replace_file(path, page.encode())


def _options(plan: Plan, folder: Path) -> str:
    """Return the options with which the command does the same again."""
    first, last = plan.seeds[0], plan.seeds[-1]
    is_range = plan.seeds == tuple(range(first, last + 1))
    options = {
        "scale": plan.scale,
        "seeds": f"{first}-{last}" if is_range else ",".join(map(str, plan.seeds)),
        "device": plan.device if plan.device != "cpu" else "",
        "data-dir": plan.data_dir or "",
        "output": str(folder),
    }
    return " ".join(f"--{name} {shlex.quote(value)}" for name, value in options.items() if value)


def _shown(name: str, section: Section, folder: Path) -> dict[str, Any]:
    experiment = EXPERIMENTS[name]
    return {
        "name": name,
        "title": experiment.title,
        "claim": experiment.claim,
        "setting": section.setting,
        "verdict": section.verdict,
        "mark": section.verdict.replace(" ", "-"),
        "findings": section.findings,
        "drawings": [embedded(drawing, folder / "figures") for drawing in section.drawings],
        "tables": {heading: as_html(table, index=False) for heading, table in section.shown.items()},
        "files": [f"{name}/{table}.csv" for table in section.tables],
    }
