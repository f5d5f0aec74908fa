"""Artificial data sets: two classes of normally distributed examples with known ground truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from repsim.learning.checks import check_choice, check_integer
from repsim.learning.data.dataset import Dataset

__all__ = ["ARTIFICIAL", "artificial"]

_FLIPPED = 0.1  # fraction of wrong labels in noisy-linear


def artificial(name: str, n_features: int = 2, n_examples: int = 1000, seed: int = 0) -> Dataset:
    """Return a data set of standard normal examples x in two classes, "0" and "1".

    Let u and v be two random orthonormal directions. The class is "1"

    - ``linear``: where u · x > 0;
    - ``noisy-linear``: as in ``linear``, with the classes of a random tenth of the examples exchanged;
    - ``random-labels``: for a random half of the examples, independently of x;
    - ``xor``: where either u · x > 0 or v · x > 0, but not both.

    A plane through the origin separates the classes of ``linear``. On new examples with the same noise, no classifier
    has an expected accuracy above 9/10 in ``noisy-linear`` or above 1/2 in ``random-labels``. In ``xor`` no plane has
    an accuracy above 5/8, whereas a network with four rectified units in one hidden layer can classify all examples.

    Parameters
    ----------
    name : str
        A key of ``ARTIFICIAL``.
    n_features : int, default 2
        Number of dimensions, 2 or more.
    n_examples : int, default 1000
        Number of examples. It does not change u, v and the first rows of X.
    seed : int, default 0
        Decides u, v, X and the noise. Data sets that differ only in their name have the same u, v and X.

    Returns
    -------
    Dataset
        Its classes are equally frequent in ``random-labels``, and equally likely in the others. Its name, such as
        ``"xor"`` or ``"xor:100"``, is one that ``load_dataset`` accepts.

    Raises
    ------
    ValueError
        If the name is unknown, or if a number is below its minimum.

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
    """Return two orthogonal unit vectors, each drawn uniformly from the sphere."""
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


ARTIFICIAL: dict[str, Callable[[_Projections, _Projections, np.random.Generator], _Classes]] = {  # from u · x and v · x
    "linear": _linear,
    "noisy-linear": _noisy_linear,
    "random-labels": _random_labels,
    "xor": _xor,
}
