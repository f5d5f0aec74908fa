"""Controls for the accuracy of a probe: random labels, control tasks, and baselines without a network."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probes.checks import check_positive_integer
from probes.features import row_blocks
from probes.stimulus_order import ByStimulus, ids_of, in_order
from probes.targets import checked_labels

Array = NDArray[np.float64]

BLOCK_ROWS = 1024


def random_labels(labels: ByStimulus, split: ByStimulus | None = None, *, seed: int) -> NDArray:
    """Permute labels within each part of a split, so that features hold no information about them.

    Every part keeps its class counts. On the test rows accuracy is at chance by construction, whatever the probe. The
    informative number is the accuracy on the *training* rows, which measures the capacity of the probe. For a control
    that can be solved on test rows see `control_task`.

    Parameters
    ----------
    labels : array-like, shape (n,), of int or str, or by stimulus
        The class of each stimulus: an array, a mapping of stimulus id to class, a Series with the ids as its index, or
        the ``stimuli`` of a run.
    split : array-like, shape (n,), of str, or by stimulus, optional
        The part of each stimulus, such as "train" or "test", matched to the labels by id if both have ids. By default
        all stimuli are in one part.
    seed : int, >= 0
        Seed of the permutations.

    Returns
    -------
    array, shape (n,)
        The labels in another order. Give them to `probe_layers` by id, as ``dict(zip(ids, random_labels(...)))``; it
        rejects an array of a run's own labels in another order.

    Raises
    ------
    ValueError
        If labels are not integers or strings, or split has another length.

    References
    ----------
    Zhang, Bengio, Hardt, Recht and Vinyals (2017). Understanding deep learning requires rethinking generalization.
    ICLR, section 2.

    Examples
    --------
    >>> labels = random_labels(["cat", "dog", "dog", "cat", "cat"], ["train"] * 3 + ["test"] * 2, seed=0)
    >>> sorted(labels[:3].tolist()), labels[3:].tolist()
    (['cat', 'dog', 'dog'], ['cat', 'cat'])
    """
    array = checked_labels(in_order(labels, ids_of(labels), "labels"), "labels")
    parts = np.zeros(len(array)) if split is None else _parts(split, ids_of(labels), array, "labels")
    rng = np.random.default_rng(seed)
    order = np.arange(len(array))
    for part in np.unique(parts):
        rows = np.flatnonzero(parts == part)
        order[rows] = rng.permutation(rows)
    return array[order]


def control_task(types: ByStimulus, split: ByStimulus, n_classes: int, *, seed: int) -> NDArray[np.intp]:
    r"""Assign a random class to every type, so that a probe can solve the task only by memorising types.

    A type is an identity that recurs on training and on test rows: a fine class, a word, a cluster of stimuli. With T
    types in a random order :math:`\pi`, the class of type t is

    .. math:: c(t) = \pi(t) \bmod K ,

    so that every class has :math:`\lfloor T / K \rfloor` or :math:`\lceil T / K \rceil` types. Classes are balanced in
    types, not in rows; Hewitt and Liang instead draw the class of each type independently from the distribution of the
    labels. Types must be finer than the classes of the task: with T = K the control only renames the types.

    Parameters
    ----------
    types : array-like, shape (n,), of int or str, or by stimulus
        The type of each stimulus, in any form that `random_labels` accepts.
    split : array-like, shape (n,), of str, or by stimulus
        The part of each stimulus; "train" has every type. Matched to the types by id if both have ids.
    n_classes : int, 2 to T
        K, the number of classes of the task.
    seed : int, >= 0
        Seed of the order of types.

    Returns
    -------
    array, shape (n,), of int
        The control class of each stimulus, 0 … K - 1.

    Raises
    ------
    ValueError
        If a type of other rows is absent from the training rows, there are fewer types than classes or fewer than two
        classes, types are not integers or strings, or split has another length.

    References
    ----------
    Hewitt and Liang (2019). Designing and interpreting probes with control tasks. EMNLP, section 2.

    Examples
    --------
    >>> split = ["train"] * 4 + ["test"] * 4
    >>> control = control_task(["oak", "elm", "cod", "eel"] * 2, split, n_classes=2, seed=0)
    >>> control[:4].tolist() == control[4:].tolist(), np.bincount(control[:4]).tolist()
    (True, [2, 2])
    """
    array = checked_labels(in_order(types, ids_of(types), "types"), "types")
    parts = _parts(split, ids_of(types), array, "types")
    names, codes = np.unique(array, return_inverse=True)
    _check_types(names, codes[parts == "train"], n_classes)
    classes = np.random.default_rng(seed).permutation(len(names)) % n_classes  # (T,)
    return classes[codes]


def _check_types(names: NDArray, train: NDArray[np.intp], n_classes: int) -> None:
    if not isinstance(n_classes, Integral) or n_classes < 2:
        raise ValueError(f"n_classes is {n_classes!r}; expected an integer of two or more.")
    if len(names) < n_classes:
        raise ValueError(
            f"types has {len(names)} different types for {n_classes} classes; every class needs at least one type. "
            "Give finer types, or fewer classes."
        )
    absent = np.setdiff1d(np.arange(len(names)), train)
    if len(absent):
        raise ValueError(
            f"{len(absent)} of {len(names)} types, such as {names[absent].tolist()[0]!r}, have no training rows; "
            "a probe can memorise only types that it was trained on. Give types that recur, or move a stimulus of each "
            "to train."
        )


def selectivity(task_accuracy: ArrayLike, control_accuracy: ArrayLike) -> Any:
    """Return the accuracy on a task minus that on its control task.

    Parameters
    ----------
    task_accuracy, control_accuracy : float or array-like, of the same shape, in [0, 1]
        Test accuracies of the same probe, on features of the same layer, fitted to the task and to its `control_task`.
        NaN, the accuracy of a layer that failed, stays NaN.

    Returns
    -------
    float or array of that shape, in [-1, 1]
        High if the probe relies on information in the layer rather than on memorised types.

    Raises
    ------
    ValueError
        If an accuracy is outside [0, 1], or the shapes differ.

    References
    ----------
    Hewitt and Liang (2019). Designing and interpreting probes with control tasks. EMNLP, section 2.

    Examples
    --------
    >>> selectivity([0.75, 1.0], [0.25, 1.0]).tolist()
    [0.5, 0.0]
    """
    task, control = _accuracies(task_accuracy, "task_accuracy"), _accuracies(control_accuracy, "control_accuracy")
    if task.shape != control.shape:
        raise ValueError(
            f"task_accuracy has shape {task.shape} and control_accuracy {control.shape}; "
            "give one control accuracy for each accuracy."
        )
    return task - control


def _accuracies(values: ArrayLike, name: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    outside = array[(array < 0.0) | (array > 1.0)]
    if outside.size:
        raise ValueError(f"{name} has {outside[0]:g}; expected fractions from 0 to 1. Divide percentages by 100.")
    return array


def majority_rate(labels_train: ArrayLike, labels_test: ArrayLike) -> float:
    """Return the test accuracy of always answering the commonest training class.

    Parameters
    ----------
    labels_train : array-like, shape (n_train,), of int or str
        Labels whose commonest class is the answer; the first in sorted order if there are several.
    labels_test : array-like, shape (n_test,), of int or str
        Labels on which the answer is scored.

    Returns
    -------
    float, in [0, 1]

    Raises
    ------
    ValueError
        If labels are empty, not integers or strings, or a test label is absent from the training labels.

    Examples
    --------
    >>> majority_rate(["cat", "cat", "dog"], ["cat", "dog", "dog", "dog"])
    0.25
    """
    rates, test = class_rates(labels_train, labels_test)
    return float(np.mean(test == np.argmax(rates)))


def class_rates(labels_train: ArrayLike, labels_test: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
    """Return the share of each class among training labels, (K,), and the class codes of test labels, (n_test,).

    Classes are in sorted order.

    Examples
    --------
    >>> rates, test = class_rates(["cat", "cat", "cat", "dog"], ["dog", "cat"])
    >>> rates.tolist(), test.tolist()
    ([0.75, 0.25], [1, 0])
    """
    classes, counts = np.unique(checked_labels(labels_train, "labels_train"), return_counts=True)
    code_of = {label: code for code, label in enumerate(classes.tolist())}
    test = checked_labels(labels_test, "labels_test").tolist()
    absent = [label for label in test if label not in code_of]
    if absent:
        raise ValueError(
            f"labels_test has {absent[0]!r}, which is absent from labels_train; every class needs training rows. "
            "Give labels of the same kind for both, and move stimuli of every class to train."
        )
    return counts / counts.sum(), np.array([code_of[label] for label in test])


def random_projection(X: ArrayLike, width: int, *, seed: int) -> NDArray[np.floating]:
    r"""Project inputs to the width of a layer by a random linear map, as a baseline that has learned nothing.

    .. math:: Z = \frac{1}{\sqrt d} X R, \qquad R_{jk} \sim \mathcal N(0, 1) ,

    so that a projected feature is on average as large as an input feature, whatever the width:
    :math:`E \lVert z \rVert^2 / \text{width} = \lVert x \rVert^2 / d`. It does not center. It has no nonlinearity, so
    a projection wider than d gives a linear probe the same information as X.

    Parameters
    ----------
    X : array-like, shape (n, d)
        Inputs, finite. May be lazy: if X has a numpy `dtype` and can be sliced, it is read 1024 rows at a time.
    width : int, >= 1
        Features of the projection.
    seed : int, >= 0
        Seed of R, which is the same for float32 and float64.

    Returns
    -------
    array, shape (n, width)
        float64, or float32 where X is float32 or less precise.

    Raises
    ------
    ValueError
        If X is not two-dimensional, does not hold real and finite numbers, or width is not a positive integer.

    References
    ----------
    Johnson and Lindenstrauss (1984). Extensions of Lipschitz mappings into a Hilbert space. Contemp. Math. 26, 189-206.

    Examples
    --------
    >>> Z = random_projection(np.ones((3, 64), dtype=np.float32), 10, seed=0)
    >>> Z.shape, Z.dtype
    ((3, 10), dtype('float32'))
    """
    source: Any = X if isinstance(getattr(X, "dtype", None), np.dtype) else np.asarray(X)
    _check_projection(source, width)
    dtype = np.result_type(source.dtype, np.float32)
    weights = np.random.default_rng(seed).standard_normal((source.shape[1], width))
    weights = (weights / np.sqrt(source.shape[1])).astype(dtype)
    projected = np.empty((source.shape[0], width), dtype=dtype)
    for rows, block in _finite_blocks(source):
        projected[rows] = block.astype(dtype) @ weights
    return projected


def _check_projection(X: Any, width: int) -> None:
    if len(X.shape) != 2 or X.shape[1] == 0:
        raise ValueError(f"X has shape {tuple(X.shape)}; expected (n, d). Flatten it first.")
    if X.dtype.kind not in "fiub":
        raise ValueError(f"X has dtype {X.dtype}; expected real numbers.")
    check_positive_integer(width, "width")


def _finite_blocks(X: Any) -> Iterator[tuple[slice, NDArray]]:
    for rows, block in row_blocks(X, dtype=None, n_rows=BLOCK_ROWS):
        n_bad = block.size - np.count_nonzero(np.isfinite(block))
        if n_bad:
            raise ValueError(
                f"X has {n_bad} NaN or infinite values in rows {rows.start} to {rows.stop - 1}; a projection would "
                "spread them over every feature. Drop these stimuli or correct their values."
            )
        yield rows, block


def _parts(split: ByStimulus, ids: NDArray[Any] | None, labels: NDArray, name: str) -> NDArray:
    parts = np.asarray(in_order(split, ids, "split", column="split"))
    if parts.shape != labels.shape:
        raise ValueError(
            f"{name} has {len(labels)} entries and split has shape {parts.shape}; "
            "both need one entry per stimulus, in the same order."
        )
    return parts


class _Projected:
    """A random projection that is computed when it is read."""

    def __init__(self, inputs: Any, width: int, seed: int) -> None:
        self._inputs, self._width, self._seed = inputs, width, seed
        self.shape = (inputs.shape[0], width)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(random_projection(self._inputs, self._width, seed=self._seed), dtype=dtype)


def _raw_input(inputs: Any, widths: Iterable[int], *, seed: int) -> dict[str, Any]:
    return {"input": inputs}


def _projections(inputs: Any, widths: Iterable[int], *, seed: int) -> dict[str, Any]:
    return {f"width {width}": _Projected(inputs, width, seed) for width in widths}


# Functions of the inputs (n, d), the different widths of the layers, and a seed, that return layers by name.
BASELINES: dict[str, Callable[..., Mapping[str, ArrayLike]]] = {
    "raw input": _raw_input,
    "random projection": _projections,
}
