"""Local updates: segments below an unlocked boundary learn right after their own forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from repsim.learning.config import TrainingConfig
from repsim.learning.decoupled.stages import Guess, Learned, Stage, describe_rule, one_update, split_into_stages
from repsim.learning.learner import Learner
from repsim.learning.losses import count_examples
from repsim.learning.step import Outcome

__all__ = ["LocalLearner"]


class LocalLearner:
    """A learner whose stages update during the forward pass, without waiting for the loss.

    The chain is split into stages at the boundaries whose estimators are unlocked, that is, need at most the
    activation and the labels. Each stage updates before the next stage runs its forward pass. The gradient that the
    next stage passes down then trains the estimator between them. The results equal those of the synchronous step.

    A stage above a synthetic input trains on its prediction, and so do the stages that follow it up to the next
    synthetic input: they run before the stages below. When these have run, the synthetic input learns.

    Parameters
    ----------
    learner : Learner
        Built with ``together=False``. It is trained in place.
    config : TrainingConfig
        Its ``optimizer`` and learning rates are used. Every stage, and every estimator between stages, has its own
        optimizer.

    Attributes
    ----------
    stages : tuple of Stage
        From the input to the output.
    optimizers : tuple of triples of torch.optim.Optimizer
        For each stage, the optimizers of its segments and what learns between them, of the estimator above it, and of
        the synthetic input below it. Each is None if it has no parameters.

    Raises
    ------
    ValueError
        If an estimator below the top stage needs the error of the output, or if several estimators are evaluated
        together.

    Examples
    --------
    >>> import torch
    >>> from repsim.learning import TrainingConfig, build_learner
    >>> config = TrainingConfig(depth=4, width=8, rule="synthetic-gradient")
    >>> local = LocalLearner(build_learner(config, 6, 3, together=False), config)
    >>> [stage.numbers for stage in local.stages]
    [(1, 2), (3, 4, 5)]
    >>> local.step(torch.ones(4, 6), torch.tensor([0, 1, 2, 0])).logits.shape
    torch.Size([4, 3])
    """

    def __init__(self, learner: Learner, config: TrainingConfig) -> None:
        self.stages = split_into_stages(learner)
        self.optimizers = tuple(stage.optimizers(config) for stage in self.stages)

    def step(self, X: Tensor, y: Tensor | None) -> Outcome:
        """Update all stages, and the estimators and synthetic inputs between them.

        Parameters
        ----------
        X : Tensor, shape (*lead, N, n_features)
        y : Tensor, shape (*lead, N)
            As in ``compute_gradients``.

        Returns
        -------
        Outcome
            Equal to the outcome of the synchronous step, because each stage runs forward before its update.

        Raises
        ------
        ValueError
            If ``y`` is None. Nothing is updated then.
        """
        if y is None:
            raise _missing_labels(self.stages)
        update = _Update(self, X, y)
        starts = [number for number, stage in enumerate(self.stages) if number == 0 or stage.below is not None]
        for first, end in reversed(list(pairwise([*starts, len(self.stages)]))):
            for number in range(first, end):
                update.run(number)
        return update.outcome()


class _Update:
    """One update of all stages, in any order in which a stage without a synthetic input follows the one below."""

    def __init__(self, local: LocalLearner, X: Tensor, y: Tensor) -> None:
        self._stages, self._optimizers, self._X, self._y = local.stages, local.optimizers, X, y
        self._h: dict[int, Tensor] = {-1: X}  # output of each stage
        self._predicted: dict[int, Tensor] = {}  # input of a stage that has a synthetic one
        self._guesses: dict[int, Guess] = {}
        self._targets: dict[int, Tensor] = {}  # that a stage passes down
        self._learned: list[Learned] = []

    def run(self, number: int) -> None:
        """Update one stage, and what learns at those of its boundaries of which both sides have run."""
        stage, y = self._stages[number], self._y
        if stage.below is not None:
            self._predicted[number] = stage.below(self._X, y)
        h = self._predicted[number].detach() if number in self._predicted else self._h[number - 1]
        tape = stage(h, count_examples(y), self._X, y)
        h = self._h[number] = tape.output.detach()
        if not stage.is_top:
            self._guesses[number] = stage.guess(h, y)
        with one_update(self._optimizers[number][0]):
            gradient = None if stage.is_top else self._guesses[number].gradient
            self._learned.append(stage.learn(tape, y, gradient))
        if number > 0:
            self._targets[number] = tape.target_below()
        for above in (number, number + 1):
            if above in self._targets and above - 1 in self._guesses:
                self._teach(above)

    def _teach(self, above: int) -> None:
        """Teach the estimator and the synthetic input between a stage and the one below."""
        of_inputs: dict[int, Tensor] = {}
        with one_update(self._optimizers[above - 1][1]):
            losses = self._stages[above - 1].teach(self._guesses[above - 1], self._targets[above])
        if above in self._predicted:
            with one_update(self._optimizers[above][2]):
                of_inputs = self._stages[above].teach_input(self._predicted[above], self._h[above - 1])
        self._learned.append(Learned(None, losses, of_inputs))

    def outcome(self) -> Outcome:
        """Return the outcome, once all stages have run."""
        (loss,) = (each.loss for each in self._learned if each.loss is not None)
        losses = {k: loss for each in self._learned for k, loss in each.estimator_losses.items()}
        of_inputs = {k: loss for each in self._learned for k, loss in each.input_losses.items()}
        logits = self._h[len(self._stages) - 1]
        return Outcome(loss, logits, dict(sorted(losses.items())), input_losses=dict(sorted(of_inputs.items())))


def _missing_labels(stages: Sequence[Stage]) -> ValueError:
    """Return the error that names the first reader of the missing labels."""
    estimators = {k: each for stage in stages for k, each in stage.estimators().items() if "labels" in each.needs}
    for k, estimator in estimators.items():
        return ValueError(
            f"Rule {describe_rule(estimator)} at boundary {k} needs labels, but y is None. Give the labels."
        )
    return ValueError(
        "The output segment learns from the true loss, which needs labels, but y is None. Give the labels."
    )
