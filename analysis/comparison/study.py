"""A study: what is looked at, what is asked, and where the answers go; and whether they are there already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig
from checkpoints import Damaged
from checkpoints.storage.manifest import read_json

__all__ = ["OUTCOME", "Study", "read_outcome"]

OUTCOME = "analysis.json"
_FORMAT = {"format": "repsim-analysis", "format_version": 1}
_REVISION = 2  # of what tables, figures and the report show; a later one makes every earlier analysis stale


@dataclass(frozen=True)
class Study:
    """An analysis that is asked for.

    Attributes
    ----------
    title : str
    views : tuple of View
        The first is the reference.
    target : Path
        The folder of its results.
    config : AnalysisConfig
    command : str
        The command line that makes it again.
    """

    title: str
    views: tuple[View, ...]
    target: Path
    config: AnalysisConfig
    command: str

    @property
    def fingerprint(self) -> str:
        """Hash of all that the results follow from."""
        runs = {str(view.run.path.absolute()): view.run for view in self.views}
        states = {path: [run.info, run.status, _size(run.path / "metrics.jsonl")] for path, run in runs.items()}
        views = [
            [view.label, view.network, str(view.run.path.absolute()), list(view.layers), view.run[view.step].manifest]
            for view in self.views
        ]
        everything = [_REVISION, _version(), self.title, self.config.to_dict(), views, states]
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()

    def is_done(self) -> bool:
        """Tell whether the target holds the results of this very study, whole."""
        outcome = read_outcome(self.target)
        if outcome is None or outcome["fingerprint"] != self.fingerprint:
            return False
        return all(_size(self.target / name) == size for name, size in outcome["files"].items())

    def warnings(self) -> list[str]:
        """Return what was to be said when it was carried out."""
        outcome = read_outcome(self.target)
        return [] if outcome is None else list(outcome["warnings"])

    def outcome(self, files: Mapping[str, int], summary: Sequence[str], warnings: Sequence[str]) -> bytes:
        """Return what ``analysis.json`` says of results: of which files, by name and size, they are."""
        outcome = {
            **_FORMAT,
            "fingerprint": self.fingerprint,
            "title": self.title,
            "command": self.command,
            "config": self.config.to_dict(),
            "views": [
                {"label": view.label, "run": str(view.run.path.absolute()), "step": view.step} for view in self.views
            ],
            "summary": list(summary),
            "warnings": list(warnings),
            "files": dict(sorted(files.items())),
        }
        return (json.dumps(outcome, indent=1) + "\n").encode()


def read_outcome(folder: Path) -> dict[str, Any] | None:
    """Return what ``analysis.json`` of a folder says; None if there is none that this version reads."""
    try:
        outcome = read_json(folder / OUTCOME)
        fits = _FORMAT.items() <= outcome.items() and isinstance(outcome["files"], dict)
        plain = all(Path(name).parts and ".." not in Path(name).parts for name in outcome["files"])
        return outcome if fits and plain and {"fingerprint", "summary", "warnings"} <= set(outcome) else None
    except (Damaged, ValueError, AttributeError, KeyError, TypeError):
        return None


def _version() -> str:
    try:
        return version("repsim-sg")
    except PackageNotFoundError:  # used from a folder, without being installed
        return "unknown"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
