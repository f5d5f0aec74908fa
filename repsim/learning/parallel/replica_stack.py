"""Replicas: learners that differ only in their seeds, as one stack with one optimizer."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from repsim.learning.learner import Learner
from repsim.learning.stacking import stack

__all__ = ["Replicas", "enumerate_in_words"]


class Replicas:
    """A stack of learners with one optimizer, which continues from the states of their optimizers.

    Parameters
    ----------
    learners : sequence of Learner
        Learners of equal structure. They are copied, and only ``write_back`` changes them.
    optimizers : sequence of torch.optim.Optimizer
        One optimizer per learner, elementwise (such as Adam and SGD), with equal settings and numbers of updates.

    Attributes
    ----------
    stacked : Learner
        The first axis of its parameters is the replica.
    optimizer : torch.optim.Optimizer
        Optimizer of the stacked parameters.

    Raises
    ------
    ValueError
        If learners or optimizers differ in anything but the values of their tensors.
    """

    def __init__(self, learners: Sequence[Learner], optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._learners, self._optimizers = list(learners), list(optimizers)
        self.stacked: Any = stack(self._learners)
        of_stack: dict[str, Tensor] = dict(self.stacked.named_parameters())
        self._places: list[dict[Tensor, Tensor]] = [  # for each replica, from a stacked parameter to its own
            {of_stack[name]: p for name, p in learner.named_parameters()} for learner in self._learners
        ]
        self.optimizer = self._stack_optimizers()

    def __len__(self) -> int:
        """Return the number of replicas."""
        return len(self._learners)

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy weights, buffers and the state of the optimizer to the original learners and optimizers."""
        tensors = _tensors(self.stacked)
        for i, (learner, optimizer) in enumerate(zip(self._learners, self._optimizers, strict=True)):
            own = _tensors(learner)
            for name, values in tensors.items():
                own[name].copy_(values[i])
            for group, settings in zip(optimizer.param_groups, self.optimizer.param_groups, strict=True):
                group.update(_without_params(settings))
            for parameter, state in self.optimizer.state.items():
                of_one = {name: _one_of(name, value, i) for name, value in state.items()}
                optimizer.state[self._places[i][parameter]] = of_one

    def without(self, removed: Container[int]) -> Replicas:
        """Write back, and return the stack of the remaining replicas with their present gradients."""
        self.write_back()
        remaining = [i for i in range(len(self)) if i not in removed]
        rest = Replicas([self._learners[i] for i in remaining], [self._optimizers[i] for i in remaining])
        for ours, theirs in zip(self.stacked.parameters(), rest.stacked.parameters(), strict=True):
            theirs.grad = None if ours.grad is None else ours.grad[remaining]
        return rest

    def _stack_optimizers(self) -> torch.optim.Optimizer:
        first, *others = self._optimizers
        settings = [_without_params(group) for group in first.param_groups]
        for other in others:
            if type(other) is not type(first) or [_without_params(group) for group in other.param_groups] != settings:
                raise ValueError(
                    "The optimizers differ in type or settings; only learners with equal optimizers can be trained "
                    "together. Use how='loop'."
                )
        optimizer = copy.copy(first)
        places = {id(ours): of_stack for of_stack, ours in self._places[0].items()}
        optimizer.param_groups = [
            group | {"params": [places[id(p)] for p in group["params"]]} for group in first.param_groups
        ]
        optimizer.state = defaultdict(dict)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                pairs = zip(self._optimizers, self._places, strict=True)
                states = [one.state.get(place[parameter], {}) for one, place in pairs]
                if any(states):
                    optimizer.state[parameter] = _stack_states(states)
        return optimizer


def _tensors(learner: Learner) -> dict[str, Tensor]:
    return dict(learner.named_parameters()) | dict(learner.named_buffers())


def _without_params(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _stack_states(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the optimizer states of one parameter of each replica as the state of the stacked parameter."""
    stacked: dict[str, Any] = {}
    for name in dict.fromkeys(name for state in states for name in state):  # a set would have no fixed order
        values: list[Any] = [state.get(name) for state in states]
        if name != "step" and isinstance(values[0], Tensor):
            stacked[name] = torch.stack(values)
        elif any(value != values[0] for value in values):
            raise ValueError(
                f"The optimizers differ in {name}: {enumerate_in_words(list(map(_show, values)))}; only learners that "
                "have made equally many updates can be trained together. Use how='loop'."
            )
        else:
            stacked[name] = copy.deepcopy(values[0])
    return stacked


def _show(value: Any) -> str:
    return f"{float(value):g}" if isinstance(value, Tensor) else str(value)


def _one_of(name: str, value: Any, index: int) -> Any:
    if isinstance(value, Tensor):
        return value.clone() if name == "step" else value[index].clone()
    return copy.deepcopy(value)


def enumerate_in_words(values: Sequence[object]) -> str:
    """Return values as text, such as ``"1, 2 and 3"``."""
    return ", ".join(map(str, values[:-1])) + f" and {values[-1]}"
