"""A mixture of a synthetic gradient and the gradient from above with the least estimated mean squared error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from repsim.learning.estimators.class_vectors import sum_by_label
from repsim.learning.estimators.estimator import Signals, Site
from repsim.learning.estimators.synthetic_gradient import SyntheticGradient, SyntheticGradientOptions
from repsim.settings import setting

__all__ = ["LeastErrorMixture", "LeastErrorMixtureOptions", "least_error_weight"]


@dataclass(frozen=True, kw_only=True)
class LeastErrorMixtureOptions(SyntheticGradientOptions):
    """Options of the module S, and of the running estimates."""

    memory: int = setting(
        100, help="number of updates over which bias and variance are averaged, with weights that decay", lowest=2
    )


class LeastErrorMixture(SyntheticGradient):
    """BP(λ) in which λ has the least estimated error: g_k = λ t_k + (1 − λ) S(h_k[, y]); S learns from t_k.

    Let T and Ŝ be the gradients with respect to a vector per class that is added to h_k, computed from t_k and from S:
    sums over the examples of each class, divided by N. Over batches T has a variance v and no bias, and Ŝ a squared
    bias b² and a variance w; c is their covariance, all summed over entries. As an estimate of the mean of T the
    mixture has the mean squared error (1 − λ)² (b² + w) + λ² v + 2 λ (1 − λ) c, which is least at
    λ = (b² + w − c) / (b² + w + v − 2 c), clipped to [0, 1]. Running averages estimate b², v, w and c from the batches
    before; until there are two λ is 1.

    In a network whose segments draw nothing, t_k is a function of the batch, so v is the variance of drawing batches.

    References
    ----------
    Zhang, Tang, Koyejo (2026), Is backpropagation optimal? When synthetic gradients improve sample efficiency, arXiv
    2605.27946. That a biased gradient of low variance can have the lower error is their point; this mixture is ours.
    """

    formula = "λ t_k + (1 − λ) S_k(h_k[, y]), λ of least estimated error"
    reference = "after Zhang, Tang, Koyejo (2026), Is backpropagation optimal?"
    Options = LeastErrorMixtureOptions
    options: LeastErrorMixtureOptions
    regresses = False  # g_k is not S alone
    mean_target: Tensor
    mean_module: Tensor
    moments: Tensor
    squared_weights: Tensor
    count: Tensor

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, generator=generator, **options)
        self.needs = self.needs | {"labels", "target"}
        for name in ("mean_target", "mean_module"):
            self.register_buffer(name, torch.zeros(site.n_outputs, site.size))
        self.register_buffer("moments", torch.zeros(3))  # v, w and c, each a weighted mean over batches
        self.register_buffer("squared_weights", torch.ones(()))  # sum of the squared weights of the batches
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def gradient(self, signals: Signals) -> Tensor:
        """Return λ t + (1 − λ) S(h[, y]), and update the running averages."""
        assert signals.target is not None
        estimate = super().gradient(signals).detach()
        lam = self.weight()
        lam = lam.view(*lam.shape, *[1] * (estimate.ndim - lam.ndim)).to(estimate.dtype)
        self._observe(signals, estimate)
        return lam * signals.target + (1 - lam) * estimate

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the mean over examples of ‖S(h[, y]) − t‖², shape (*lead)."""
        return super().loss(super().gradient(signals), signals)

    @torch.no_grad()
    def weight(self) -> Tensor:
        """Return λ, shape (*lead), from the batches so far."""
        share = self.squared_weights
        v, w, c = (self.moments / (1 - share).clamp_min(1e-12).unsqueeze(-1)).unbind(dim=-1)  # unbiased
        excess = (v + w - 2 * c) * share  # of the squared difference of the means, over the squared bias
        squared_bias = ((self.mean_module - self.mean_target).square().sum(dim=(-2, -1)) - excess).clamp_min(0)
        return torch.where(self.count < 2, torch.ones_like(v), least_error_weight(squared_bias, v, w, c))

    @torch.no_grad()
    def _observe(self, signals: Signals, estimate: Tensor) -> None:
        """Add a batch to the running averages; the first batches all have the same weight."""
        assert signals.labels is not None
        assert signals.target is not None
        T, S = (self._by_class(each, signals.labels) for each in (signals.target, estimate))
        self.count += 1
        share = (1 / self.count.to(T.dtype)).clamp_min(1 / self.options.memory)  # (*lead), of the new batch
        ofs = share[..., None, None]
        dT, dS = T - self.mean_target, S - self.mean_module
        products = torch.stack(
            [(one * other).sum(dim=(-2, -1)) for one, other in ((dT, dT), (dS, dS), (dT, dS))], dim=-1
        )
        keep = (1 - share).unsqueeze(-1)
        self.moments.copy_(keep * (self.moments + share.unsqueeze(-1) * products))
        self.squared_weights.copy_((1 - share) ** 2 * self.squared_weights + share**2)
        self.mean_target += ofs * dT
        self.mean_module += ofs * dS

    def _by_class(self, g: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the batch of g times the label, shape (*lead, n_outputs, units)."""
        flat = g.flatten(-len(self.site.shape))
        return sum_by_label(flat, labels, self.site.n_outputs) / flat.shape[-2]


def least_error_weight(squared_bias: Tensor, v: Tensor, w: Tensor, c: Tensor) -> Tensor:
    """Return the λ in [0, 1] with which λ t + (1 − λ) s has the least mean squared error.

    Parameters
    ----------
    squared_bias : Tensor
        Squared bias b² of s, 0 or more; t has none.
    v, w : Tensor, of the same shape
        Variances of t and of s, 0 or more.
    c : Tensor, of the same shape
        Covariance of t and s.

    Returns
    -------
    Tensor
        (b² + w − c) / (b² + w + v − 2 c), clipped to [0, 1]; 1 where every λ has the same error.

    Examples
    --------
    >>> import torch
    >>> least_error_weight(*torch.tensor([1.0, 3.0, 0.0, 0.0]))
    tensor(0.2500)
    """
    numerator, denominator = squared_bias + w - c, squared_bias + w + v - 2 * c
    lam = torch.where(denominator > 0, numerator / denominator.clamp_min(torch.finfo(v.dtype).tiny), 1.0)
    return lam.clamp(0, 1)
