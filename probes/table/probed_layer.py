"""Settings, layer, target and fitted probe: the objects that the columns of a row are computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probes.controls import control_task, random_labels
from probes.solvers import Fit
from probes.solvers.path import PenaltyPath
from probes.table.network_layers import NetworkLayers
from probes.table.row_cache import Row
from probes.targets import Target

Features = Mapping[str, NDArray[Any]]  # of each part of the split, (n_part, d)


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """Settings that all rows of a table share."""

    Cs: Sequence[float]
    most_decades: int  # by which the grid of C may be extended
    solving: Mapping[str, Any]  # solver, tol, max_iter, device
    targets: Mapping[str, Target]
    random: Mapping[str, NDArray[np.intp]]  # random labelings of each target, (controls, n_train)
    control: Mapping[str, NDArray[np.intp]]  # control task of each target, (n,); empty without types
    codelength: bool

    @property
    def rows(self) -> dict[str, NDArray[np.intp]]:
        """Row indices of each part of the split, which all targets share."""
        return next(iter(self.targets.values())).rows

    @property
    def n_classes(self) -> int:
        """The largest number of classes of a target."""
        return max(len(target.classes) for target in self.targets.values())

    @property
    def searching(self) -> dict[str, Any]:
        """Settings of `lbfgs_many`, which fits the controls."""
        return {name: self.solving[name] for name in ("tol", "max_iter", "device")}

    def key_parts(self) -> dict[str, Any]:
        """Return everything that a row depends on besides its features."""
        return {
            "Cs": list(self.Cs),
            "most_decades": self.most_decades,
            "solving": dict(self.solving),
            "targets": list(self.targets),
            "labels": {name: target.y for name, target in self.targets.items()},
            "split": self.rows,
            "random": self.random,
            "control": self.control,
            "codelength": self.codelength,
        }


def random_labelings(targets: Mapping[str, Target], controls: int) -> dict[str, NDArray[np.intp]]:
    """Return random labelings of the training rows of each target, (controls, n_train)."""
    if not isinstance(controls, Integral) or controls < 0:
        raise ValueError(f"controls is {controls!r}; expected a number of random labelings, 0 or more.")
    return {
        name: np.array([random_labels(target.labels_of("train"), seed=seed) for seed in range(controls)], dtype=int)
        for name, target in targets.items()
    }


def control_tasks(targets: Mapping[str, Target], types: ArrayLike, split: ArrayLike) -> dict[str, NDArray[np.intp]]:
    """Return the control classes of the stimuli for each target, (n,); every target needs fewer classes than types."""
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

    settings: ProbeSettings
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

    @cached_property
    def test_logits(self) -> NDArray[np.float64]:
        """Logits of the test rows."""
        return self.fit.logits(self.features["test"])

    def labels(self, part: str) -> NDArray[np.intp]:
        """Return the class codes of one part of the split."""
        return self.target.labels_of(part)

    def note_unconverged(self, fits: Sequence[Fit], name: str) -> None:
        """Add to the message the number of fits that did not converge."""
        gaps = [fit.relative_gap for fit in fits if not fit.converged]
        if gaps:
            self.notes.append(
                f"{len(gaps)} of {len(fits)} fits of {name} stopped at relative gap {max(gaps):.1e} or less"
            )
