"""The full MNIST data set, fetched from OpenML or read from IDX files."""

from __future__ import annotations

import gzip
import math
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["fetch_mnist", "read_mnist"]


def fetch_mnist() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the images (70000, 784) and labels of MNIST, fetched from OpenML."""
    from sklearn.datasets import fetch_openml

    try:
        X, y = fetch_openml("mnist_784", version=1, as_frame=False, return_X_y=True)
    except (OSError, ValueError, EOFError, HTTPException) as error:
        raise OSError(
            f"mnist could not be fetched from OpenML ({error}). Set --data-dir to a folder with the four IDX files "
            "(train-images-idx3-ubyte and so on, plain or .gz), or use mnist5k, which needs no download."
        ) from error
    return X, y


def read_mnist(folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the images (70000, 784) and labels of MNIST, read from the four IDX files in a folder."""
    parts = [
        (_read_idx(folder, f"{part}-images-idx3-ubyte", 3), _read_idx(folder, f"{part}-labels-idx1-ubyte", 1))
        for part in ("train", "t10k")
    ]
    for images, labels in parts:
        if len(images) != len(labels):
            raise ValueError(
                f"The IDX files in {folder} hold {len(images)} images and {len(labels)} labels; expected equal numbers."
            )
    if len(parts[0][0]) != 60_000:
        raise ValueError(f"The IDX files in {folder} hold {len(parts[0][0])} training images; MNIST has 60000.")
    train, test = (images.shape[1:] for images, _ in parts)
    if train != test:
        raise ValueError(f"The IDX files in {folder} hold training images of shape {train} and test images of {test}.")
    X = np.concatenate([images.reshape(len(images), -1) for images, _ in parts])
    y = np.concatenate([labels for _, labels in parts])
    if y.max() > 9:
        raise ValueError(f"The IDX files in {folder} hold the label {y.max()}; MNIST's labels are 0 to 9.")
    return X, y


def _read_idx(folder: Path, name: str, n_dims: int) -> NDArray[np.uint8]:
    """Return the array in an IDX file: the bytes 0 0 8 n_dims, big-endian sizes, then the values as bytes."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.is_file():
        content = plain.read_bytes()
    elif packed.is_file():
        content = _unpack(packed)
    else:
        raise FileNotFoundError(f"There is no {name} or {name}.gz in {folder}; expected MNIST's four IDX files there.")
    header = 4 + 4 * n_dims
    if content[:4] != bytes([0, 0, 8, n_dims]) or len(content) < header:
        raise ValueError(f"{name} in {folder} is not an IDX file of unsigned bytes with {n_dims} dimension(s).")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", count=n_dims, offset=4))
    if 0 in shape or len(content) - header != math.prod(shape):
        raise ValueError(
            f"{name} in {folder} declares shape {shape} and holds {len(content) - header} bytes; expected one byte per "
            "value, and at least one value."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _unpack(path: Path) -> bytes:
    packed = path.read_bytes()
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a readable .gz file ({error}).") from error
