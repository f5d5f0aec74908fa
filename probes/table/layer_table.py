"""Table of probes: one row per layer, target, network and checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from itertools import groupby
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from probes.estimators.logistic import LogisticProbe, check_parameters
from probes.grids import AUTO, MOST_DECADES
from probes.solvers import Fit
from probes.solvers.path import CS
from probes.stimulus_order import ByStimulus, RowStimuli
from probes.table.column_schema import probe_frame
from probes.table.network_layers import FitKey, NetworkLayers, baselines, list_networks
from probes.table.probe_rows import RowComputation
from probes.table.probed_layer import ProbeSettings, control_tasks, random_labelings
from probes.table.row_cache import Row, RowCache
from probes.targets import read_targets

MOST_TOGETHER = 32  # layers that are fitted at once


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
    r"""Fit a linear classifier probe to every layer of every network and return their scores as a table.

    A probe minimises :math:`P(W, b) = C \sum_i \ell(y_i, W x_i + b) + \tfrac12 \lVert W \rVert_F^2` over standardised
    features; see `LogisticProbe`. Scaling and coefficients come from the training rows alone. With several `Cs`, the
    one with the least log loss on the validation rows is chosen (the smallest on a tie); the probe is *not* fitted
    again on training and validation rows together. The test rows are scored once, with the chosen probe. Candidates
    are compared at a relative gap of 1e-4, in ascending order until the validation loss has risen twice in a row; the
    chosen one is refined to `tol` (see `probes.solvers.path.fit_paths`). Every layer has the same split.

    Every layer gets its row. A layer that cannot be probed (unreadable, NaN or infinite values, no variation on the
    training rows) has `status` "failed", a `message`, and NaN in place of numbers.

    Parameters
    ----------
    layers : mapping of str to array-like, shape (n, d), or iterable of NetworkLayers
        Activations of one network by layer name, or `NetworkLayers` of several networks, seeds and checkpoints. The
        table has their order. A layer may be lazy: only `shape` is used before it is probed. Neighbouring layers of
        equal width are held in memory and fitted together.
    labels : the class of each stimulus, int or str; or several targets by name
        One of

        - a mapping of stimulus id to class, a Series with the ids as its index, or the ``stimuli`` of a run: matched to
          the rows of recorded layers by id, whatever their order;
        - array-like, shape (n,): taken by position. The stimuli of a run are *ordered by label*, so labels in the order
          of the data set do not match its layers. If the layers know the run's own labels, an array of these labels in
          another order is rejected. For labels unrelated to the run's own, the order cannot be checked: give them by
          id;
        - a mapping of names to any of these: several targets.
    split : "train", "validation" or "test" for each stimulus, in any of these forms
        Each class occurs in "train". May be omitted if `labels` is the ``stimuli`` of a run, which have a split.
    Cs : "auto" or sequence of float, > 0, default "auto"
        Weights of the data against the penalty to choose from. "auto" is the grid (0.001, 0.01, 0.1, 1.0, 10.0), which
        is extended a decade at a time, by 6 decades at most, while the validation loss still falls by more than 1e-4
        nats at its edge: upwards for classes that are separable, downwards for layers that hold no information about
        the labels. Where the loss levels off at large C, the smallest C within 1e-4 nats is chosen. Numbers are used
        as given, and a single number is used without a choice.
    solver, tol, max_iter, device
        As in `LogisticProbe`.
    controls : int, >= 0, default 0
        Number of random labelings (`random_labels`) that are fitted at the chosen C, to measure the capacity of the
        probe.
    types : of int or str, in any of the forms of labels, optional
        Finer classes that recur in every part, such as fine labels or clusters. If given, each probe is also fitted to
        a `control_task` on them.
    codelength : bool, default False
        Whether to measure the online code of the training labels (`online_codelength`) at the chosen C, which takes
        about as long as two fits.
    inputs : array-like, shape (n, d), optional
        Inputs of the networks, in the order of the layers' rows (which is not checked). If given, the table ends with
        the rows of `baselines`: the "raw input", and a "random projection" of it to each width among the layers. An
        untrained network is a `NetworkLayers` like any other.
    ids : array-like, shape (n,), optional
        Names of the stimuli, in the order of the layers' rows; by default the `stimulus_ids` of recorded layers. Layers
        that have `stimulus_ids` must have the same.
    fits : dict of FitKey to Fit, optional
        Receives the chosen fits. Searches start from the fits that it holds before the call, and from the checkpoint
        before, which saves iterations where features changed little. By default each search starts from zero. Cannot
        be combined with a cache, which holds no fits.
    cache : path, optional
        A file that holds the rows computed so far. An interrupted table continues where it stopped, and has the same
        rows as an uninterrupted one, as long as arguments and activations are the same; layers are read once more to
        check this.
    memory : int, default 1 GiB
        Bytes up to which layers are held in double precision; a larger layer is held in single precision (sums are in
        double precision all the same).
    progress : callable, optional
        Called with the name of each finished layer.

    Returns
    -------
    pandas.DataFrame
        One row per network, checkpoint, layer and target. The columns are documented in the guide to probes and in
        `probes.table.columns.COLUMNS`; columns that were not requested are NaN.

    Raises
    ------
    ValueError
        Before any fit: if `layers` or `Cs` is empty, a layer is not (n, d) with the n of `labels`, layers were recorded
        on different stimuli or in different orders, labels, split or types lack a stimulus, have others or repeat one,
        labels are known to be in another order, a parameter is out of range, a part of the split is missing or unknown,
        a class is absent from the training rows, or the file of the cache is something else.
    TypeError
        If `layers` has something other than `NetworkLayers`.

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
    if cache is not None and fits is not None:
        raise ValueError("cache and fits were both given, but cached rows have no fits. Give one of them.")
    networks = list_networks(layers)
    stimuli = RowStimuli(
        ((each.describe(name), layer) for each in networks for name, layer in each.layers.items()), ids
    )
    targets, split = read_targets(labels, split, stimuli)
    automatic = isinstance(Cs, str) and Cs == AUTO
    solving = {"solver": solver, "tol": tol, "max_iter": max_iter, "device": device}
    settings = ProbeSettings(
        Cs=_ascending(CS if automatic else Cs, solving),
        most_decades=MOST_DECADES if automatic else 0,
        solving=solving,
        targets=targets,
        random=random_labelings(targets, controls),
        control={} if types is None else control_tasks(targets, stimuli.in_order(types, "types"), split),
        codelength=codelength,
    )
    _check_layers(networks, len(split), ids)
    if inputs is not None:
        widths = [width for each in networks for width in each.widths().values()]
        networks = list_networks([*networks, *baselines(inputs, widths)])
        _check_layers(networks, len(split), ids)
    cached = None if cache is None else RowCache(cache)
    computation = RowComputation(settings=settings, memory=memory, cache=cached, fits=fits)
    rows: list[Row] = []
    for network in networks:
        for index, names in _groups(network, len(split), settings.n_classes, memory):
            rows += computation.rows(network, index, names)
            if progress is not None:
                for name in names:
                    progress(name)
    return probe_frame(rows)


def _ascending(Cs: Sequence[float] | str, solving: Mapping[str, Any]) -> list[float]:
    if isinstance(Cs, str | Real) or not len(Cs):
        raise ValueError(f"Cs is {Cs!r}; expected one or more positive numbers, such as (0.01, 0.1, 1.0), or 'auto'.")
    for C in Cs:
        check_parameters(LogisticProbe(C, **solving))
    return sorted({float(C) for C in Cs})


def _check_layers(networks: Sequence[NetworkLayers], n_labels: int, ids: ArrayLike | None) -> None:
    if ids is not None and np.shape(ids) != (n_labels,):
        raise ValueError(f"ids has shape {np.shape(ids)} and labels has {n_labels}; give the name of each stimulus.")
    for network in networks:
        for name, layer in network.layers.items():
            shape, described = np.shape(layer), network.describe(name)
            if len(shape) != 2 or shape[1] == 0:
                raise ValueError(f"{described} has shape {tuple(shape)}; expected (n, d). Pool or flatten it first.")
            if shape[0] != n_labels:
                raise ValueError(
                    f"{described} has {shape[0]} rows and labels has {n_labels}; "
                    "both must come from the same stimuli in the same order."
                )


def _groups(network: NetworkLayers, n: int, n_classes: int, memory: int) -> Iterator[tuple[int, list[str]]]:
    """Yield neighbouring layers of equal width that fit into memory together, with the position of the first."""
    widths = network.widths()
    start = 0
    for d, group in groupby(widths, key=widths.__getitem__):
        names, most = list(group), min(MOST_TOGETHER, max(1, memory // (n * (16 * d + 28 * n_classes))))
        for first in range(0, len(names), most):
            yield start + first, names[first : first + most]
        start += len(names)
