"""Kickback: a scalar error per example, distributed over units by the next segment alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from repsim.learning.estimators.estimator import Estimator, RuleOptions, Signals, Site
from repsim.settings import setting

__all__ = ["Kickback", "KickbackOptions"]


@dataclass(frozen=True, kw_only=True)
class KickbackOptions(RuleOptions):
    """Definition of the scalar error β."""

    error: str = setting(
        "true-class",
        help="scalar error β: true-class (e at the class of the example) or sum (sum of e)",
        choices=("true-class", "sum"),
    )


class Kickback(Estimator):
    """g_k = β · (pull-back of a vector of ones through segment k + 1).

    β is a scalar error per example. The paper defines the rule for one output, where β = e. For several classes there
    are two choices: ``true-class`` uses e_y, which is p_y − 1 for the log loss; ``sum`` uses Σ e, which is always 0 for
    the log loss and is not allowed there.

    References
    ----------
    Balduzzi, Vanchinathan, Buhmann (2015), Kickback cuts backprop's red-tape: biologically plausible credit assignment
    in neural networks.
    """

    formula = "β · pull-back of 1 through segment k+1"
    reference = "Balduzzi, Vanchinathan, Buhmann (2015), Kickback cuts backprop's red-tape"
    Options = KickbackOptions
    needs = frozenset({"error", "influence", "labels"})
    options: KickbackOptions

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, **options)
        if self.options.error == "sum":
            self.needs = self.needs - {"labels"}
            if site.n_outputs > 1 and site.loss == "log_loss":
                raise ValueError(
                    "Kickback with error=sum cannot be used with the log loss, whose errors sum to 0 over classes. "
                    "Use error=true-class, or the loss 'mse'."
                )

    def gradient(self, signals: Signals) -> Tensor:
        """Return β times the influence of h_k on the sum of h_{k+1}."""
        assert signals.influence is not None
        scalar = self._scalar_error(signals)  # (*lead, N)
        return signals.influence * scalar.view(*scalar.shape, *[1] * len(self.site.shape))

    def _scalar_error(self, signals: Signals) -> Tensor:
        assert signals.error is not None
        if self.options.error == "sum" or self.site.n_outputs == 1:
            return signals.error.sum(dim=-1)
        assert signals.labels is not None
        if signals.labels.is_floating_point():
            raise ValueError("Kickback with error=true-class needs classes, but the labels are floats. Use error=sum.")
        return signals.error.gather(-1, signals.labels.unsqueeze(-1)).squeeze(-1)
