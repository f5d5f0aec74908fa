"""Differences between groups of networks, in pairs of equal seeds."""

from collections.abc import Hashable

import numpy as np
import pandas as pd
from scipy.stats import t as student

from probes.statistics.largest_t import flipped_p_values
from probes.statistics.seed_summary import over_seeds
from probes.statistics.seed_values import by_group, check_draws, missing


def seed_differences(
    table: pd.DataFrame,
    *,
    reference: Hashable,
    value: str = "accuracy",
    group: str = "method",
    level: float = 0.95,
    n_samples: int = 20_000,
    rng_seed: int = 0,
) -> pd.DataFrame:
    r"""Compare groups of networks with a reference group, layer by layer, in pairs of equal seeds.

    With :math:`d_{s\ell}` the value of the group minus that of the reference for seed s and layer :math:`\ell`, the
    n seeds give

    .. math:: t_\ell = \bar d_\ell / e_\ell, \qquad e_\ell^2 = \frac{1}{n (n - 1)} \sum_s (d_{s\ell} - \bar d_\ell)^2 .

    `low`, `high` and `p_value` are those of Student's t-test, for one layer that was chosen beforehand. `band_low`,
    `band_high` and `p_adjusted` account for testing all layers. Both come from the largest :math:`|t_\ell|`, under
    different assumptions, so one may exclude zero where the other does not:

    - the band assumes normal differences. With few seeds it is wide, but its coverage is correct. See `seed_bands` for
      its computation;
    - `p_adjusted` only assumes that differences are symmetric about zero under the null hypothesis. It is the share of
      sign flips of whole seeds whose largest :math:`|t|` is at least that of the layer. All flips are counted if there
      are no more than `n_samples`; otherwise it is (b + 1) / (B + 1), of B flips drawn at random. n seeds have
      :math:`2^{n - 1}` different flips, so **no adjusted p-value can be below** `p_least`: 1/4 for three seeds, 1/16
      for five; at least six seeds are needed to reach 0.05. If `p_least` is large, a large `p_adjusted` is not
      informative.

    Groups are not adjusted for one another: each is a family of its own.

    Parameters
    ----------
    table : DataFrame
        One row per network and layer, with columns "seed" and "layer", such as concatenated tables of `probe_layers`.
        Networks of equal seed form a pair.
    reference : hashable
        The group that is subtracted from each other group.
    value : str, default "accuracy"
        The column that is compared. NaN and infinite values count as missing.
    group : str, default "method"
        The column that names the group of a network.
    level : float, default 0.95
        Level of intervals and bands, within (0, 1).
    n_samples : int, >= 1, default 20000
        Number of draws of the largest t, and largest number of sign flips.
    rng_seed : int, default 0
        Seed of these draws, used anew for every group.

    Returns
    -------
    DataFrame
        One row per group other than the reference and layer, both in the order of the table, with the columns

        - `group`, under its name in the table, `layer`, and `n_seeds`;
        - `difference`, the mean, and `standard_error`, >= 0;
        - `low`, `high`, and `band_low`, `band_high`;
        - `p_value`, `p_adjusted`, two-sided, and `p_least`, in (0, 1];
        - `status` and `message`: "ok"; "failed" if a network has no value for the layer (these numbers are then NaN);
          or "no spread" if all differences are equal (only the mean and the standard error, zero, are then known).

        Bands and adjusted p-values are those of the family of layers that are "ok".

    Raises
    ------
    ValueError
        If a column is missing or has a wrong dtype, a network has several rows for a layer, the reference is not a
        group or the only one, a seed has no pair, there are fewer than two seeds, or a number is out of range.

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
    check_draws(level, n_samples)
    networks = by_group(table, value=value, group=group)
    frames = {}
    for name in _others(networks, reference):
        minuend, subtrahend = networks[name], networks[reference]
        _check_pairs(minuend.index, subtrahend.index, name, reference)
        differences = minuend - subtrahend
        messages = _joined(missing(minuend, f" of {name!r}"), missing(subtrahend, f" of {reference!r}"))
        scale = pd.concat([minuend, subtrahend]).abs().max()
        rng = np.random.default_rng(rng_seed)
        summary = over_seeds(differences, messages, scale, level, n_samples, rng)
        frames[name] = summary.rename(columns={"mean": "difference"}).join(_tests(differences, summary, n_samples, rng))
    return pd.concat(frames, names=[group, "layer"])[DIFFERENCES].reset_index()


def _others(networks: dict[Hashable, pd.DataFrame], reference: Hashable) -> list[Hashable]:
    if reference not in networks:
        raise ValueError(f"There is no group {reference!r}. Choose one of: {', '.join(map(repr, networks))}.")
    others = [name for name in networks if name != reference]
    if not others:
        raise ValueError(f"There is no group besides the reference {reference!r}; a difference needs two groups.")
    return others


def _check_pairs(seeds: pd.Index, reference_seeds: pd.Index, name: Hashable, reference: Hashable) -> None:
    sides = ((seeds.difference(reference_seeds), name), (reference_seeds.difference(seeds), reference))
    alone = [f"{', '.join(map(str, extra))} (only {owner!r})" for extra, owner in sides if len(extra)]
    if alone:
        raise ValueError(
            f"Seeds without a pair: {'; '.join(alone)}. Probe both groups for each seed, or leave the seed out."
        )
    if len(seeds) < 2:
        raise ValueError(f"{name!r} and {reference!r} have 1 seed; a test of the difference needs 2 or more seeds.")


def _joined(first: pd.Series, second: pd.Series) -> pd.Series:
    return pd.Series({name: "; ".join(filter(None, (first[name], second[name]))) for name in first.index})


def _tests(differences: pd.DataFrame, summary: pd.DataFrame, n_samples: int, rng: np.random.Generator) -> pd.DataFrame:
    tested = summary.loc[summary["status"] == "ok"]
    tests = pd.DataFrame(np.nan, index=summary.index, columns=["p_value", "p_adjusted", "p_least"])
    if len(tested):
        t = np.abs(tested["mean"] / tested["standard_error"])
        p_adjusted, p_least = flipped_p_values(differences[tested.index].to_numpy(), n_samples, rng)
        tests.loc[tested.index] = np.column_stack(
            [2 * student.sf(t, len(differences) - 1), p_adjusted, np.full(len(tested), p_least)]
        )
    return tests


DIFFERENCES = [
    *("n_seeds", "difference", "standard_error"),
    *("low", "high", "band_low", "band_high"),
    *("p_value", "p_adjusted", "p_least"),
    *("status", "message"),
]
