"""Permutation tests of RDMs with randomly relabelled stimuli."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, permutations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repsim.similarity import checks
from repsim.similarity.comparators import COMPARATORS, Comparator
from repsim.similarity.comparators.correlations import inner_together
from repsim.similarity.entries import choose
from repsim.similarity.inference.multiple import adjust, permutation_p
from repsim.similarity.inference.rdm_stack import stacked_rdms
from repsim.similarity.precision import FloatArray
from repsim.similarity.rdm import n_stimuli

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Pairs of permuted RDMs that are computed at a time (16 MiB).
PAIRS_AT_ONCE = 2**21
# Up to this number of stimuli all permutations are enumerated for any n_permutations: 6! = 720.
FEW_STIMULI = 6


@dataclass(frozen=True, eq=False, kw_only=True)
class MantelTest:
    """Values of model RDMs with one data RDM, and with that RDM after permutations of its stimuli.

    Attributes
    ----------
    models : tuple of str
    method : str
    values : array (n_models,)
    null : array (n_permutations, n_models)
        Values with permuted stimuli.
    alternative : str
    exact : bool
        Whether ``null`` contains every permutation of the stimuli once.
    """

    models: tuple[str, ...]
    method: str
    values: FloatArray
    null: FloatArray
    alternative: str
    exact: bool

    @property
    def p(self) -> FloatArray:
        """P-value of each model, (n_models,): (b + 1) / (B + 1), or b / B if the test is exact."""
        return permutation_p(self._extremity(self.null), self._extremity(self.values), exact=self.exact)

    @property
    def p_max(self) -> FloatArray:
        """P-values (n_models,) against the largest model, which bound the probability of any false positive."""
        largest = self._extremity(self.null).max(axis=1, keepdims=True)
        return permutation_p(largest, self._extremity(self.values), exact=self.exact)

    def frame(self, adjustment: str = "fdr_bh") -> pd.DataFrame:
        """Return one row per model: ``model``, ``value``, ``p``, ``p_max`` and ``p_adjusted`` as `adjust` does."""
        import pandas as pd

        return pd.DataFrame(
            {
                "model": self.models,
                "value": self.values,
                "p": self.p,
                "p_max": self.p_max,
                "p_adjusted": adjust(self.p, adjustment),
            }
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw each model over the central 95 % of its values with permuted stimuli; on new axes by default."""
        from repsim.similarity.drawing.result_figures import beside_null

        return beside_null(self.models, self.values, self.null, self.method, ax)

    def _repr_html_(self) -> str:
        """Return a table with one row per model, for notebooks."""
        from repsim.similarity.drawing.notebook import titled

        number = f"all {len(self.null)}" if self.exact else f"{len(self.null)} random"
        return titled(f"{self.method}, {number} permutations; alternative: {self.alternative}", self.frame())

    def _extremity(self, values: FloatArray) -> FloatArray:
        return {"greater": values, "less": -values, "two-sided": np.abs(values)}[self.alternative]


def mantel_test(
    models: Mapping[str, ArrayLike],
    data: ArrayLike,
    *,
    method: str | Comparator | Callable[[FloatArray, FloatArray], float] = "pearson",
    alternative: str = "greater",
    n_permutations: int = 10_000,
    seed: int = 0,
) -> MantelTest:
    """Test model RDMs against a data RDM by permuting the stimuli of the data.

    The null hypothesis is that the two RDMs are unrelated: any relabelling of the stimuli of one of them would have
    been as likely. To generalise to other stimuli, use `evaluate_models`.

    Parameters
    ----------
    models : mapping from str to array-like (n * (n - 1) / 2,) or (n, n)
        RDMs, without NaN.
    data : array-like (n * (n - 1) / 2,) or (n, n)
        An RDM of the same stimuli in the same order.
    method : str, Comparator or callable, default "pearson"
        As in `compare_rdms`.
    alternative : {"greater", "less", "two-sided"}, default "greater"
        "two-sided" compares absolute values, which is useful for correlations; for a comparator of one sign, such as
        riemannian, choose one side.
    n_permutations : int, default 10000
        Number of random permutations. If there are no more permutations than that (up to 7 stimuli by default), or at
        most 6 stimuli, every permutation is evaluated once instead, and p is exact.
    seed : int, default 0
        Seed of the permutations.

    Raises
    ------
    ValueError
        If an RDM is invalid or contains NaN, if the method is not defined for it, if the numbers of stimuli differ, or
        if a choice is unknown.

    References
    ----------
    Mantel (1967). The detection of disease clustering and a generalized regression approach. Cancer Research 27.

    Examples
    --------
    >>> from repsim import rdm
    >>> X = np.random.default_rng(0).normal(size=(12, 5))
    >>> mantel_test({"itself": rdm(X)}, rdm(X), n_permutations=99).p
    array([0.01])
    """
    comparator = choose(method, COMPARATORS, Comparator, "method")
    checks.choice(alternative, dict.fromkeys(("greater", "less", "two-sided")), "alternative")
    checks.whole_number(n_permutations, "n_permutations", 1)
    stacked, target = stacked_rdms(models, "models", comparator), stacked_rdms({"data": data}, "data", comparator)
    checks.same_stimuli({"models": n_stimuli(stacked[0]), "data": n_stimuli(target[0])})
    test = permuted_values(comparator, stacked, target, n_permutations, np.random.default_rng(seed))
    return MantelTest(
        models=tuple(models),
        method=comparator.name,
        values=test.values,
        null=test.null,
        alternative=alternative,
        exact=test.exact,
    )


@dataclass(frozen=True, eq=False)
class Permuted:
    """Mean values of models over data RDMs, and the same with the stimuli of the data permuted (``null``).

    ``exact`` tells whether these are all permutations.
    """

    values: FloatArray
    null: FloatArray
    exact: bool


def permuted_values(
    comparator: Comparator, models: FloatArray, data: FloatArray, n_permutations: int, generator: np.random.Generator
) -> Permuted:
    """Compare models with data RDMs whose stimuli are permuted, all data RDMs in the same way.

    RDMs are condensed, (p, m) and (q, m), and the comparator is defined for all. All permutations are enumerated if
    they are no more than ``n_permutations``, and for at most six stimuli.
    """
    n = n_stimuli(data[0])
    n_all = math.factorial(n)
    exact = n <= FEW_STIMULI or n_all <= n_permutations
    number = n_all if exact else n_permutations
    orders: Iterator[NDArray[np.intp]] = (
        map(np.array, permutations(range(n))) if exact else (generator.permutation(n) for _ in range(number))
    )
    means = _mean_values(comparator, models, data)
    at_once = max(1, PAIRS_AT_ONCE // data.size)
    null = np.empty((number, len(models)))
    for start in range(0, number, at_once):
        null[start : start + at_once] = means(np.stack(list(islice(orders, at_once))))
    return Permuted(values=means(np.arange(n)[None])[0], null=null, exact=exact)


def _mean_values(
    comparator: Comparator, models: FloatArray, data: FloatArray
) -> Callable[[NDArray[np.intp]], FloatArray]:
    """Return the function from orders of stimuli (k, n) to mean values (k, n_models) of models over data."""
    prepared = [comparator.prepare(model) for model in models]
    if comparator.together is inner_together:
        # What is prepared are vectors of pairs, which follow the order of the stimuli, as does their mean.
        columns, mean = np.stack(prepared, axis=1), np.mean([comparator.prepare(rdm) for rdm in data], axis=0)
        return lambda orders: _permuted(mean, orders) @ columns

    def one_by_one(orders: NDArray[np.intp]) -> FloatArray:
        total = np.zeros((len(orders), len(models)))
        for rdm in data:
            permuted = [comparator.prepare(each) for each in _permuted(rdm, orders)]
            total += [[comparator.compare(each, model) for model in prepared] for each in permuted]
        return total / len(data)

    return one_by_one


def _permuted(rdm: FloatArray, orders: NDArray[np.intp]) -> FloatArray:
    """Return the condensed RDM after each permutation of its stimuli, (n_orders, m)."""
    n = orders.shape[1]
    i, j = np.triu_indices(n, 1)
    square = np.zeros((n, n))
    square[i, j] = square[j, i] = rdm
    return square.ravel().take((orders * n).take(i, axis=1) + orders.take(j, axis=1))  # faster than two indices
