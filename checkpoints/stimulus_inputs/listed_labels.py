"""Labels that a data set has in a list, so that its items need not be read for them."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.conversion import as_array

__all__ = ["listed_labels"]


def listed_labels(dataset: Any) -> NDArray[Any] | None:
    """Return the labels in a data set's ``targets`` or ``labels``, or None if it has no such list of its length.

    Parts of a data set (``torch.utils.data.Subset``) and data sets of tensors are known as well.
    """
    indices, inner, tensors = (getattr(dataset, name, None) for name in ("indices", "dataset", "tensors"))
    if indices is not None and inner is not None:
        listed = listed_labels(inner)
        return None if listed is None else listed[np.asarray(indices, dtype=np.int64)]
    if isinstance(tensors, tuple) and len(tensors) == 2:
        return as_array(tensors[1], "Labels")
    for name in ("targets", "labels"):
        found = getattr(dataset, name, None)
        if isinstance(found, Sized) and not isinstance(found, str | bytes) and len(found) == len(dataset):
            return _array_or_none(found)
    return None


def _array_or_none(values: Any) -> NDArray[Any] | None:
    try:
        return as_array(values, "Labels")
    except ValueError:  # whatever it holds, it is no list of labels
        return None
