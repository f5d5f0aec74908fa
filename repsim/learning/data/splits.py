"""Splits of a data set into train, validation and test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from repsim.learning.data.dataset import Dataset

__all__ = ["SPLITS", "split_dataset"]

SPLITS = ("train", "validation", "test")


def split_dataset(
    dataset: Dataset, seed: int, *, validation: float = 0.1, test: float = 0.2
) -> dict[str, NDArray[np.int64]]:
    """Split the examples of each class at random into train, validation and test.

    Parameters
    ----------
    dataset : Dataset
        If it reserves examples for testing, these are the test split and ``test`` is not used.
    seed : int
        Decides the permutation of each class.
    validation, test : float, in (0, 1)
        Fraction of each class; every split gets at least one example of each class.

    Returns
    -------
    dict of str to int64 array
        ``train``, ``validation`` and ``test``: disjoint indices in ascending order, which together cover the data set.

    Raises
    ------
    ValueError
        If a class has fewer than three examples, or if the fractions leave a split without an example of a class.

    Examples
    --------
    >>> from repsim.learning import load_dataset
    >>> split = split_dataset(load_dataset("digits"), seed=0)
    >>> [len(split[name]) for name in SPLITS]
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
    codes = np.where(held_out, 2, _draw(dataset.y, rng, validation, held_out).astype(int))
    split = {name: np.flatnonzero(codes == code) for code, name in enumerate(SPLITS)}
    for name, members in split.items():
        if len(absent := np.setdiff1d(dataset.y, dataset.y[members])):
            raise ValueError(
                f"Class '{dataset.classes[absent[0]]}' of {dataset.name} has no {name} example; each split needs one "
                f"of each class. Change the fractions: validation is {validation}, test is {test}."
            )
    return split


def _draw(
    y: NDArray[np.int64], rng: np.random.Generator, fraction: float, taken: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Choose at random the given fraction of each class, at least one example, among those not taken."""
    chosen = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        free = members if taken is None else members[~taken[members]]
        chosen[rng.permutation(free)[: max(1, round(fraction * len(members)))]] = True
    return chosen
