"""Backpropagation: the gradient that the segment above passes down is used as it is."""

from __future__ import annotations

from torch import Tensor

from repsim.learning.estimators.estimator import Estimator, Signals

__all__ = ["Backprop"]


class Backprop(Estimator):
    """g_k = t_k."""

    formula = "t_k"
    reference = "Rumelhart, Hinton, Williams (1986), Learning representations by back-propagating errors"
    needs = frozenset({"target"})
    passes_target_unchanged = True

    def gradient(self, signals: Signals) -> Tensor:
        """Return t_k."""
        assert signals.target is not None  # promised to every estimator whose `needs` name it
        return signals.target
