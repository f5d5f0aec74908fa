"""Learner and setup of a training as they were at a committed step."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from analysis.training.setup import TrainingSetup, check_data, configurations, prepare
from analysis.training.transplant import configuration_at
from analysis.training.user_networks.own_network import check_architecture, own_network
from checkpoints import Run
from repsim.learning import Learner, build_learner, unstack

__all__ = ["learner_at", "rebuild"]


def learner_at(run: Run, step: int) -> Learner:
    """Return the learner of the training that committed a step, with its weights then.

    It has the estimators of the source up to the step that a run was forked from.

    Raises
    ------
    ValueError, OSError
        As for ``configuration_at``; or if the step has no weights, or some of another learner.
    """
    training, started = configuration_at(run, step)
    data = run.config["data"]
    shape, n_outputs = tuple(data["shape"]), data.get("n_outputs", len(data["classes"]))
    rows = torch.zeros(2, math.prod(shape), dtype=torch.int64 if data.get("dtype") == "int64" else torch.float32)
    network = own_network(training, shape, n_outputs, rows)
    if network is not None:
        check_architecture(run.config, network, run.path)
    scored = data.get("scored")
    learner = build_learner(training, shape, n_outputs, network=network, started=started, scored=scored)
    try:
        learner.load_state_dict(run[step].weights())
    except RuntimeError as error:
        raise ValueError(
            f"The weights of step {step} of {run.path} do not fit the learner that its settings describe."
        ) from error
    return learner


def rebuild(run: Run, step: int) -> TrainingSetup:
    """Return the setup of the training that committed a step, with its data and with its learner as it was then.

    The learner is in training mode on the CPU, and has one estimator per boundary. Nothing is trained or written, and
    no global generator is changed.

    Raises
    ------
    ValueError, OSError
        As for ``learner_at``; or if the data cannot be read, or have changed.
    """
    training, started = configuration_at(run, step)
    _, recording = configurations(run)
    cpu, data_dir = replace(training, device="cpu"), run.config["data"]["data_dir"]
    setup = prepare(cpu, recording, data_dir, started=started, is_recorded=True)
    run.stimuli.with_inputs(setup.stimuli)  # raises if the recorded stimuli have changed
    check_data(run, setup)
    dataset = setup.dataset
    network = None if training.model is None else setup.learner.network
    alone = build_learner(
        setup.training, dataset.shape, dataset.n_outputs, network=network, together=False, scored=dataset.scored
    )
    return replace(setup, learner=_separated(learner_at(run, step), alone))


def _separated(learner: Learner, alone: Learner) -> Learner:
    """Return the second learner with the state of the first, whose estimators may be stacked."""
    alone.network.load_state_dict(learner.network.state_dict())
    alone.synthetic_inputs.load_state_dict(learner.synthetic_inputs.state_dict())
    for ks, estimator in learner.placed().items():
        state = estimator.state_dict()
        for i, k in enumerate(ks):
            alone.placed()[k,].load_state_dict(unstack(state, i) if len(ks) > 1 else state)
    return alone
