"""Output of commands: sentences for people, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.comparison.result import ComparisonResult

__all__ = ["print_json", "print_results"]


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(value, indent=2))


def print_results(results: Sequence[ComparisonResult], *, as_json: bool) -> None:
    """Print the summary of each analysis and the path of its report."""
    if as_json:
        values = [
            {
                "report": str(each.report),
                "folder": str(each.tables.folder),
                "summary": each.summary(),
            }
            for each in results
        ]
        print_json(values[0] if len(values) == 1 else values)
        return
    for each in results:
        for sentence in each.summary():
            print(sentence)
        print(f"Report: {_from_here(each.report)}")


def _from_here(path: Path) -> Path:
    """Return a path below the working directory without that directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
