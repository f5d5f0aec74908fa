"""Plan of an analysis: its views, settings and folder, and whether the folder holds its results already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analysis.comparison.attribution.design import Design
from analysis.comparison.matched_stimuli import matched_stimuli
from analysis.comparison.tables.schema import TABLES
from analysis.comparison.tasks.analysis_tasks import AnalysisTasks
from analysis.comparison.tasks.plan import plan_rdms
from analysis.comparison.tasks.version import VERSION
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig
from analysis.config.existing import describe_differences
from analysis.config.target_table import TargetTable
from analysis.execution.cache import Cache
from analysis.execution.shipping import parts_identity
from checkpoints import Damaged, Run
from checkpoints.storage.manifest import read_json
from probes.table.columns import schema_version
from repsim.registration import check_registered

__all__ = ["OUTCOME", "AnalysisPlan", "plan_tasks", "read_outcome"]

OUTCOME = "analysis.json"
_FORMAT = {"format": "repsim-analysis", "format_version": 1}
_REVISION = 19  # raised when tables, figures or the report show something else, so that earlier ones become stale

_DRAWN = ("figures", "report_tables", "charts")  # registries of which all entries are shown


@dataclass(frozen=True)
class AnalysisPlan:
    """One analysis or comparison. It is made once and passed on, also to the process that writes the report.

    The first view is the reference; ``command`` is the command line that repeats the analysis.
    """

    title: str
    views: tuple[View, ...]
    folder: Path
    config: AnalysisConfig
    command: str
    design: Design | None = None

    @cached_property
    def tasks(self) -> AnalysisTasks:
        """The tasks that compute the results."""
        from analysis.comparison.tasks.analysis_cache import AnalysisCache  # slow to import; not needed if all is done

        return plan_tasks(self.views, self.config, AnalysisCache(self.folder.absolute()), self.design)

    @cached_property
    def targets(self) -> TargetTable | None:
        """The table of further targets of the probes, if there is one."""
        return self.config.target_table

    @cached_property
    def identity(self) -> str:
        """Hash of everything that the results follow from; ValueError if a part of the user was not registered."""
        check_registered({self.config.distance, *self.config.measures}, _DRAWN)
        runs = {str(view.run.path.absolute()): view.run for view in self.views}
        states = {path: [run.info, run.status, _size(run.path / "metrics.jsonl")] for path, run in runs.items()}
        views = [
            [view.label, view.network, str(view.run.path.absolute()), list(view.layers), view.run[view.step].manifest]
            for view in self.views
        ]
        matching = self.views[0].matching
        tables = {name: list(table.columns) for name, table in TABLES.items()}
        versions = [_REVISION, VERSION, _version(), schema_version()]
        design = None if self.design is None else self.design.identity
        settings = {**self._settings(), "targets": None if self.targets is None else self.targets.identity}
        everything = [*versions, self.title, settings, views, states, tables, design]
        if own := parts_identity():
            everything.append(own)
        everything += [] if matching is None else [[matching.by, [file.sha256 for file in matching.files]]]
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()

    @property
    def request(self) -> dict[str, Any]:
        """What was asked for: runs, steps, layers, settings and arms, whatever the runs hold by now."""
        runs = [view.run for view in self.views] if self.design is None else self._runs_of_arms(self.design)
        design = None if self.design is None else self.design.config.to_dict()
        arms = [] if self.design is None else [[arm.name, arm.arm.role, arm.arm.method] for arm in self.design.arms]
        named = {str(run.path.absolute()): run.info["uuid"] for run in runs}
        match = None if self.views[0].matching is None else self.views[0].matching.by
        asked = {**self.config.to_dict(), "match": match, "design": design, "arms": arms}
        return {"runs": list(map(list, named.items())), **asked}

    @staticmethod
    def _runs_of_arms(design: Design) -> list[Run]:
        return [run for arm in design.arms for run in arm.runs]

    def differences(self) -> str:
        """Return a phrase that says how the request of the results in the folder differs from this one, or nothing.

        A run is the same if its path or its uuid is.
        """
        outcome = read_outcome(self.folder)
        if outcome is None or not isinstance(outcome.get("request"), dict):
            return ""
        asked, made = json.loads(json.dumps(self.request)), outcome["request"]
        runs, before = asked.pop("runs"), made.get("runs", [])
        if len(runs) != len(before) or not all(set(run) & set(each) for run, each in zip(runs, before, strict=True)):
            return f"of the runs {', '.join(str(path) for path, _ in before)}"
        return describe_differences(asked, made)

    def is_done(self) -> bool:
        """Return whether the folder holds the results of this plan, with all their files."""
        outcome = read_outcome(self.folder)
        if outcome is None or outcome["fingerprint"] != self.identity:
            return False
        return all(_size(self.folder / name) == size for name, size in outcome["files"].items())

    def warnings(self) -> list[str]:
        """Return the warnings that were raised when the results were computed."""
        outcome = read_outcome(self.folder)
        return [] if outcome is None else list(outcome["warnings"])

    def outcome(self, files: Mapping[str, int], summary: Sequence[str], warnings: Sequence[str]) -> bytes:
        """Return the content of ``analysis.json`` for results in some files, given by name and size."""
        outcome = {
            **_FORMAT,
            "fingerprint": self.identity,
            "title": self.title,
            "command": self.command,
            "config": self._settings(),
            "request": self.request,
            "stimuli": matched_stimuli(self.views),
            "views": [
                {"label": view.label, "run": str(view.run.path.absolute()), "step": view.step} for view in self.views
            ],
            "summary": list(summary),
            "warnings": list(warnings),
            "files": dict(sorted(files.items())),
        }
        return (json.dumps(outcome, indent=1) + "\n").encode()

    def _settings(self) -> dict[str, Any]:
        """Return the settings without those that only choose the views."""
        chosen = ("steps", "layers")
        return {name: value for name, value in self.config.to_dict().items() if name not in chosen}


def plan_tasks(
    views: Sequence[View], config: AnalysisConfig, cache: Cache, design: Design | None = None
) -> AnalysisTasks:
    """Return the tasks that fill the tables of views on the same stimuli, of which the first is the reference."""
    tasks = AnalysisTasks(views, config, cache, design)
    tasks.by_table["rdm"] = list(plan_rdms(tasks))
    for name, table in TABLES.items():
        if table.plan is not None:
            tasks.by_table[name] = list(table.plan(tasks))
    return tasks


def read_outcome(folder: Path) -> dict[str, Any] | None:
    """Return the content of ``analysis.json`` in a folder; None if there is none that this version reads."""
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
