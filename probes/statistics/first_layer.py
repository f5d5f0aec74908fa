"""First layer whose score reaches a fraction of that at the last layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes.statistics.seed_values import ROUNDING, check_table, floats

Array = NDArray[np.float64]


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
    r"""Return the first layer of each network whose score reaches a fraction of that at the last layer.

    It is the first layer :math:`\ell` of L whose value :math:`v_\ell` satisfies

    .. math:: v_\ell \ge f\, v_L, \qquad\text{or, above chance } c, \qquad v_\ell - c_\ell \ge f\, (v_L - c_L) .

    Later layers may fall below that again. A network whose last layer does not exceed chance has no such layer.

    Parameters
    ----------
    table : DataFrame
        One row per network and layer, with the layers of a network in their order.
    fraction : float, default 0.9
        f, within (0, 1].
    value : str, default "accuracy"
        A column in which larger values are better.
    chance : str, default "chance"
        The column of the value that guessing reaches.
    network : str or sequence of str, default ("method", "seed")
        Columns that name a network.
    layer : str, default "layer"
        The column that names a layer.
    above_chance : bool, default False
        Whether the fraction is of the value above chance rather than of the value itself. With ten classes, nine tenths
        of 0.3 are 0.27 from zero, and 0.28 from chance.
    mean_over : str, optional
        The column of `network` over which depths are averaged, such as "seed".

    Returns
    -------
    DataFrame
        One row per network, in the order of the table, with the columns of `network`, and

        - `depth`, 1 … L as a float, and the name of the layer, both missing unless `status` is "ok"; and `n_layers`, L;
        - `status` and `message`: "ok"; "at chance" if the last layer does not exceed chance (or zero, unless
          `above_chance`); or "failed" if the last layer has no value, or a layer before the first known one that
          reaches the fraction has none.

        With `mean_over`, one row for each combination of the other columns of `network`: the mean `depth` and its
        `standard_error` over the `n_reached` of `n_networks` networks that have a depth.

    Raises
    ------
    ValueError
        If a column is missing or has a wrong dtype, a network has several rows for a layer, `fraction` is out of range,
        or `mean_over` is not one of two or more columns of `network`.

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
    check_table(table, keys=[*names, layer], numbers=[value, chance])
    found = pd.DataFrame(
        {**dict(zip(names, key, strict=True)), layer: None}
        | _first(rows[layer].tolist(), floats(rows[value]), floats(rows[chance]), fraction, above_chance, layer)
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
    first = int(np.argmax(known & (heights >= fraction * heights[-1] * (1 - ROUNDING))))
    if not known[:first].all():
        unknown = ", ".join(repr(name) for name, there in zip(names[:first], known, strict=False) if not there)
        return none | {"status": "failed", "message": f"no value for {unknown}, before {names[first]!r}"}
    return none | {"depth": first + 1.0, layer: names[first], "status": "ok", "message": ""}
