from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

LAYERS = ["conv1", "conv2", "fc1", "fc2"]


def table_of(
    values: NDArray, group: str, seeds: list[int] | None = None, layers: list[str] | None = None
) -> pd.DataFrame:
    """Return a table of values (n_seeds, n_layers)."""
    n_seeds, n_layers = values.shape
    index = pd.Index(seeds or range(n_seeds), name="seed")
    columns = pd.Index(layers or [f"h{k}" for k in range(n_layers)], name="layer")
    long = pd.DataFrame(values, index=index, columns=columns).reset_index().melt("seed", value_name="accuracy")
    return long.assign(method=group)


def values_and_table(n_seeds: int = 5, seed: int = 0) -> tuple[NDArray, NDArray, pd.DataFrame]:
    """Return values of two groups (n_seeds, 4), alike where seeds are, and their table."""
    rng = np.random.default_rng(seed)
    start = rng.normal(scale=0.05, size=(n_seeds, 1))
    bp, sg = (mean + start + rng.normal(scale=0.02, size=(n_seeds, 4)) for mean in (0.7, 0.65))
    return bp, sg, pd.concat([table_of(bp, "bp", layers=LAYERS), table_of(sg, "sg", layers=LAYERS)], ignore_index=True)


@pytest.fixture(scope="session")
def tidy() -> Callable[..., pd.DataFrame]:
    return table_of


@pytest.fixture(scope="session")
def two_groups() -> Callable[..., tuple[NDArray, NDArray, pd.DataFrame]]:
    return values_and_table
