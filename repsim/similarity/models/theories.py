"""Model RDMs of theories: classes, and positions on a line."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist

from repsim.similarity import checks
from repsim.similarity.conditions import class_codes
from repsim.similarity.precision import FloatArray


def categorical_rdm(labels: ArrayLike) -> FloatArray:
    """Compute the RDM of a theory of classes: 0 within classes, 1 between classes.

    Parameters
    ----------
    labels : array-like (n,)
        The class of every stimulus; numbers or strings.

    Returns
    -------
    array (n * (n - 1) / 2,)

    Raises
    ------
    ValueError
        If the labels are not one-dimensional, missing or of mixed kinds; if all labels are equal or all are different,
        so that the RDM would be constant.

    Examples
    --------
    >>> categorical_rdm(["cat", "cat", "dog"])
    array([0., 1., 1.])
    """
    n = len(_one_for_each_stimulus(labels, "labels"))
    codes = class_codes(labels, n, "labels", "the RDM", unit="stimuli")
    n_classes = int(codes.max()) + 1
    if n_classes in (1, n):
        raise ValueError(
            f"The {n} labels are of {n_classes} classes; expected at least 2, one of them with 2 members. "
            "A model RDM with equal distances predicts nothing. Pass other labels."
        )
    return (pdist(codes[:, None].astype(np.float64), "cityblock") > 0).astype(np.float64)


def ordinal_rdm(values: ArrayLike) -> FloatArray:
    r"""Compute the RDM of a theory of positions on a line: :math:`|v_i - v_j|`.

    Parameters
    ----------
    values : array-like (n,)
        A number for every stimulus: size, position, frequency.

    Returns
    -------
    array (n * (n - 1) / 2,)

    Raises
    ------
    ValueError
        If the values are not one-dimensional, not finite real numbers, or all equal.

    Examples
    --------
    >>> ordinal_rdm([1, 2, 5])
    array([1., 4., 3.])
    """
    array = checks.representation(_one_for_each_stimulus(values, "values")[:, None], "values")
    if not np.ptp(array):
        raise ValueError(
            f"All {len(array)} values are {array[0, 0]:g}; expected at least 2 that differ. "
            "A model RDM of zeros predicts nothing. Pass other values."
        )
    return pdist(array, "cityblock")


def _one_for_each_stimulus(values: ArrayLike, name: str) -> NDArray:
    array = np.asarray(values)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(
            f"{name} has shape {array.shape}; expected (n_stimuli,), at least 2. Pass one for each stimulus, in order."
        )
    return array
