"""What an experiment promises: parts that can be done one by one, and what follows from their tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

import repsim
from analysis.plots.drawing import Drawing
from repsim.learning.checks import check_choice

__all__ = ["SCALES", "VERDICTS", "Experiment", "Part", "Plan", "Results", "Section", "digest"]

SCALES = ("quick", "full")
VERDICTS = ("holds", "holds in part", "does not hold")

Tables = dict[str, pd.DataFrame]

_FEWEST_SEEDS = 4
_TOP_SEED = 1_000_000  # those from here on are for networks that a plan's are compared with


@dataclass(frozen=True, kw_only=True)
class Plan:
    """At what scale to reproduce, with which seeds, on what.

    Attributes
    ----------
    scale : {"quick", "full"}
        Two processor cores in minutes, or a GPU or cluster in hours.
    seeds : tuple of int
        Ascending. Everything that is drawn follows from them.
    device : str
        Where networks are trained at full scale.
    data_dir : str or None
        Folder of the IDX files of mnist, which full scale uses.
    """

    scale: str = "quick"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    device: str = "cpu"
    data_dir: str | None = None

    def __post_init__(self) -> None:
        """Check the scale and the seeds."""
        check_choice("scale", self.scale, SCALES)
        if len(self.seeds) < _FEWEST_SEEDS:
            raise ValueError(
                f"{len(self.seeds)} seeds were given; expected {_FEWEST_SEEDS} or more, as with fewer no test between "
                "methods can reach p < .05."
            )
        if max(self.seeds) >= _TOP_SEED:
            raise ValueError(f"Seed {max(self.seeds)} is too large; expected seeds below {_TOP_SEED:,}.")

    @property
    def is_full(self) -> bool:
        """Whether the scale is "full"."""
        return self.scale == "full"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of work whose numbers depend on its settings alone; it is done once, and kept.

    Attributes
    ----------
    name : str
        For people, and unique among the parts of its group; letters, digits, dots and hyphens.
    work : callable
        Of a module. ``work(folder, **settings)`` returns tidy tables by name; ``folder`` is that of the whole
        reproduction, in which trained networks have their places.
    settings : mapping
        JSON-ready.
    cost : float
        About how many seconds it takes on one core.
    stage : int
        Parts of a stage begin when all of lower stages, of the same experiment, are done.
    group : str
        The experiment's name, or that of what several share. Parts of equal group, name and settings are one.
    """

    name: str
    work: Callable[..., Tables]
    settings: Mapping[str, Any]
    cost: float
    group: str
    stage: int = 0

    @property
    def key(self) -> str:
        """Where it is kept: its group, and a name that no other settings have."""
        return f"{self.group}/{self.name}-{digest(self.settings)}"


def digest(settings: Mapping[str, Any]) -> str:
    """Return eight characters that differ between settings, and between versions of repsim.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps([repsim.__version__, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class Results:
    """What the parts of an experiment found.

    Attributes
    ----------
    plan : Plan
    folder : Path
        Of the whole reproduction.
    tables : dict of str to DataFrame
        Those of all parts, one below the other, in the order of the parts.
    """

    plan: Plan
    folder: Path
    tables: Tables

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a table by name."""
        return self.tables[name]


@dataclass(frozen=True, kw_only=True)
class Section:
    """What an experiment says: a section of the report, and the files beside it.

    Attributes
    ----------
    setting : str
        What was run, with its numbers: data, networks, rates, seeds. Choices of ours are called so.
    verdict : str
        One of ``VERDICTS``.
    findings : sequence of str
        Sentences with the numbers that decide, the verdict's reason first.
    drawings : sequence of Drawing
    tables : dict of str to DataFrame
        Written as CSV.
    shown : dict of str to DataFrame
        By heading: small tables of the report itself.
    """

    setting: str
    verdict: str
    findings: Sequence[str]
    drawings: Sequence[Drawing]
    tables: Tables
    shown: Tables = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the verdict."""
        if self.verdict not in VERDICTS:
            raise ValueError(f"Unknown verdict '{self.verdict}'. Choose one of: {', '.join(VERDICTS)}.")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One claim, and how it is put to the test.

    Attributes
    ----------
    name : str
        Of the command.
    title : str
    claim : str
        What is claimed, in our words, and by whom.
    parts : callable
        Of a ``Plan``: the parts, in the order in which their tables are read. Nothing is computed here.
    conclude : callable
        Of ``Results``: the ``Section``. Quick, and nothing is drawn at random.
    """

    name: str
    title: str
    claim: str
    parts: Callable[[Plan], Sequence[Part]]
    conclude: Callable[[Results], Section]
