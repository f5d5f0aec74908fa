from collections.abc import Callable

import numpy as np
import pytest

from analysis.comparison.view import View


@pytest.fixture
def related(known_view: Callable[..., View]) -> Callable[..., list[View]]:
    """Record one view of each depth, whose layers are different random maps of the same 24 stimuli."""

    def record(*depths: int) -> list[View]:
        rng = np.random.default_rng(0)
        inputs, labels, split = rng.normal(size=(24, 6)), np.arange(24) % 3, ["train", "validation", "test", "test"] * 6
        maps = [[rng.normal(size=(6, 5)) for _ in range(depth)] for depth in depths]
        return [known_view(f"v{i}", inputs, labels, matrices, split=split) for i, matrices in enumerate(maps)]

    return record
