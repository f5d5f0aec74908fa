"""The command line that makes a report again."""

from __future__ import annotations

import shlex

from analysis.comparison.result import Findings

__all__ = ["command_of"]

_DEFAULT_DISTANCE = "correlation"


def command_of(findings: Findings) -> str:
    """Return the command for the views of an analysis; options that findings do not tell are left to their defaults."""
    views = findings.views
    paths = list(dict.fromkeys(str(view.run.path) for view in views))
    steps = sorted({view.step for view in views})
    words = ["repsim", "analyze" if len(paths) == 1 else "compare", *paths]
    if len(paths) == 1 or len(views) > len(paths):
        words += ["--steps", ",".join(map(str, steps))]
    if findings.distance != _DEFAULT_DISTANCE:
        words += ["--distance", findings.distance]
    return shlex.join(words)
