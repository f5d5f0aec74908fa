"""How commands print their results: words for people, JSON for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.findings import Findings

__all__ = ["print_findings", "print_json"]


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(value, indent=2))


def print_findings(findings: Findings, *, as_json: bool) -> None:
    """Print the summary of an analysis and where its report is."""
    report = Path(findings.folder) / "report.html"
    if as_json:
        print_json({"report": str(report), "folder": str(findings.folder), "summary": findings.summary()})
        return
    for sentence in findings.summary():
        print(sentence)
    print(f"Report: {report}")
