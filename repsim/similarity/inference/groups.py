"""Test of a difference between two groups of networks, from similarities within and between them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repsim.similarity import checks
from repsim.similarity.inference.multiple import ROUNDING, permutation_p
from repsim.similarity.pairwise import Pairwise
from repsim.similarity.precision import FloatArray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupTest:
    """Comparison of the similarity of networks within a reference group and with another group.

    Attributes
    ----------
    reference, other : str
        Names of the groups.
    within, between : array (n_cases,)
        Mean similarity (or distance) of pairs of reference networks, and of pairs of a reference and another network.
    differences : array (n_cases,)
        How much further the other group is from the reference than the reference from itself: within minus between, or
        between minus within for distances.
    null : array (n_permutations, n_cases)
        Differences for permuted groups; those equal to the observed difference up to rounding are set to it.
    exact : bool
        Whether the null contains all divisions of the networks into groups.
    """

    reference: str
    other: str
    within: FloatArray
    between: FloatArray
    differences: FloatArray
    null: FloatArray
    exact: bool

    @property
    def p_least(self) -> float:
        """Smallest p-value that is possible with this number of networks."""
        return 1 / len(self.null) if self.exact else 1 / (len(self.null) + 1)

    @property
    def p(self) -> FloatArray:
        """One-sided p-value of each case, (n_cases,): probability of a difference this large by chance."""
        return permutation_p(self.null, self.differences, exact=self.exact)

    @property
    def p_max(self) -> FloatArray:
        """P-values against the largest difference of any case, which bound the probability of any false positive.

        Differences are in units of their spread over divisions, so that no case dominates the others.
        """
        spread = np.where(np.ptp(self.null, axis=0) > 0, self.null.std(axis=0), np.inf)
        return permutation_p(
            (self.null / spread).max(axis=1, keepdims=True), self.differences / spread, exact=self.exact
        )

    def frame(self, names: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Return one row per case: ``within``, ``between``, ``difference``, ``p``, ``p_max``, and columns of names."""
        import pandas as pd

        table = {"within": self.within, "between": self.between, "difference": self.differences}
        return pd.DataFrame({**(names or {}), **table, "p": self.p, "p_max": self.p_max})

    def plot(self, names: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
        """Draw the difference of each case over the central 95 % of differences of permuted groups.

        Parameters
        ----------
        names : sequence of str, optional
            Names of the cases, such as layers; their numbers by default.
        ax : matplotlib Axes, optional
            Axes to draw on; those of a new figure by default.
        """
        from repsim.similarity.drawing.result_figures import beside_null

        cases = list(names) if names is not None else [f"case {k}" for k in range(1, len(self.differences) + 1)]
        if len(cases) != len(self.differences):
            raise ValueError(
                f"{len(cases)} names were given for {len(self.differences)} cases; expected one name per case."
            )
        label = f"distance of {self.other} from {self.reference} minus distance within {self.reference}"
        return beside_null(cases, self.differences, self.null, label, ax)

    def _repr_html_(self) -> str:
        """Return a table with one row per case, for notebooks."""
        from repsim.similarity.drawing.notebook import titled

        return titled(f"{self.other} beside {self.reference}; p is at least {self.p_least:.2g}", self.frame())


def compare_groups(
    similarities: ArrayLike | Pairwise | Sequence[Pairwise],
    groups: ArrayLike,
    *,
    reference: str,
    seeds: ArrayLike | None = None,
    direction: str | None = None,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> GroupTest:
    """Test whether networks of another group are further from the reference group than the reference is from itself.

    For example: are the layers of networks trained with synthetic gradients less similar to those of backprop than two
    backprop networks of different seeds are to one another? The null hypothesis is that the groups do not differ, so
    that the labels of groups can be permuted. If there are few ways to divide the networks, all of them are enumerated.

    Parameters
    ----------
    similarities : array-like (n_networks, n_networks) or (n_cases, n_networks, n_networks), or Pairwise, or several
        Symmetric matrices, one per case. Cases are, for example, layers. The diagonal is not used.
    groups : array-like (n_networks,)
        Group of each network; two groups of at least 2 networks.
    reference : str
        Name of the reference group.
    seeds : array-like (n_networks,), optional
        Seed of each network. Networks of equal seeds started from equal weights and are similar for that reason: such
        pairs are left out. If every seed has one network in each group, groups are permuted within seeds, in
        2 ** n_seeds ways.
    direction : {"similarity", "distance"}, optional
        Whether a larger value means more alike; by default that of a `Pairwise`, and "similarity" for arrays.
    n_permutations : int, default 10000
        Number of random permutations, if there are more ways to divide the networks than that.
    seed : int, default 0
        Seed of the permutations.

    Raises
    ------
    ValueError
        If similarities are not symmetric or not finite, or their diagonal is zero, as that of distances is; if there
        are not two groups of at least two networks; if the reference or the direction is unknown.

    Warns
    -----
    RuntimeWarning
        If there are too few networks for any p-value to be below 0.05.

    Examples
    --------
    >>> S = np.full((8, 8), 0.9)
    >>> S[:4, 4:] = S[4:, :4] = 0.5
    >>> test = compare_groups(S, ["bp"] * 4 + ["sg"] * 4, reference="bp")
    >>> test.differences.round(3), test.p.round(3)
    (array([0.4]), array([0.029]))
    """
    checks.whole_number(n_permutations, "n_permutations", 1)
    values, stated = stacked_similarities(similarities)
    direction = direction or stated
    sign = checks.choice(direction, {"similarity": 1.0, "distance": -1.0}, "direction")
    S, members = check_groups(values, np.asarray(groups), reference, direction)
    starts = None if seeds is None else check_seeds(np.asarray(seeds), len(members))
    usable = ~np.eye(len(members), dtype=bool)
    if starts is not None:
        usable &= starts[:, None] != starts
    within, between = _means(S, usable, members[None])
    if np.isnan(within).any() or np.isnan(between).any():
        raise ValueError(
            "No pair of networks within the reference, or between the groups, has different seeds. Train more seeds."
        )
    divisions, exact = _divisions(members, starts, n_permutations, seed)
    differences = sign * (within[0] - between[0])
    null = sign * np.subtract(*_means(S, usable, divisions))
    # Sums in another order are the same difference: those that differ by rounding of the similarities are equal.
    rounding = ROUNDING * np.abs(S[:, usable]).max(axis=1)
    null = np.where(np.abs(null - differences) <= rounding, differences, null)
    other = next(str(name) for name in np.unique(np.asarray(groups)) if str(name) != str(reference))
    test = GroupTest(
        reference=str(reference),
        other=other,
        within=within[0],
        between=between[0],
        differences=differences,
        null=null[~np.isnan(null).any(axis=1)],
        exact=exact,
    )
    _warn_of_few_networks(test, len(members), stacklevel=3)
    return test


def _warn_of_few_networks(test: GroupTest, n: int, *, stacklevel: int) -> None:
    if test.p_least > 0.05:
        warnings.warn(
            f"{n} networks can be divided in {len(test.null)} ways, so that no p-value can be below "
            f"{test.p_least:.2g}. Train more seeds.",
            RuntimeWarning,
            stacklevel=stacklevel,
        )


def stacked_similarities(similarities: ArrayLike | Pairwise | Sequence[Pairwise]) -> tuple[FloatArray, str]:
    """Return all cases as one array, and whether they are similarities or distances."""
    several = [similarities] if isinstance(similarities, Pairwise) else similarities
    if isinstance(several, list | tuple) and several and all(isinstance(each, Pairwise) for each in several):
        tables = cast("Sequence[Pairwise]", several)
        names = {table.measure for table in tables}
        directions = {table.direction for table in tables}
        if len(directions) > 1:
            raise ValueError(
                f"The cases are of measures {sorted(names)}, similarities and distances. Compare one kind at a time."
            )
        return np.stack([table.values for table in tables]), directions.pop()
    array = np.asarray(several, dtype=np.float64)
    return array[None] if array.ndim == 2 else array, "similarity"


def check_groups(
    S: FloatArray, groups: NDArray[Any], reference: str, direction: str
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the cases, (n_cases, n, n), and a mask of the networks of the reference, after checking them."""
    n = S.shape[-1]
    if S.ndim != 3 or S.shape[1] != n or groups.shape != (n,):
        raise ValueError(
            f"similarities has shape {S.shape} and groups {groups.shape}; expected (n_networks, n_networks), or one "
            "such matrix per case, and one group per network."
        )
    off = ~np.eye(n, dtype=bool)
    if not np.isfinite(S[:, off]).all() or not np.allclose(S[:, off], S.swapaxes(1, 2)[:, off]):
        raise ValueError("similarities are not symmetric and finite off the diagonal. Leave undefined networks out.")
    if direction == "similarity" and not S[:, ~off].any() and (S[:, off] > 0).any():
        raise ValueError("similarities are zero on the diagonal, as distances are. Pass direction='distance'.")
    names, counts = np.unique(groups, return_counts=True)
    if len(names) != 2 or counts.min() < 2:
        sizes = dict(zip(names.tolist(), counts.tolist(), strict=True))
        raise ValueError(f"There are groups {sizes}; expected 2, each of 2 networks or more. Train more seeds.")
    if reference not in names:
        raise ValueError(f"There is no group {reference!r}. Choose one of: {', '.join(map(str, names))}.")
    return S, groups == reference


def check_seeds(starts: NDArray[Any], n: int) -> NDArray[Any]:
    """Return the seeds after checking that there is one per network."""
    if starts.shape != (n,):
        raise ValueError(f"seeds has shape {starts.shape}; expected ({n},), one per network.")
    return starts


def _means(S: FloatArray, usable: NDArray[np.bool_], members: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Return mean similarities within the reference and between the groups, (n_divisions, n_cases) each."""
    chosen = members.astype(np.float64)  # (n_divisions, n)
    values, counts = np.where(usable, S, 0.0), usable.astype(np.float64)

    def mean(left: FloatArray, right: FloatArray) -> FloatArray:
        sums = np.stack([np.vecdot(left @ value, right) for value in values], axis=1)
        pairs = np.vecdot(left @ counts, right)[:, None]
        with np.errstate(invalid="ignore"):
            return np.where(pairs > 0, sums / np.where(pairs > 0, pairs, 1), np.nan)

    return mean(chosen, chosen), mean(chosen, 1 - chosen)


def _divisions(
    members: NDArray[np.bool_], starts: NDArray[Any] | None, k: int, seed: int
) -> tuple[NDArray[np.bool_], bool]:
    """Return masks of reference networks (n_divisions, n_networks), and whether these are all divisions."""
    generator = np.random.default_rng(seed)
    if starts is not None and _are_paired(members, starts):
        _, pair = np.unique(starts, return_inverse=True)
        n_pairs = int(pair.max()) + 1
        exact = 2**n_pairs <= k
        swapped = (
            np.array(list(product([False, True], repeat=n_pairs))) if exact else generator.random((k, n_pairs)) < 0.5
        )
        return members ^ swapped[:, pair], exact
    n, size = len(members), int(members.sum())
    if math.comb(n, size) > k:
        return generator.permuted(np.tile(members, (k, 1)), axis=1), False
    chosen = list(combinations(range(n), size))
    divisions = np.zeros((len(chosen), n), dtype=bool)
    np.put_along_axis(divisions, np.array(chosen), values=True, axis=1)
    return divisions, True


def _are_paired(members: NDArray[np.bool_], starts: NDArray[Any]) -> bool:
    """Return whether every seed has one network in each group."""
    reference, other = np.sort(starts[members]), np.sort(starts[~members])
    return np.array_equal(reference, other) and len(np.unique(reference)) == len(reference)
