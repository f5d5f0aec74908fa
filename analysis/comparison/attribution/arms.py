"""Arms of a comparison: groups of networks with a role, opened and checked against what the role holds fixed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.comparison.attribution.contrasts import LEAST_SEEDS, Member
from analysis.comparison.stimulus_matching import Matching, match_stimuli
from analysis.config.recorded_steps import is_trained_here
from analysis.config.roles import ArmRole, check_roles, check_roles_are_held
from checkpoints import Run

__all__ = ["FORK_STEP", "Arm", "OpenArm", "differing_settings", "open_arms"]

FORK_STEP = "fork_step"  # name of a setting that forks have
_ENDED = "finished"
_PATH = re.compile(r"like=[^,@]*")


@dataclass(frozen=True)
class Arm:
    """A group of networks that differ in their seeds only.

    Attributes
    ----------
    name : str
    role : str
        A key of ``ROLES``.
    paths : tuple of Path
        Run directories, one per seed. A control that is matched in accuracy has those of the reference.
    method : str
        Name of the method that a control is for; empty for all methods.
    """

    name: str
    role: str
    paths: tuple[Path, ...]
    method: str = ""


@dataclass(frozen=True, eq=False)
class OpenArm:
    """An arm with its runs, one per member, in the same order.

    ``matchings`` say how the stimuli of each run are matched with those of the other runs of the same split.
    """

    arm: Arm
    runs: tuple[Run, ...]
    members: tuple[Member, ...]
    matchings: tuple[Matching | None, ...] = ()

    @property
    def name(self) -> str:
        """The name of the arm."""
        return self.arm.name

    @property
    def training(self) -> dict[str, Any] | None:
        """The settings of the arm's training; None if its networks were trained elsewhere."""
        config = self.runs[0].config
        return dict(config["training"]) if is_trained_here(config) else None


def open_arms(arms: Sequence[Arm], match: str = "inputs") -> list[OpenArm]:
    """Open the runs of all arms. ``match`` as for ``match_stimuli``.

    Raises
    ------
    ValueError
        If there is not one reference and at least one method; if a role, or the method of a control, is unknown; if an
        arm has no runs, too few seeds, a seed twice, or networks that differ in more than their seed; if a training has
        not finished; if runs of one split recorded different stimuli; or if a control does not hold what its role says.
    """
    _check_roles(arms)
    opened = _matched([_open(arm) for arm in arms], match)
    check_roles_are_held([ArmRole(arm.name, arm.arm.role, arm.arm.method, arm.training) for arm in opened])
    return opened


def _check_roles(arms: Sequence[Arm]) -> None:
    names = [arm.name for arm in arms]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"Two arms are called '{repeated}'; give each arm a name of its own.")
    check_roles([ArmRole(arm.name, arm.role, arm.method) for arm in arms])
    for arm in arms:
        if not arm.paths:
            raise ValueError(f"Arm '{arm.name}' ({arm.role}) has no runs; train them, or leave the arm out.")


def _open(arm: Arm) -> OpenArm:
    runs = tuple(Run.open(path) for path in arm.paths)
    for run in runs:
        state = run.status.get("state")
        if is_trained_here(run.config) and state != _ENDED:
            raise ValueError(
                f"Arm '{arm.name}': {run.path} is {state}, not finished. Finish its training, or leave the run out."
            )
    members = tuple(_member(arm, run, k) for k, run in enumerate(runs))
    if len(set(members)) < len(members):
        twice = next(member for member in members if members.count(member) > 1)
        raise ValueError(f"Arm '{arm.name}' has seed {twice.seed} twice; expected one network per seed.")
    for split in {member.split for member in members}:
        n = sum(member.split == split for member in members)
        if n < LEAST_SEEDS:
            raise ValueError(
                f"Arm '{arm.name}' has {n} {'network' if n == 1 else 'networks'}; an effect needs {LEAST_SEEDS} seeds "
                "or more per arm. Train more seeds."
            )
    opened = OpenArm(arm, runs, members)
    for run in runs[1:]:
        different = differing_settings(runs[0].config, run.config)
        if different:
            raise ValueError(
                f"Arm '{arm.name}': {run.path} and {runs[0].path} differ in {_listed(different)}; networks of one arm "
                "may differ in their seeds only."
            )
    return opened


def _member(arm: Arm, run: Run, position: int) -> Member:
    training = run.config.get("training") if is_trained_here(run.config) else None
    if training is None:
        return Member(arm.name, position)
    return Member(arm.name, int(training["seed"]), int(training["split_seed"]))


def differing_settings(
    first: Mapping[str, Any], second: Mapping[str, Any], *, ignored: Sequence[str] = ("seed", "split_seed")
) -> dict[str, tuple[Any, Any]]:
    """Return the settings of training in which the configs of two runs differ, with both values."""
    if not (is_trained_here(first) and is_trained_here(second)):
        return {}
    a, b = (_without_paths(each["training"]) | _fork_of(each) for each in (first, second))
    names = [name for name in (*a, *(name for name in b if name not in a)) if name not in ignored]
    return {name: (a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)}


def _without_paths(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of training without the path of a run that a rule reads, which differs from seed to seed."""
    return {**training, "rule": _PATH.sub("like", str(training.get("rule")))}


def _fork_of(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the step up to which a fork had the rule of its source; nothing for other runs."""
    return {FORK_STEP: config["forked_from"]["step"]} if "forked_from" in config else {}


def _matched(arms: Sequence[OpenArm], match: str) -> list[OpenArm]:
    """Return the arms with the matchings of their stimuli, one for each split."""
    runs: dict[int, dict[Run, str]] = {}
    for arm in arms:
        for member, run in zip(arm.members, arm.runs, strict=True):
            runs.setdefault(member.split, {})[run] = arm.name
    matchings = {split: _match(by_run, match) for split, by_run in runs.items()}
    return [replace(arm, matchings=tuple(matchings[member.split] for member in arm.members)) for arm in arms]


def _match(names: Mapping[Run, str], match: str) -> Matching | None:
    """Match the stimuli of runs, whose arms are given; errors name the arm."""
    first, *others = names
    for run in others:
        try:
            match_stimuli([first, run], match)
        except ValueError as error:
            raise ValueError(f"Arm '{names[run]}': {error}") from None
    return match_stimuli(list(names), match)


def _listed(different: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name} ({second} and {first})" for name, (first, second) in different.items())
