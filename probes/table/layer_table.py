"""One probe per layer, of many networks and checkpoints, as a table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from itertools import groupby
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from probes.estimators.logistic import LogisticProbe, check_parameters
from probes.features import blocks_of_layer, read_features
from probes.grids import AUTO, MOST_DECADES
from probes.solvers import Fit
from probes.solvers.path import CS
from probes.stimulus_order import ByStimulus, RowStimuli, is_by_id, is_stimulus_set
from probes.table.columns import COLUMNS, NO_CONTROLS, Question, answers, failure
from probes.table.network_layers import FitKey, NetworkLayers, baselines, list_networks
from probes.table.row_cache import Row, RowCache, key_of
from probes.targets import encode_target

MOST_TOGETHER = 32  # layers that are searched at once
FORMAT = 2  # of rows in a journal


def probe_layers(
    layers: Mapping[str, ArrayLike] | NetworkLayers | Iterable[NetworkLayers],
    labels: ByStimulus | Mapping[str, ByStimulus],
    split: ByStimulus | None = None,
    *,
    Cs: Sequence[float] | str = AUTO,
    solver: str = "auto",
    tol: float = 1e-6,
    max_iter: int = 1000,
    device: str = "cpu",
    controls: int = 0,
    types: ByStimulus | None = None,
    codelength: bool = False,
    inputs: ArrayLike | None = None,
    ids: ArrayLike | None = None,
    fits: MutableMapping[FitKey, Fit] | None = None,
    cache: str | Path | None = None,
    memory: int = 2**30,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    r"""Fit a linear classifier probe to every layer of every network and say how well it reads the labels.

    A probe minimises :math:`P(W, b) = C \sum_i \ell(y_i, W x_i + b) + \tfrac12 \lVert W \rVert_F^2` over standardised
    features; see `LogisticProbe`. Scaling and coefficients come from the training rows alone. With several `Cs`, the
    one with the least log loss on the validation rows is kept (the smallest on a tie); it is *not* fitted again on
    training and validation rows together. The test rows are scored once, with the kept probe. Candidates are compared
    at a relative gap of 1e-4, in ascending order until the validation loss has risen twice in a row; the kept one is
    taken to `tol` (see `probes.solvers.path.fit_path`). Every layer has the same split.

    Every layer gets its row. One that cannot be probed (unreadable, NaN or infinite values, no variation on the
    training rows) has `status` "failed", a `message`, and NaN where a number would be.

    Parameters
    ----------
    layers : mapping of str to array-like, shape (n, d), or iterable of NetworkLayers
        Activations of one network by layer name, or `NetworkLayers` objects of several networks. The table
        has their order. A layer may be lazy: only `shape` is used until its turn comes. Neighbours of equal width are
        in memory, and searched, together.
    labels : the class of each stimulus, int or str; or several targets by name
        One of

        - a mapping of stimulus id to class, a Series with the ids as its index, or the ``stimuli`` of a run: matched to
          the rows of recorded layers by id, whatever their order;
        - array-like, shape (n,): taken by position. The stimuli of a run are *ordered by label*, so that labels in the
          order of the data set do not fit. If the layers know the run's own labels, an array of these in another order
          is refused. Of labels that have nothing to do with the run's own the order cannot be checked: give them by id;
        - a mapping of names to any of these: several targets.
    split : "train", "validation" or "test" for each stimulus, in any of these forms
        Each class occurs in "train". May be left out if `labels` is the ``stimuli`` of a run, which have a split.
    Cs : "auto" or sequence of float, > 0, default "auto"
        Weights of the data against the penalty to choose from. "auto" is the grid (0.001, 0.01, 0.1, 1.0, 10.0), which
        is extended a decade at a time, and by 6 decades at most, while the validation loss still falls by more than
        1e-4 nats at its edge: upwards for classes that are separable, downwards for layers that hold no information
        about the labels. Where the loss levels off at large C, the smallest C within 1e-4 nats is kept. Numbers are
        taken as they are, and a single one is used without a choice.
    solver, tol, max_iter, device
        As in `LogisticProbe`.
    controls : int, >= 0, default 0
        Random labelings (`random_labels`) that are fitted at the kept C, to tell the capacity of the probe.
    types : of int or str, in any of the forms of labels, optional
        Finer classes that recur in every part, such as fine labels or clusters. If given, each probe is also fitted to
        a `control_task` on them.
    codelength : bool, default False
        Whether to measure the online code of the training labels (`online_codelength`) at the kept C; takes about as
        long as two fits.
    inputs : array-like, shape (n, d), optional
        What the networks saw, in the order of the layers' rows (which is not checked). If given, the table ends with
        rows of `baselines`: the "raw input", and a "random projection" of it to each width among the layers. An
        untrained network is a recording like any other.
    ids : array-like, shape (n,), optional
        Names of the stimuli, in the order of the layers' rows; by default those that recorded layers have themselves
        (`stimulus_ids`). Layers that have `stimulus_ids` must have the same.
    fits : dict of FitKey to Fit, optional
        Holds the kept fits afterwards. Searches start from what it holds before, and from the checkpoint before, which
        saves iterations where features changed little. By default each search starts from nothing. Not together with a
        journal, which keeps no fits.
    cache : path, optional
        A file that rows are kept in. A table that was cut off goes on where it was, and has the same rows as one that
        was not, as long as arguments and activations are the same; to tell, layers are read once more.
    memory : int, default 1 GiB
        Bytes up to which layers are held in double precision; a larger layer is held in single precision (sums are in
        double all the same).
    progress : callable, optional
        Called with the name of each finished layer.

    Returns
    -------
    pandas.DataFrame
        One row per network, checkpoint, layer and target, with the columns

        - `network`, `seed` and `checkpoint`, as the recordings say; `target`, "label" if it has no name;
        - `layer`, `layer_index`, `d`, `n_constant` (features without variation on the training rows, which have
          coefficient 0), `n_train`, `n_validation`, `n_test`;
        - `C`; `C_at_edge`: whether the validation loss is least at the smallest or largest C that was tried, so that a
          wider grid may do better; `C_extended`: number of decades by which the grid of "auto" was extended;
        - `accuracy`, `balanced_accuracy` (mean recall of the classes present), both in [0, 1], and `log_loss`
          (nats, >= 0), on the test rows;
        - `train_accuracy`, `validation_log_loss`;
        - `chance`: test accuracy of always answering the commonest training class;
        - `v_information` (bits; see `v_information`), `codelength` (bits);
        - `random_label_accuracy`: mean accuracy on the training rows of fits to random labels;
        - `control_accuracy`: test accuracy on the control task, and `selectivity`: accuracy less this;
        - `relative_gap` (duality gap over objective) and `converged`, of the kept probe; `n_iter`, of all candidates;
        - `status` ("ok" or "failed") and `message` (what failed, or which fits of the grid did not converge).

        What was not asked for is NaN.

    Raises
    ------
    ValueError
        Before any fit: if `layers` or `Cs` is empty, a layer is not (n, d) with the n of `labels`, layers were recorded
        on different stimuli or in different orders, labels, split or types lack a stimulus, have others or repeat one,
        labels are known to be in another order, a parameter is out of range, a part of the split is missing or unknown,
        a class is absent from the training rows, or the journal is something else.
    TypeError
        If `layers` has something else than recordings.

    Warns
    -----
    UserWarning
        If labels or split may be in another order than the layers' rows.

    References
    ----------
    Alain and Bengio (2016). Understanding intermediate layers using linear classifier probes. arXiv:1610.01644.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> table = probe_layers({"sepal": X[:, :2], "petal": X[:, 2:]}, y, ["train", "test", "validation"] * 50)
    >>> table[["layer", "C", "accuracy", "converged"]].round(2)
       layer     C  accuracy  converged
    0  sepal  10.0      0.86       True
    1  petal  10.0      0.94       True
    """
    recordings = list_networks(layers)
    stimuli = RowStimuli(
        ((_described(name, each), layer) for each in recordings for name, layer in each.layers.items()), ids
    )
    targets = _targets(labels)
    ordered = {name: _of_target(name, labels, stimuli.in_order, each, "labels") for name, each in targets.items()}
    ordered_split = stimuli.in_order(_split(targets) if split is None else split, "split", column="split")
    tasks = {str(name): _of_target(name, labels, encode_target, each, ordered_split) for name, each in ordered.items()}
    if len(tasks) < len(targets):
        raise ValueError(f"labels has targets of one name: {', '.join(map(repr, targets))}. Name each by its own text.")
    if cache is not None and fits is not None:
        raise ValueError("cache and fits were both given; rows of a cache have no fits. Give one of them.")
    automatic = isinstance(Cs, str) and Cs == AUTO
    question = Question.checked(
        _ascending(CS if automatic else Cs, solver=solver, tol=tol, max_iter=max_iter, device=device),
        MOST_DECADES if automatic else 0,
        {"solver": solver, "tol": tol, "max_iter": max_iter, "device": device},
        tasks,
        ordered_split,
        controls=controls,
        types=None if types is None else stimuli.in_order(types, "types"),
        codelength=codelength,
    )
    n, n_classes = len(next(iter(tasks.values())).y), max(len(task.classes) for task in tasks.values())
    _check_layers(recordings, n, ids)
    if inputs is not None:
        recordings = list_networks([*recordings, *baselines(inputs, _widths(recordings))])
        _check_layers(recordings, n, ids)
    kept = _Kept(None if cache is None else RowCache(cache), question, fits)
    rows: list[Row] = []
    for recording in recordings:
        for index, names in _groups(recording, n, n_classes, memory):
            rows += kept.rows(recording, index, names, memory)
            for name in names:
                if progress is not None:
                    progress(name)
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype(dict.fromkeys(("seed", "checkpoint", "n_constant", "C_extended"), "Int64"))


class _Kept:
    """Rows, from the journal or computed, and fits to start from."""

    def __init__(self, cache: RowCache | None, question: Question, fits: MutableMapping[FitKey, Fit] | None) -> None:
        self._cache, self._question, self._fits = cache, question, fits

    def rows(self, recording: NetworkLayers, index: int, names: Sequence[str], memory: int) -> list[Row]:
        """Return the rows of neighbouring layers, the first of which is at a position of the network."""
        key = None if self._cache is None else _key(recording, index, names, self._question, memory)
        known = None if self._cache is None or key is None else self._cache.rows(key)
        if known is not None:
            return known
        rows = self._computed(recording, index, names, memory)
        if self._cache is not None and key is not None and all(_will_last(row) for row in rows):
            self._cache.add(key, rows)
        return rows

    def _computed(self, recording: NetworkLayers, index: int, names: Sequence[str], memory: int) -> list[Row]:
        features, failures = {}, {}
        any_task = next(iter(self._question.tasks.values()))
        for name in names:
            try:
                features[name] = read_features(recording.layers[name], any_task.rows, memory)
            except Exception as error:  # whatever is wrong with one layer, the others keep their rows
                failures[name] = failure(error)
        found = {
            target: answers(features, task, self._question, target, self._starts(recording, features, target))
            for target, task in self._question.tasks.items()
        }
        rows = []
        for position, name in enumerate(names, start=index):
            for target, task in self._question.tasks.items():
                answer, fit = (failures[name], None) if name in failures else found[target][name]
                if self._fits is not None and fit is not None:
                    self._fits[FitKey(recording.network, recording.seed, name, target)] = fit
                d = np.shape(recording.layers[name])[1]
                where = {"network": recording.network, "seed": recording.seed, "checkpoint": recording.checkpoint}
                place = {"target": target, "layer": name, "layer_index": position, "d": d}
                rows.append({**where, **place, **task.facts(), **answer})
        return rows

    def _starts(self, recording: NetworkLayers, names: Iterable[str], target: str) -> dict[str, Fit | None]:
        fits = self._fits or {}
        return {name: fits.get(FitKey(recording.network, recording.seed, name, target)) for name in names}


def _targets(labels: Any) -> Mapping[Any, Any]:
    """Return targets by name, of which a single one has none."""
    if not isinstance(labels, Mapping):
        return {"label": labels}
    if not labels:
        raise ValueError("labels is empty; give one or more targets, name -> array of shape (n,).")
    single = [not is_by_id(each) and np.ndim(each) == 0 for each in labels.values()]
    if any(single) and not all(single):
        raise ValueError(
            "labels has single labels and whole targets; give a mapping of stimulus id to label, or of name to target."
        )
    return {"label": labels} if any(single) else labels


def _split(targets: Mapping[Any, Any]) -> Any:
    """Return the targets that have a split of their own."""
    for each in targets.values():
        if hasattr(each, "split") and is_stimulus_set(each):
            return each
    raise ValueError("split is missing; give 'train', 'validation' or 'test' for each stimulus, or the run's stimuli.")


def _of_target(name: object, labels: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function for a target, which is named in its errors if the user named it."""
    try:
        return function(*arguments)
    except ValueError as error:
        if _targets(labels) is not labels:
            raise
        raise ValueError(f"Target {name!r}: {error}") from error


def _ascending(Cs: Sequence[float] | str, **settings: Any) -> list[float]:
    if isinstance(Cs, str | Real) or not len(Cs):
        raise ValueError(f"Cs is {Cs!r}; expected one or more positive numbers, such as (0.01, 0.1, 1.0), or 'auto'.")
    for C in Cs:
        check_parameters(LogisticProbe(C, **settings))
    return sorted({float(C) for C in Cs})


def _check_layers(recordings: Sequence[NetworkLayers], n_labels: int, ids: ArrayLike | None) -> None:
    if ids is not None and np.shape(ids) != (n_labels,):
        raise ValueError(f"ids has shape {np.shape(ids)} and labels has {n_labels}; give the name of each stimulus.")
    for recording in recordings:
        for name, layer in recording.layers.items():
            shape, described = np.shape(layer), _described(name, recording)
            if len(shape) != 2 or shape[1] == 0:
                raise ValueError(f"{described} has shape {tuple(shape)}; expected (n, d). Pool or flatten it first.")
            if shape[0] != n_labels:
                raise ValueError(
                    f"{described} has {shape[0]} rows and labels has {n_labels}; "
                    "both must come from the same stimuli in the same order."
                )


def _described(name: str, recording: NetworkLayers) -> str:
    return f"Layer {name!r} of {recording.name}" if recording.name else f"Layer {name!r}"


def _widths(recordings: Sequence[NetworkLayers]) -> list[int]:
    return [int(np.shape(layer)[1]) for recording in recordings for layer in recording.layers.values()]


def _groups(recording: NetworkLayers, n: int, n_classes: int, memory: int) -> Iterator[tuple[int, list[str]]]:
    """Give neighbours of equal width that fit into memory together, with the position of the first."""
    widths = {name: int(np.shape(layer)[1]) for name, layer in recording.layers.items()}
    start = 0
    for d, group in groupby(widths, key=widths.__getitem__):
        names, most = list(group), min(MOST_TOGETHER, max(1, memory // (n * (16 * d + 28 * n_classes))))
        for first in range(0, len(names), most):
            yield start + first, names[first : first + most]
        start += len(names)


def _key(recording: NetworkLayers, index: int, names: Sequence[str], question: Question, memory: int) -> str | None:
    """Return what finds the rows of these layers again; None for layers that cannot be read."""
    try:
        contents = [_digest(recording.layers[name]) for name in names]
    except Exception:  # their rows say what is wrong, every time anew
        return None
    whose = [recording.network, recording.seed, recording.checkpoint, index, list(names)]
    return key_of(format=FORMAT, whose=whose, contents=contents, memory=memory, **question.parts())


def _will_last(row: Row) -> bool:
    """Tell whether a row would be the same another time: a disk or a device that failed may do better."""
    message = str(row["message"])
    return NO_CONTROLS not in message if row["status"] == "ok" else message.startswith("ValueError")


def _digest(layer: Any) -> str:
    digest = hashlib.sha256()
    for _, block in blocks_of_layer(layer):
        digest.update(f"{block.dtype} {block.shape}".encode())
        digest.update(block.tobytes())
    return digest.hexdigest()
