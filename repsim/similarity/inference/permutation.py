"""Whether two RDMs agree more than they would if the stimuli of one had been labelled at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repsim.similarity import checks
from repsim.similarity.arrays import FloatArray
from repsim.similarity.comparators import COMPARATORS, Comparator
from repsim.similarity.inference.bootstrap import stacked_rdms
from repsim.similarity.inference.multiple import adjust, p_value
from repsim.similarity.rdm import n_stimuli

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Permuted RDMs are made for this many pairs at a time (16 MiB).
PAIRS_AT_ONCE = 2**21


@dataclass(frozen=True, eq=False, kw_only=True)
class MantelTest:
    """Model RDMs against one data RDM, and against that RDM with its stimuli permuted.

    Attributes
    ----------
    models : tuple of str
    method : str
    values : array (n_models,)
    null : array (n_permutations, n_models)
        Values with permuted stimuli.
    alternative : str
    """

    models: tuple[str, ...]
    method: str
    values: FloatArray
    null: FloatArray
    alternative: str

    @property
    def p(self) -> FloatArray:
        """P-value of each model, (b + 1) / (B + 1), shape (n_models,)."""
        return p_value((self._extremity(self.null) >= self._extremity(self.values)).sum(axis=0), len(self.null))

    @property
    def p_max(self) -> FloatArray:
        """P-values (n_models,) that bound the probability of one false finding or more: against the largest model."""
        largest = self._extremity(self.null).max(axis=1, keepdims=True)
        return p_value((largest >= self._extremity(self.values)).sum(axis=0), len(self.null))

    def frame(self, adjustment: str = "fdr_bh") -> pd.DataFrame:
        """Return one row a model: ``model``, ``value``, ``p``, ``p_max`` and ``p_adjusted`` as `adjust` does."""
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
        """Draw each model's value over where 95 % of those with permuted stimuli lie.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Of a new figure by default.
        """
        from repsim.similarity.drawing import beside_null

        return beside_null(self.models, self.values, self.null, self.method, ax)

    def _repr_html_(self) -> str:
        """Show one row a model in a notebook."""
        from repsim.similarity.html import titled

        return titled(f"{self.method}, {len(self.null)} permutations; alternative: {self.alternative}", self.frame())

    def _extremity(self, values: FloatArray) -> FloatArray:
        return {"greater": values, "less": -values, "two-sided": np.abs(values)}[self.alternative]


def mantel_test(
    models: Mapping[str, ArrayLike],
    data: ArrayLike,
    *,
    method: str = "pearson",
    alternative: str = "greater",
    n_permutations: int = 10_000,
    seed: int = 0,
) -> MantelTest:
    """Test model RDMs against a data RDM by permuting the stimuli of the data.

    The null hypothesis is that stimuli are exchangeable: that it does not matter which is which. It says nothing about
    other stimuli (for that, bootstrap them).

    Parameters
    ----------
    models : mapping from str to array-like (n * (n - 1) / 2,) or (n, n)
        RDMs, without NaN.
    data : array-like (n * (n - 1) / 2,) or (n, n)
        An RDM of the same stimuli in the same order.
    method : str, default "pearson"
        A key of `COMPARATORS`.
    alternative : {"greater", "less", "two-sided"}, default "greater"
        "two-sided" goes by the absolute value.
    n_permutations : int, default 10000
    seed : int, default 0

    Returns
    -------
    MantelTest

    Raises
    ------
    ValueError
        If an RDM is not one, or holds NaN, or the method is not defined for it, or the numbers of stimuli differ, or a
        choice is unknown.

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
    comparator = checks.choice(method, COMPARATORS, "method")
    checks.choice(alternative, dict.fromkeys(("greater", "less", "two-sided")), "alternative")
    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}; expected at least 1.")
    stacked, target = stacked_rdms(models, "models", method), stacked_rdms({"data": data}, "data", method)[0]
    n = n_stimuli(target)
    checks.same_stimuli({"models": n_stimuli(stacked[0]), "data": n})
    values = _values(comparator, stacked)
    generator = np.random.default_rng(seed)
    orders = (generator.permutation(n) for _ in range(n_permutations))
    at_once = max(1, PAIRS_AT_ONCE // len(target))
    null = np.empty((n_permutations, len(stacked)))
    for start in range(0, n_permutations, at_once):
        chosen = [next(orders) for _ in range(min(at_once, n_permutations - start))]
        null[start : start + len(chosen)] = values(_permuted(target, chosen))
    return MantelTest(
        models=tuple(models), method=method, values=values(target[None])[0], null=null, alternative=alternative
    )


def _values(comparator: Comparator, models: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Return the function from RDMs (k, m) to their values with all models (k, n_models)."""
    prepared = [comparator.prepare(model) for model in models]
    if comparator.together is not None:
        together = comparator.together

        def at_once(rdms: FloatArray) -> FloatArray:
            return together([comparator.prepare(rdm) for rdm in rdms], prepared)

        return at_once

    def one_by_one(rdms: FloatArray) -> FloatArray:
        own: list[Any] = [comparator.prepare(rdm) for rdm in rdms]
        return np.array([[comparator.compare(each, model) for model in prepared] for each in own])

    return one_by_one


def _permuted(rdm: FloatArray, orders: list[NDArray[np.intp]]) -> FloatArray:
    """Return the condensed RDM with its stimuli in other orders, (n_orders, m)."""
    n = len(orders[0])
    i, j = np.triu_indices(n, 1)
    square = np.zeros((n, n))
    square[i, j] = square[j, i] = rdm
    return np.stack([square[order[i], order[j]] for order in orders])
