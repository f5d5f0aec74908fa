"""Artificial data sets: two classes of normal examples, of which it is known what can be learnt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from repsim.learning.checks import check_choice, check_integer
from repsim.learning.data.dataset import Dataset

__all__ = ["ARTIFICIAL", "artificial"]

_FLIPPED = 0.1  # the fraction of labels that noisy-linear has wrong


def artificial(name: str, n_features: int = 2, n_examples: int = 1000, seed: int = 0) -> Dataset:
    """Return standard normal examples x in two classes, "0" and "1".

    With u and v two random orthonormal directions, the class is "1"

    - ``linear``: where u · x > 0;
    - ``noisy-linear``: as in ``linear``, but for a tenth of the examples, chosen at random, the other class;
    - ``random-labels``: for half of the examples, chosen at random, whatever x is;
    - ``xor``: where either u · x > 0 or v · x > 0, but not both.

    A plane through the origin separates the classes of ``linear``. On new examples, which are as noisy, nothing is
    expected to be right more often than 9/10 in ``noisy-linear`` and 1/2 in ``random-labels``. In ``xor`` no plane is
    right more often than 5/8, whereas four rectified units in one hidden layer can always be.

    Parameters
    ----------
    name : str
        A key of ``ARTIFICIAL``.
    n_features : int, default 2
        Dimensions, 2 or more.
    n_examples : int, default 1000
        With more, u, v and the first rows of X stay the same.
    seed : int, default 0
        Decides u, v, X and the noise. Sets that differ by name alone share u, v and X.

    Returns
    -------
    Dataset
        Classes are equally frequent, in ``linear``, ``noisy-linear`` and ``xor`` up to chance. Its name is one that
        ``load_dataset`` understands, ``"xor"`` or ``"xor:100"``.

    Raises
    ------
    ValueError
        If the name is unknown or a number is too small.

    Examples
    --------
    >>> xor = artificial("xor", 100)
    >>> xor.name, xor.X.shape, xor.classes
    ('xor:100', (1000, 100), ('0', '1'))
    """
    check_choice("artificial data set", name, ARTIFICIAL)
    check_integer("n_features", n_features, 2)
    check_integer("n_examples", n_examples, 1)
    check_integer("seed", seed, 0)
    rng = np.random.default_rng([seed, 0xA271])
    u, v = _orthonormal(rng, n_features)
    X = rng.standard_normal((n_examples, n_features), dtype=np.float32)
    y = ARTIFICIAL[name](X @ u, X @ v, rng)
    called = name if n_features == 2 else f"{name}:{n_features}"
    return Dataset(called, X, y.astype(np.int64), ("0", "1"))


def _orthonormal(rng: np.random.Generator, n_features: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw two orthogonal directions of length 1, each uniform on the sphere."""
    u, v = rng.standard_normal((2, n_features))
    u /= np.linalg.norm(u)
    v -= (u @ v) * u
    return u, v / np.linalg.norm(v)


_Projections = NDArray[np.float64]  # u · x and v · x of each example
_Classes = NDArray[np.bool_]


def _linear(a: _Projections, b: _Projections, rng: np.random.Generator) -> _Classes:
    return a > 0


def _noisy_linear(a: _Projections, b: _Projections, rng: np.random.Generator) -> _Classes:
    flipped = rng.permutation(len(a)) < round(_FLIPPED * len(a))
    return (a > 0) ^ flipped


def _random_labels(a: _Projections, b: _Projections, rng: np.random.Generator) -> _Classes:
    return rng.permutation(len(a)) % 2 == 1


def _xor(a: _Projections, b: _Projections, rng: np.random.Generator) -> _Classes:
    return (a > 0) ^ (b > 0)


ARTIFICIAL: dict[str, Callable[[_Projections, _Projections, np.random.Generator], _Classes]] = {
    "linear": _linear,
    "noisy-linear": _noisy_linear,
    "random-labels": _random_labels,
    "xor": _xor,
}
