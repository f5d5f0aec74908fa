"""Small layers and their files, for tests of activations."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.storage.hdf5_files.activation_file import LayerValues, write_activations

N = 5
IDS = np.array([f"s{index}" for index in range(N)])
HEADER = {"run_uuid": "0-1-2", "step": 7, "stimulus_hash": "aa", "weights_hash": "bb"}


def values(*feature_shape: int, seed: int = 0, source_dtype: str = "torch.float32") -> LayerValues:
    columns = math.prod(feature_shape)
    array = np.random.default_rng(seed).normal(size=(N, columns)).astype(np.float32)
    return LayerValues(array, feature_shape, source_dtype)


def write(path: Path, layers: dict[str, LayerValues], ids: Any, header: dict[str, Any], **options: Any) -> None:
    path.unlink(missing_ok=True)
    write_activations(path, [layers], ids, header, **options)


def wide(path: Path, rows: int = 40, columns: int = 33_000, **options: Any) -> NDArray[np.float32]:
    """Write one layer of several chunks, and return it."""
    array = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    layers = {"wide": LayerValues(array, (columns,), "torch.float32")}
    write(path, layers, np.arange(rows).astype(str), HEADER, **options)
    return array
