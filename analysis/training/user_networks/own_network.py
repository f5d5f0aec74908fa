"""Networks of the user that a learning rule trains: built from text, cut into segments, and recognised again."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from analysis.training.user_networks.model_spec import build_model
from repsim.learning import Chain, Learner, TrainingConfig

__all__ = ["check_architecture", "check_update", "describe_network", "own_network"]


def own_network(training: TrainingConfig, shape: tuple[int, ...], n_outputs: int, rows: Tensor) -> Chain | None:
    """Return the network that a configuration names with ``model``, or None if it names none.

    Parameters
    ----------
    training : TrainingConfig
    shape : tuple of int
        Shape of one example; the network gets examples in this shape.
    n_outputs : int
        Number of classes.
    rows : Tensor, shape (N, n_features)
        Two or more examples, with which the shapes at the boundaries are found.

    Raises
    ------
    ValueError
        If the network cannot be built or cut, does not run on such examples, or has another number of outputs or, if
        the configuration gives a depth, of segments.
    """
    if training.model is None:
        return None
    built = build_model(training.model, seed=training.seed, blocks=True)
    try:
        chain = built if isinstance(built, Chain) else _cut(built, shape, rows)
        chain.measure(rows)
    except ValueError as error:
        raise ValueError(
            f"Model '{training.model}': {error} (Examples of --data {training.data} have shape {shape}.)"
        ) from error
    if chain.n_outputs != n_outputs:
        raise ValueError(
            f"Model '{training.model}' returns {chain.n_outputs} outputs for each example, but the data have "
            f"{n_outputs} classes; expected one output per class."
        )
    depth = len(chain.boundaries)
    if training.depth not in (None, depth):
        raise ValueError(
            f"depth is {training.depth}, but model '{training.model}' has {depth} hidden segments. Leave depth out."
        )
    return chain


def _cut(built: Any, shape: tuple[int, ...], rows: Tensor) -> Chain:
    return Chain.of(built, example=rows, input_shape=shape if len(shape) > 1 else None)


def check_update(learner: Learner, X: Tensor, y: Tensor) -> None:
    """Raise ValueError if a copy of a learner with blocks of the user cannot compute the gradients of a batch."""
    if not learner.network.is_own:
        return
    trial = copy.deepcopy(learner).train()
    try:
        with torch.random.fork_rng(devices=[]):
            trial.compute_gradients(X, y)
    except Exception as error:  # the user's code, and autograd in it, may raise anything
        reason = str(error).splitlines()[0] if str(error) else "no message"
        raise ValueError(
            f"The network and its rule cannot learn from a batch ({type(error).__name__}: {reason})"
        ) from error


def describe_network(network: Chain) -> dict[str, Any]:
    """Return what a run stores of a network of the user, so that another one in its place is noticed."""
    return {
        "digest": _digest(network),
        "boundaries": [list(shape) for shape in network.shapes],
        "n_parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def check_architecture(stored: Mapping[str, Any], network: Chain, path: str | Path) -> None:
    """Raise ValueError unless a network is that which a run with a stored configuration was trained with."""
    before = stored.get("architecture")
    if before is None:
        return
    now = describe_network(network)
    if now["digest"] != before["digest"]:
        changed = [
            f"{name.replace('_', ' ')} {now[name]}, not {before[name]}" for name in before if now[name] != before[name]
        ]
        raise ValueError(
            f"Model '{stored['training'].get('model')}' is not the network that {path} was trained with: it has "
            f"{'; '.join(changed[1:]) or 'other layers of equal sizes'}. Restore the code of the model."
        )


def _digest(network: Chain) -> str:
    """Return a hash of the modules with their settings, and of the names, shapes and types of all tensors."""
    modules = [[name, type(part).__qualname__, _settings(part)] for name, part in network.named_modules()]
    tensors = [[name, list(each.shape), str(each.dtype)] for name, each in network.state_dict().items()]
    return hashlib.sha256(json.dumps([modules, tensors]).encode()).hexdigest()


def _settings(module: nn.Module) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", module.extra_repr())
