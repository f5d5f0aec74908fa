"""How commands print their results: words for people, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.comparison.result import Findings

__all__ = ["print_findings", "print_json"]


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(value, indent=2))


def print_findings(findings: Sequence[Findings], *, as_json: bool) -> None:
    """Print the summary of each analysis and where its report is."""
    if as_json:
        found = [
            {"report": str(each.folder / "report.html"), "folder": str(each.folder), "summary": each.summary()}
            for each in findings
        ]
        print_json(found[0] if len(found) == 1 else found)
        return
    for each in findings:
        for sentence in each.summary():
            print(sentence)
        print(f"Report: {each.folder / 'report.html'}")
