"""Backpropagation: the gradient from the segment above is used unchanged."""

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
        assert signals.target is not None  # guaranteed by `needs`
        return signals.target
