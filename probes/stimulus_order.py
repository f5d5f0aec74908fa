"""Order of stimuli: labels, splits and types matched by stimulus id to the rows of layers, or taken by position."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from numbers import Integral
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


class StimulusSet(Protocol):
    """Labels and split of stimuli that have ids, such as the ``stimuli`` of a run."""

    @property
    def ids(self) -> Any: ...  # noqa: D102

    @property
    def labels(self) -> Any: ...  # noqa: D102


ByStimulus = ArrayLike | Mapping[Any, Any] | pd.Series | StimulusSet


def is_stimulus_set(values: object) -> bool:
    """Return whether values are a set of stimuli, with ``ids`` and ``labels``."""
    return (
        not isinstance(values, Mapping | pd.Series | np.ndarray)
        and hasattr(values, "ids")
        and hasattr(values, "labels")
    )


def is_by_id(values: object) -> bool:
    """Return whether values come with the id of the stimulus of each.

    Examples
    --------
    >>> [is_by_id(values) for values in ([0, 1], np.arange(2), {"17": 0}, pd.Series([0], index=["17"]))]
    [False, False, True, True]
    """
    return isinstance(values, Mapping | pd.Series) or is_stimulus_set(values)


def ids_of(values: Any) -> NDArray[Any] | None:
    """Return the ids that values come with: those of a recorded layer, or the keys of a mapping; or None.

    Examples
    --------
    >>> ids_of({"17": 0, "4": 1}).tolist(), ids_of([0, 1])
    (['17', '4'], None)
    """
    if isinstance(values, Mapping):
        return np.fromiter(values, dtype=object, count=len(values))
    if isinstance(values, pd.Series):
        return np.asarray(values.index)
    ids = values.ids if is_stimulus_set(values) else getattr(values, "stimulus_ids", None)
    return None if ids is None else np.asarray(ids)


def in_order(values: Any, ids: ArrayLike | None, name: str, *, column: str = "labels") -> Any:
    """Return values in the order of the stimuli; an array, which has no ids, is returned unchanged.

    `ids` are those of the stimuli, in their order. If they are None, a Series or a set of stimuli is taken by position.
    `name` is how messages call the values; `column` is what is read from a set of stimuli, "labels" or "split".

    Examples
    --------
    >>> in_order({"17": "cat", "4": "dog"}, ["4", "17"], "labels").tolist()
    ['dog', 'cat']
    """
    if not is_by_id(values):
        return values
    if is_stimulus_set(values) and not hasattr(values, column):
        raise ValueError(f"{name} is a set of stimuli without {column}. Give an array, or a mapping by stimulus id.")
    found = _array(getattr(values, column) if is_stimulus_set(values) else _plain(values))
    if ids is None:
        if isinstance(values, Mapping):
            raise ValueError(
                f"{name} is a mapping by stimulus id, but the layers have no stimulus ids. Give recorded layers, or an "
                "array in the order of the rows."
            )
        return found
    keys, wanted = _listed(ids_of(values)), _listed(ids)
    ordered = found if keys == wanted else found[_places(keys, wanted, name)]
    absent = np.flatnonzero(pd.isna(ordered)) if ordered.ndim == 1 else np.empty(0, dtype=np.intp)
    if len(absent):
        raise ValueError(
            f"{name} is missing (NaN) for {len(absent)} of {len(wanted)} stimuli, such as {wanted[absent[0]]!r}; "
            "give a value for every stimulus, or record fewer stimuli."
        )
    return ordered


def targets_of(X: Any, y: Any) -> Any:
    """Return y in the order of the rows of X: matched by id if X is a recorded layer and y has ids.

    Raises a ValueError if `in_order` does, or if y is an array of the run's own labels in another order.

    Examples
    --------
    >>> targets_of(np.ones((2, 3)), [0, 1])
    [0, 1]
    """
    ordered = in_order(y, ids_of(X) if hasattr(X, "stimulus_ids") else None, "y")
    if not is_by_id(y):
        check_order(ordered, getattr(X, "stimuli", None), "y")
    return ordered


def check_order(values: ArrayLike, stimuli: Any, name: str, *, column: str = "labels") -> None:
    """Check an array without ids against the labels or the split that a layer knows, if it knows any.

    Labels that are a function of the run's own, such as their parity, are in the right order. The order of unrelated
    labels cannot be checked. Raises a ValueError if labels are the run's own in another order. Warns if labels may be
    the run's own under other names and in another order, or if a split is the run's own in another order.
    """
    if not hasattr(stimuli, column):
        return
    given, own = np.asarray(values), np.asarray(getattr(stimuli, column))
    if given.shape != own.shape or given.dtype.kind not in "iubfUTO":
        return
    texts, own_texts = _texts(given), _texts(own)
    if texts == own_texts or (column == "labels" and _is_function(own_texts, texts)):
        return
    advice = f"Give the run's stimuli, or a mapping of stimulus id to {'label' if column == 'labels' else 'part'}"
    if sorted(texts) == sorted(own_texts):
        found = f"{name} holds the run's own {column}, but in another order than the recorded stimuli"
        if column == "labels":
            raise ValueError(f"{found}; every label would belong to the wrong row. {advice}.")
        _warn(f"{found}. {advice}, also if you changed the split on purpose.")
    elif column == "labels" and _sizes(texts) == _sizes(own_texts):
        _warn(
            f"{name} has classes of the same sizes as the run's own labels, but on other rows. If they are the same "
            f"labels under other names, they are in another order than the recorded stimuli. {advice}."
        )


def _warn(message: str) -> None:
    """Warn at the line of the first caller outside this package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals["__name__"].partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


class RowStimuli:
    """The stimuli that the rows of several layers belong to, as far as the layers have ``stimulus_ids``.

    `layers` are pairs of a description for messages and a layer. Raises a ValueError if layers were recorded on
    different stimuli, or in different orders.
    """

    def __init__(self, layers: Iterable[tuple[str, Any]]) -> None:
        self._layers = [(name, layer) for name, layer in layers if hasattr(layer, "stimulus_ids")]
        self.ids = np.asarray(self._layers[0][1].stimulus_ids) if self._layers else None
        self._index: pd.Index | None = None
        for name, layer in self._layers[1:]:
            self._check_ids(name, layer.stimulus_ids)

    def in_order(self, values: Any, name: str, *, column: str = "labels") -> Any:
        """Return labels, a split or types in the order of the rows; see `in_order` and `check_order`."""
        if isinstance(values, pd.Series) and self.ids is None:
            self._check_index(values.index, name)
        ordered = in_order(values, self.ids, name, column=column)
        if not is_by_id(values):
            for stimuli in self._known:
                check_order(ordered, stimuli, name, column=column)
        return ordered

    @cached_property
    def _known(self) -> list[Any]:
        """The sets of stimuli that layers have; sets of the same labels and split only once."""
        known: dict[bytes, Any] = {}
        for layer in {getattr(layer, "file", id(layer)): layer for _, layer in self._layers}.values():
            stimuli = getattr(layer, "stimuli", None)
            if stimuli is not None:
                columns = [np.asarray(getattr(stimuli, name, ())).tobytes() for name in ("labels", "split")]
                known.setdefault(b"".join(columns), stimuli)
        return list(known.values())

    def _check_index(self, index: pd.Index, name: str) -> None:
        if self._index is None:
            self._index = index
        elif not index.equals(self._index) and set(index) == set(self._index):
            raise ValueError(
                f"{name} is a Series whose index differs from that of the preceding Series, and the layers "
                "have no stimulus ids. Give recorded layers, or arrays in the order of the rows."
            )

    def _check_ids(self, name: str, stimulus_ids: Any) -> None:
        theirs, ours = np.asarray(stimulus_ids).astype(str), np.asarray(self.ids).astype(str)
        if np.array_equal(theirs, ours):
            return
        first = self._layers[0][0]
        first = first[:1].lower() + first[1:]
        same = sorted(theirs) == sorted(ours)
        found = f"the same stimuli as {first}, in another order" if same else f"different stimuli from {first}"
        raise ValueError(
            f"{name} was recorded on {found}, so their rows have different labels. Probe them in separate calls."
        )


def _plain(values: Mapping[Any, Any] | pd.Series) -> Any:
    return list(values.values()) if isinstance(values, Mapping) else values.to_numpy()


def _array(values: Any) -> NDArray[Any]:
    """Return an array in which mixed strings and numbers stay as they are."""
    array = np.asarray(values)
    if array.dtype.kind in "US" and not isinstance(values, np.ndarray):
        mixed = np.empty(len(values), dtype=object)
        mixed[:] = values
        return array if all(isinstance(value, str) for value in values) else mixed
    return array


def _listed(ids: Any) -> list[Any]:
    return [each.item() if isinstance(each, np.generic) else each for each in np.asarray(ids).tolist()]


def _places(keys: Sequence[Any], wanted: Sequence[Any], name: str) -> list[int]:
    """Return the position of each stimulus among the keys."""
    kinds, expected = {_kind(key) for key in keys}, {_kind(key) for key in wanted}
    if not kinds <= expected:
        odd = next(key for key in keys if _kind(key) not in expected)
        raise ValueError(
            f"{name} has keys that are {_kind(odd)}, such as {odd!r}, but the ids of the stimuli are "
            f"{' or '.join(sorted(expected))}, such as {wanted[0]!r}. If the keys are ids, convert them; if not, give "
            "an array in the order of the stimuli."
        )
    places = {key: place for place, key in enumerate(keys)}
    if len(places) < len(keys):
        repeated = next(key for place, key in enumerate(keys) if places[key] != place)
        raise ValueError(f"{name} has more than one entry for stimulus {repeated!r}; give one entry per id.")
    missing = [key for key in wanted if key not in places]
    if missing:
        raise ValueError(
            f"{name} has no entry for {len(missing)} of {len(wanted)} stimuli, such as {missing[0]!r}; "
            "give one entry for each of the layers' stimulus_ids."
        )
    recorded = set(wanted)
    extra = [key for key in keys if key not in recorded]
    if extra:
        raise ValueError(
            f"{name} has entries for {len(extra)} stimuli that were not recorded, such as {extra[0]!r}; "
            "give only entries of the layers' stimulus_ids."
        )
    return [places[key] for key in wanted]


def _kind(key: object) -> str:
    if isinstance(key, str):
        return "text"
    return "integers" if isinstance(key, Integral) else f"of type {type(key).__name__}"


def _texts(values: NDArray[Any]) -> list[str]:
    """Return values as strings; equal integers give equal strings, whatever their dtype."""
    if values.dtype.kind in "bf":
        whole = values.astype(np.float64)
        if np.array_equal(whole, np.rint(whole)):
            values = whole.astype(np.int64)
    return list(map(str, values.tolist()))


def _is_function(of: Sequence[str], values: Sequence[str]) -> bool:
    return len(set(zip(of, values, strict=True))) == len(set(of))


def _sizes(values: Sequence[str]) -> list[int]:
    return sorted(np.unique(values, return_counts=True)[1].tolist())
