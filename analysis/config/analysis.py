"""What an analysis is to find out: distance, measures, penalties of probes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any

__all__ = ["AnalysisConfig"]


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """What is computed from recorded layers.

    Attributes
    ----------
    steps : str or None
        Recorded steps: ``first``, ``last``, ``all`` or numbers joined by commas. None: the command's own default
        (``first,last`` of ``analyze_run``, ``last`` of ``compare_runs``).
    layers : tuple of str
        Names or patterns of recorded layers.
    distance : str
        Of the RDMs; a method of ``repsim.similarity.rdm`` that needs activations alone.
    measures : tuple of str
        Keys of ``repsim.similarity.MEASURES``: how layers are compared. The first is the one that figures show.
    Cs : tuple of float, > 0
        Weights of the data against the penalty that probes choose from.
    """

    steps: str | None = None
    layers: tuple[str, ...] = ("**",)
    distance: str = "correlation"
    measures: tuple[str, ...] = ("cka",)
    Cs: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0)

    def check(self) -> None:
        """Compare every field with what there is, which takes a second: it imports all distances and measures.

        Raises
        ------
        ValueError
            If a name is unknown, or a C is not positive and finite.
        """
        from repsim.similarity import DISTANCES, MEASURES

        alone = [name for name, each in DISTANCES.items() if not each.needs]
        if self.distance not in alone:
            raise ValueError(f"Unknown distance '{self.distance}'. Choose one of: {', '.join(alone)}.")
        if not self.measures:
            raise ValueError("No measures were given; expected one or more, such as cka.")
        for name in self.measures:
            if name not in MEASURES:
                raise ValueError(f"Unknown measure '{name}'. Choose from: {', '.join(MEASURES)}.")
        if len(set(self.measures)) < len(self.measures):
            raise ValueError(f"measures are {', '.join(self.measures)}; expected each once.")
        if not self.Cs or not all(isfinite(C) and C > 0 for C in self.Cs):
            listed = ", ".join(map(str, self.Cs)) or "none"
            raise ValueError(f"Cs are {listed}; expected one or more positive, finite numbers.")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AnalysisConfig:
        """Return the settings held in a dictionary.

        Raises
        ------
        ValueError
            If a key is unknown, or a value is of another kind.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"Unknown setting '{unknown[0]}' of an analysis. Choose from: {', '.join(sorted(known))}.")
        usual = cls()
        steps = values.get("steps")
        return cls(
            steps=None if steps is None else _text("steps", steps),
            layers=_texts("layers", values.get("layers", usual.layers)),
            distance=_text("distance", values.get("distance", usual.distance)),
            measures=_texts("measures", values.get("measures", usual.measures)),
            Cs=_numbers("Cs", values.get("Cs", usual.Cs)),
        )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}; expected text.")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} is {value!r}; expected a list of names.")
    return tuple(_text(name, each) for each in value)


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    plain = isinstance(value, list | tuple) and all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in value
    )
    if not plain:
        raise ValueError(f"{name} is {value!r}; expected a list of numbers.")
    try:
        return tuple(map(float, value))
    except OverflowError:
        raise ValueError(f"{name} has a number that is too large: {max(value)!r}.") from None
