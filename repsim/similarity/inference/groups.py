"""Whether two groups of networks differ: similarity within one, beside similarity between the two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repsim.similarity.arrays import FloatArray
from repsim.similarity.inference.multiple import p_value

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupTest:
    """Whether networks of one group are less similar to those of another than among themselves.

    Attributes
    ----------
    reference, other : str
        The groups.
    within, between : array (n_cases,)
        Mean similarity of networks of the reference among themselves, and with those of the other group.
    null : array (n_permutations, n_cases)
        Differences, within minus between, for permuted groups.
    exact : bool
        Whether these are all the ways to divide the networks.
    """

    reference: str
    other: str
    within: FloatArray
    between: FloatArray
    null: FloatArray
    exact: bool

    @property
    def differences(self) -> FloatArray:
        """Within minus between, (n_cases,): positive if the other group is further away than the reference's own."""
        return self.within - self.between

    @property
    def p(self) -> FloatArray:
        """One-sided p-value of each case, (n_cases,): of a difference as large as this by chance."""
        return self._share(self.null, self.differences)

    @property
    def p_max(self) -> FloatArray:
        """The same, bounding the probability of one false finding or more: against the largest difference of any case.

        Differences are in units of their spread over divisions, so that no case drowns the others.
        """
        spread = np.where(self.null.std(axis=0) > 0, self.null.std(axis=0), np.inf)
        return self._share((self.null / spread).max(axis=1, keepdims=True), self.differences / spread)

    def frame(self, names: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Return one row a case: ``within``, ``between``, ``difference``, ``p``, ``p_max``, and columns of names."""
        import pandas as pd

        table = {"within": self.within, "between": self.between, "difference": self.differences}
        return pd.DataFrame({**(names or {}), **table, "p": self.p, "p_max": self.p_max})

    def _share(self, null: FloatArray, values: FloatArray) -> FloatArray:
        slack = 1e-12 * np.abs(null).max(initial=0.0)  # sums in another order are the same difference
        hits = (null >= values - slack).sum(axis=0)
        return hits / len(null) if self.exact else p_value(hits, len(null))


def compare_groups(
    similarities: ArrayLike,
    groups: ArrayLike,
    *,
    reference: str,
    seeds: ArrayLike | None = None,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> GroupTest:
    """Test whether networks of another group are less similar to the reference's than those are among themselves.

    Such as: are the layers of networks trained with synthetic gradients less similar to those of backprop than two
    backprop networks of different seeds are? The null hypothesis is that the groups do not differ: that it does not
    matter which networks are called which. Where there are few ways to divide the networks, all are counted.

    Parameters
    ----------
    similarities : array-like (n_networks, n_networks) or (n_cases, n_networks, n_networks)
        Symmetric; the larger, the more similar. Cases are, for example, layers. The diagonal is not used.
    groups : array-like (n_networks,)
        Two groups, each at least 2 networks.
    reference : str
        One of them.
    seeds : array-like (n_networks,), optional
        Networks of equal seeds started from equal weights; such pairs are left out, within and between.
    n_permutations : int, default 10000
        Drawn where there are more ways than that.
    seed : int, default 0

    Returns
    -------
    GroupTest

    Raises
    ------
    ValueError
        If similarities are not symmetric or not finite, if there are not two groups of two networks, or if the
        reference is none of them.

    Examples
    --------
    >>> S = np.full((6, 6), 0.9)
    >>> S[:3, 3:] = S[3:, :3] = 0.5
    >>> test = compare_groups(S, ["bp"] * 3 + ["sg"] * 3, reference="bp")
    >>> test.differences.round(3), test.p
    (array([0.4]), array([0.1]))
    """
    S, members = _check_groups(np.asarray(similarities, dtype=np.float64), np.asarray(groups), reference)
    n = len(members)
    usable = ~np.eye(n, dtype=bool)
    if seeds is not None:
        starts = np.asarray(seeds)
        if starts.shape != (n,):
            raise ValueError(f"seeds has shape {starts.shape}; expected ({n},), one a network.")
        usable &= starts[:, None] != starts
    exact = math.comb(n, int(members.sum())) <= n_permutations
    divisions = _all_divisions(members) if exact else _random_divisions(members, n_permutations, seed)
    within, between = _means(S, usable, members[None])
    if np.isnan(within).any() or np.isnan(between).any():
        raise ValueError("No pair of networks within the reference, or between the groups, has different seeds.")
    null = np.subtract(*_means(S, usable, divisions))
    other = next(str(name) for name in np.unique(np.asarray(groups)) if str(name) != str(reference))
    known = ~np.isnan(null).any(axis=1)
    return GroupTest(
        reference=str(reference), other=other, within=within[0], between=between[0], null=null[known], exact=exact
    )


def _check_groups(S: FloatArray, groups: NDArray[Any], reference: str) -> tuple[FloatArray, NDArray[np.bool_]]:
    if S.ndim == 2:
        S = S[None]
    n = S.shape[-1]
    if S.ndim != 3 or S.shape[1] != n or groups.shape != (n,):
        raise ValueError(
            f"similarities has shape {S.shape} and groups {groups.shape}; expected (n_networks, n_networks), or one "
            "such matrix a case, and one group a network."
        )
    off = ~np.eye(n, dtype=bool)
    if not np.isfinite(S[:, off]).all() or not np.allclose(S[:, off], S.swapaxes(1, 2)[:, off]):
        raise ValueError("similarities are not symmetric and finite beside the diagonal. Leave undefined networks out.")
    names, counts = np.unique(groups, return_counts=True)
    if len(names) != 2 or counts.min() < 2:
        found = dict(zip(names.tolist(), counts.tolist(), strict=True))
        raise ValueError(f"There are groups {found}; expected 2, each of 2 networks or more.")
    if reference not in names:
        raise ValueError(f"There is no group {reference!r}. Choose one of: {', '.join(map(str, names))}.")
    return S, groups == reference


def _means(S: FloatArray, usable: NDArray[np.bool_], members: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Mean similarity within the reference and between the groups, (n_divisions, n_cases) each."""
    chosen = members.astype(np.float64)  # (n_divisions, n)
    values, counts = np.where(usable, S, 0.0), usable.astype(np.float64)

    def mean(left: FloatArray, right: FloatArray) -> FloatArray:
        sums = np.stack([np.vecdot(left @ value, right) for value in values], axis=1)
        pairs = np.vecdot(left @ counts, right)[:, None]
        with np.errstate(invalid="ignore"):
            return np.where(pairs > 0, sums / np.where(pairs > 0, pairs, 1), np.nan)

    return mean(chosen, chosen), mean(chosen, 1 - chosen)


def _all_divisions(members: NDArray[np.bool_]) -> NDArray[np.bool_]:
    n = len(members)
    chosen = list(combinations(range(n), int(members.sum())))
    divisions = np.zeros((len(chosen), n), dtype=bool)
    np.put_along_axis(divisions, np.array(chosen), values=True, axis=1)
    return divisions


def _random_divisions(members: NDArray[np.bool_], k: int, seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).permuted(np.tile(members, (k, 1)), axis=1)
