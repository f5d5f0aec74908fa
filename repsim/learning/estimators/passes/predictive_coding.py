"""Predictive coding with fixed predictions: errors that are inferred in steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from repsim.learning.estimators.estimator import Estimator, RuleOptions, Signals, Site
from repsim.settings import setting

__all__ = ["PredictiveCoding", "PredictiveCodingOptions", "inferred_share"]


@dataclass(frozen=True, kw_only=True)
class PredictiveCodingOptions(RuleOptions):
    """Inference of the errors."""

    steps: int | None = setting(
        None, help="steps T of inference; none for as many as there are hidden layers", lowest=1, highest=100_000
    )
    rate: float = setting(1.0, help="rate η of inference, above 0 and at most 1", positive=True, highest=1)


class PredictiveCoding(Estimator):
    """g_k = ε_k(T), with ε_k(0) = 0, ε_k(t+1) = (1 − η) ε_k(t) + η J_{k+1}ᵀ ε_{k+1}(t), and at the output ε = e.

    Predictive coding holds a value v_k beside each prediction μ_k = h_k and descends ½ Σ ‖v_k − μ_k‖² + ℓ in the
    values, all at once and at the rate η. With fixed predictions the Jacobians J and predictions μ stay those of the
    forward pass; then ε_k = μ_k − v_k follows the equation above. Weights are updated after T steps, at the forward
    pass.

    The equation is linear and has one source, so that ε_k(T) = P(B ≥ d) τ_k, where τ_k is the true gradient, d the
    number of segments above boundary k, and B has the binomial distribution of T trials with probability η. The rule
    computes ε_k(T) in this form, which costs the same for every T. With η = 1 and as many steps as there are hidden
    layers it is backprop. With fewer steps the lowest segments learn nothing, and with a smaller rate lower segments
    learn more slowly; the direction of g_k is always the true one. An optimizer such as Adam, which normalises the
    gradient of every weight, removes the factor.

    The inference is that of all segments above, whatever rules act there.

    References
    ----------
    Millidge, Tschantz, Buckley (2022), Predictive coding approximates backprop along arbitrary computation graphs.
    Song, Lukasiewicz, Xu, Bogacz (2020), Can the brain do backpropagation? Exact implementation of backpropagation in
    predictive coding networks.
    """

    formula = "ε_k(T), ε_k(t+1) = (1 − η) ε_k(t) + η · pull-back of ε_{k+1}(t)"
    reference = "Millidge, Tschantz, Buckley (2022), Predictive coding approximates backprop"
    Options = PredictiveCodingOptions
    needs = frozenset({"true_gradient"})
    options: PredictiveCodingOptions
    share: Tensor

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, **options)
        steps = self.options.steps or site.boundary + site.n_above - 1
        share = inferred_share(site.n_above, steps, self.options.rate)
        self.register_buffer("share", torch.tensor(share, dtype=torch.float64))

    def gradient(self, signals: Signals) -> Tensor:
        """Return ε_k(T) as its share of the true gradient."""
        assert signals.true_gradient is not None
        t = signals.true_gradient
        return t * self.share.view(*self.share.shape, *[1] * (t.ndim - self.share.ndim)).to(t.dtype)


def inferred_share(distance: int, steps: int, rate: float) -> float:
    """Return the share of the true gradient that has arrived ``distance`` segments below the output, 0 to 1.

    Parameters
    ----------
    distance : int
        Number d of segments between the boundary and the loss, 1 or more.
    steps : int
        Number T of steps of inference, 0 or more.
    rate : float
        Rate η, above 0 and at most 1.

    Returns
    -------
    float
        P(B ≥ d), where B has the binomial distribution of T trials with probability η.

    Examples
    --------
    >>> [inferred_share(2, steps, 0.5) for steps in (1, 2, 3)]
    [0.0, 0.25, 0.5]
    """
    shares = torch.zeros(distance + 1, dtype=torch.float64)
    shares[0] = 1.0
    for _ in range(steps):
        shares[1:] = (1 - rate) * shares[1:] + rate * shares[:-1]
    return float(shares[distance])
