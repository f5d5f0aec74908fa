"""One probe a layer, as a table."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss

from probes.logistic import LogisticProbe, check_parameters
from probes.task import PARTS, Task, task_from

Array = NDArray[np.float64]


def probe_layers(
    layers: Mapping[str, ArrayLike],
    labels: ArrayLike,
    split: ArrayLike,
    *,
    Cs: Sequence[float] = (0.01, 0.1, 1.0),
    solver: str = "lbfgs",
    tol: float = 1e-6,
    max_iter: int = 1000,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    r"""Fit a linear classifier probe to every layer and say how well it reads the labels.

    A probe minimises :math:`P(W, b) = C \sum_i \ell(y_i, W x_i + b) + \tfrac12 \lVert W \rVert_F^2` over standardised
    features; see `LogisticProbe`. Scaling and coefficients come from the training rows alone. With several `Cs`, the
    one with the least log loss on the validation rows is kept (the smallest on a tie); it is *not* fitted again on
    training and validation rows together. The test rows are scored once, with the kept probe.

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
    solver, tol, max_iter
        As in `LogisticProbe`.
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
        - `relative_gap` (duality gap over objective), `n_iter`, `converged`, of the kept probe;
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
    candidates = _candidates(Cs, solver=solver, tol=tol, max_iter=max_iter)
    widths = _checked_widths(layers, n_labels=len(task.y))
    known = {f"n_{part}": len(task.rows[part]) for part in PARTS} | {"chance": _chance(task)}
    rows = []
    for index, (name, d) in enumerate(widths.items()):
        rows.append({"layer": name, "layer_index": index, "d": d, **known, **_report(layers, name, task, candidates)})
        if progress is not None:
            progress(name)
    return pd.DataFrame(rows, columns=COLUMNS)


def _candidates(Cs: Sequence[float], **settings: Any) -> list[LogisticProbe]:
    candidates = [LogisticProbe(C, **settings) for C in Cs]
    if not candidates:
        raise ValueError("Cs is empty; give one or more positive numbers, such as (0.01, 0.1, 1.0).")
    for probe in candidates:
        check_parameters(probe)
    return sorted(candidates, key=lambda probe: probe.C)


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


def _chance(task: Task) -> float:
    commonest = np.argmax(np.bincount(task.labels_of("train")))
    return float(np.mean(task.labels_of("test") == commonest))


def _report(
    layers: Mapping[str, ArrayLike], name: str, task: Task, candidates: Sequence[LogisticProbe]
) -> dict[str, Any]:
    try:
        return _selection(_features(layers[name], task), task, candidates)
    except Exception as error:  # whatever is wrong with one layer, the others keep their rows
        message = f"{type(error).__name__}: {error}"
        return {"C_at_edge": False, "n_iter": 0, "converged": False, "status": "failed", "message": message}


def _features(layer: ArrayLike, task: Task) -> dict[str, Array]:
    X = np.asarray(layer)
    if X.dtype.kind not in "fiub":
        raise ValueError(f"the layer has dtype {X.dtype}; expected real numbers.")
    n_bad = X.size - np.count_nonzero(np.isfinite(X))
    if n_bad:
        raise ValueError(f"{n_bad} of {X.size} values are NaN or infinite.")
    features = {part: X[rows].astype(np.float64) for part, rows in task.rows.items()}
    if np.all(features["train"] == features["train"][0]):
        raise ValueError("every feature is constant on the training rows; there is nothing to read.")
    return features


def _selection(X: Mapping[str, Array], task: Task, candidates: Sequence[LogisticProbe]) -> dict[str, Any]:
    probes = [_fitted(probe, X["train"], task.labels_of("train")) for probe in candidates]
    losses = [_log_loss(probe, X["validation"], task.labels_of("validation")) for probe in probes]
    best = int(np.argmin(losses))
    probe = probes[best]
    return {
        "C": float(probe.C),
        "C_at_edge": len(probes) > 1 and probe.C in (probes[0].C, probes[-1].C),
        **_test_scores(probe, X["test"], task),
        "train_accuracy": probe.score(X["train"], task.labels_of("train")),
        "validation_log_loss": losses[best],
        "relative_gap": probe.relative_gap_,
        "n_iter": probe.n_iter_,
        "converged": probe.converged_,
        "status": "ok",
        "message": _unconverged(probes),
    }


def _fitted(probe: LogisticProbe, X: Array, y: NDArray[np.intp]) -> LogisticProbe:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the table says so
        return clone(probe).fit(X, y)


def _test_scores(probe: LogisticProbe, X: Array, task: Task) -> dict[str, float]:
    y = task.labels_of("test")
    hits = probe.predict(X) == y
    return {
        "accuracy": float(np.mean(hits)),
        "balanced_accuracy": float(np.mean([np.mean(hits[y == code]) for code in np.unique(y)])),
        "log_loss": _log_loss(probe, X, y),
    }


def _log_loss(probe: LogisticProbe, X: Array, y: NDArray[np.intp]) -> float:
    return float(log_loss(y, probe.predict_proba(X), labels=probe.classes_))


def _unconverged(probes: Sequence[LogisticProbe]) -> str:
    return "; ".join(
        f"C={probe.C:g} stopped after {probe.n_iter_} iterations at relative gap {probe.relative_gap_:.1e}"
        for probe in probes
        if not probe.converged_
    )


COLUMNS = [
    *("layer", "layer_index", "d", "n_train", "n_validation", "n_test"),
    *("C", "C_at_edge"),
    *("accuracy", "balanced_accuracy", "log_loss"),
    *("train_accuracy", "validation_log_loss"),
    "chance",
    *("relative_gap", "n_iter", "converged"),
    *("status", "message"),
]
