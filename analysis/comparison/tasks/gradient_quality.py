"""Function of the task that measures the gradients of a rule over training batches, and its implied loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.comparison.tasks.source import Source
from analysis.comparison.undefined import Attempt, attempt, finite
from analysis.execution.cache import TaskResult
from analysis.training.rebuilding import rebuild
from analysis.training.setup import TrainingSetup
from checkpoints import Damaged, Run
from checkpoints.storage.regular_files import check_unchanged
from repsim.learning import (
    Diagnosis,
    EquilibriumNetwork,
    Estimator,
    Learner,
    Observed,
    SyntheticGradient,
    diagnose,
    gradient_bias_variance,
    stream,
    true_gradients,
)
from repsim.learning.streams import drawing_again, drawing_from, drawn_so_far
from repsim.theory.implied_loss import Agreement, agreement, implied_loss, true_loss_at

__all__ = ["N_BATCHES", "N_POINTS", "attempt_to_rebuild", "measure_quality"]

N_BATCHES = 8  # of training examples
N_POINTS = 200  # held-out stimuli at which losses are compared
_SPREAD = ("squared_bias", "variance", "true_variance")  # of ``BiasVariance``
_TOLERANCE = 1e-4  # of the line integrals


def measure_quality(
    folder: Path, *, sources: Sequence[Source], boundaries: Sequence[int], hashes: Mapping[str, str]
) -> TaskResult | None:
    """Return the quality of the gradient at each boundary, in ``rows``; None if the learner cannot be rebuilt.

    ``hashes`` are those of the settings of the run (``config``) and of the weights.
    """
    (source,) = sources
    run = Run.open(source.run)
    check_unchanged(run[source.step].path / "weights.safetensors", hashes["weights"])
    setup = attempt_to_rebuild(run, source.step).value
    if setup is None:
        return None  # not kept, as the data may be there another time
    batches = list(_batches(setup, source.step))
    with drawing_from(setup.training.seed, "signals", source.step):  # of dropout in networks of the user
        quality, losses = _quality(setup.learner, batches), _losses(setup, torch.cat([X for X, _ in batches]))
    return TaskResult(values={"rows": [quality[k] | losses.get(k, {}) for k in boundaries]})


def attempt_to_rebuild(run: Run, step: int) -> Attempt[TrainingSetup]:
    """Return the setup of the training at a step with its learner, or why it cannot be rebuilt."""
    try:
        setup = rebuild(run, step)
        if isinstance(setup.learner.network, EquilibriumNetwork):
            return Attempt(
                None,
                [],
                "The activations of the network are an equilibrium, in which boundaries have no "
                "gradient of the segments above alone",
            )
        return Attempt(setup, [], "")
    except Damaged:
        raise
    except (ValueError, OSError) as error:
        return Attempt(None, [], f"The learner could not be rebuilt: {error}")


def _batches(setup: TrainingSetup, step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of training examples, each drawn without replacement."""
    X, y = setup.part("train")
    for index in range(N_BATCHES):
        order = torch.randperm(len(y), generator=stream(setup.training.seed, "signals", step, index))
        rows = order[: setup.training.batch_size]
        yield X[rows], y[rows]


def _quality(learner: Learner, batches: Sequence[tuple[Tensor, Tensor]]) -> dict[int, dict[str, float | None]]:
    """Return error, bias and variance of the gradient at each boundary, in training mode."""
    rows = _errors(learner, batches)
    observed = {k for (k,), estimator in learner.placed().items() if isinstance(estimator, Observed)}
    for k, found in gradient_bias_variance(learner, batches).items():
        size = math.nan if k in observed else found.true_norm**2 or math.nan
        rows[k] |= {name: finite(getattr(found, name) / size) for name in _SPREAD}
    return rows


def _errors(learner: Learner, batches: Sequence[tuple[Tensor, Tensor]]) -> dict[int, dict[str, float | None]]:
    """Return the means over batches of the angle and the relative error."""
    learner = copy.deepcopy(learner)
    found: dict[int, list[Diagnosis]] = {k: [] for k in learner.network.boundaries}
    for X, y in batches:
        with drawing_again(drawn_so_far(X.device), X.device):
            true = true_gradients(learner.network, X, y, loss=learner.loss)
        for k, (each,) in diagnose(learner.compute_gradients(X, y, watch=True).gradients, true).items():
            found[k].append(each)
    return {
        k: {
            "angle": finite(np.mean([each.angle for each in several])),
            "relative_error": finite(np.mean([each.relative_error for each in several])),
        }
        for k, several in found.items()
    }


def _losses(setup: TrainingSetup, X_trained: Tensor) -> dict[int, dict[str, Any]]:
    """Return correlation and slope of implied and true losses of held-out stimuli where a module implies one."""
    learner = copy.deepcopy(setup.learner).double().eval()
    network, stimuli = learner.network, setup.stimuli
    test = np.flatnonzero(stimuli.split == "test")
    test = test[np.linspace(0, len(test) - 1, min(N_POINTS, len(test))).round().astype(int)]
    inputs, y = torch.from_numpy(stimuli.inputs[test]), torch.from_numpy(stimuli.labels[test])  # type: ignore[index]
    modules = {k: estimator for (k,), estimator in learner.placed().items() if _implies_loss(estimator)}
    found: dict[int, dict[str, Any]] = {}
    if not modules:
        return found
    with torch.no_grad():
        h, h_trained = (
            network.input(each.double() if each.is_floating_point() else each) for each in (inputs, X_trained)
        )
        for k, segment in enumerate(network.segments[: max(modules, default=0)], start=1):
            h, h_trained = segment(h), segment(h_trained)
            if k in modules:
                anchor = h_trained.flatten(1).mean(dim=0)
                compared = attempt(partial(_agreement, learner, k, modules[k], h.flatten(1), y, anchor))
                found[k] = _described(compared.value, compared.reason)
    return found


def _implies_loss(estimator: Estimator) -> bool:
    """Return whether an estimator has a module of activation and label."""
    used = estimator.watched if isinstance(estimator, Observed) else estimator
    return isinstance(used, SyntheticGradient) and used.label_vectors is not None


def _agreement(learner: Learner, k: int, estimator: Estimator, h: Tensor, y: Tensor, anchor: Tensor) -> Agreement:
    implied = implied_loss(estimator, h, y, anchor=anchor, tolerance=_TOLERANCE)
    return agreement(implied, true_loss_at(learner.network, k, h, y, loss=learner.loss), y)


def _described(found: Agreement | None, reason: str) -> dict[str, Any]:
    if found is None or not math.isfinite(found.correlation):
        return {"implied_correlation": None, "implied_slope": None, "message": reason}
    return {"implied_correlation": found.correlation, "implied_slope": found.slope}
