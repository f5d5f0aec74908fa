"""Design of a comparison of arms: opened runs, aligned steps, and the smallest differences of interest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from analysis.comparison.attribution.alignment import AlignedStep, align
from analysis.comparison.attribution.arms import Arm, OpenArm, open_arms
from analysis.comparison.attribution.contrasts import Contrast, Member, contrasts_of
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.config.roles import METHOD, REFERENCE
from checkpoints.name_patterns import choose_names

__all__ = ["Cell", "Design", "open_design"]

_BORROWS = "accuracy-matched"
ACCURACY = "accuracy"


class Cell(NamedTuple):
    """A layer at an aligned step in the networks of one split that have it, by their positions among the members."""

    step: int
    layer: str
    split: int
    members: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Design:
    """Arms that are compared at aligned steps.

    Attributes
    ----------
    arms : tuple of OpenArm
    aligned : tuple of AlignedStep
    contrasts : tuple of Contrast
    measures : tuple of str
        Measures of similarity that are compared.
    smallest : dict of str to float
        Smallest difference of interest of each measure and quantity.
    layers : tuple of str
        Names or patterns of the chosen layers.
    config : DesignConfig
    """

    arms: tuple[OpenArm, ...]
    aligned: tuple[AlignedStep, ...]
    contrasts: tuple[Contrast, ...]
    measures: tuple[str, ...]
    smallest: Mapping[str, float]
    layers: tuple[str, ...]
    config: DesignConfig

    @property
    def members(self) -> list[Member]:
        """All networks, arm by arm."""
        return [member for arm in self.arms for member in arm.members]

    @cached_property
    def views(self) -> list[list[View]]:
        """One list per aligned step, with one view per member."""
        return [
            [
                View(f"{arm.name}, seed {member.seed}, {aligned.name}", run, step, self.layers, matching=matching)
                for arm in self.arms
                for member, run, step, matching in zip(
                    arm.members, arm.runs, aligned.steps[arm.name], arm.matchings, strict=True
                )
            ]
            for aligned in self.aligned
        ]

    @cached_property
    def layer_names(self) -> list[str]:
        """The chosen layers of all networks, those of the network with the most layers first."""
        every = [list(view.listed) for view in self.views[-1]]
        return list(dict.fromkeys(name for names in sorted(every, key=len, reverse=True) for name in names))

    def cells(self) -> Iterator[Cell]:
        """Yield every layer at every aligned step, split by split."""
        members = self.members
        for step, views in enumerate(self.views):
            listed = [set(view.listed) for view in views]
            for layer in self.layer_names:
                for split in sorted({member.split for member in members}):
                    having = tuple(
                        k for k, member in enumerate(members) if member.split == split and layer in listed[k]
                    )
                    if having:
                        yield Cell(step, layer, split, having)

    @property
    def identity(self) -> list[Any]:
        """Everything that the tables of the design follow from, as JSON takes it."""
        arms = [[arm.name, arm.arm.role, arm.arm.method] for arm in self.arms]
        views = [
            [view.location, view.step, list(view.listed), view.run[view.step].manifest]
            for views in self.views
            for view in views
        ]
        return [arms, views, self.config.to_dict(), [aligned.name for aligned in self.aligned]]

    def shown(self) -> list[View]:
        """Return one view per arm, of its first seed at the last aligned step; the reference first."""
        last = self.aligned[-1]
        ordered = sorted(self.arms, key=lambda arm: arm.arm.role != REFERENCE)
        found: dict[tuple[str, int], View] = {}
        for arm in ordered:
            view = View(arm.name, arm.runs[0], last.steps[arm.name][0], self.layers, matching=arm.matchings[0])
            found.setdefault((view.location, view.step), view)
        return list(found.values())


def open_design(arms: Sequence[Arm], config: DesignConfig, analysis: AnalysisConfig) -> Design:
    """Open the runs of arms, check them, and align their steps.

    Raises
    ------
    ValueError
        As of ``open_arms`` and ``align``; if an unknown quantity has a smallest effect; if no arm or several could be
        the method that a control is matched to in accuracy; or if an arm has none of the layers that a pattern chooses.
    """
    opened = open_arms(arms, config.match)
    methods = [arm.name for arm in opened if arm.arm.role == METHOD]
    matched = {arm.name: _matched_to(arm.arm, methods) for arm in opened if arm.arm.role == _BORROWS}
    by = config.align
    names: dict[tuple[str, str], str] = {}  # of an arm as it is compared with a method
    if by == ACCURACY:
        by = "fraction"
        opened, names = _at_accuracies(opened, methods)
        matched |= {name: method for (_, method), name in names.items()}
    aligned = align(opened, by=by, steps=analysis.steps or "all", matched=matched)
    contrasts = [
        replace(
            each, arm=names.get((each.arm, each.method), each.arm), base=names.get((each.base, each.method), each.base)
        )
        for each in contrasts_of({arm.name: arm.role for arm in arms}, {arm.name: arm.method for arm in arms})
    ]
    smallest = config.smallest_of(analysis.measures)
    measures = tuple(name for name in analysis.measures if name in smallest)
    design = Design(tuple(opened), tuple(aligned), tuple(contrasts), measures, smallest, analysis.layers, config)
    _check_layers(design)
    return design


def _check_layers(design: Design) -> None:
    """Check that every arm has a layer for each chosen name or pattern; some arms may have fewer layers than others."""
    recorded = [list(view.run[view.step].activations) for view in design.views[-1]]
    common = [name for name in recorded[0] if all(name in names for names in recorded)]
    for member, view, names in zip(design.members, design.views[-1], recorded, strict=True):
        for pattern in design.layers:
            if not _matches(names, pattern):
                has = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
                such_as = f", such as --layers {common[-1]}" if common else ""
                raise ValueError(
                    f"Arm '{member.arm}' has no layer '{pattern}'; {view.run.path} recorded {has}. Choose layers that "
                    f"all arms have{such_as}, or leave --layers out: a layer that an arm lacks is then compared "
                    "between the others."
                )


def _matches(names: Sequence[str], pattern: str) -> bool:
    try:
        return bool(choose_names(names, [pattern]))
    except ValueError:
        return False


def _matched_to(arm: Arm, methods: Sequence[str]) -> str:
    if arm.method:
        return arm.method
    if len(methods) > 1:
        raise ValueError(
            f"Arm '{arm.name}' is {_BORROWS}, and there are several methods; say which by method = "
            f"{' or '.join(map(repr, methods))}."
        )
    return methods[0]


def _at_accuracies(arms: Sequence[OpenArm], methods: Sequence[str]) -> tuple[list[OpenArm], dict[tuple[str, str], str]]:
    """Return the methods, and every other arm once per method, to be compared at the accuracy of this method."""
    found, names = [arm for arm in arms if arm.name in methods], {}
    for arm in (arm for arm in arms if arm.name not in methods):
        for method in [arm.arm.method] if arm.arm.method else methods:
            if arm.arm.role == _BORROWS:
                found.append(arm)
                continue
            name = f"{arm.name} at the accuracy of {method}"
            members = tuple(replace(member, arm=name) for member in arm.members)
            found.append(replace(arm, arm=replace(arm.arm, name=name), members=members))
            names[arm.name, method] = name
    return found, names
