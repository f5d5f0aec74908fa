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
    above_chance: bool = False,
) -> pd.DataFrame:
    r"""Return the first layer of each network whose score reaches a fraction of that at the last layer.

    It is the first layer :math:`\ell` of L whose value :math:`v_\ell` satisfies

    .. math:: v_\ell \ge f\, v_L, \qquad\text{or, above chance } c, \qquad v_\ell - c_\ell \ge f\, (v_L - c_L) .

    Later layers may fall below that again. A network whose last layer does not exceed chance has no such layer.

    Parameters
    ----------
    table : DataFrame
        One row per network and layer, with a column "layer", and the layers of a network in their order.
    fraction : float, default 0.9
        f, within (0, 1].
    value : str, default "accuracy"
        A column in which larger values are better.
    chance : str, default "chance"
        The column of the value that guessing reaches.
    network : str or sequence of str, default ("method", "seed")
        Columns that name a network.
    above_chance : bool, default False
        Whether the fraction is of the value above chance rather than of the value itself. With ten classes, nine tenths
        of 0.3 are 0.27 from zero, and 0.28 from chance.

    Returns
    -------
    DataFrame
        One row per network, in the order of the table, with the columns of `network`, and

        - `depth`, 1 … L as a float, and `layer`, both missing unless `status` is "ok"; and `n_layers`, L;
        - `status` and `message`: "ok"; "at chance" if the last layer does not exceed chance (or zero, unless
          `above_chance`); or "failed" if the last layer has no value, or a layer before the first known one that
          reaches the fraction has none.

    Raises
    ------
    ValueError
        If a column is missing or has a wrong dtype, a network has several rows for a layer, or `fraction` is out of
        range.

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
    check_table(table, keys=[*names, "layer"], numbers=[value, chance])
    found = pd.DataFrame(
        dict(zip(names, key, strict=True))
        | _first(rows["layer"].tolist(), floats(rows[value]), floats(rows[chance]), fraction, above_chance)
        for key, rows in table.groupby(names, sort=False, observed=True)
    )
    return found[[*names, "depth", "layer", "n_layers", "status", "message"]]


def _first(names: list[Any], values: Array, chance: Array, fraction: float, above_chance: bool) -> dict[str, Any]:
    none = {"depth": np.nan, "layer": None, "n_layers": len(names)}
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
    return none | {"depth": first + 1.0, "layer": names[first], "status": "ok", "message": ""}
