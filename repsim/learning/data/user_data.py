"""Data of the user: arrays X and y in an .npz file."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repsim.learning.data.dataset import Dataset

__all__ = ["build_dataset", "load_npz", "read_npz"]


def load_npz(path: Path) -> Dataset:
    """Return the data set of an .npz file with arrays X and y; see ``load_dataset``."""
    names, arrays = read_npz(path, ("X", "y"))
    if missing := [key for key in ("X", "y") if key not in arrays]:
        present = ", ".join(sorted(names)) or "nothing"
        raise ValueError(
            f"{path} has no array {' and no array '.join(missing)} (found: {present}). "
            "Save it with numpy.savez(path, X=X, y=y)."
        )
    X = arrays["X"]
    shape = tuple(X.shape[1:] if X.ndim == 4 else (1, *X.shape[1:])) if X.ndim in (3, 4) else None
    return build_dataset(path.name, X, arrays["y"], shape=shape)


def build_dataset(
    name: str, X: NDArray[Any], y: NDArray[Any], *, shape: tuple[int, ...] | None = None, whole: bool = False
) -> Dataset:
    """Return a data set of arrays of unknown origin, or raise ValueError.

    ``shape`` is that of one example, by default a vector. With ``whole``, whole numbers other than bytes stay so.
    """
    _check_arrays(name, X, y)
    n_features = int(np.prod(X.shape[1:]))
    if shape is not None and int(np.prod(shape)) != n_features:
        raise ValueError(f"X in {name} has {n_features} numbers per example, which do not make up the shape {shape}.")
    image_shape = shape if shape is not None and len(shape) > 1 else None
    is_whole = whole and X.dtype.kind in "iu" and X.dtype.itemsize > 1
    labels = _whole_labels(name, y)
    X = X.reshape(len(X), -1).astype(np.int64) if is_whole else _finite_examples(name, X)
    classes, indices = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y in {name} has {len(classes)} class; expected at least 2.")
    if len(y) < 3 * len(classes):
        raise ValueError(
            f"{name} has {len(y)} examples of {len(classes)} classes; each class needs at least 3 examples, one for "
            "each of train, validation and test."
        )
    return Dataset(name, X, indices.astype(np.int64), tuple(str(label) for label in classes), image_shape=image_shape)


def _check_arrays(name: str, X: NDArray[Any], y: NDArray[Any]) -> None:
    """Raise ValueError unless shapes and types are those of examples and labels."""
    if X.ndim < 2 or X.dtype.kind not in "fiub" or X[:1].size == 0:
        raise ValueError(
            f"X in {name} has shape {X.shape} and type {X.dtype}; expected real numbers, one example per row."
        )
    if y.ndim != 1:
        raise ValueError(f"y in {name} has shape {y.shape}; expected one label per example, shape ({len(X)},).")
    if len(X) != len(y):
        raise ValueError(f"X in {name} has {len(X)} examples and y has {len(y)} labels; expected equally many.")
    if y.dtype.kind not in "fiubU":
        raise ValueError(f"y in {name} has type {y.dtype}; expected class labels, as whole numbers or strings.")


def _finite_examples(name: str, X: NDArray[Any]) -> NDArray[np.float32]:
    """Return X as finite float32 vectors."""
    with np.errstate(invalid="ignore", over="ignore"):  # values out of range become infinite and are reported below
        X = X.reshape(len(X), -1).astype(np.float32)
    if bad := int((~np.isfinite(X)).sum()):
        first = int(np.flatnonzero(~np.isfinite(X).all(axis=1))[0])
        raise ValueError(
            f"X in {name} has {bad} values that are NaN, infinite or too large for float32, the first in example "
            f"{first}; remove or replace them."
        )
    return X


def _whole_labels(name: str, y: NDArray[Any]) -> NDArray[Any]:
    """Return labels, with floats as whole numbers."""
    with np.errstate(invalid="ignore", over="ignore"):  # values that change are reported below
        labels = y.astype(np.int64) if y.dtype.kind == "f" else y
    if not (labels == y).all():
        raise ValueError(f"y in {name} holds fractions or non-finite numbers; expected class labels.")
    return labels


def read_npz(path: Path, wanted: Collection[str] | None = None) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Return the names of all arrays in an .npz file, and the wanted arrays (by default all), without unpickling.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is not a readable .npz file or holds Python objects.
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
                f"{path} holds Python objects, which are never loaded. Save plain arrays, with sequences padded to "
                "equal lengths and text as str."
            ) from None
        raise ValueError(f"{path} is not a readable .npz file ({str(error) or type(error).__name__}).") from error


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(name) as member:
        return np.lib.format.read_array(member, allow_pickle=False)
