"""Line and branch coverage of each package, of all tests (``make coverage``); fails below the floors.

    python tests/coverage_report.py

Processes that tests start are not measured.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from coverage import Coverage

ROOT = Path(__file__).parents[1]
PACKAGES = ("repsim", "probes", "checkpoints", "analysis")
FLOORS = {"lines": 96.0, "branches": 92.0}  # per cent, for every package
COUNTS = {"lines": ("covered_lines", "num_statements"), "branches": ("covered_branches", "num_branches")}


def main() -> None:
    if not (ROOT / ".coverage").is_file():
        sys.exit("There are no coverage data; run make coverage.")
    files = read_summaries()
    below = []
    for package in PACKAGES:
        own = [summary for name, summary in files.items() if Path(name).parts[0] == package]
        line = f"{package:12}"
        for kind, (done, total) in COUNTS.items():
            share = 100 * sum(each[done] for each in own) / max(1, sum(each[total] for each in own))
            line += f"{share:7.1f} % of {kind}"
            if share < FLOORS[kind]:
                below.append(f"{share:.1f} % of the {kind} of {package} (floor {FLOORS[kind]:g} %)")
        print(line)
    if below:
        sys.exit(f"Tests cover only {', '.join(below)}. Add tests.")


def read_summaries() -> dict[str, dict[str, Any]]:
    """Return the numbers of covered and all lines and branches of each file."""
    coverage = Coverage(data_file=str(ROOT / ".coverage"), config_file=str(ROOT / "pyproject.toml"))
    coverage.load()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        coverage.json_report(outfile=str(path))
        return {name: file["summary"] for name, file in json.loads(path.read_text())["files"].items()}


if __name__ == "__main__":
    main()
