"""Sequence tasks by name: copy, repeat copy and adding, generated from a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from repsim.learning.checks import check_choice, check_integer
from repsim.learning.data.dataset import Dataset

__all__ = ["SEQUENCES", "sequence_task"]

_SYMBOLS = tuple("abcdefgh")
_MOST_REPEATS = 3
_LONGEST = 1000  # sequences, as an example has one vector per time step


def sequence_task(name: str, length: int, n_examples: int = 2000, seed: int = 0) -> Dataset:
    """Return sequences with targets for a recurrent network.

    Parameters
    ----------
    name : str
        A key of ``SEQUENCES``:

        - ``"copy"``: a sequence of ``length`` random symbols out of eight, then a marker for as many time steps, at
          each of which the target is the next of the symbols;
        - ``"repeat-copy"``: ``length`` symbols, then a marker, beside which the number of repeats, 1 to 3, is shown
          once; the targets are the symbols, so many times, then "end", then "blank" up to three repeats;
        - ``"adding"``: ``length`` numbers, uniform in [-1, 1], two of which are marked, one in each half; the target,
          after the last of them, is 0.5 + (a + b) / 4, a regression target in [0, 1].
    length : int
        2 or more.
    n_examples : int, default 2000
    seed : int, default 0
        Decides the sequences.

    Returns
    -------
    Dataset
        Examples have the shape (steps, features); symbols and markers are one-hot. The classes y are the first symbol,
        the number of repeats, or whether the target of ``"adding"`` is above its mean of 0.5.

    Raises
    ------
    ValueError
        If the name is unknown or a number is out of range.

    References
    ----------
    Graves, Wayne, Danihelka (2014), Neural Turing machines, sections 4.1 and 4.2 (copy and repeat copy).
    Hochreiter, Schmidhuber (1997), Long short-term memory, section 5.4 (adding; their sequences vary in length, and
    the marked numbers are close to the start).

    Examples
    --------
    >>> task = sequence_task("copy", 5)
    >>> task.shape, task.targets.shape, task.scored
    ((10, 9), (2000, 5), (6, 7, 8, 9, 10))
    """
    check_choice("sequence task", name, SEQUENCES)
    check_integer("length", length, 2)
    check_integer("n_examples", n_examples, 1)
    check_integer("seed", seed, 0)
    if length > _LONGEST:
        raise ValueError(f"length is {length}; expected at most {_LONGEST}.")
    rng = np.random.default_rng([seed, 0x5E90])
    return SEQUENCES[name](f"{name}:{length}", length, n_examples, rng)


def _copy(name: str, length: int, n: int, rng: np.random.Generator) -> Dataset:
    symbols = rng.integers(len(_SYMBOLS), size=(n, length))
    X = np.zeros((n, 2 * length, len(_SYMBOLS) + 1), dtype=np.float32)
    X[:, :length, :-1] = _one_hot(symbols)
    X[:, length:, -1] = 1
    scored = tuple(range(length + 1, 2 * length + 1))
    return _task(name, X, symbols[:, 0], _SYMBOLS, symbols, _SYMBOLS, scored)


def _repeat_copy(name: str, length: int, n: int, rng: np.random.Generator) -> Dataset:
    symbols = rng.integers(len(_SYMBOLS), size=(n, length))
    repeats = rng.integers(1, _MOST_REPEATS + 1, size=n)
    n_written = _MOST_REPEATS * length + 1
    X = np.zeros((n, length + n_written, len(_SYMBOLS) + 2), dtype=np.float32)
    X[:, :length, :-2] = _one_hot(symbols)
    X[:, length:, -2] = 1
    X[:, length, -1] = repeats / _MOST_REPEATS
    end, blank = len(_SYMBOLS), len(_SYMBOLS) + 1
    place = np.arange(n_written)
    last = length * repeats[:, None]
    written = np.tile(symbols, _MOST_REPEATS + 1)[:, :n_written]
    targets = np.where(place < last, written, np.where(place == last, end, blank))
    scored = tuple(range(length + 1, length + n_written + 1))
    counts = tuple(str(count) for count in range(1, _MOST_REPEATS + 1))
    return _task(name, X, repeats - 1, counts, targets, (*_SYMBOLS, "end", "blank"), scored)


def _adding(name: str, length: int, n: int, rng: np.random.Generator) -> Dataset:
    numbers = rng.uniform(-1, 1, size=(n, length))
    marked = np.stack([rng.integers(length // 2, size=n), rng.integers(length // 2, length, size=n)], axis=1)
    markers = np.zeros((n, length))
    np.put_along_axis(markers, marked, 1, axis=1)
    targets = 0.5 + (numbers * markers).sum(axis=1, keepdims=True) / 4
    X = np.stack([numbers, markers], axis=2).astype(np.float32)
    return _task(name, X, targets[:, 0] > 0.5, ("below", "above"), targets.astype(np.float32), ("sum",), None)


def _one_hot(symbols: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.eye(len(_SYMBOLS), dtype=np.float32)[symbols]


def _task(
    name: str,
    X: NDArray[np.float32],
    y: NDArray[np.int64] | NDArray[np.bool_],
    classes: tuple[str, ...],
    targets: NDArray[np.int64] | NDArray[np.float32],
    outputs: tuple[str, ...],
    scored: tuple[int, ...] | None,
) -> Dataset:
    rows = X.reshape(len(X), -1)
    shape = (X.shape[1], X.shape[2])
    return Dataset(name, rows, y.astype(np.int64), classes, None, shape, targets, outputs, scored)


SEQUENCES: dict[str, Callable[[str, int, int, np.random.Generator], Dataset]] = {
    "copy": _copy,
    "repeat-copy": _repeat_copy,
    "adding": _adding,
}
