"""One probe a layer, as a table."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from probes.controls import majority_rate
from probes.features import read_features
from probes.logistic import LogisticProbe, check_parameters
from probes.path import Path, fit_path
from probes.scores import accuracy, balanced_accuracy, log_loss
from probes.solvers import Fit
from probes.task import PARTS, Task, task_from


def probe_layers(
    layers: Mapping[str, ArrayLike],
    labels: ArrayLike,
    split: ArrayLike,
    *,
    Cs: Sequence[float] = (0.01, 0.1, 1.0),
    solver: str = "auto",
    tol: float = 1e-6,
    max_iter: int = 1000,
    device: str = "cpu",
    fits: MutableMapping[str, Fit] | None = None,
    memory: int = 2**30,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    r"""Fit a linear classifier probe to every layer and say how well it reads the labels.

    A probe minimises :math:`P(W, b) = C \sum_i \ell(y_i, W x_i + b) + \tfrac12 \lVert W \rVert_F^2` over standardised
    features; see `LogisticProbe`. Scaling and coefficients come from the training rows alone. With several `Cs`, the
    one with the least log loss on the validation rows is kept (the smallest on a tie); it is *not* fitted again on
    training and validation rows together. The test rows are scored once, with the kept probe. Candidates are compared
    at a relative gap of 1e-4, in ascending order until the validation loss has risen twice in a row; the kept one is
    taken to `tol` (see `probes.path.fit_path`).

    Every layer gets its row. One that cannot be probed (unreadable, NaN or infinite values, no variation on the
    training rows) has `status` "failed", a `message`, and NaN where a number would be.

    Parameters
    ----------
    layers : mapping of str to array-like, shape (n, d)
        Activations by layer name, in the order of the table. A layer may be lazy: only `shape` is used until its
        turn comes, and one layer is in memory at a time.
    labels : array-like, shape (n,), of int or str
        The class of each stimulus.
    split : array-like, shape (n,), of str
        "train", "validation" or "test" for each stimulus; each class occurs in "train".
    Cs : sequence of float, > 0
        Weights of the data against the penalty to choose from. A single one is used as it is.
    solver, tol, max_iter, device
        As in `LogisticProbe`.
    fits : dict of str to Fit, optional
        Fits by layer, of the same layers at an earlier checkpoint: searches start from them. Holds the kept fits
        afterwards, so that one dict serves a run from its first step to its last.
    memory : int, default 1 GiB
        Bytes up to which a layer is held in double precision; a larger one is held in single precision (sums are in
        double all the same).
    progress : callable, optional
        Called with the name of each finished layer.

    Returns
    -------
    pandas.DataFrame
        A row a layer, with the columns

        - `layer`, `layer_index`, `d`, `n_train`, `n_validation`, `n_test`;
        - `C`, and `C_at_edge`: whether it is the first or last of several, so that a wider grid may do better;
        - `accuracy`, `balanced_accuracy` (mean recall of the classes present), both in [0, 1], and `log_loss`
          (nats, >= 0), on the test rows;
        - `train_accuracy`, `validation_log_loss`;
        - `chance`: test accuracy of always answering the commonest training class;
        - `relative_gap` (duality gap over objective) and `converged`, of the kept probe; `n_iter`, of all candidates;
        - `status` ("ok" or "failed") and `message` (what failed, or which fits of the grid did not converge).

    Raises
    ------
    ValueError
        Before any fit: if `layers` or `Cs` is empty, a layer is not (n, d) with the n of `labels`, a parameter is out
        of range, a part of the split is missing or unknown, or a class is absent from the training rows.

    References
    ----------
    Alain and Bengio (2016). Understanding intermediate layers using linear classifier probes. arXiv:1610.01644.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> table = probe_layers({"sepal": X[:, :2], "petal": X[:, 2:]}, y, ["train", "test", "validation"] * 50)
    >>> table[["layer", "C", "accuracy", "converged"]].round(2)
       layer    C  accuracy  converged
    0  sepal  1.0      0.82       True
    1  petal  1.0      0.94       True
    """
    task = task_from(labels, split)
    settings = _settings(Cs, solver=solver, tol=tol, max_iter=max_iter, device=device)
    widths = _checked_widths(layers, n_labels=len(task.y))
    known = {f"n_{part}": len(task.rows[part]) for part in PARTS} | {
        "chance": majority_rate(task.labels_of("train"), task.labels_of("test"))
    }
    fits = {} if fits is None else fits
    rows = []
    for index, (name, d) in enumerate(widths.items()):
        found = _report(layers[name], task, settings, fits, name, memory)
        rows.append({"layer": name, "layer_index": index, "d": d, **known, **found})
        if progress is not None:
            progress(name)
    return pd.DataFrame(rows, columns=COLUMNS)


def _settings(Cs: Sequence[float], **settings: Any) -> dict[str, Any]:
    if not len(Cs):
        raise ValueError("Cs is empty; give one or more positive numbers, such as (0.01, 0.1, 1.0).")
    for C in Cs:
        check_parameters(LogisticProbe(C, **settings))
    return {"Cs": sorted({float(C) for C in Cs}), **settings}


def _checked_widths(layers: Mapping[str, ArrayLike], n_labels: int) -> dict[str, int]:
    if not layers:
        raise ValueError("layers is empty; give one or more layers, name -> array of shape (n, d).")
    widths = {}
    for name, layer in layers.items():
        shape = np.shape(layer)
        if len(shape) != 2 or shape[1] == 0:
            raise ValueError(f"Layer {name!r} has shape {tuple(shape)}; expected (n, d). Pool or flatten it first.")
        if shape[0] != n_labels:
            raise ValueError(
                f"Layer {name!r} has {shape[0]} rows and labels has {n_labels}; "
                "both must come from the same stimuli in the same order."
            )
        widths[name] = shape[1]
    return widths


def _report(
    layer: Any, task: Task, settings: Mapping[str, Any], fits: MutableMapping[str, Fit], name: str, memory: int
) -> dict[str, Any]:
    try:
        X = read_features(layer, task.rows, memory)
        path = _path(X, task, settings, fits.get(name))
    except Exception as error:  # whatever is wrong with one layer, the others keep their rows
        message = f"{type(error).__name__}: {error}"
        return {"C_at_edge": False, "n_iter": 0, "converged": False, "status": "failed", "message": message}
    fits[name] = path.fit
    return _row(path, X, task, settings["Cs"])


def _path(X: Mapping[str, Any], task: Task, settings: Mapping[str, Any], earlier: Fit | None) -> Path:
    y = task.labels_of("validation")

    def judge(fit: Fit) -> float:
        return log_loss(fit.logits(X["validation"]), y)

    n_rows = 1 if len(task.classes) == 2 else len(task.classes)
    start = earlier if earlier is not None and earlier.coef.shape == (n_rows, X["train"].shape[1]) else None
    return fit_path(X["train"], task.labels_of("train"), judge=judge, start=start, **settings)


def _row(path: Path, X: Mapping[str, Any], task: Task, Cs: Sequence[float]) -> dict[str, Any]:
    C, fit, y = path.Cs[path.best], path.fit, task.labels_of("test")
    logits = fit.logits(X["test"])
    return {
        "C": C,
        "C_at_edge": len(Cs) > 1 and C in (Cs[0], Cs[-1]),
        "accuracy": accuracy(logits, y),
        "balanced_accuracy": balanced_accuracy(logits, y),
        "log_loss": log_loss(logits, y),
        "train_accuracy": accuracy(fit.logits(X["train"]), task.labels_of("train")),
        "validation_log_loss": log_loss(fit.logits(X["validation"]), task.labels_of("validation")),
        "relative_gap": fit.relative_gap,
        "n_iter": path.n_iter,
        "converged": fit.converged,
        "status": "ok",
        "message": "; ".join(
            f"C={C:g} stopped after {fit.n_iter} iterations at relative gap {fit.relative_gap:.1e}"
            for C, fit in path.unfinished
        ),
    }


COLUMNS = [
    *("layer", "layer_index", "d", "n_train", "n_validation", "n_test"),
    *("C", "C_at_edge"),
    *("accuracy", "balanced_accuracy", "log_loss"),
    *("train_accuracy", "validation_log_loss"),
    "chance",
    *("relative_gap", "n_iter", "converged"),
    *("status", "message"),
]
