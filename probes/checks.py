"""Checks of numerical arguments."""

from numbers import Integral, Real

import numpy as np


def is_positive(value: object) -> bool:
    """Return whether a value is a positive, finite number.

    Examples
    --------
    >>> [is_positive(value) for value in (0.1, 3, 0, float("inf"), "1")]
    [True, True, False, False, False]
    """
    return isinstance(value, Real) and 0.0 < float(value) < np.inf


def check_positive(value: object, name: str) -> None:
    """Raise a ValueError that calls the value by `name`, unless it is a positive, finite number."""
    if not is_positive(value):
        raise ValueError(f"{name} is {value!r}; expected a positive, finite number.")


def check_positive_integer(value: object, name: str) -> None:
    """Raise a ValueError that calls the value by `name`, unless it is an integer of 1 or more.

    Examples
    --------
    >>> check_positive_integer(2.0, "k")
    Traceback (most recent call last):
    ValueError: k is 2.0; expected a positive integer.
    """
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}; expected a positive integer.")
