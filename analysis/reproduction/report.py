"""HTML report of a reproduction: a section per claim, with its setting, figures, numbers and verdict."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.plots.drawing import embedded
from analysis.report.page import as_html, render
from analysis.reproduction.claim import Claim, Plan, Section
from checkpoints.storage.commit import replace_file

__all__ = ["write_reproduction_report"]


def write_reproduction_report(
    path: Path, claims: Sequence[Claim], plan: Plan, sections: Mapping[str, Section], folder: Path
) -> None:
    """Write the report, in which claims without a section are listed as missing."""
    page = render(
        "reproduction.html.j2",
        title=f"Reproduction at {plan.scale} scale",
        seeds=", ".join(map(str, plan.seeds)),
        options=_options(plan, folder),
        missing=[claim.title for claim in claims if claim.name not in sections],
        sections=[
            _shown(claim, sections[claim.name], folder / claim.name) for claim in claims if claim.name in sections
        ],
    )
    replace_file(path, page.encode())


def _options(plan: Plan, folder: Path) -> str:
    """Return the options with which the command repeats the reproduction."""
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


def _shown(claim: Claim, section: Section, folder: Path) -> dict[str, Any]:
    return {
        "name": claim.name,
        "title": claim.title,
        "claim": claim.statement,
        "setting": section.setting,
        "verdict": section.verdict,
        "mark": section.verdict.replace(" ", "-"),
        "findings": section.findings,
        "drawings": [embedded(drawing, folder / "figures") for drawing in section.drawings],
        "tables": {heading: as_html(table, index=False) for heading, table in section.shown.items()},
        "files": [f"{claim.name}/{table}.csv" for table in section.tables],
    }
