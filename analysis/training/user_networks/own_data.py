"""Data sets by name, and data of the user from a factory: ``module:factory``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.training.user_networks.model_spec import build_object
from repsim.learning import ARTIFICIAL, DATASETS, SEQUENCES, Dataset, load_dataset
from repsim.learning.data.user_data import build_dataset

__all__ = ["is_factory", "load_data"]


def is_factory(name: str) -> bool:
    """Return whether a name of data is ``module:factory``, and not a data set, such as ``xor:100``, or a file."""
    kind, colon, rest = name.partition(":")
    is_known = kind in ARTIFICIAL or kind in DATASETS or kind in SEQUENCES
    return bool(colon and rest) and not name.endswith(".npz") and not is_known


def load_data(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Return a data set by name or path (see ``load_dataset``), or the data that a factory of the user returns.

    Parameters
    ----------
    name : str
        For a factory ``"my:data"``, or ``"my:data(n=500)"`` with literal arguments. It returns a ``Dataset``; a pair
        (X, y); a dict with X and y, and optionally ``shape``, that of one example; or a torch Dataset of pairs with a
        length. X has one example per row, in its own shape: images (channels, height, width), sequences (positions,
        width) or (positions,). Whole numbers, except unsigned bytes, stay whole numbers, as for tokens. Global
        generators start from seed 0 in the factory.
    data_dir : path, optional
        See ``load_dataset``.

    Raises
    ------
    ValueError, OSError
        If the name is unknown, the factory fails, or the data have the wrong form.
    """
    if not is_factory(name):
        return load_dataset(name, data_dir)
    made = build_object(name, "Data", lambda target: not callable(target))
    if isinstance(made, Dataset):
        return made
    X, y, shape = _arrays(name, made)
    return build_dataset(name, X, y, shape=shape or X.shape[1:], whole=True)


def _arrays(name: str, made: Any) -> tuple[Any, Any, tuple[int, ...] | None]:
    """Return X, y and the shape of one example if it is given."""
    if isinstance(made, Mapping):
        if missing := [key for key in ("X", "y") if key not in made]:
            raise ValueError(f"Data '{name}' is a dict without {' and '.join(missing)}; expected X, y and maybe shape.")
        return _array(made["X"]), _array(made["y"]), tuple(made["shape"]) if "shape" in made else None
    if isinstance(made, tuple | list) and len(made) == 2:
        return _array(made[0]), _array(made[1]), None
    if hasattr(made, "__len__") and hasattr(made, "__getitem__"):
        try:
            pairs = [made[i] for i in range(len(made))]
            examples, labels = zip(*pairs, strict=True)
            return np.stack([_array(each) for each in examples]), np.stack([_array(each) for each in labels]), None
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Data '{name}' is a {type(made).__name__} whose examples are not pairs (x, y) of equal "
                f"shapes ({error})."
            ) from error
    raise ValueError(
        f"Data '{name}' is a {type(made).__name__}; expected a pair (X, y), a dict with X and y, a torch Dataset with "
        "a length, or a repsim.learning.Dataset."
    )


def _array(values: Any) -> Any:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
