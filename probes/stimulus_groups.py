"""Groups of stimuli, such as all words of one speaker, that belong to one part of a split."""

import numpy as np
from numpy.typing import ArrayLike


def check_groups(groups: ArrayLike, split: ArrayLike) -> None:
    """Check that no group of stimuli is divided between the parts of a split.

    Stimuli of one group, such as words of one speaker or frames of one film, resemble one another. If some of them are
    training rows and others test rows, a probe that recognises the group is scored as if it had learned the target.

    Parameters
    ----------
    groups : array-like, shape (n,), of int or str
        The group of each stimulus.
    split : array-like, shape (n,), of str
        The part of each stimulus, in the same order, such as "train" or "test".

    Raises
    ------
    ValueError
        If a group has stimuli in several parts; the message names the first such group and its parts. If the lengths
        differ.

    Examples
    --------
    >>> check_groups(["ann", "ann", "bob"], ["train", "train", "test"])
    >>> check_groups(["ann", "ann", "bob"], ["train", "test", "test"])
    Traceback (most recent call last):
    ValueError: The split divides 1 of 2 groups, such as 'ann', which is in test and train. ...
    """
    names, parts = np.asarray(groups), np.asarray(split)
    if names.ndim != 1 or names.shape != parts.shape:
        raise ValueError(
            f"groups has shape {names.shape} and split {parts.shape}; both need one entry per stimulus, in the same "
            "order."
        )
    of: dict[object, set[str]] = {}
    for name, part in zip(names.tolist(), parts.tolist(), strict=True):
        of.setdefault(name, set()).add(str(part))
    divided = {name: found for name, found in of.items() if len(found) > 1}
    if divided:
        name, found = next(iter(divided.items()))
        raise ValueError(
            f"The split divides {len(divided)} of {len(of)} groups, such as {name!r}, which is in "
            f"{' and '.join(sorted(found))}. Put all stimuli of a group into one part."
        )
