"""Direct feedback: projections of the output error, or of the label, to each boundary."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from torch import Generator, Tensor, nn

from repsim.learning.estimators.estimator import Estimator, Signals, Site
from repsim.learning.estimators.feedback_alignment import FeedbackOptions
from repsim.learning.losses import targets_of

__all__ = ["AdaptiveSkippedBackprop", "DirectFeedbackAlignment", "DirectRandomTarget"]


class DirectFeedbackAlignment(Estimator):
    """g_k = e B_k, with B_k (n_outputs × units of h_k) fixed, drawn from N(0, scale² / n_outputs).

    For feature maps B has a column for every unit. Also known as skipped random backpropagation.

    References
    ----------
    Nøkland (2016), Direct feedback alignment provides learning in deep neural networks.
    """

    formula = "e B_k, B fixed"
    reference = "Nøkland (2016), Direct feedback alignment provides learning in deep neural networks"
    Options = FeedbackOptions
    needs = frozenset({"activation", "error"})
    feedback: Tensor

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, **options)
        std = self.options.scale / sqrt(site.n_outputs)
        self._register("feedback", torch.randn(site.n_outputs, site.size, generator=generator) * std)

    def _register(self, name: str, feedback: Tensor) -> None:
        self.register_buffer(name, feedback)

    def gradient(self, signals: Signals) -> Tensor:
        """Return e B_k."""
        assert signals.error is not None
        return (signals.error @ self.feedback.detach()).view(signals.activation.shape)


class AdaptiveSkippedBackprop(DirectFeedbackAlignment):
    """Direct feedback alignment in which B learns, ΔB_k = −η eᵀ h_k.

    References
    ----------
    Baldi, Sadowski, Lu (2018), Learning in the machine: random backpropagation and the deep learning channel.
    """

    formula = "e B_k"
    learns = "ΔB_k = −η eᵀ h_k"
    reference = "Baldi, Sadowski, Lu (2018), Learning in the machine: random backpropagation"

    def _register(self, name: str, feedback: Tensor) -> None:
        self.register_parameter(name, nn.Parameter(feedback))

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the mean of ⟨h_k, e B_k⟩, whose gradient in B_k is eᵀ h_k / N; it has no lower bound."""
        assert signals.error is not None
        h = signals.activation.flatten(-len(self.site.shape))
        return (h * (signals.error @ self.feedback)).sum(dim=-1).mean(dim=-1)


class DirectRandomTarget(DirectFeedbackAlignment):
    """g_k = y B_k: direct random target projection, which uses the one-hot label y in place of the error.

    References
    ----------
    Frenkel, Lefebvre, Bol (2021), Learning without feedback: fixed random learning signals allow for feedforward
    training of deep neural networks.
    """

    formula = "y B_k, B fixed"
    reference = "Frenkel, Lefebvre, Bol (2021), Learning without feedback"
    needs = frozenset({"activation", "labels"})

    def gradient(self, signals: Signals) -> Tensor:
        """Return y B_k."""
        assert signals.labels is not None
        y = targets_of(signals.labels, self.feedback.mT)  # (*lead, N, n_outputs)
        return (y @ self.feedback).view(signals.activation.shape)
