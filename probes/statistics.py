"""What probes of several networks say together: a network is one replicate, and its seed is its name."""

from collections.abc import Hashable, Sequence
from itertools import product
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

Array = NDArray[np.float64]

# Differences of equal numbers differ by rounding, and so do sums in another order.
_ROUNDING = 1e-12


def seed_differences(
    table: pd.DataFrame,
    *,
    reference: Hashable,
    value: str = "accuracy",
    group: str = "method",
    seed: str = "seed",
    layer: str = "layer",
    level: float = 0.95,
    n_samples: int = 20_000,
    rng_seed: int = 0,
) -> pd.DataFrame:
    r"""Compare groups of networks with a reference group, layer by layer, in pairs of equal seeds.

    With :math:`d_{s\ell}` the value of the group minus that of the reference for seed s and layer :math:`\ell`, the
    n seeds give

    .. math:: t_\ell = \bar d_\ell / e_\ell, \qquad e_\ell^2 = \frac{1}{n (n - 1)} \sum_s (d_{s\ell} - \bar d_\ell)^2 .

    `low` to `high` and `p_value` are Student's, for one layer that was chosen beforehand. `band_low` to `band_high` and
    `p_adjusted` allow for looking at all layers, and come from the largest :math:`|t_\ell|` under two different
    assumptions, so that one may exclude zero where the other does not:

    - the band takes differences to be normal. Few seeds make it wide, rather than wrong. See
      `seed_bands` for how it is drawn;
    - `p_adjusted` only takes them to be symmetric about zero under the null hypothesis: it is the share of sign flips
      of whole seeds whose largest :math:`|t|` is as large as that of the layer. All flips are counted if there are no
      more than `n_samples`; else it is (b + 1) / (B + 1) of B drawn ones. Of n seeds there are :math:`2^{n - 1}` flips
      that differ, so that **no adjusted p-value can be below** `p_least`: 1/4 for three seeds, 1/16 for five, and
      six are the fewest that can reach 0.05. That `p_adjusted` is large says nothing if `p_least` is.

    Each group is a family of its own: nothing is adjusted for the number of groups.

    Parameters
    ----------
    table : DataFrame
        One row a network and layer, such as tables of `probe_layers` put together with columns for group and seed.
    reference : hashable
        The group that is subtracted from each other one.
    value : str, default "accuracy"
        The column that is compared. NaN and infinite ones count as missing.
    group, seed, layer : str, default "method", "seed", "layer"
        Columns that name the network and the layer. Networks of equal seeds are pairs.
    level : float, default 0.95
        Of intervals and bands, within (0, 1).
    n_samples : int, >= 1, default 20000
        Draws of the largest t, and of sign flips where there are more.
    rng_seed : int, default 0
        Of these draws, afresh for every group.

    Returns
    -------
    DataFrame
        A row a group other than the reference, and layer of the table, both in the order of the table, with the columns

        - group and layer, under the names they have in the table, and `n_seeds`;
        - `difference`, the mean, and `standard_error`, >= 0;
        - `low`, `high`, and `band_low`, `band_high`;
        - `p_value`, `p_adjusted`, two-sided, and `p_least`, in (0, 1];
        - `status` and `message`: "ok"; "failed" if a network has no value for the layer, where these numbers are NaN;
          or "no spread" if all seeds differ equally, where only the mean and the standard error, zero, are known.

        Layers that are not "ok" do not belong to the family: bands and adjusted p-values of the others ignore them.

    Raises
    ------
    ValueError
        If a column is missing or unfit, a network has several rows for a layer, there is no such reference or no other
        group, a seed has no pair, there are fewer than two seeds, or a number is out of range.

    References
    ----------
    Westfall and Young (1993). Resampling-based multiple testing. Wiley (single-step max-T).
    Phipson and Smyth (2010). Permutation p-values should never be zero. Stat. Appl. Genet. Mol. Biol. 9:39.

    Examples
    --------
    >>> bp, sg = [0.90, 0.92, 0.91, 0.93], [0.85, 0.88, 0.85, 0.86]
    >>> table = pd.DataFrame(
    ...     {"method": ["bp"] * 4 + ["sg"] * 4, "seed": [*range(4)] * 2, "layer": "fc1", "accuracy": bp + sg}
    ... )
    >>> differences = seed_differences(table, reference="bp")
    >>> differences[["difference", "low", "high", "p_value", "p_adjusted", "p_least"]].round(3)
       difference    low   high  p_value  p_adjusted  p_least
    0      -0.055 -0.076 -0.034    0.003       0.125    0.125
    """
    _check_draws(level, n_samples)
    networks = _by_group(table, value=value, group=group, seed=seed, layer=layer)
    frames = {}
    for name in _others(networks, reference):
        minuend, subtrahend = networks[name], networks[reference]
        _check_pairs(minuend.index, subtrahend.index, name, reference)
        differences = minuend - subtrahend
        messages = _joined(_missing(minuend, f" of {name!r}"), _missing(subtrahend, f" of {reference!r}"))
        scale = pd.concat([minuend, subtrahend]).abs().max()
        rng = np.random.default_rng(rng_seed)
        summary = _over_seeds(differences, messages, scale, level, n_samples, rng)
        frames[name] = summary.rename(columns={"mean": "difference"}).join(_tests(differences, summary, n_samples, rng))
    return pd.concat(frames, names=[group, layer])[DIFFERENCES].reset_index()


def seed_bands(
    table: pd.DataFrame,
    *,
    value: str = "accuracy",
    group: str = "method",
    seed: str = "seed",
    layer: str = "layer",
    level: float = 0.95,
    n_samples: int = 20_000,
    rng_seed: int = 0,
) -> pd.DataFrame:
    r"""Average every layer over the seeds of a group, with an interval for one layer and a band for all.

    With :math:`\bar x_\ell` the mean over n seeds and :math:`e_\ell` its standard error,

    .. math:: \bar x_\ell \pm t_{n-1}\, e_\ell \qquad\text{and}\qquad \bar x_\ell \pm q\, e_\ell

    are the interval, which covers one layer's expectation at the level, and the band, which covers all at once. Both
    take seeds to be independent and their values to be normal. The band's q is a quantile of

    .. math:: \max_\ell \frac{|z_\ell|}{\sqrt{W_{\ell\ell} / (n - 1)}}, \qquad z \sim N(0, R), \quad
        W \sim \text{Wishart}(R, n - 1),

    by Monte Carlo: the largest t statistic of n seeds whose layers are correlated by R. Two things keep it honest where
    seeds are few, as they are:

    - every layer has its own variance, estimated on its own. The multivariate t distribution has one denominator for
      all, and is too narrow: with 3 seeds and 10 independent layers a 95% band from it covers about 74%;
    - R is the sample correlation with the share :math:`1 / (n - 1)`, which is the variance of such a correlation
      between unrelated layers, given to the identity. Correlations of three seeds are near ±1 by chance, and would have
      the layers pass for fewer than they are.

    For two seeds R is the identity, for many the estimate. q lies between the quantiles for one layer and for
    independent ones (Sidak). In simulations 95% bands cover about 95%, up to 99% where layers are all but equal.

    Parameters
    ----------
    table : DataFrame
        One row a network and layer.
    value : str, default "accuracy"
        The column that is averaged. NaN and infinite ones count as missing.
    group, seed, layer : str, default "method", "seed", "layer"
        Columns that name the network and the layer.
    level : float, default 0.95
        Of intervals and bands, within (0, 1).
    n_samples : int, >= 1, default 20000
        Draws of the largest t.
    rng_seed : int, default 0
        Of these draws, afresh for every group.

    Returns
    -------
    DataFrame
        A row a group and layer of the table, both in the order of the table, with the columns

        - group and layer, under the names they have in the table, and `n_seeds`;
        - `mean` and `standard_error`, >= 0;
        - `low`, `high`, and `band_low`, `band_high`, which may leave the range of the values;
        - `status` and `message`: "ok"; "failed" if a network has no value for the layer, where these numbers are NaN;
          or "no spread" if there is one seed or all are equal, where there is a mean but no interval.

        Layers that are not "ok" do not belong to the family that the band is for.

    Raises
    ------
    ValueError
        If a column is missing or unfit, a network has several rows for a layer, or a number is out of range.

    References
    ----------
    Hothorn, Bretz and Westfall (2008). Simultaneous inference in general parametric models. Biom. J. 50, 346-363.
    Hasler and Hothorn (2008). Multiple contrast tests in the presence of heteroscedasticity. Biom. J. 50, 793-800.
    Sidak (1967). Rectangular confidence regions for the means of multivariate normal distributions. JASA 62, 626-633.

    Examples
    --------
    >>> accuracy = [0.70, 0.80, 0.72, 0.83, 0.71, 0.84]
    >>> table = pd.DataFrame(
    ...     {"method": "bp", "seed": [0, 0, 1, 1, 2, 2], "layer": ["fc1", "fc2"] * 3, "accuracy": accuracy}
    ... )
    >>> seed_bands(table)[["layer", "n_seeds", "mean", "standard_error", "low", "high"]].round(3)
      layer  n_seeds   mean  standard_error    low   high
    0   fc1        3  0.710           0.006  0.685  0.735
    1   fc2        3  0.823           0.012  0.772  0.875
    """
    _check_draws(level, n_samples)
    frames = {}
    for name, values in _by_group(table, value=value, group=group, seed=seed, layer=layer).items():
        rng = np.random.default_rng(rng_seed)
        frames[name] = _over_seeds(values, _missing(values), values.abs().max(), level, n_samples, rng)
    return pd.concat(frames, names=[group, layer]).reset_index()


class ExampleInterval(NamedTuple):
    """An accuracy and its bootstrap interval; see `example_interval`."""

    mean: float
    low: float
    high: float


def example_interval(hits: ArrayLike, *, level: float = 0.95, n_samples: int = 2000, seed: int = 0) -> ExampleInterval:
    r"""Bootstrap the test examples of an accuracy, of one network or averaged over several.

    **This is the inner level only.** It says how the accuracy of these very networks may change with other test
    examples, and nothing about networks of other seeds, for which see `seed_bands`.

    With :math:`h_i` the share of the networks that are right about example i, it is the percentile interval of

    .. math:: \frac1n \sum_i c_i h_i, \qquad c \sim \text{Multinomial}(n; \tfrac1n, \dots, \tfrac1n) .

    Examples of equal share are drawn together, as one binomial count, which is the same distribution.

    Parameters
    ----------
    hits : array-like, shape (n,) or (n_networks, n), of bool
        Whether each example was classified correctly. Networks are scored on the same examples in the same order, which
        are drawn for all of them together.
    level : float, default 0.95
        Within (0, 1).
    n_samples : int, >= 1, default 2000
        Bootstrap samples.
    seed : int, default 0

    Returns
    -------
    ExampleInterval
        `mean`, `low` and `high`, in [0, 1]. Without any hit, or any miss, the interval has no width: the bootstrap
        draws only what it has seen.

    Raises
    ------
    ValueError
        If hits are not bool, have another shape or are empty, or a number is out of range.

    References
    ----------
    Efron and Tibshirani (1993). An introduction to the bootstrap. Chapman & Hall, chapter 13.

    Examples
    --------
    >>> interval = example_interval(np.arange(100) < 80)
    >>> interval.mean, interval.low < 0.75, interval.high > 0.85
    (0.8, True, True)
    """
    _check_draws(level, n_samples)
    array = np.asarray(hits)
    if array.dtype != np.bool_ or array.ndim not in (1, 2) or not array.size:
        raise ValueError(
            f"hits has shape {array.shape} and dtype {array.dtype}; expected bool of shape (n,) or (n_networks, n), "
            "such as probe.predict(X) == y."
        )
    shares = np.atleast_2d(array).mean(axis=0)
    n = len(shares)
    levels, counts = np.unique(shares, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=n_samples)  # (n_samples, n_levels)
    low, high = np.quantile(drawn @ levels / n, [0.5 - level / 2, 0.5 + level / 2])
    return ExampleInterval(mean=float(array.mean()), low=float(low), high=float(high))


def first_layer_reaching(
    table: pd.DataFrame,
    fraction: float = 0.9,
    value: str = "accuracy",
    chance: str = "chance",
    *,
    network: str | Sequence[str] = ("method", "seed"),
    layer: str = "layer",
    above_chance: bool = False,
    mean_over: str | None = None,
) -> pd.DataFrame:
    r"""Find how early each network can be read almost as well as at its end.

    It is the first layer :math:`\ell` of L whose value :math:`v_\ell` is

    .. math:: v_\ell \ge f\, v_L, \qquad\text{or, above chance } c, \qquad v_\ell - c_\ell \ge f\, (v_L - c_L) .

    Later layers may fall below again. A network whose last layer does not exceed chance has no such layer.

    Parameters
    ----------
    table : DataFrame
        One row a network and layer, with the layers of a network in their order.
    fraction : float, default 0.9
        f, within (0, 1].
    value : str, default "accuracy"
        A column in which more is better.
    chance : str, default "chance"
        The column of what blind guessing has.
    network : str or sequence of str, default ("method", "seed")
        Columns that name a network.
    layer : str, default "layer"
        The column that names a layer.
    above_chance : bool, default False
        Count from chance rather than from zero. With ten classes, nine tenths of 0.3 are reached at 0.27 from zero, and
        at 0.28 from chance.
    mean_over : str, optional
        One of the columns of `network`, such as "seed", over which depths are averaged.

    Returns
    -------
    DataFrame
        A row a network, in the order of the table, with the columns of `network`, and

        - `depth`, 1 … L as a float, and the layer's name, both missing unless `status` is "ok"; and `n_layers`, L;
        - `status` and `message`: "ok"; "at chance" if the last layer does not exceed chance (or zero, if counted from
          there); or "failed" if the last layer has no value, or one before the first that is known to reach it.

        With `mean_over`, a row for the other columns of `network`: `depth` and its `standard_error` over the
        `n_reached` networks, of `n_networks`, that have one.

    Raises
    ------
    ValueError
        If a column is missing or unfit, a network has several rows for a layer, or `fraction` or `mean_over` is none of
        the above.

    Examples
    --------
    >>> accuracy = [0.30, 0.55, 0.60]
    >>> table = pd.DataFrame({"seed": 0, "layer": ["a", "b", "c"], "accuracy": accuracy, "chance": 0.1})
    >>> first_layer_reaching(table, network="seed")[["seed", "depth", "layer", "n_layers"]]
       seed  depth layer  n_layers
    0     0    2.0     b         3
    """
    names = [network] if isinstance(network, str) else list(network)
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}; expected a number above 0 and at most 1, such as 0.9.")
    if mean_over is not None and (mean_over not in names or len(names) < 2):
        raise ValueError(f"mean_over is {mean_over!r}; expected one of two or more columns of network: {names}.")
    _check_table(table, keys=[*names, layer], numbers=[value, chance])
    found = pd.DataFrame(
        {**dict(zip(names, key, strict=True)), layer: None}
        | _first(rows[layer].tolist(), _floats(rows[value]), _floats(rows[chance]), fraction, above_chance, layer)
        for key, rows in table.groupby(names, sort=False, observed=True)
    )
    if mean_over is None:
        return found[[*names, "depth", layer, "n_layers", "status", "message"]]
    depths = found.groupby([name for name in names if name != mean_over], sort=False)["depth"]
    return depths.agg(depth="mean", standard_error="sem", n_networks="size", n_reached="count").reset_index()


def _first(
    names: list[Any], values: Array, chance: Array, fraction: float, above_chance: bool, layer: str
) -> dict[str, Any]:
    none = {"depth": np.nan, "n_layers": len(names)}
    excess = values - chance
    heights = excess if above_chance else values
    known = np.isfinite(excess)
    if not known[-1]:
        return none | {"status": "failed", "message": f"no value for the last layer, {names[-1]!r}"}
    if min(excess[-1], heights[-1]) <= 0:
        return none | {"status": "at chance", "message": f"the last layer, {names[-1]!r}, does not exceed chance"}
    first = int(np.argmax(known & (heights >= fraction * heights[-1] * (1 - _ROUNDING))))
    if not known[:first].all():
        unknown = ", ".join(repr(name) for name, there in zip(names[:first], known, strict=False) if not there)
        return none | {"status": "failed", "message": f"no value for {unknown}, before {names[first]!r}"}
    return none | {"depth": first + 1.0, layer: names[first], "status": "ok", "message": ""}


# Tables, checked once at the door


def _check_draws(level: float, n_samples: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a number between 0 and 1, such as 0.95.")
    if not isinstance(n_samples, Integral) or n_samples < 1:
        raise ValueError(f"n_samples is {n_samples!r}; expected a positive integer.")


def _check_table(table: pd.DataFrame, keys: Sequence[str], numbers: Sequence[str]) -> None:
    """Check that there are rows and columns, and one row a network and layer."""
    absent = [name for name in (*keys, *numbers) if name not in table]
    if absent:
        raise ValueError(
            f"The table has no column {', '.join(map(repr, absent))}; it has: {', '.join(map(str, table))}."
        )
    if table.empty:
        raise ValueError("The table has no rows; expected one a network and layer.")
    for name in keys:
        if n_missing := int(table[name].isna().sum()):
            raise ValueError(f"Column {name!r} has no entry in {n_missing} of {len(table)} rows; name every network.")
    for name in numbers:
        if table[name].dtype.kind not in "fiub":
            raise ValueError(f"Column {name!r} has dtype {table[name].dtype}; expected real numbers.")
    repeated = table.loc[table.duplicated(list(keys)), list(keys)].head(1).to_dict("records")
    if repeated:
        first = ", ".join(f"{name}={entry!r}" for name, entry in repeated[0].items())
        raise ValueError(f"The table has several rows for {first}. Keep one step, target and run of each network.")


def _floats(column: pd.Series) -> Array:
    numbers: Array = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers


def _by_group(table: pd.DataFrame, *, value: str, group: str, seed: str, layer: str) -> dict[Hashable, pd.DataFrame]:
    """Return the values of each group, (n_seeds, n_layers), with NaN where there is none, for all layers."""
    _check_table(table, keys=[group, seed, layer], numbers=[value])
    finite = table.assign(**{value: _floats(table[value])}).replace({value: [np.inf, -np.inf]}, np.nan)
    layers = list(dict.fromkeys(table[layer]))
    return {
        name: rows.pivot(index=seed, columns=layer, values=value).reindex(columns=layers)
        for name, rows in finite.groupby(group, sort=False, observed=True)
    }


def _others(networks: dict[Hashable, pd.DataFrame], reference: Hashable) -> list[Hashable]:
    if reference not in networks:
        raise ValueError(f"There is no group {reference!r}. Choose one of: {', '.join(map(repr, networks))}.")
    others = [name for name in networks if name != reference]
    if not others:
        raise ValueError(f"There is no group beside the reference {reference!r}; a difference needs another.")
    return others


def _check_pairs(seeds: pd.Index, reference_seeds: pd.Index, name: Hashable, reference: Hashable) -> None:
    sides = ((seeds.difference(reference_seeds), name), (reference_seeds.difference(seeds), reference))
    alone = [f"{', '.join(map(str, extra))} (only {owner!r})" for extra, owner in sides if len(extra)]
    if alone:
        raise ValueError(f"Seeds without a pair: {'; '.join(alone)}. Probe both groups for each seed, or leave it out.")
    if len(seeds) < 2:
        raise ValueError(f"{name!r} and {reference!r} have 1 seed; a difference needs 2 or more to be judged.")


def _missing(values: pd.DataFrame, whose: str = "") -> pd.Series:
    """Say of each layer which seeds have no value; "" where all have."""
    absent = {name: ", ".join(map(str, values.index[column.isna()])) for name, column in values.items()}
    return pd.Series({name: f"no value{whose} for seed {seeds}" if seeds else "" for name, seeds in absent.items()})


def _joined(first: pd.Series, second: pd.Series) -> pd.Series:
    return pd.Series({name: "; ".join(filter(None, (first[name], second[name]))) for name in first.index})


# Student's t, and the largest of several


def _over_seeds(
    values: pd.DataFrame, messages: pd.Series, scale: pd.Series, level: float, n_samples: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Return one row a layer: mean, standard error, interval and band over seeds, and what cannot be told."""
    X, n = values.to_numpy(), len(values)  # (n_seeds, n_layers)
    mean = X.mean(axis=0)
    known, varied = np.isfinite(mean), np.ptp(X, axis=0) > _ROUNDING * scale.to_numpy()
    usable = known & varied
    error = np.where(known & ~varied, 0.0, X.std(axis=0, ddof=1)) / np.sqrt(n) if n > 1 else np.full(len(mean), np.nan)
    interval = np.where(usable, error * student.ppf(0.5 + level / 2, n - 1), np.nan)
    band = np.full(len(mean), np.nan)
    if usable.any():
        band[usable] = error[usable] * _largest_t_quantile(X[:, usable], level, n_samples, rng)
    flat = "1 seed has no spread" if n == 1 else f"{n} seeds are equal"
    return pd.DataFrame(
        {
            "n_seeds": n,
            "mean": mean,
            "standard_error": error,
            "low": mean - interval,
            "high": mean + interval,
            "band_low": mean - band,
            "band_high": mean + band,
            "status": np.select([usable, known], ["ok", "no spread"], "failed"),
            "message": messages.where(~known | usable, flat),
        },
        index=values.columns,
    )


def _largest_t_quantile(X: Array, level: float, n_samples: int, rng: np.random.Generator) -> float:
    n, n_layers = X.shape
    R = np.atleast_2d(np.corrcoef(X, rowvar=False))
    R = R + (np.eye(n_layers) - R) / (n - 1)
    drawn = np.quantile(_largest_t(R, n, n_samples, rng), level)
    one, independent = student.ppf(0.5 + np.array([level, level ** (1 / n_layers)]) / 2, n - 1)
    return float(np.clip(drawn, one, independent))


def _largest_t(R: Array, n: int, n_samples: int, rng: np.random.Generator) -> Array:
    """Draw the largest |t| of n normal seeds with correlation R between layers, (n_samples,)."""
    root = np.linalg.cholesky(R).T
    size = (n_samples, len(R))
    means = rng.standard_normal(size) @ root
    squares = np.zeros(size)
    for _ in range(n - 1):
        squares += (rng.standard_normal(size) @ root) ** 2
    return np.max(np.abs(means) / np.sqrt(squares / (n - 1)), axis=1)


def _tests(differences: pd.DataFrame, summary: pd.DataFrame, n_samples: int, rng: np.random.Generator) -> pd.DataFrame:
    tested = summary.loc[summary["status"] == "ok"]
    tests = pd.DataFrame(np.nan, index=summary.index, columns=["p_value", "p_adjusted", "p_least"])
    if len(tested):
        t = np.abs(tested["mean"] / tested["standard_error"])
        p_adjusted, p_least = _flipped(differences[tested.index].to_numpy(), n_samples, rng)
        tests.loc[tested.index] = np.column_stack(
            [2 * student.sf(t, len(differences) - 1), p_adjusted, np.full(len(tested), p_least)]
        )
    return tests


def _flipped(D: Array, n_samples: int, rng: np.random.Generator) -> tuple[Array, float]:
    """Return single-step max-T p-values under sign flips of the rows of D, and the smallest possible one."""
    n = len(D)
    exact = 2 ** (n - 1) <= n_samples
    if exact:  # the first keeps its sign, as flipping all leaves |t| alone
        signs = np.array([(1.0, *rest) for rest in product((1.0, -1.0), repeat=n - 1)])
    else:
        signs = rng.choice([1.0, -1.0], size=(n_samples, n))
    # Flips leave a layer's sum of squares alone. Scaled to n, the sum u of its differences says what t is, in the same
    # way for all layers: t² = (n - 1) u² / (n² - u²), which grows with |u|.
    scaled = D / np.sqrt(np.mean(D**2, axis=0))
    largest = np.max(np.abs(signs @ scaled), axis=1, keepdims=True)  # (n_flips, 1)
    hits = np.sum(largest >= np.abs(scaled.sum(axis=0)) - _ROUNDING * n, axis=0)
    return (hits / len(signs), 1 / len(signs)) if exact else ((hits + 1) / (n_samples + 1), 1 / (n_samples + 1))


DIFFERENCES = [
    *("n_seeds", "difference", "standard_error"),
    *("low", "high", "band_low", "band_high"),
    *("p_value", "p_adjusted", "p_least"),
    *("status", "message"),
]
