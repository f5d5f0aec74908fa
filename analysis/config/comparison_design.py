"""Settings of a comparison of arms: how they are aligned, their controls, and the smallest differences of interest."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from analysis.config.roles import CONTROLS
from repsim.settings import Settings, setting

__all__ = ["DesignConfig"]

SIMILARITY = "similarity"  # stands for every measure whose larger values mean more alike
_USUAL_MEASURE = "cka"  # known to be a similarity without the import of all measures, which takes a second
_QUANTITIES = (SIMILARITY, "class_structure", "log_dimension", "accuracy")


@dataclass(frozen=True, kw_only=True)
class DesignConfig(Settings):
    """Settings of a comparison of arms: groups of networks that differ in their seeds only, each with a role.

    The help text of each field says what it is; the page on commands, under ``repsim compare``, lists them all.

    Raises
    ------
    ValueError
        If a setting has the wrong type or form; the message names it.
    """

    controls: tuple[str, ...] = setting(
        (),
        help="A control, ROLE=RUNS or ROLE@METHOD=RUNS, where RUNS is a pattern such as 'greedy/seed-*'. Roles: "
        "schedule-matched, accuracy-matched, decoupled, truncated, gradient-quality-matched, reseeded.",
        flags=("--control",),
        singular="control",
    )
    match: str = setting(
        "inputs",
        help="What compared runs have in common: the same inputs, in any order, or only the ids of the stimuli, such "
        "as the same images at another resolution; ids that not all runs have are then left out.",
        choices=("inputs", "ids"),
    )
    align: str = setting(
        "fraction",
        help="Networks of arms are compared at an equal fraction of training, step, epoch or validation accuracy.",
        choices=("fraction", "step", "epoch", "accuracy"),
    )
    smallest_effects: tuple[str, ...] = setting(
        ("similarity=0.05", "class_structure=0.05", "accuracy=0.02"),
        help="Smallest differences of interest between arms, QUANTITY=SIZE. Quantities: similarity or a measure, "
        "class_structure, accuracy (of probes), log_dimension. Only those named are compared.",
        flags=("--smallest-effect",),
        singular="smallest effect",
    )

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        _ = self.smallest, self.control_patterns

    @property
    def smallest(self) -> Mapping[str, float]:
        """Smallest difference of interest by quantity; ``"similarity"`` stands for every similarity not named."""
        found: dict[str, float] = {}
        for text in self.smallest_effects:
            name, equals, size = (part.strip() for part in text.partition("="))
            value = _number(size)
            if not equals or not name or value is None or not 0 < value < math.inf:
                raise ValueError(
                    f"smallest effect is '{text}'; expected QUANTITY=SIZE with a size above 0, such as cka=0.05."
                )
            if name in found:
                raise ValueError(f"smallest_effects name {name} twice.")
            found[name] = value
        return MappingProxyType(found)

    @property
    def control_patterns(self) -> tuple[tuple[str, str, str], ...]:
        """Role, method ("" for all) and pattern of runs of each control."""
        found = []
        for text in self.controls:
            described, equals, pattern = (part.strip() for part in text.partition("="))
            role, _, method = described.partition("@")
            if not equals or not role or not pattern:
                raise ValueError(f"control is '{text}'; expected ROLE=RUNS, such as decoupled='runs/greedy/seed-*'.")
            if role not in CONTROLS:
                raise ValueError(f"Unknown role '{role}' of a control. Choose one of: {', '.join(CONTROLS)}.")
            found.append((role, method, pattern))
        return tuple(found)

    def smallest_of(self, measures: Iterable[str]) -> dict[str, float]:
        """Return the smallest differences of the measures and other quantities that are compared.

        Raises
        ------
        ValueError
            If a quantity is unknown.
        """
        named = dict(self.smallest)
        every = named.pop(SIMILARITY, None)
        chosen = {name: named.pop(name, every if _is_similarity(name) else None) for name in measures}
        unknown = [name for name in named if name not in _QUANTITIES]
        if unknown:
            raise ValueError(
                f"Unknown quantity '{unknown[0]}' in smallest_effects. Choose one of: "
                f"{', '.join((*measures, *_QUANTITIES))}; measures have to be among --measures."
            )
        return {name: size for name, size in chosen.items() if size is not None} | named


def _is_similarity(measure: str) -> bool:
    """Return whether a measure is known and grows with likeness."""
    if measure == _USUAL_MEASURE:
        return True
    from repsim.similarity import MEASURES  # slow to import

    return measure in MEASURES and MEASURES[measure].direction == "similarity"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
