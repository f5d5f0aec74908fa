"""Size of the difference between two groups of networks, beyond the difference between networks of one group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repsim.similarity import checks
from repsim.similarity.inference.groups import check_groups, check_seeds, stacked_similarities
from repsim.similarity.pairwise import Pairwise
from repsim.similarity.precision import FloatArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GroupEffect", "group_effect"]

_LEAST = 3  # seeds of a group: with one left out, there must be a pair


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupEffect:
    """How much less similar two groups of networks are to each other than each is to itself.

    Attributes
    ----------
    reference, other : str
        Names of the groups.
    within_reference, within_other, between : array (n_cases,)
        Mean similarity (or distance) of pairs of different seeds.
    effects : array (n_cases,)
        Mean of the two ``within`` minus ``between``; for distances, ``between`` minus that mean. Zero if the groups are
        equally distributed; positive if they are further apart than networks of one group.
    units : tuple
        Units of replication: the seeds, if both groups have the same; otherwise (group, number) of each network.
    influences : array (n_units, n_cases)
        Contribution of each unit to the error of the effects (jackknife): the squares sum to the squared standard
        error, and influences of several effects of the same units give the correlations of their errors.
    n_replicates : int
        Number of networks in the smaller group. Degrees of freedom are one less.
    """

    reference: str
    other: str
    within_reference: FloatArray
    within_other: FloatArray
    between: FloatArray
    effects: FloatArray
    units: tuple[Any, ...]
    influences: FloatArray
    n_replicates: int

    @property
    def standard_errors(self) -> FloatArray:
        """Standard error of each effect, (n_cases,)."""
        return np.sqrt(np.square(self.influences).sum(axis=0))

    def frame(self, *, level: float = 0.95) -> pd.DataFrame:
        """Return one row per case: the three means, ``effect``, ``standard_error``, and an interval for one case."""
        import pandas as pd
        from scipy.stats import t as student

        if not 0 < level < 1:
            raise ValueError(f"level is {level}; expected a number between 0 and 1, such as 0.95.")
        half = student.ppf(0.5 + level / 2, self.n_replicates - 1) * self.standard_errors
        return pd.DataFrame(
            {
                "within_reference": self.within_reference,
                "within_other": self.within_other,
                "between": self.between,
                "effect": self.effects,
                "standard_error": self.standard_errors,
                "low": self.effects - half,
                "high": self.effects + half,
            }
        )


def group_effect(
    similarities: ArrayLike | Pairwise | Sequence[Pairwise],
    groups: ArrayLike,
    *,
    reference: str,
    seeds: ArrayLike | None = None,
    direction: str | None = None,
) -> GroupEffect:
    r"""Estimate how much less similar two groups of networks are to each other than each is to itself.

    With :math:`\bar s_{RR}`, :math:`\bar s_{AA}` and :math:`\bar s_{RA}` the mean similarities of pairs of different
    networks within the reference, within the other group and between them,

    .. math:: \Delta = \tfrac12 (\bar s_{RR} + \bar s_{AA}) - \bar s_{RA} .

    For a similarity that is an inner product of normalised representations, such as linear CKA or the correlation of
    RDMs, the expectation of :math:`\Delta` is half the squared distance between the mean representations of the groups:
    half a maximum mean discrepancy [1]_. It is zero only if these are equal. The mean over the two groups matters:
    the similarity within the reference alone would call a group different because it is less variable.

    `compare_groups` tests whether there is any difference; this function says how large it is. Errors are those of the
    jackknife, which leaves out one seed at a time: from both groups if they have the same seeds, otherwise from one
    group at a time [2]_. Where the true effect is zero, these errors are too large by up to a factor :math:`\sqrt 2`,
    so that intervals are conservative.

    Parameters
    ----------
    similarities : array-like (n_networks, n_networks) or (n_cases, n_networks, n_networks), or Pairwise, or several
        Symmetric matrices, one per case. Cases are, for example, layers. The diagonal is not used.
    groups : array-like (n_networks,)
        Group of each network; two groups of at least 3 networks.
    reference : str
        Name of the reference group.
    seeds : array-like (n_networks,), optional
        Seed of each network. Networks of equal seeds started from equal weights and are similar for that reason: such
        pairs are left out.
    direction : {"similarity", "distance"}, optional
        Whether a larger value means more alike; by default that of a `Pairwise`, and "similarity" for arrays.

    Raises
    ------
    ValueError
        If similarities are not symmetric or not finite; if there are not two groups of at least three networks, each
        of another seed than the others of its group; if the reference or the direction is unknown.

    References
    ----------
    .. [1] Gretton et al. (2012). A kernel two-sample test. JMLR 13, 723-773, lemma 6.
    .. [2] Arvesen (1969). Jackknifing U-statistics. Ann. Math. Stat. 40, 2076-2100.

    Examples
    --------
    >>> S = np.full((8, 8), 0.9)
    >>> S[:4, 4:] = S[4:, :4] = 0.5
    >>> effect = group_effect(S, ["bp"] * 4 + ["sg"] * 4, reference="bp")
    >>> effect.frame()[["within_reference", "between", "effect"]].round(3)
       within_reference  between  effect
    0               0.9      0.5     0.4
    """
    values, stated = stacked_similarities(similarities)
    direction = direction or stated
    sign = checks.choice(direction, {"similarity": 1.0, "distance": -1.0}, "direction")
    names = np.asarray(groups)
    S, members = check_groups(values, names, reference, direction)
    other = next(str(name) for name in np.unique(names) if str(name) != str(reference))
    starts = np.arange(len(members)) if seeds is None else check_seeds(np.asarray(seeds), len(members))
    _check_sizes(members, starts, (str(reference), other))

    usable = starts[:, None] != starts
    means = _means(S, usable, members, np.ones(len(members), dtype=bool))
    units, strata = _units(members, starts, (str(reference), other))
    influences = np.zeros((len(units), len(S)))
    for rows in strata:
        left_out = np.stack([_contrast(_means(S, usable, members, ~units[row][1])) for row in rows])
        n = len(rows)
        influences[rows] = sign * (left_out.mean(axis=0) - left_out) * np.sqrt((n - 1) / n)
    return GroupEffect(
        reference=str(reference),
        other=other,
        within_reference=means[0],
        within_other=means[1],
        between=means[2],
        effects=sign * _contrast(means),
        units=tuple(key for key, _ in units),
        influences=influences,
        n_replicates=min(map(len, strata)),
    )


def _check_sizes(members: NDArray[np.bool_], starts: NDArray[Any], names: tuple[str, str]) -> None:
    for name, group in zip(names, (members, ~members), strict=True):
        n_seeds = len(np.unique(starts[group]))
        if n_seeds < group.sum():
            raise ValueError(f"Group {name!r} has several networks of one seed; expected one network per seed.")
        if n_seeds < _LEAST:
            raise ValueError(
                f"Group {name!r} has {n_seeds} networks; the error of an effect needs {_LEAST} or more per group. "
                "Train more seeds."
            )


def _units(
    members: NDArray[np.bool_], starts: NDArray[Any], names: tuple[str, str]
) -> tuple[list[tuple[Any, NDArray[np.bool_]]], list[list[int]]]:
    """Return each unit with a mask of its networks, and the units of each independent sample by their positions."""
    if set(starts[members].tolist()) == set(starts[~members].tolist()):
        paired = [(seed, starts == seed) for seed in np.unique(starts).tolist()]
        return paired, [list(range(len(paired)))]
    units = [
        ((name, seed), group & (starts == seed))
        for name, group in zip(names, (members, ~members), strict=True)
        for seed in starts[group].tolist()
    ]
    n = int(members.sum())
    return units, [list(range(n)), list(range(n, len(units)))]


def _means(
    S: FloatArray, usable: NDArray[np.bool_], members: NDArray[np.bool_], kept: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean similarities within the reference, within the other group and between, (n_cases,) each."""
    sides = (members & kept, ~members & kept)
    pairs = ((sides[0], sides[0]), (sides[1], sides[1]), sides)
    return tuple(S[:, np.outer(a, b) & usable].mean(axis=1) for a, b in pairs)


def _contrast(means: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
    return (means[0] + means[1]) / 2 - means[2]
