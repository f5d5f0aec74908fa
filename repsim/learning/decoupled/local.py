"""Local stepping: segments below an unlocked boundary learn as soon as their own forward pass is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from repsim.learning.checks import check_choice, check_positive
from repsim.learning.estimators import ESTIMATORS, Backprop, Estimator, Signals, locks
from repsim.learning.learner import Learner
from repsim.learning.optimizers import OPTIMIZERS
from repsim.learning.step import Outcome, Tape, count_examples
from repsim.learning.training import set_rates

Optimizers = tuple[torch.optim.Optimizer | None, torch.optim.Optimizer | None]

__all__ = ["Guess", "LocalLearner", "Stage", "is_unlocked", "learns_from_target", "one_update", "split_into_stages"]


class LocalLearner:
    """A learner that is trained stage by stage on the way up, without waiting for the loss.

    The chain falls into stages at the boundaries whose estimators are unlocked: they need at most the activation and
    the labels. Each stage updates before the next one runs its forward pass. The target that the next stage passes
    down then trains the estimator between them. The numbers are those of the synchronous step.

    Parameters
    ----------
    learner : Learner
        Built with ``together=False``; it is trained in place.
    optimizer : str, default "adam"
        A key of ``OPTIMIZERS``. Each stage has one of its own, and so has each estimator between stages.
    learning_rate, estimator_learning_rate : float, default 1e-3
        For the segments, and for what learns in estimators.

    Attributes
    ----------
    stages : tuple of Stage
        From the input up.
    optimizers : tuple of pairs of torch.optim.Optimizer
        For each stage that of its segments and inner estimators, and that of the estimator above; None where nothing
        learns.

    Raises
    ------
    ValueError
        If an estimator below the top stage needs the error of the output, or estimators are evaluated together.

    Examples
    --------
    >>> import torch
    >>> from repsim.learning import TrainingConfig, build_learner
    >>> config = TrainingConfig(depth=4, width=8, rule="synthetic-gradient")
    >>> local = LocalLearner(build_learner(config, 6, 3, together=False))
    >>> [stage.numbers for stage in local.stages]
    [(1, 2), (3, 4, 5)]
    >>> local.step(torch.ones(4, 6), torch.tensor([0, 1, 2, 0])).logits.shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        learner: Learner,
        *,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        estimator_learning_rate: float = 1e-3,
    ) -> None:
        check_choice("optimizer", optimizer, OPTIMIZERS)
        check_positive("learning_rate", learning_rate)
        check_positive("estimator_learning_rate", estimator_learning_rate)
        self.stages = split_into_stages(learner)
        rates = learning_rate, estimator_learning_rate
        self.optimizers = tuple(stage.optimizers(optimizer, *rates) for stage in self.stages)

    def step(self, X: Tensor, y: Tensor | None) -> Outcome:
        """Update all stages, from the input up, and the estimators between them.

        Parameters
        ----------
        X : Tensor, shape (*lead, N, n_features)
        y : Tensor, shape (*lead, N)
            As in ``compute_gradients``.

        Returns
        -------
        Outcome
            That of the synchronous step: each stage ran before its update.

        Raises
        ------
        ValueError
            If labels are missing; nothing is updated then.
        """
        if y is None:
            raise _missing_labels(self.stages)
        n_examples = count_examples(y)
        losses: dict[int, Tensor] = {}
        h, guess = X, None
        for number, (stage, (own, _)) in enumerate(zip(self.stages, self.optimizers, strict=True)):
            tape = stage(h, n_examples)
            h = tape.output.detach()
            above = None if stage.is_top else stage.guess(h, y)
            with one_update(own):
                value, learned = stage.learn(tape, y, above.gradient if above else None)
            losses |= learned
            if guess is not None:
                with one_update(self.optimizers[number - 1][1]):
                    losses |= self.stages[number - 1].teach(guess, tape.target_below())
            guess = above
        assert value is not None  # the last stage is the top
        return Outcome(value, h, dict(sorted(losses.items())))


@contextmanager
def one_update(optimizer: torch.optim.Optimizer | None, factor: float | None = None) -> Iterator[None]:
    """Clear gradients, let them be added, and move, if ``factor`` is given at that multiple of the initial rates."""
    if optimizer is not None:
        if factor is not None:
            set_rates(optimizer, factor)
        optimizer.zero_grad(set_to_none=True)
    yield
    if optimizer is not None:
        optimizer.step()


@dataclass(frozen=True)
class Guess:
    """What the estimator above a stage chose before the target was known, and what it saw.

    Attributes
    ----------
    gradient : Tensor
        g_k, detached.
    proposed : Tensor
        What its loss is that of, maybe with a graph to its parameters.
    signals : Signals
    """

    gradient: Tensor
    proposed: Tensor
    signals: Signals


class Stage(nn.Module):
    """Consecutive segments that learn together, and the estimator at the boundary above them.

    Inside a stage any rule may stand at the boundaries, but below the top none that needs the error of the output.

    Parameters
    ----------
    entrance : nn.Module
        What a batch passes before the first segment.
    segments : mapping of int to nn.Module
        By number.
    inner : mapping of int to Estimator
        Those between these segments, by boundary.
    above : Estimator or None
        That at the boundary above; None in the top stage, or if the stage waits for the gradient from above.
    loss : str or None
        In the top stage, a key of ``LOSSES``.

    Raises
    ------
    ValueError
        If an inner estimator needs the error of the output and this is not the top stage.
    """

    def __init__(
        self,
        entrance: nn.Module,
        segments: Mapping[int, nn.Module],
        inner: Mapping[int, Estimator],
        above: Estimator | None,
        loss: str | None,
    ) -> None:
        super().__init__()
        self.entrance, self.above, self.loss = entrance, above, loss
        self.numbers = tuple(segments)
        self.segments = nn.ModuleList(segments.values())
        self._boundaries = tuple(inner)
        self.inner = nn.ModuleList(inner.values())
        for k, estimator in inner.items():
            if "error" in estimator.needs and not self.is_top:
                raise ValueError(
                    f"Rule {_name(estimator)} at boundary {k} needs the error of the output, but segments "
                    f"{self.numbers[0]} to {self.numbers[-1]} do not see it: the chain is cut above them. Use a rule "
                    f"there that needs no error, do not cut at boundary {self.numbers[-1]}, or train with the "
                    "synchronous step."
                )

    @property
    def is_top(self) -> bool:
        """Whether the output segment is one of these."""
        return self.loss is not None

    def forward(self, X: Tensor, n_examples: int) -> Tape:
        """Return the tape of a batch of ``n_examples``; its ``output`` is what enters the next stage."""
        segments = dict(zip(self.numbers, self.segments, strict=True))
        return Tape(segments, self._inner(), self.entrance(X), n_examples)

    def estimators(self) -> dict[int, Estimator]:
        """Return the estimators by boundary, that above included."""
        return self._inner() | ({} if self.above is None else {self.numbers[-1]: self.above})

    def guess(self, h: Tensor, y: Tensor | None) -> Guess:
        """Return what the estimator above makes of the output of this stage."""
        assert self.above is not None
        signals = Signals(h, y)
        chosen = self.above.gradient(signals)
        return Guess(chosen.detach(), self.above.proposal(chosen, signals), signals)

    def learn(self, tape: Tape, y: Tensor, gradient: Tensor | None) -> tuple[Tensor | None, dict[int, Tensor]]:
        """Add the gradients of a batch to ``.grad`` of the segments' and the inner estimators' parameters.

        Parameters
        ----------
        tape : Tape
        y : Tensor
        gradient : Tensor or None
            g, per example, at the boundary above; None in the top stage.

        Returns
        -------
        tuple
            In the top stage the mean loss, shape (*lead), otherwise None; the inner estimators' losses by boundary.
        """
        if self.loss is not None:
            return tape.descend_from_loss(y, self.loss), tape.teach()
        tape.descend(y, tape.output, gradient)
        return None, tape.teach()

    def teach(self, guess: Guess, target: Tensor | None) -> dict[int, Tensor]:
        """Add the gradients of what the estimator above minimises, given the target; return its loss by boundary."""
        assert self.above is not None
        loss = self.above.loss(guess.proposed, replace(guess.signals, target=target))
        if loss is None:
            return {}
        if loss.requires_grad:
            loss.sum().backward()
        return {self.numbers[-1]: loss.detach()}

    def optimizers(self, name: str, learning_rate: float, estimator_learning_rate: float) -> Optimizers:
        """Return an optimizer for the segments and inner estimators, and one for the estimator above.

        Either is None if nothing learns there.
        """
        own = _groups((self.segments, learning_rate), (self.inner, estimator_learning_rate))
        above = _groups((self.above, estimator_learning_rate))
        return OPTIMIZERS[name](own) if own else None, OPTIMIZERS[name](above) if above else None

    def _inner(self) -> dict[int, Estimator]:
        return {k: cast(Estimator, estimator) for k, estimator in zip(self._boundaries, self.inner, strict=True)}


def _groups(*several: tuple[nn.Module | None, float]) -> list[dict[str, Any]]:
    found = [(list(module.parameters()), rate) for module, rate in several if module is not None]
    return [{"params": parameters, "lr": rate} for parameters, rate in found if parameters]


def is_unlocked(estimator: Estimator) -> bool:
    """Return whether the segments below may learn before those above have run, and nothing else joins the two."""
    return not locks(estimator) and type(estimator).through is Estimator.through


def learns_from_target(estimator: Estimator) -> bool:
    """Return whether an estimator makes use of the target when it arrives."""
    return type(estimator).loss is not Estimator.loss and not estimator.learns_alone


def split_into_stages(learner: Learner, cuts: Sequence[int] | None = None) -> tuple[Stage, ...]:
    """Return a learner as stages, which share its modules.

    Parameters
    ----------
    learner : Learner
        Built with ``together=False``.
    cuts : sequence of int, optional
        The boundaries between stages; by default all whose estimators are unlocked. At others backprop must act; the
        stage below then waits for the gradient.

    Raises
    ------
    ValueError
        If a cut is no boundary, or at one whose rule joins the segments on both its sides; if an estimator below the
        top stage needs the error of the output; if estimators are evaluated together.
    """
    estimators = _alone(learner)
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
            )
        )
    return tuple(stages)


def _alone(learner: Learner) -> dict[int, Estimator]:
    placed = learner.placed()
    for ks in placed:
        if len(ks) > 1:
            raise ValueError(
                f"The estimators at boundaries {', '.join(map(str, ks))} are evaluated together, but each stage "
                "learns at a time of its own. Build the learner with together=False."
            )
    return {ks[0]: estimator for ks, estimator in placed.items()}


def _check_cuts(cuts: Sequence[int], boundaries: range, estimators: Mapping[int, Estimator]) -> None:
    if len(set(cuts)) < len(cuts):
        raise ValueError(f"cuts {list(cuts)} name a boundary twice; name each once.")
    for k in cuts:
        if k not in boundaries:
            raise ValueError(f"There is no boundary {k} to cut at; this network has boundaries 1 to {boundaries[-1]}.")
        estimator = estimators.get(k)
        if estimator is not None and type(estimator) is not Backprop and not is_unlocked(estimator):
            raise ValueError(
                f"Rule {_name(estimator)} at boundary {k} is locked: it joins the segments on both sides. Cut where "
                "the rule needs at most the activation and the labels, or where backprop acts."
            )


def _missing_labels(stages: Sequence[Stage]) -> ValueError:
    estimators = {k: each for stage in stages for k, each in stage.estimators().items() if "labels" in each.needs}
    for k, estimator in estimators.items():
        return ValueError(f"Rule {_name(estimator)} at boundary {k} needs labels, but y is None. Give the labels.")
    return ValueError(
        "The output segment learns from the true loss, which needs labels, but y is None. Give the labels."
    )


def _name(estimator: Estimator) -> str:
    return next((name for name, kind in ESTIMATORS.items() if kind is type(estimator)), type(estimator).__name__)
