"""Observed rules: the network learns by backprop while another estimator learns without being used."""

from __future__ import annotations

from torch import Tensor

from repsim.learning.estimators.estimator import Estimator, Signals

__all__ = ["Observed"]


class Observed(Estimator):
    """g_k = t_k, while another estimator learns at the boundary, so that its error can be measured.

    Parameters
    ----------
    watched : Estimator
        Estimator that learns without being used.

    Raises
    ------
    ValueError
        If the rule changes the backward pass through the segment above, which backprop needs unchanged, or learns in
        a second forward pass.
    """

    def __init__(self, watched: Estimator) -> None:
        super().__init__(watched.site)
        if watched.learns_again or type(watched).through is not Estimator.through:
            how = (
                "its segments learn in a second forward pass"
                if watched.learns_again
                else f"it changes the backward pass through segment {watched.site.boundary + 1}"
            )
            raise ValueError(
                f"{type(watched).__name__} cannot be observed beside backprop: {how}. Use the rule itself, and "
                "diagnose its gradients."
            )
        self.watched = watched
        self.needs = watched.needs | {"target"}

    def gradient(self, signals: Signals) -> Tensor:
        """Return t_k."""
        assert signals.target is not None
        return signals.target

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor | None:
        """Return the loss of the watched estimator for its proposal."""
        return self.watched.loss(gradient, signals)

    def proposal(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the gradient that the watched estimator would have chosen."""
        return self.watched.gradient(signals)
