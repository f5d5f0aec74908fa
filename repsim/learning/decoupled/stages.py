"""Stages: consecutive segments that learn together, with the estimator above and the synthetic input below them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from repsim.learning.config import TrainingConfig
from repsim.learning.estimators import ESTIMATORS, Backprop, Estimator, Signals, locks
from repsim.learning.inputs import SyntheticInput, predict_inputs
from repsim.learning.learner import Learner
from repsim.learning.networks import EquilibriumNetwork
from repsim.learning.optimizers import is_line_search, optimizer_of
from repsim.learning.tape import Tape
from repsim.learning.training import set_rates

Optimizer = torch.optim.Optimizer
Optimizers = tuple[Optimizer | None, Optimizer | None, Optimizer | None]

__all__ = [
    "Guess",
    "Learned",
    "Stage",
    "check_stages_step_alone",
    "describe_rule",
    "is_unlocked",
    "learns_from_target",
    "one_update",
    "split_into_stages",
]


@dataclass(frozen=True)
class Guess:
    """The gradient that the estimator above a stage chose before its target was known.

    Attributes
    ----------
    gradient : Tensor
        g_k, detached.
    proposed : Tensor
        The proposal from which the estimator's loss is computed; it may hold a graph to the estimator's parameters.
    signals : Signals
        Signals that the estimator saw.
    """

    gradient: Tensor
    proposed: Tensor
    signals: Signals


@dataclass(frozen=True)
class Learned:
    """Losses of one update of a stage, by boundary; ``loss``, shape (*lead), is None except in the top stage."""

    loss: Tensor | None
    estimator_losses: dict[int, Tensor]
    input_losses: dict[int, Tensor]


class Stage(nn.Module):
    """Consecutive segments that learn together, with the estimator above and the synthetic input below them.

    Any rule may be used at the boundaries inside the top stage. In the other stages, rules that need the error of the
    output, or the true gradient, cannot be used.

    Parameters
    ----------
    entrance : nn.Module
        Module applied to a batch before the first segment.
    segments : mapping of int to nn.Module
        Segments by number.
    inner : mapping of int to Estimator
        Estimators between these segments, by boundary.
    above : Estimator or None
        Estimator at the boundary above. None in the top stage, or if the stage waits for the gradient from above.
    loss : str or None
        A key of ``LOSSES`` in the top stage, None in the others.
    synthetic_inputs : mapping of int to SyntheticInput, default empty
        By boundary: between these segments, and at the boundary below them if their input is predicted.
    """

    def __init__(
        self,
        entrance: nn.Module,
        segments: Mapping[int, nn.Module],
        inner: Mapping[int, Estimator],
        above: Estimator | None,
        loss: str | None,
        synthetic_inputs: Mapping[int, SyntheticInput] | None = None,
    ) -> None:
        super().__init__()
        modules = dict(synthetic_inputs or {})
        self.below = modules.pop(min(segments) - 1, None)
        self.inner_inputs = nn.ModuleDict({str(k): module for k, module in modules.items()})
        self.entrance, self.above, self.loss = entrance, above, loss
        self.numbers = tuple(segments)
        self.segments = nn.ModuleList(segments.values())
        self._boundaries = tuple(inner)
        self.inner = nn.ModuleList(inner.values())
        for k, estimator in inner.items():
            if estimator.learns_again and self.numbers[0] > 1:
                raise ValueError(
                    f"Rule {describe_rule(estimator)} at boundary {k} learns in a second forward pass, which starts at "
                    f"the input of the network, but the chain is cut below, at boundary {self.numbers[0] - 1}. Do not "
                    "cut there, or train with the synchronous step."
                )
            for signal in sorted(estimator.needs & set(_OF_THE_TOP)):
                if not self.is_top:
                    raise ValueError(
                        f"Rule {describe_rule(estimator)} at boundary {k} needs {_OF_THE_TOP[signal]}, which segments "
                        f"{self.numbers[0]} to {self.numbers[-1]} do not receive because the chain is cut above them. "
                        f"Use a rule that does not need it, do not cut at boundary {self.numbers[-1]}, or train with "
                        "the synchronous step."
                    )

    @property
    def is_top(self) -> bool:
        """Whether the stage holds the output segment."""
        return self.loss is not None

    @property
    def reads_stimuli(self) -> bool:
        """Whether a synthetic input of the stage predicts from the stimuli."""
        return self.below is not None or len(self.inner_inputs) > 0

    def forward(self, h: Tensor, n_examples: int, X: Tensor | None, y: Tensor) -> Tape:
        """Return the tape of a batch of ``n_examples``; its ``output`` is the input of the next stage.

        ``h`` is the input of the first segment, and X and y are the stimuli and labels, for synthetic inputs between
        the segments; X may be None if there are none.
        """
        segments = dict(zip(self.numbers, self.segments, strict=True))
        predicted = {} if X is None else predict_inputs(self._inner_inputs(), X, y)
        return Tape(segments, self._inner(), self.entrance(h), n_examples, predicted=predicted)

    def estimators(self) -> dict[int, Estimator]:
        """Return the estimators by boundary, including the one above the stage."""
        return self._inner() | ({} if self.above is None else {self.numbers[-1]: self.above})

    def guess(self, h: Tensor, y: Tensor | None) -> Guess:
        """Return the gradient that the estimator above chooses for the output h of this stage."""
        assert self.above is not None
        signals = Signals(h, y)
        chosen = self.above.gradient(signals)
        return Guess(chosen.detach(), self.above.proposal(chosen, signals), signals)

    def learn(self, tape: Tape, y: Tensor, gradient: Tensor | None) -> Learned:
        """Add the gradients of a batch to ``.grad`` of the segments and of what learns between them.

        ``gradient`` is per example, at the boundary above; None in the top stage.
        """
        loss = None
        if self.loss is not None:
            loss = tape.descend_from_loss(y, self.loss)
        else:
            tape.descend(y, tape.output, gradient)
        return Learned(loss, tape.teach(), tape.teach_inputs(self._inner_inputs()))

    def teach_input(self, predicted: Tensor, h: Tensor) -> dict[int, Tensor]:
        """Add the gradients of the loss of the synthetic input below, given h, and return that loss by boundary."""
        assert self.below is not None
        loss = self.below.loss(predicted, h)
        loss.sum().backward()
        return {self.numbers[0] - 1: loss.detach()}

    def teach(self, guess: Guess, target: Tensor | None) -> dict[int, Tensor]:
        """Add the gradients of the loss of the estimator above, given its target, and return that loss by boundary."""
        assert self.above is not None
        loss = self.above.loss(guess.proposed, replace(guess.signals, target=target))
        if loss is None:
            return {}
        if loss.requires_grad:
            loss.sum().backward()
        return {self.numbers[-1]: loss.detach()}

    def optimizers(self, config: TrainingConfig) -> Optimizers:
        """Return an optimizer of the segments and what learns between them, of the estimator above, of the input below.

        Each is None if it has no parameters.

        Raises
        ------
        ValueError
            If gradients are clipped, or the optimizer is a line search, which takes the whole network.
        """
        check_stages_step_alone(config)
        inner = (*self.inner.parameters(), *self.inner_inputs.parameters())
        above, below = (() if each is None else each.parameters() for each in (self.above, self.below))
        return (
            optimizer_of(config, self.segments.parameters(), inner),
            optimizer_of(config, (), above),
            optimizer_of(config, (), below),
        )

    def _inner(self) -> dict[int, Estimator]:
        return {k: cast(Estimator, estimator) for k, estimator in zip(self._boundaries, self.inner, strict=True)}

    def _inner_inputs(self) -> dict[int, SyntheticInput]:
        return {int(k): cast(SyntheticInput, module) for k, module in self.inner_inputs.items()}


_OF_THE_TOP = {"error": "the error of the output", "true_gradient": "the true gradient"}  # only the top stage has them


def check_stages_step_alone(config: TrainingConfig) -> None:
    """Raise ValueError if an update takes the whole network: the norm of all its gradients, or its loss."""
    if config.clip_norm is not None:
        raise ValueError(
            f"clip_norm is {config.clip_norm}, the norm of the gradients of the whole network, but stages update "
            "one by one. Leave clip_norm out, or train with the synchronous step."
        )
    if is_line_search(config.optimizer):
        raise ValueError(
            f"Optimizer '{config.optimizer}' compares losses of the whole network, but stages update one by one. Use "
            "optimizer adam, sgd or momentum, or train with the synchronous step."
        )


def is_unlocked(estimator: Estimator) -> bool:
    """Return whether the segments below an estimator can learn before the segments above have run."""
    return not locks(estimator) and not estimator.learns_again and type(estimator).through is Estimator.through


def learns_from_target(estimator: Estimator) -> bool:
    """Return whether an estimator learns from the gradient that the segments above pass down."""
    return type(estimator).loss is not Estimator.loss and not estimator.learns_alone


def split_into_stages(learner: Learner, cuts: Sequence[int] | None = None) -> tuple[Stage, ...]:
    """Split a learner into stages, which share its modules.

    By default the cuts are all boundaries whose estimators are unlocked. Any other cut must be at a boundary where
    backprop is used; the stage below then waits for the gradient. The learner is built with ``together=False``. A
    stage above a synthetic input does not wait for the stage below.
    """
    if isinstance(learner.network, EquilibriumNetwork):
        raise ValueError(
            "Equilibrium propagation trains all layers together, so that the network cannot be cut into stages. Train "
            "with the synchronous step."
        )
    estimators = _single_estimators(learner)
    boundaries = learner.network.boundaries
    if cuts is None:
        cuts = [k for k, estimator in estimators.items() if is_unlocked(estimator)]
    _check_cuts(cuts, boundaries, estimators)
    segments = dict(enumerate(learner.network.segments, start=1))
    edges = [0, *sorted(cuts), len(segments)]
    stages = []
    for low, high in pairwise(edges):
        above = estimators.get(high)
        stages.append(
            Stage(
                learner.network.input if low == 0 else nn.Identity(),
                {k: segments[k] for k in range(low + 1, high + 1)},
                {k: each for k, each in estimators.items() if low < k < high},
                None if above is None or isinstance(above, Backprop) else above,
                learner.loss if high == len(segments) else None,
                {k: each for k, each in learner.placed_inputs().items() if low <= k < high},
            )
        )
    return tuple(stages)


def _single_estimators(learner: Learner) -> dict[int, Estimator]:
    placed = learner.placed()
    for ks in placed:
        if len(ks) > 1:
            raise ValueError(
                f"The estimators at boundaries {', '.join(map(str, ks))} are evaluated together, but stages learn one "
                "after the other. Build the learner with together=False."
            )
    return {ks[0]: estimator for ks, estimator in placed.items()}


def _check_cuts(cuts: Sequence[int], boundaries: range, estimators: Mapping[int, Estimator]) -> None:
    if len(set(cuts)) < len(cuts):
        raise ValueError(f"cuts {list(cuts)} name a boundary twice; name each boundary once.")
    for k in cuts:
        if k not in boundaries:
            raise ValueError(f"There is no boundary {k} to cut at; this network has boundaries 1 to {boundaries[-1]}.")
        estimator = estimators.get(k)
        if estimator is not None and type(estimator) is not Backprop and not is_unlocked(estimator):
            why = (
                "learns in a second forward pass through all segments"
                if estimator.learns_again
                else "is locked: the segments below it wait for those above"
            )
            raise ValueError(
                f"Rule {describe_rule(estimator)} at boundary {k} {why}. Cut where the rule needs at most the "
                "activation and the labels, or where backprop is used."
            )


@contextmanager
def one_update(optimizer: torch.optim.Optimizer | None, factor: float | None = None) -> Iterator[None]:
    """Clear gradients on entry and take an optimizer step on exit.

    If ``factor`` is given, the learning rates are set to that multiple of their initial values.
    """
    if optimizer is not None:
        if factor is not None:
            set_rates(optimizer, factor)
        optimizer.zero_grad(set_to_none=True)
    yield
    if optimizer is not None:
        optimizer.step()


def describe_rule(estimator: Estimator) -> str:
    """Return the name under which an estimator is registered, or that of its class."""
    return next((name for name, kind in ESTIMATORS.items() if kind is type(estimator)), type(estimator).__name__)
