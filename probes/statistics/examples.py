"""Bootstrap interval of an accuracy over test examples."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probes.statistics.seed_values import check_draws

Array = NDArray[np.float64]


class ExampleInterval(NamedTuple):
    """An accuracy and its bootstrap interval; see `example_interval`."""

    mean: float
    low: float
    high: float


def example_interval(
    hits: ArrayLike, *, groups: ArrayLike | None = None, level: float = 0.95, n_samples: int = 2000, seed: int = 0
) -> ExampleInterval:
    r"""Return a bootstrap interval over test examples for the accuracy of one network, or the mean of several.

    **This is the inner level only.** The interval is about the accuracy of the same networks on other test examples. It
    does not cover networks of other seeds; for these see `seed_bands`.

    With :math:`h_i` the share of the networks that classify example i correctly, it is the percentile interval of

    .. math:: \frac1n \sum_i c_i h_i, \qquad c \sim \text{Multinomial}(n; \tfrac1n, \dots, \tfrac1n) .

    Examples of equal share are drawn together as one count, which gives the same distribution.

    Examples of one group, such as words of one speaker, resemble one another, so that drawing them one by one gives
    an interval that is too narrow. With `groups`, whole groups are drawn instead: as many as there are, each with all
    its examples.

    Parameters
    ----------
    hits : array-like, shape (n,) or (n_networks, n), of bool
        Whether each example was classified correctly. All networks are scored on the same examples in the same order; a
        bootstrap sample is drawn for all of them together.
    groups : array-like, shape (n,), of int or str, optional
        The group of each example.
    level : float, default 0.95
        Level of the interval, within (0, 1).
    n_samples : int, >= 1, default 2000
        Number of bootstrap samples.
    seed : int, default 0
        Seed of these samples.

    Returns
    -------
    ExampleInterval
        `mean`, `low` and `high`, in [0, 1]. If all examples are hits, or none is, the interval has no width.

    Raises
    ------
    ValueError
        If hits are not bool, have another shape or are empty, groups have another length, or a number is out of range.

    References
    ----------
    Efron and Tibshirani (1993). An introduction to the bootstrap. Chapman & Hall, chapter 13.

    Examples
    --------
    >>> interval = example_interval(np.arange(100) < 80)
    >>> interval.mean, interval.low < 0.75, interval.high > 0.85
    (0.8, True, True)
    >>> by_speaker = example_interval(np.arange(100) < 80, groups=np.arange(100) // 10)
    >>> by_speaker.low < interval.low
    True
    """
    check_draws(level, n_samples)
    array = np.asarray(hits)
    if array.dtype != np.bool_ or array.ndim not in (1, 2) or not array.size:
        raise ValueError(
            f"hits has shape {array.shape} and dtype {array.dtype}; expected bool of shape (n,) or (n_networks, n), "
            "such as probe.predict(X) == y."
        )
    shares = np.atleast_2d(array).mean(axis=0)
    rng = np.random.default_rng(seed)
    drawn = _of_examples(shares, n_samples, rng) if groups is None else _of_groups(shares, groups, n_samples, rng)
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return ExampleInterval(mean=float(array.mean()), low=float(low), high=float(high))


def _of_examples(shares: Array, n_samples: int, rng: np.random.Generator) -> Array:
    """Return the mean share of bootstrap samples of examples."""
    n = len(shares)
    levels, counts = np.unique(shares, return_counts=True)
    drawn = rng.multinomial(n, counts / n, size=n_samples)  # (n_samples, n_levels)
    return np.asarray(drawn @ levels / n)


def _of_groups(shares: Array, groups: ArrayLike, n_samples: int, rng: np.random.Generator) -> Array:
    """Return the mean share of bootstrap samples of whole groups."""
    names = np.asarray(groups)
    if names.shape != shares.shape:
        raise ValueError(f"groups has shape {names.shape} for {len(shares)} examples; expected one group per example.")
    _, codes = np.unique(names, return_inverse=True)
    sizes, sums = np.bincount(codes), np.bincount(codes, weights=shares)
    n = len(sizes)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=n_samples)  # (n_samples, n_groups)
    return np.asarray((drawn @ sums) / (drawn @ sizes))
