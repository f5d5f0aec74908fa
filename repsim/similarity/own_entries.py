"""Registration of the user's own measures, distances, comparators and statistics, checked on small random data."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np

from repsim.registration import registering
from repsim.registry_kinds import KINDS
from repsim.similarity.comparators.comparator import Comparator
from repsim.similarity.distances.distance import Distance
from repsim.similarity.entries import About, Entry
from repsim.similarity.measures.measure import Measure
from repsim.similarity.precision import FloatArray
from repsim.similarity.statistics.statistic import Statistic

__all__ = ["register_comparator", "register_distance", "register_measure", "register_statistic"]

F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=Entry)
Range = tuple[float, float]

_ANY: Range = (-math.inf, math.inf)
_N, _D = 30, (5, 4)  # stimuli, and features of the two representations on which entries are checked
_CLOSE = 1e-5  # relative change of a value below which it counts as the same


def register_measure(
    name: str,
    *,
    label: str = "",
    range: Range = _ANY,  # noqa: A002 (its name in Measure)
    direction: Literal["similarity", "distance"] = "similarity",
    is_symmetric: bool = False,
    is_metric: bool = False,
    invariances: Iterable[str] = (),
    about: About = About(),  # noqa: B008 (frozen)
) -> Callable[[F], F]:
    """Return a decorator that makes a function of two representations known as a measure.

    The function takes X (n, d1) and Y (n, d2), float64, and returns a float. Wherever a measure is named, also on the
    command line, ``name`` then stands for it. What is declared is checked on random data of 30 stimuli. A ``Measure``
    may be registered too; it declares everything itself.

    Parameters
    ----------
    name : str
        Key in ``MEASURES``.
    label : str, optional
        Name in figures.
    range, direction, is_metric, invariances, about
        As for ``Measure``.
    is_symmetric : bool, default False
        Whether X and Y may be exchanged. If not, both orders are evaluated.

    Returns
    -------
    callable
        Takes the function and returns it unchanged.

    Raises
    ------
    ValueError
        If the name belongs to another measure; if the function fails on random data, or returns NaN or a value outside
        its range; or if a declared symmetry, metric property or invariance does not hold.
    TypeError
        If what is decorated is not a function of two arrays that returns a float.

    Examples
    --------
    >>> import numpy as np
    >>> from repsim.similarity import MEASURES, pairwise, register_measure
    >>> @register_measure("gap", direction="distance", range=(0, np.inf), invariances={"permutation"})
    ... def gap(X, Y):
    ...     return float(abs(X.mean() - Y.mean()))
    >>> pairwise({"a": [[1], [2]], "b": [[3], [5]]}, measure="gap").values
    array([[0. , 2.5],
           [2.5, 0. ]])
    >>> del MEASURES["gap"]
    """
    declared = {
        "label": label,
        "range": range,
        "direction": direction,
        "is_symmetric": is_symmetric or is_metric,
        "is_metric": is_metric,
        "invariances": invariances,
        "about": about,
    }
    return registering(KINDS["measures"], name, _given(declared))


def register_distance(
    name: str,
    *,
    range: Range = _ANY,  # noqa: A002
    about: About = About(),  # noqa: B008
) -> Callable[[F], F]:
    """Return a decorator that makes a symmetric function of two patterns (d,) known as a distance between stimuli.

    Parameters
    ----------
    name : str
        Key in ``DISTANCES``.
    range, about
        As for ``Distance``, which may be registered too.

    Returns
    -------
    callable
        Takes the function and returns it unchanged.

    Raises
    ------
    ValueError, TypeError
        As for ``register_measure``; also if the function is not symmetric.

    Examples
    --------
    >>> import numpy as np
    >>> from repsim.similarity import DISTANCES, rdm, register_distance
    >>> @register_distance("farthest", range=(0, np.inf))
    ... def farthest(x, y):
    ...     return float(np.abs(x - y).max())
    >>> rdm([[0, 1], [3, 2], [0, 0]], "farthest").tolist()
    [3.0, 1.0, 3.0]
    >>> del DISTANCES["farthest"]
    """
    return registering(KINDS["distances"], name, _given({"range": range, "about": about}))


def register_comparator(
    name: str,
    *,
    range: Range = _ANY,  # noqa: A002
    ignores: Iterable[str] = (),
    about: About = About(),  # noqa: B008
) -> Callable[[F], F]:
    """Return a decorator that makes a symmetric function of two condensed RDMs known as a comparator.

    Larger values must mean more alike.

    Parameters
    ----------
    name : str
        Key in ``COMPARATORS``.
    range, ignores, about
        As for ``Comparator``, which may be registered too.

    Returns
    -------
    callable
        Takes the function and returns it unchanged.

    Raises
    ------
    ValueError, TypeError
        As for ``register_measure``; also if the function is not symmetric, or does not ignore what it declares.

    Examples
    --------
    >>> import numpy as np
    >>> from repsim.similarity import COMPARATORS, compare_rdms, register_comparator
    >>> @register_comparator("closeness", range=(-np.inf, 0))
    ... def closeness(a, b):
    ...     return -float(np.abs(a - b).mean())
    >>> float(compare_rdms([1, 2, 3], [1, 2, 6], method="closeness"))
    -1.0
    >>> del COMPARATORS["closeness"]
    """
    return registering(KINDS["comparators"], name, _given({"range": range, "ignores": ignores, "about": about}))


def register_statistic(
    name: str,
    *,
    range: Range = _ANY,  # noqa: A002
    needs_labels: bool = False,
    invariances: Iterable[str] = (),
    about: About = About(),  # noqa: B008
) -> Callable[[F], F]:
    """Return a decorator that makes a function of one representation known as a statistic.

    Parameters
    ----------
    name : str
        Key in ``STATISTICS``.
    range, needs_labels, invariances, about
        As for ``Statistic``, which may be registered too.

    Returns
    -------
    callable
        Takes the function and returns it unchanged.

    Raises
    ------
    ValueError, TypeError
        As for ``register_measure``.

    Examples
    --------
    >>> import numpy as np
    >>> from repsim.similarity import STATISTICS, register_statistic
    >>> @register_statistic("largest", invariances={"permutation"})
    ... def largest(X):
    ...     return float(X.max())
    >>> STATISTICS["largest"].function(np.eye(2))
    1.0
    >>> del STATISTICS["largest"]
    """
    declared = {"range": range, "needs_labels": needs_labels, "invariances": invariances, "about": about}
    return registering(KINDS["statistics"], name, _given(declared))


def _given(declared: dict[str, Any]) -> dict[str, Any]:
    """Return what was declared, without what is at its default."""
    defaults: dict[str, Any] = {"range": _ANY, "about": About(), "direction": "similarity"}
    return {name: value for name, value in declared.items() if value and value != defaults.get(name)}


# Entries of what is registered


def make_measure(name: str, given: Any, **declared: Any) -> Measure:
    """Return the measure that a function, or a ``Measure``, is, if it keeps what it declares."""
    entry = _entry(Measure, name, given, declared, 2)
    X, Y = _representations(given, entry)
    call = partial(_value, "measure", name, given, entry)
    value = call(X, Y)
    if entry.is_symmetric:
        _same("measure", name, "symmetric", "exchanging X and Y", value, call(Y, X))
    if entry.is_metric and (itself := call(X, X)) > _CLOSE * max(1.0, abs(value)):
        raise ValueError(f"The measure '{name}' is declared a metric, but the distance of X to itself is {itself:g}.")
    for invariance in sorted(entry.invariances):
        _same("measure", name, f"invariant to {invariance}", "that", value, call(_changed(X, invariance), Y))
    return entry


def make_distance(name: str, given: Any, **declared: Any) -> Distance:
    """Return the distance that a function, or a ``Distance``, is, if it keeps what it declares."""
    entry = _entry(Distance, name, given, declared, 2)
    if not isinstance(given, Distance):
        x, y = _random()[0][:2]
        forth, back = (_value("distance", name, given, entry, *pair) for pair in ((x, y), (y, x)))
        _same("distance", name, "symmetric, as all distances are,", "exchanging the patterns", forth, back)
    return entry


def make_comparator(name: str, given: Any, **declared: Any) -> Comparator:
    """Return the comparator that a function, or a ``Comparator``, is, if it keeps what it declares."""
    entry = _entry(Comparator, name, given, declared, 2)
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.5, 2.0, size=(2, _N * (_N - 1) // 2))
    call = partial(_value, "comparator", name, lambda a, b: entry.compare(entry.prepare(a), entry.prepare(b)), entry)
    value = call(a, b)
    _same("comparator", name, "symmetric, as all comparators are,", "exchanging the RDMs", value, call(b, a))
    changes = {"scale": 3.7 * a, "offset": a + 0.8, "monotone maps": a**3}
    for transformation in sorted(entry.ignores):
        _same("comparator", name, f"unchanged by {transformation}", "that", value, call(changes[transformation], b))
    return entry


def make_statistic(name: str, given: Any, **declared: Any) -> Statistic:
    """Return the statistic that a function, or a ``Statistic``, is, if it keeps what it declares."""
    needs_labels = given.needs_labels if isinstance(given, Statistic) else declared.get("needs_labels", False)
    entry = _entry(Statistic, name, given, declared, 2 if needs_labels else 1)
    labels = (np.arange(_N) % 3,) if needs_labels else ()
    X = _random()[0]
    value = _value("statistic", name, entry.function, entry, X, *labels)
    for invariance in sorted(entry.invariances):
        after = _value("statistic", name, entry.function, entry, _changed(X, invariance), *labels)
        _same("statistic", name, f"invariant to {invariance}", "that", value, after)
    return entry


def _entry(entry_type: type[E], name: str, given: Any, declared: dict[str, Any], n_arguments: int) -> E:
    """Return an entry of a function with what is declared about it, or the entry that was given."""
    noun = entry_type.__name__.lower()
    if isinstance(given, entry_type):
        if declared or given.name != name:
            raise ValueError(
                f"A {entry_type.__name__} declares its name and properties itself; this one is named '{given.name}'. "
                f"Register it as '{given.name}' without further arguments."
            )
        return given
    if not callable(given) or isinstance(given, type | Entry):
        raise TypeError(
            f"The {noun} '{name}' is {given!r}; expected a function of {entry_type.takes}, or a {entry_type.__name__}."
        )
    _check_signature(noun, name, given, entry_type.takes, n_arguments)
    sets = {key: frozenset(value) for key, value in declared.items() if key in ("invariances", "ignores")}
    return replace(entry_type.from_function(name, given), **{**declared, **sets})


def _check_signature(noun: str, name: str, function: Callable[..., Any], takes: str, n_arguments: int) -> None:
    try:
        inspect.signature(function).bind(*range(n_arguments))
    except TypeError as error:
        raise TypeError(
            f"The {noun} '{name}' is a function of {inspect.signature(function)}; expected one that can be called with "
            f"{takes}{', and labels' if noun == 'statistic' and n_arguments == 2 else ''} ({error})."
        ) from None
    except ValueError:
        return  # a function of C without a signature is called below


# Checks on random data


def _random() -> tuple[FloatArray, FloatArray]:
    """Return representations of the same stimuli whose features differ in mean and scale."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(_N, _D[0])) * np.linspace(0.5, 2.0, _D[0]) + np.linspace(-1.0, 2.0, _D[0])
    Y = X @ rng.normal(size=_D) + 0.5 * rng.normal(size=(_N, _D[1]))
    return X, Y


def _representations(given: Any, entry: Measure) -> tuple[FloatArray, FloatArray]:
    """Return two representations that a measure takes: of different width, or of the same if it needs that."""
    X, Y = _random()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given(X, Y)
    except Exception:  # of the user's function; it is called again, and reported, if it fails for equal widths too
        return X[:, : _D[1]], Y
    return X, Y


def _value(noun: str, name: str, function: Callable[..., Any], entry: Entry, *arrays: Any) -> float:
    """Return the value of a function, if it is a finite float within the range of its entry."""
    value: Any
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = function(*(array.copy() for array in arrays))
    except Exception as error:
        raise ValueError(
            f"The {noun} '{name}' fails on random data of {_N} stimuli ({type(error).__name__}: {error})."
        ) from error
    if isinstance(value, bool | np.bool_) or not isinstance(value, float | int | np.floating | np.integer):
        raise TypeError(f"The {noun} '{name}' returned a {type(value).__name__}; expected a float.")
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"The {noun} '{name}' is {value} for random data of {_N} stimuli; expected a finite number.")
    low, high = entry.range
    margin = _CLOSE * max(1.0, abs(value))
    if not low - margin <= value <= high + margin:
        raise ValueError(f"The {noun} '{name}' is {value:g} for random data, outside its range of {low:g} to {high:g}.")
    return value


def _same(noun: str, name: str, what: str, how: str, before: float, after: float) -> None:
    """Raise ValueError unless two values are equal up to rounding."""
    if abs(after - before) > _CLOSE * max(abs(before), abs(after), _CLOSE):
        raise ValueError(
            f"The {noun} '{name}' is declared {what} but {how} changes its value for random data from {before:.6g} to "
            f"{after:.6g}. Declare what holds, or correct the function."
        )


def _changed(X: FloatArray, invariance: str) -> FloatArray:
    """Return a representation transformed by an invertible map of the named kind."""
    rng, d = np.random.default_rng(2), X.shape[1]
    changes: dict[str, Callable[[], FloatArray]] = {
        "permutation": lambda: X[:, np.roll(np.arange(d), 1)],
        "orthogonal": lambda: X @ np.linalg.qr(rng.normal(size=(d, d)))[0],
        "invertible linear": lambda: X @ (np.eye(d) + rng.normal(size=(d, d)) / 4),
        "isotropic scaling": lambda: 3.7 * X,
        "translation": lambda: X + rng.normal(size=d),
    }
    return changes[invariance]()
