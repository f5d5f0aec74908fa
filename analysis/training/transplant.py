"""State with which a fork starts: that of its source, with fresh estimators where the rule was changed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from analysis.training.setup import TrainingSetup, configurations
from checkpoints import Run
from checkpoints.lineage import recorded_by
from repsim.learning import (
    ESTIMATORS,
    Estimator,
    Learner,
    Observed,
    Rule,
    RuleOptions,
    SyntheticInput,
    TrainingConfig,
    build_learner,
    build_optimizer,
)

__all__ = ["configuration_at", "kept_boundaries", "restore_training", "started_in"]


def kept_boundaries(before: TrainingConfig, after: TrainingConfig) -> set[int]:
    """Return the boundaries at which both configurations place the same estimator, used or observed."""
    old, new = before.rules, after.rules
    return {k for k in old.keys() & new.keys() if _estimator(old[k]) == _estimator(new[k])}


def _estimator(rule: Rule) -> tuple[str, RuleOptions]:
    return rule.name, ESTIMATORS[rule.name].Options(**rule.options)


def _kept_inputs(before: TrainingConfig, after: TrainingConfig) -> set[int]:
    """Return the boundaries at which both configurations place the same synthetic input."""
    old, new = before.synthetic_inputs, after.synthetic_inputs
    options = SyntheticInput.Options
    return {k for k in old.keys() & new.keys() if options(**old[k].options) == options(**new[k].options)}


def started_in(config: Mapping[str, Any], when: str = "after") -> dict[int, int]:
    """Return the update after which estimators of a run were added, by boundary, where that is not 0.

    ``when`` is "after", or "before" for the estimators of the run that this one was forked from.
    """
    fork = config.get("forked_from")
    return {} if fork is None else {int(k): step for k, step in fork["estimators_started"][when].items()}


def configuration_at(run: Run, step: int) -> tuple[TrainingConfig, dict[int, int]]:
    """Return the settings of the training that committed a step, and the updates after which its estimators were added.

    Up to the step that a run was forked from, these are those of its source.

    Raises
    ------
    ValueError
        If the run was not trained by ``train_run``, or if the step is that of a run before the source.
    """
    training, _ = configurations(run)
    fork = run.config.get("forked_from")
    if fork is None or step > fork["step"]:
        return training, started_in(run.config)
    if recorded_by(run.path, run.info, step) not in (fork["uuid"], run.info["uuid"]):  # its own if recorded anew
        raise ValueError(
            f"Step {step} of {run.path} belongs to a run before the one that was forked at step {fork['step']}, whose "
            "settings are not stored here. Use that run."
        )
    before = replace(training, **{name: each["before"] for name, each in fork["changes"].items()})
    return before, started_in(run.config, "before")


def restore_training(run: Run, setup: TrainingSetup, optimizer: torch.optim.Optimizer) -> int:
    """Set the learner and the optimizer to the last committed step of a run, and return that step, or 0 without one.

    At the step that a run was forked from, the checkpoint is that of the source. The network, its optimizer state and
    the global generators are then taken over, and so are estimators that the fork keeps; others stay as they were
    initialised.
    """
    if not run.steps:
        return 0
    last, fork = run[run.steps[-1]], run.config.get("forked_from")
    if fork is None or last.step > fork["step"]:
        last.restore(setup.learner, optimizer)
        return last.step
    before, started = configuration_at(run, last.step)
    dataset = setup.dataset
    network = None if before.model is None else copy.deepcopy(setup.learner.network).cpu()
    source = build_learner(
        before, dataset.shape, dataset.n_outputs, network=network, started=started, scored=dataset.scored
    ).to(before.device)
    of_source = build_optimizer(source, before)
    last.restore(source, of_source)
    _transplant((source, of_source), (setup.learner, optimizer), kept_boundaries(before, setup.training))
    for k in _kept_inputs(before, setup.training):
        _copy([(source.placed_inputs()[k], None)], setup.learner.placed_inputs()[k], of_source, optimizer)
    return last.step


Trained = tuple[Learner, torch.optim.Optimizer]
Place = tuple[nn.Module, int | None]  # a module, alone or at an index of a stack


def _transplant(source: Trained, target: Trained, kept: set[int]) -> None:
    """Copy the network and the kept estimators of a learner into another one, each with its optimizer state."""
    optimizers = source[1], target[1]
    _copy([(source[0].network, None)], target[0].network, *optimizers)
    places: dict[int, Place] = {
        k: (_used(estimator), i if len(ks) > 1 else None)
        for ks, estimator in source[0].placed().items()
        for i, k in enumerate(ks)
    }
    for ks, estimator in target[0].placed().items():
        if kept.issuperset(ks):
            _copy([places[k] for k in ks], _used(estimator), *optimizers)


def _used(estimator: Estimator) -> Estimator:
    return estimator.watched if isinstance(estimator, Observed) else estimator


def _copy(
    places: Sequence[Place],
    target: nn.Module,
    of_source: torch.optim.Optimizer,
    of_target: torch.optim.Optimizer,
) -> None:
    """Copy one module, or several into a stack of them, each with the state of its parameters in an optimizer."""
    states = [(module.state_dict(), i) for module, i in places]
    target.load_state_dict({name: _joined([(state[name], i) for state, i in states]) for name in states[0][0]})
    for name, parameter in target.named_parameters():
        sources = [(module.get_parameter(name), i) for module, i in places]
        entries = [of_source.state.get(source, {}) for source, _ in sources]
        for key, value in entries[0].items():
            if key != "step" and value.shape == sources[0][0].shape:
                values = [(entry[key], i) for entry, (_, i) in zip(entries, sources, strict=True)]
                of_target.state[parameter][key] = _joined(values)
            else:  # one number for the whole parameter, equal for all as their estimators started together
                of_target.state[parameter][key] = value.clone()


def _joined(parts: Sequence[tuple[Tensor, int | None]]) -> Tensor:
    values = [value if i is None else value[i] for value, i in parts]
    return values[0].clone() if len(values) == 1 else torch.stack(values)
