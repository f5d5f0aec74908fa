"""Table of probes: one row per layer, target, network and checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from probes.solvers import Fit
from probes.stimulus_order import ByStimulus, RowStimuli
from probes.table.column_schema import probe_frame
from probes.table.network_layers import FitKey, Layers, NetworkLayers, list_networks
from probes.table.probe_config import ProbeConfig
from probes.table.probe_rows import RowComputation
from probes.table.probed_layer import TableSettings, control_tasks, random_labelings
from probes.table.row_cache import Row, RowCache
from probes.targets import read_targets

MOST_TOGETHER = 32  # layers that are fitted at once
USUAL = ProbeConfig()


def probe_layers(
    layers: Layers,
    labels: ByStimulus | Mapping[str, ByStimulus],
    *,
    split: ByStimulus | None = None,
    config: ProbeConfig = USUAL,
    types: ByStimulus | None = None,
    fits: MutableMapping[FitKey, Fit] | None = None,
    cache: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    r"""Fit a linear classifier probe to every layer of every network and return their scores as a table.

    A probe minimises :math:`P(W, b) = C \sum_i \ell(y_i, W x_i + b) + \tfrac12 \lVert W \rVert_F^2` over standardised
    features; see `LogisticProbe`. Scaling and coefficients come from the training rows alone. With several C, the one
    with the least log loss on the validation rows is chosen (the smallest on a tie); the probe is *not* fitted
    again on training and validation rows together. The test rows are scored once, with the chosen probe. Candidates
    are compared at a relative gap of 1e-4, in ascending order until the validation loss has risen twice in a row, or
    once by two standard errors (see `probes.grids.is_clear_rise`); the chosen one is refined to `tol` (see
    `probes.solvers.path.fit_paths`). Every layer has the same split.

    A continuous target is predicted by ridge regression, which minimises
    :math:`\tfrac C2 \sum_i (y_i - w x_i - b)^2 + \tfrac12 \lVert w \rVert^2` (scikit-learn's Ridge with alpha =
    1 / C), with C chosen in the same way by the mean squared error on the validation rows, and scored by R². Columns
    of classes, such as `accuracy`, are empty for it, as `r2` and `mse` are for classes.

    Every layer gets its row. A layer that cannot be probed (unreadable, NaN or infinite values, no variation on the
    training rows) has `status` "failed", a `message`, and NaN in place of numbers.

    Parameters
    ----------
    layers : mapping of str to array-like, shape (n, d), or iterable of NetworkLayers
        Activations of one network by layer name, or `NetworkLayers` of several networks, seeds and checkpoints. The
        table has their order. A layer may be lazy: only `shape` is used before it is probed. Neighbouring layers of
        equal width are held in memory and fitted together. Rows of the inputs and of random projections of them are
        those of `baselines`, given among the networks.
    labels : the class of each stimulus, int or str; or targets by name
        One of

        - a mapping of stimulus id to class, a Series with the ids as its index, or the ``stimuli`` of a run: matched to
          the rows of recorded layers by id, whatever their order. Stimuli have the target "label", and those of their
          ``targets``;
        - array-like, shape (n,): taken by position. The stimuli of a run are *ordered by label*, so labels in the order
          of the data set do not match its layers. If the layers know the run's own labels, an array of these labels in
          another order is rejected. For labels unrelated to the run's own, the order cannot be checked: give them by
          id;
        - a mapping of names to any of these: one or several targets. With a name, floats are the values of a continuous
          target, such as ``{"speed": speeds}``.
    split : "train", "validation" or "test" for each stimulus, in any of these forms
        Each class occurs in "train". May be omitted if `labels` is the ``stimuli`` of a run, which have a split. If
        these have groups, the split must not divide one; for other stimuli see `check_groups`.
    config : ProbeConfig, optional
        Grid of C, solver, tolerance, controls and memory.
    types : of int or str, in any of the forms of labels, optional
        Finer classes that recur in every part, such as fine labels or clusters. If given, each probe of classes is also
        fitted to a `control_task` on them.
    fits : dict of FitKey to Fit, optional
        Receives the chosen fits. Searches start from the fits that it holds before the call, and from the checkpoint
        before, which saves iterations where features changed little. By default each search starts from zero. Cannot
        be combined with a cache, which holds no fits.
    cache : path, optional
        A file that holds the rows computed so far. An interrupted table continues where it stopped, and has the same
        rows as an uninterrupted one, as long as arguments and activations are the same; layers are read once more to
        check this.
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
        Before any fit: if `layers` is empty, a layer is not (n, d) with the n of `labels`, layers were recorded on
        different stimuli or in different orders, labels, split or types lack a stimulus, have others or repeat one,
        labels are known to be in another order, a part of the split is missing or unknown, a class is absent from the
        training rows, a continuous target is NaN, infinite or constant on the training or test rows, the split divides
        a group, or the file of the cache is something else.
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
    >>> table = probe_layers({"sepal": X[:, :2], "petal": X[:, 2:]}, y, split=["train", "test", "validation"] * 50)
    >>> table[["layer", "C", "accuracy", "converged"]].round(2)
       layer     C  accuracy  converged
    0  sepal  10.0      0.86       True
    1  petal  10.0      0.94       True
    """
    if cache is not None and fits is not None:
        raise ValueError("cache and fits were both given, but cached rows have no fits. Give one of them.")
    networks = list_networks(layers)
    stimuli = RowStimuli((each.describe(name), layer) for each in networks for name, layer in each.layers.items())
    targets, parts = read_targets(labels, split, stimuli)
    n = len(parts)
    settings = TableSettings(
        config=config,
        targets=targets,
        random=random_labelings(targets, config.controls),
        control={} if types is None else control_tasks(targets, stimuli.in_order(types, "types"), parts),
    )
    _check_lengths(networks, n)
    computation = RowComputation(settings=settings, cache=None if cache is None else RowCache(cache), fits=fits)
    rows: list[Row] = []
    for network in networks:
        for index, names in _groups(network, n, settings.n_classes, config.memory):
            rows += computation.rows(network, index, names)
            if progress is not None:
                for name in names:
                    progress(name)
    return probe_frame(rows)


def _check_lengths(networks: list[NetworkLayers], n_labels: int) -> None:
    for network in networks:
        for name, layer in network.layers.items():
            if (n := np.shape(layer)[0]) != n_labels:
                raise ValueError(
                    f"{network.describe(name)} has {n} rows and labels has {n_labels}; "
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
