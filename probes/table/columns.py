"""What a table of probes asks of features, and the answers: one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probes.codelength import online_codelength, v_information
from probes.controls import control_task, random_labels, selectivity
from probes.features import n_constant
from probes.scores import accuracy, balanced_accuracy, log_loss
from probes.solvers import Fit, LogisticProblem, lbfgs_many
from probes.solvers.path import Path, fit_paths
from probes.table.row_cache import Row
from probes.targets import Target

NO_CONTROLS = "no controls"  # what a message says where these failed, and the probe did not
Features = Mapping[str, NDArray[Any]]  # of each part of the split, (n_part, d)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of each layer: targets, penalties to choose from, and controls; made, and checked, by `checked`."""

    Cs: Sequence[float]
    most_decades: int  # by which they may be extended
    settings: Mapping[str, Any]  # solver, tol, max_iter, device
    tasks: Mapping[str, Target]
    random: Mapping[str, NDArray[np.intp]]  # of each target, (controls, n_train)
    control: Mapping[str, NDArray[np.intp]]  # of each target, (n,); empty without types
    codelength: bool

    @classmethod
    def checked(
        cls,
        Cs: Sequence[float],
        most_decades: int,
        settings: Mapping[str, Any],
        tasks: Mapping[str, Target],
        split: ArrayLike,
        *,
        controls: int,
        types: ArrayLike | None,
        codelength: bool,
    ) -> Question:
        """Draw the labels of the controls.

        Raises
        ------
        ValueError
            If `controls` is negative, or types do not suit the task or the split.
        """
        if not isinstance(controls, Integral) or controls < 0:
            raise ValueError(f"controls is {controls!r}; expected a number of random labelings, 0 or more.")
        random = {
            name: np.array([random_labels(task.labels_of("train"), seed=seed) for seed in range(controls)], dtype=int)
            for name, task in tasks.items()
        }
        control = (
            {}
            if types is None
            else {name: control_task(types, split, len(task.classes), seed=0) for name, task in tasks.items()}
        )
        if types is not None:
            _check_finer(types, tasks)
        return cls(
            Cs=Cs,
            most_decades=most_decades,
            settings=settings,
            tasks=tasks,
            random=random,
            control=control,
            codelength=codelength,
        )

    def parts(self) -> dict[str, Any]:
        """Return all that the answers depend on beside the features."""
        return {
            "Cs": list(self.Cs),
            "most_decades": self.most_decades,
            "settings": dict(self.settings),
            "targets": list(self.tasks),
            "labels": {name: task.y for name, task in self.tasks.items()},
            "split": next(iter(self.tasks.values())).rows,
            "random": self.random,
            "control": self.control,
            "codelength": self.codelength,
        }


def _check_finer(types: ArrayLike, tasks: Mapping[str, Target]) -> None:
    n_types = len(np.unique(np.asarray(types)))
    for name, task in tasks.items():
        if n_types <= len(task.classes):
            raise ValueError(
                f"types has {n_types} different types, and target {name!r} {len(task.classes)} classes; a control task "
                "regroups types that are finer than classes, such as fine labels or clusters."
            )


def answers(
    features: Mapping[str, Features], task: Target, question: Question, target: str, starts: Mapping[str, Fit | None]
) -> dict[str, tuple[Row, Fit | None]]:
    """Return the row, and the fit unless it failed, of each layer.

    Parameters
    ----------
    features : dict of str to dict of array
        By layer and part of the split, standardised; of layers of equal width.
    task : Target
    question : Question
    target : str
        The name of the task in the question.
    starts : dict of str to Fit or None
        Where searches start, where shapes agree.
    """
    rows: dict[str, tuple[Row, Fit | None]] = {}
    for name, path in _paths(features, task, question, starts).items():
        try:
            if isinstance(path, Exception):
                raise path
            rows[name] = (_row(path, features[name], task, question, target), path.fit)
        except Exception as error:  # whatever is wrong with one layer, the others keep their rows
            rows[name] = (failure(error), None)
    return rows


def failure(error: Exception) -> Row:
    """Return the row of a layer that could not be probed.

    Examples
    --------
    >>> failure(ValueError("bad"))["message"]
    'ValueError: bad'
    """
    message = f"{type(error).__name__}: {error}"
    return {"C_at_edge": False, "n_iter": 0, "converged": False, "status": "failed", "message": message}


def _paths(
    features: Mapping[str, Features], task: Target, question: Question, starts: Mapping[str, Fit | None]
) -> dict[str, Path | Exception]:
    """Return a path for each layer, of all together, or if that fails of each alone."""
    validation = task.labels_of("validation")
    n_rows = 1 if len(task.classes) == 2 else len(task.classes)

    def judge(X: Features) -> Callable[[Fit], float]:
        return lambda fit: log_loss(fit.logits(X["validation"]), validation)

    def start_of(name: str) -> Fit | None:
        fit = starts[name]
        return fit if fit is not None and fit.coef.shape == (n_rows, features[name]["train"].shape[1]) else None

    try:
        paths = fit_paths(
            [X["train"] for X in features.values()],
            task.labels_of("train"),
            question.Cs,
            [judge(X) for X in features.values()],
            starts=[start_of(name) for name in features],
            most_decades=question.most_decades,
            **question.settings,
        )
    except Exception as error:
        if len(features) == 1:
            return dict.fromkeys(features, error)
        alone = [_paths({name: X}, task, question, starts) for name, X in features.items()]
        return {name: path for paths in alone for name, path in paths.items()}
    return dict(zip(features, paths, strict=True))


def _row(path: Path, X: Features, task: Target, question: Question, target: str) -> Row:
    C, fit, y = path.Cs[path.best], path.fit, task.labels_of("test")
    logits = fit.logits(X["test"])
    loss = log_loss(logits, y)
    unfinished = [
        f"C={C:g} stopped after {fit.n_iter} iterations at relative gap {fit.relative_gap:.1e}"
        for C, fit in path.unfinished
    ]
    if path.side and path.n_extended:
        unfinished.append(f"C={C:g} is where the extension of the grid ends; a better C may lie beyond it")
    row: Row = {
        "n_constant": n_constant(X["train"]),
        "C": C,
        "C_at_edge": path.side != 0,
        "C_extended": path.n_extended if question.most_decades else None,
        "accuracy": accuracy(logits, y),
        "balanced_accuracy": balanced_accuracy(logits, y),
        "log_loss": loss,
        "train_accuracy": accuracy(fit.logits(X["train"]), task.labels_of("train")),
        "validation_log_loss": log_loss(fit.logits(X["validation"]), task.labels_of("validation")),
        "v_information": float(v_information(loss, task.labels_of("train"), y)),
        "relative_gap": fit.relative_gap,
        "n_iter": path.n_iter,
        "converged": fit.converged,
        "status": "ok",
    }
    try:
        extra, stopped = _extra(X, C, row["accuracy"], task, question, target)
    except Exception as error:  # the probe itself is as good as before
        extra, stopped = {}, [f"{NO_CONTROLS}: {type(error).__name__}: {error}"]
    return {**row, **extra, "message": "; ".join([*unfinished, *stopped])}


def _extra(X: Features, C: float, score: float, task: Target, question: Question, target: str) -> tuple[Row, list[str]]:
    """Return the columns that were asked for beside the probe's own, and what of them did not converge."""
    row: Row = {}
    unfinished = list[str]()
    if len(question.random[target]):
        row["random_label_accuracy"], stopped = _random_label_accuracy(X["train"], C, question, target)
        unfinished += stopped
    if target in question.control:
        row["control_accuracy"], stopped = _control_accuracy(X, C, task, question, target)
        row["selectivity"] = float(selectivity(score, row["control_accuracy"]))
        unfinished += stopped
    if question.codelength:
        row["codelength"], stopped = _codelength(X["train"], C, task, question)
        unfinished += stopped
    return row, unfinished


def _random_label_accuracy(X: NDArray[Any], C: float, question: Question, target: str) -> tuple[float, list[str]]:
    problems = [LogisticProblem(y=y, C=C) for y in question.random[target]]
    fits = lbfgs_many(X, problems, **_of_search(question))
    shares = [accuracy(fit.logits(X), problem.y) for fit, problem in zip(fits, problems, strict=True)]
    return float(np.mean(shares)), _stopped(fits, "random labels")


def _control_accuracy(X: Features, C: float, task: Target, question: Question, target: str) -> tuple[float, list[str]]:
    y = question.control[target]
    fits = lbfgs_many(X["train"], [LogisticProblem(y=y[task.rows["train"]], C=C)], **_of_search(question))
    return accuracy(fits[0].logits(X["test"]), y[task.rows["test"]]), _stopped(fits, "the control task")


def _codelength(X: NDArray[Any], C: float, task: Target, question: Question) -> tuple[float, list[str]]:
    settings = {name: question.settings[name] for name in ("solver", "tol", "max_iter")}
    code = online_codelength(X, task.labels_of("train"), Cs=(C,), seed=0, **settings)
    return code.codelength, [] if code.converged else ["fits of the online code stopped early, so that it may be long"]


def _of_search(question: Question) -> dict[str, Any]:
    return {name: question.settings[name] for name in ("tol", "max_iter", "device")}


def _stopped(fits: Sequence[Fit], what: str) -> list[str]:
    gaps = [fit.relative_gap for fit in fits if not fit.converged]
    return (
        [f"{len(gaps)} of {len(fits)} fits of {what} stopped at relative gap {max(gaps):.1e} or less"] if gaps else []
    )


COLUMNS = [
    *("network", "seed", "checkpoint", "target"),
    *("layer", "layer_index", "d", "n_constant", "n_train", "n_validation", "n_test"),
    *("C", "C_at_edge", "C_extended"),
    *("accuracy", "balanced_accuracy", "log_loss"),
    *("train_accuracy", "validation_log_loss"),
    "chance",
    *("v_information", "codelength"),
    *("random_label_accuracy", "control_accuracy", "selectivity"),
    *("relative_gap", "n_iter", "converged"),
    *("status", "message"),
]
