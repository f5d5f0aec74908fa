"""Listing 1,000 layers of a step against h5py's own objects, which read the same attributes and check nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from harness import Ratio, ratio

import checkpoints.activations
from checkpoints import Activations
from checkpoints.storage.hdf5_files.activation_file import LayerValues, write_activations

N, WIDTH, LAYERS = 50, 64, 1000


def run() -> list[Ratio]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "activations.h5")
        values = np.zeros((N, WIDTH), dtype=np.float32)
        layers = {f"block.{index}": LayerValues(values, (WIDTH,), "torch.float32") for index in range(LAYERS)}
        write_activations(path, [layers], np.arange(N).astype(str), {"step": 1})
        plain = "h5py's groups, attributes and datasets"

        def first_time(act: Callable[[], object]) -> Callable[[], object]:
            def timed() -> object:
                checkpoints.activations._known_listing.cache_clear()
                return act()

            return timed

        return [
            ratio("names", first_time(lambda: list(Activations(path))), plain, lambda: _list(path), target="<= 0.15"),
            ratio(
                "names, shapes and types, all checked",
                first_time(lambda: list(Activations(path).values())),
                plain,
                lambda: _list(path),
                target="<= 1",
            ),
            ratio("again", lambda: list(Activations(path).values()), plain, lambda: _list(path), target="<= 0.01"),
        ]


def _list(path: Path) -> list[tuple[object, ...]]:
    with h5py.File(path) as file:
        return [
            (dict(group.attrs), group["data"].shape, group["data"].dtype, group["data"].chunks)
            for group in file["layers"].values()
        ]


if __name__ == "__main__":
    for line in run():
        print(f"{line.work}: {line.median:.4f} of {line.against} (target {line.target})")
