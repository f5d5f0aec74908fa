"""Local updates: segments below an unlocked boundary learn right after their own forward pass."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from repsim.learning.config import TrainingConfig
from repsim.learning.decoupled.stages import Stage, describe_rule, one_update, split_into_stages
from repsim.learning.learner import Learner
from repsim.learning.losses import count_examples
from repsim.learning.step import Outcome

__all__ = ["LocalLearner"]


class LocalLearner:
    """A learner whose stages update during the forward pass, without waiting for the loss.

    The chain is split into stages at the boundaries whose estimators are unlocked, that is, need at most the
    activation and the labels. Each stage updates before the next stage runs its forward pass. The gradient that the
    next stage passes down then trains the estimator between them. The results equal those of the synchronous step.

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
    optimizers : tuple of pairs of torch.optim.Optimizer
        For each stage, the optimizer of its segments and inner estimators, and the optimizer of the estimator above
        it. Either is None if it has no parameters.

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
        """Update all stages, from the input to the output, and the estimators between them.

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
