"""Settings, layer, target and fitted probe: the objects that the columns of a row are computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probes.controls import control_task, random_labels
from probes.estimators.ridge.validated_path import RidgeFits
from probes.scores import accuracy, log_loss, mean_squared_error, r2_score
from probes.solvers import Fit, LogisticProblem, lbfgs_many
from probes.solvers.path import PenaltyPath
from probes.table.network_layers import NetworkLayers
from probes.table.probe_config import ProbeConfig
from probes.table.row_cache import Row
from probes.targets import Target

Features = Mapping[str, NDArray[Any]]  # of each part of the split, (n_part, d)


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """Settings, targets and labels of controls that all rows of a table share."""

    config: ProbeConfig
    targets: Mapping[str, Target]
    random: Mapping[str, NDArray[Any]]  # random labelings of each target, (controls, n_train)
    control: Mapping[str, NDArray[np.intp]]  # control task of each categorical target, (n,); empty without types

    @property
    def rows(self) -> dict[str, NDArray[np.intp]]:
        """Row indices of each part of the split, which all targets share."""
        return next(iter(self.targets.values())).rows

    @property
    def n_classes(self) -> int:
        """The largest number of classes of a target; 1 if all are continuous."""
        return max(1, *(len(target.classes) for target in self.targets.values()))

    def key_parts(self) -> dict[str, Any]:
        """Return everything that a row depends on besides its features."""
        return {
            "Cs": self.config.grid,
            "most_decades": self.config.most_decades,
            "solving": self.config.solving,
            "targets": list(self.targets),
            "labels": {name: target.y for name, target in self.targets.items()},
            "split": self.rows,
            "random": self.random,
            "control": self.control,
            "codelength": self.config.codelength,
            "memory": self.config.memory,
        }


def random_labelings(targets: Mapping[str, Target], controls: int) -> dict[str, NDArray[Any]]:
    """Return the labels or values of the training rows of each target in random orders, (controls, n_train)."""
    n_train = len(next(iter(targets.values())).rows["train"])
    orders = np.array([random_labels(np.arange(n_train), seed=seed) for seed in range(controls)], dtype=int)
    return {name: target.labels_of("train")[orders] for name, target in targets.items()}


def control_tasks(targets: Mapping[str, Target], types: ArrayLike, split: ArrayLike) -> dict[str, NDArray[np.intp]]:
    """Return the control classes of each categorical target, (n,); every target needs fewer classes than types."""
    targets = {name: target for name, target in targets.items() if target.kind == "categorical"}
    tasks = {name: control_task(types, split, len(target.classes), seed=0) for name, target in targets.items()}
    n_types = len(np.unique(np.asarray(types)))
    for name, target in targets.items():
        if n_types <= len(target.classes):
            raise ValueError(
                f"types has {n_types} different types, and target {name!r} {len(target.classes)} classes; a control "
                "task needs types that are finer than the classes. Give fine labels or clusters, for example."
            )
    return tasks


@dataclass(frozen=True, kw_only=True)
class LayerTarget:
    """A layer of a network, and a target: what is known of a row before any fit."""

    network: NetworkLayers
    layer: str
    layer_index: int
    target_name: str
    target: Target

    @property
    def d(self) -> int:
        """Width of the layer."""
        return int(np.shape(self.network.layers[self.layer])[1])


@dataclass(frozen=True, kw_only=True)
class ProbedLayer(LayerTarget):
    """A layer with the probe that was fitted to a target."""

    settings: TableSettings
    features: Features
    path: PenaltyPath
    row: Row  # the columns computed so far
    notes: list[str] = field(default_factory=list)  # parts of the message: fits that did not converge

    @property
    def C(self) -> float:
        """The chosen C."""
        return self.path.Cs[self.path.best]

    @property
    def fit(self) -> Fit:
        """The fit at the chosen C."""
        return self.path.fit

    def labels(self, part: str) -> NDArray[Any]:
        """Return the class codes, or the values, of one part of the split."""
        return self.target.labels_of(part)

    def logits(self, part: str) -> NDArray[np.float64]:
        """Return the logits of one part of the split; the predicted values, (n, 1), of a continuous target."""
        return self.fit.logits(self.features[part])

    def log_loss(self, part: str) -> float:
        """Return the log loss on one part of the split."""
        return log_loss(self.logits(part), self.labels(part))

    def accuracy(self, part: str, fit: Fit | None = None, y: NDArray[np.intp] | None = None) -> float:
        """Return the accuracy on one part of the split, by default of the probe; or of a fit to other labels y."""
        logits = self.logits(part) if fit is None else fit.logits(self.features[part])
        return accuracy(logits, self.labels(part) if y is None else y)

    def squared_error(self, part: str) -> float:
        """Return the mean squared error on one part of the split, if the target is continuous."""
        return mean_squared_error(self.logits(part)[:, 0], self.labels(part))

    def r2(self, part: str) -> float:
        """Return R² on one part of the split, if the target is continuous."""
        return r2_score(self.logits(part)[:, 0], self.labels(part))

    def r2_of_others(self, values: NDArray[np.float64]) -> list[float]:
        """Return R² on the training rows of fits to other values of these rows, (n_others, n_train), at the chosen C.

        The target must be continuous.
        """
        predicted = RidgeFits(self.features["train"], values.T).fit(self.C).logits(self.features["train"])
        return [r2_score(each, y) for each, y in zip(predicted.T, values, strict=True)]

    def fit_others(self, labelings: Sequence[NDArray[np.intp]], name: str) -> list[Fit]:
        """Return fits to other labels of the training rows at the chosen C; note how many did not converge."""
        problems = [LogisticProblem(y=y, C=self.C) for y in labelings]
        fits = lbfgs_many(self.features["train"], problems, **self.settings.config.limits)
        gaps = [fit.relative_gap for fit in fits if not fit.converged]
        if gaps:
            self.notes.append(
                f"{len(gaps)} of {len(fits)} fits of {name} stopped at relative gap {max(gaps):.1e} or less"
            )
        return fits
