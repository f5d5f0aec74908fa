"""Alignment of arms: which recorded steps of different trainings are compared with each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.comparison.attribution.arms import OpenArm
from analysis.config.recorded_steps import is_trained_here
from checkpoints import Run

__all__ = ["ALIGNMENTS", "AlignedStep", "align", "logged_accuracy"]


@dataclass(frozen=True)
class AlignedStep:
    """Steps that are compared with each other.

    Attributes
    ----------
    name : str
        Such as "25 %", "step 400" or "epoch 10".
    steps : dict of str to tuple of int
        The step of each network, by arm.
    accuracy_gaps : dict of str to float
        How far the mean validation accuracy of an arm that is matched in accuracy is from that of its method.
    """

    name: str
    steps: Mapping[str, tuple[int, ...]]
    accuracy_gaps: Mapping[str, float]


def align(
    arms: Sequence[OpenArm], *, by: str = "fraction", steps: str = "all", matched: Mapping[str, str] | None = None
) -> list[AlignedStep]:
    """Return the recorded steps at which all arms can be compared, ascending. Untrained networks are left out.

    Parameters
    ----------
    arms : sequence of OpenArm
    by : {"fraction", "step", "epoch"}, default "fraction"
        Networks are compared after an equal share of their training, an equal number of updates, or of epochs.
    steps : str, default "all"
        ``all``, ``first``, ``last``, or positions joined by commas: shares such as 25%, or numbers.
    matched : dict of str to str, optional
        Arms that are compared at the steps with the validation accuracy of another arm, which they map to.

    Raises
    ------
    ValueError
        If arms have no such step in common, a position was not recorded by all arms, or an accuracy is not known.
    """
    matched = matched or {}
    free = [arm for arm in arms if arm.name not in matched]
    position, unit = ALIGNMENTS[by]
    places = _common(free, position, by)
    chosen = _choose(places, steps, unit, by)
    aligned = []
    for place in chosen:
        found = {arm.name: tuple(_nearest(run, position, place) for run in arm.runs) for arm in free}
        gaps = {}
        for arm in (arm for arm in arms if arm.name in matched):
            model = next(each for each in arms if each.name == matched[arm.name])
            goal = float(
                np.mean([_accuracy(run, step) for run, step in zip(model.runs, found[model.name], strict=True)])
            )
            found[arm.name] = tuple(_nearest_accuracy(run, goal) for run in arm.runs)
            reached = [_accuracy(run, step) for run, step in zip(arm.runs, found[arm.name], strict=True)]
            gaps[arm.name] = float(np.mean(reached)) - goal
        aligned.append(AlignedStep(_name(place, unit), found, gaps))
    return aligned


def _fraction(run: Run, step: int) -> float:
    return step / _n_steps(run)


def _epoch(run: Run, step: int) -> float:
    epochs = run.config["training"]["epochs"] if is_trained_here(run.config) else None
    if not epochs:
        raise ValueError(f"{run.path} does not say how many epochs it was trained for; align by step or fraction.")
    return step * epochs / _n_steps(run)


def _step(run: Run, step: int) -> float:
    return float(step)


def _n_steps(run: Run) -> int:
    return int(run.status.get("n_steps") or run.recorded_steps[-1] or 1)


Position = Callable[[Run, int], float]
ALIGNMENTS: dict[str, tuple[Position, str]] = {
    "fraction": (_fraction, "%"),
    "step": (_step, "step"),
    "epoch": (_epoch, "epoch"),
}


def _common(arms: Sequence[OpenArm], position: Position, by: str) -> list[float]:
    """Return the positions, after the untrained network, that every run recorded."""
    first = arms[0].runs[0]
    places = [position(first, step) for step in first.recorded_steps if step > 0]
    for arm in arms:
        for run in arm.runs:
            room = _rounding(first, position) + _rounding(run, position)
            recorded = [position(run, step) for step in run.recorded_steps if step > 0]
            places = [place for place in places if any(abs(each - place) <= room + 1e-9 for each in recorded)]
    if not places:
        raise ValueError(
            f"The arms {', '.join(arm.name for arm in arms)} recorded no step of trained networks at an equal {by}. "
            "Record them at equal shares of their training (--steps 25%,50%,100%), or align them by another quantity."
        )
    return places


def _rounding(run: Run, position: Position) -> float:
    """Return by how much a recorded step may be off a share of training: half an update; steps are exact."""
    return 0.0 if position is _step else position(run, 1) / 2


def _nearest(run: Run, position: Position, place: float) -> int:
    return min((step for step in run.recorded_steps if step > 0), key=lambda step: abs(position(run, step) - place))


def _choose(places: Sequence[float], text: str, unit: str, by: str) -> list[float]:
    chosen: set[float] = set()
    for part in (each.strip() for each in text.split(",")):
        if part == "all":
            chosen.update(places)
        elif part in ("first", "last"):
            chosen.add(places[0 if part == "first" else -1])
        else:
            chosen.add(_named(part, places, unit, by))
    return sorted(chosen)


def _named(text: str, places: Sequence[float], unit: str, by: str) -> float:
    number = text[:-1] if unit == "%" and text.endswith("%") else text
    if (text.endswith("%") == (unit == "%")) and number.replace(".", "", 1).isdecimal():
        value = float(number) / (100 if unit == "%" else 1)
        nearest = min(places, key=lambda place: abs(place - value))
        if abs(nearest - value) <= 0.005 * max(places):
            return nearest
    raise ValueError(
        f"'{text}' is not a {by} that all arms recorded. Use first, last, all or any of: "
        f"{', '.join(_text(place, unit) for place in places)}."
    )


def _text(place: float, unit: str) -> str:
    return f"{100 * place:.3g}%" if unit == "%" else f"{place:g}"


def _name(place: float, unit: str) -> str:
    return f"{100 * place:.3g} %" if unit == "%" else f"{unit} {place:g}"


def logged_accuracy(run: Run, step: int) -> float | None:
    """Return the validation accuracy at the end of the last epoch that a step completes; None if it is not known."""
    known = [
        (record["step"], record["validation_accuracy"])
        for record in run.metrics()
        if record.get("validation_accuracy") is not None and record.get("step", 0) <= step
    ]
    return float(max(known)[1]) if known else None


def _accuracy(run: Run, step: int) -> float:
    found = logged_accuracy(run, step)
    if found is None:
        raise ValueError(
            f"{run.path} logged no validation accuracy up to step {step}; arms can be matched in accuracy only after "
            "the first epoch. Compare later steps, such as --steps 50%,100%."
        )
    return found


def _nearest_accuracy(run: Run, goal: float) -> int:
    accuracies = {step: logged_accuracy(run, step) for step in run.recorded_steps if step > 0}
    known = {step: value for step, value in accuracies.items() if value is not None}
    if not known:
        _accuracy(run, run.recorded_steps[-1])  # raises
    return min(known, key=lambda step: abs(known[step] - goal))
