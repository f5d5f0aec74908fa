"""Values by seed and layer from tables of probes, and checks of these tables and of numbers of draws."""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes.checks import check_positive_integer

Array = NDArray[np.float64]

# Relative size of rounding, below which values count as equal.
ROUNDING = 1e-12


def by_group(table: pd.DataFrame, *, value: str, group: str) -> dict[Hashable, pd.DataFrame]:
    """Return the values of each group, (n_seeds, n_layers), for all layers of the table; missing values are NaN."""
    check_table(table, keys=[group, "seed", "layer"], numbers=[value])
    finite = table.assign(**{value: floats(table[value])}).replace({value: [np.inf, -np.inf]}, np.nan)
    layers = list(dict.fromkeys(table["layer"]))
    return {
        name: rows.pivot(index="seed", columns="layer", values=value).reindex(columns=layers)
        for name, rows in finite.groupby(group, sort=False, observed=True)
    }


def check_table(table: pd.DataFrame, keys: Sequence[str], numbers: Sequence[str]) -> None:
    """Raise a ValueError unless the columns exist, have values, and each network has one row per layer."""
    absent = [name for name in (*keys, *numbers) if name not in table]
    if absent:
        raise ValueError(
            f"The table has no column {', '.join(map(repr, absent))}; it has: {', '.join(map(str, table))}."
        )
    if table.empty:
        raise ValueError("The table has no rows; expected one per network and layer.")
    for name in keys:
        if n_missing := int(table[name].isna().sum()):
            raise ValueError(f"Column {name!r} is empty in {n_missing} of {len(table)} rows; give every row a value.")
    for name in numbers:
        if table[name].dtype.kind not in "fiub":
            raise ValueError(f"Column {name!r} has dtype {table[name].dtype}; expected real numbers.")
    repeated = table.loc[table.duplicated(list(keys)), list(keys)].head(1).to_dict("records")
    if repeated:
        first = ", ".join(f"{name}={entry!r}" for name, entry in repeated[0].items())
        raise ValueError(f"The table has several rows for {first}. Keep one step, target and run of each network.")


def floats(column: pd.Series) -> Array:
    """Return the values of a column; missing values are NaN."""
    numbers: Array = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers


def missing(values: pd.DataFrame, whose: str = "") -> pd.Series:
    """Return a message for each layer: which seeds have no value, or "" if all have one."""
    absent = {name: ", ".join(map(str, values.index[column.isna()])) for name, column in values.items()}
    return pd.Series({name: f"no value{whose} for seed {seeds}" if seeds else "" for name, seeds in absent.items()})


def check_draws(level: float, n_samples: int) -> None:
    """Raise a ValueError if the level of an interval or the number of its draws is out of range."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a number between 0 and 1, such as 0.95.")
    check_positive_integer(n_samples, "n_samples")
