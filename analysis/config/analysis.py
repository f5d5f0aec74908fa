"""Settings of an analysis: steps, layers, distance, measures and penalties of probes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.config.target_table import TargetTable, chosen_table
from repsim.settings import Settings, setting

if TYPE_CHECKING:
    from probes import ProbeConfig

__all__ = ["AnalysisConfig"]


def _distances() -> Iterable[str]:
    """Return the distances that need nothing but activations."""
    from repsim.similarity import DISTANCES

    return [name for name, each in DISTANCES.items() if not each.needs]


def _measures() -> Iterable[str]:
    from repsim.similarity import MEASURES

    return MEASURES


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig(Settings):
    """Settings that determine what is computed from recorded layers.

    The help text of each field says what it is; the page on commands, under ``repsim analyze``, lists them all. Names
    of distances and measures are compared with the known ones by ``check_choices``, which has to import these.

    Raises
    ------
    ValueError
        If a setting has the wrong type or is out of range; the message names it.
    """

    steps: str | None = setting(
        None,
        help="Recorded steps: first, last, all or numbers with commas.",
        shown={
            "analyze": "first,last",
            "compare": "last; of arms with controls, all",
            "power": "last; of arms with controls, all",
            "figures": "as for analyze and compare",
        },
    )
    layers: tuple[str, ...] = setting(
        ("**",),
        help="Recorded layers or patterns.",
        flags=("--layers", "--layer"),
        singular="layer",
        shown="all",
    )
    distance: str = setting(
        "correlation",
        help="Distance of the RDMs: correlation, cosine, euclidean, sqeuclidean, mahalanobis, poisson, or a metric of "
        "SciPy by name.",
        choices=_distances,
    )
    measures: tuple[str, ...] = setting(
        ("cka",),
        help="Measures that compare layers, see docs/measures.md. Figures show the first.",
        choices=_measures,
        singular="measure",
        unique=True,
        commas=True,
    )
    Cs: tuple[float, ...] = setting(
        (0.001, 0.01, 0.1, 1.0, 10.0),
        help="Values of C that probes choose from; small ones penalise more.",
        singular="C",
        positive=True,
        commas=True,
    )

    targets: str | None = setting(
        None,
        help="A .csv file of further targets of the probes: one row per stimulus with its id, one column per target "
        "(see docs/probes.md).",
    )
    groups: str | None = setting(
        None,
        help="Column of --targets with the group of each stimulus, such as its speaker; the split must not divide one.",
    )

    @property
    def target_table(self) -> TargetTable | None:
        """The table of further targets, if there is one; an error if it cannot be read."""
        return chosen_table(self.targets, self.groups)

    @property
    def probes(self) -> "ProbeConfig":
        """Settings of the table of probes; only the default grid of C is extended if it is too narrow."""
        from probes import ProbeConfig  # imports torch

        return ProbeConfig(Cs="auto" if self.Cs == AnalysisConfig.Cs else self.Cs)
