"""How early a network can be read."""

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
    r"""Find how early each network can be read almost as well as at its end.

    It is the first layer :math:`\ell` of L whose value :math:`v_\ell` is

    .. math:: v_\ell \ge f\, v_L, \qquad\text{or, above chance } c, \qquad v_\ell - c_\ell \ge f\, (v_L - c_L) .

    Later layers may fall below again. A network whose last layer does not exceed chance has no such layer.

    Parameters
    ----------
    table : DataFrame
        One row per network and layer, with the layers of a network in their order.
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
        One row per network, in the order of the table, with the columns of `network`, and

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
