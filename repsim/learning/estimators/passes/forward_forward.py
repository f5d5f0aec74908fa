"""Forward-forward: each layer tells inputs with their label from inputs with a wrong one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from repsim.learning.draws import Draws
from repsim.learning.estimators.estimator import Estimator, RuleOptions, Signals, Site
from repsim.settings import setting

__all__ = ["ForwardForward", "ForwardForwardOptions"]


@dataclass(frozen=True, kw_only=True)
class ForwardForwardOptions(RuleOptions):
    """Options of the goodness, and of the labels in the input."""

    threshold: float = setting(1.0, help="threshold θ of the goodness, per unit of h_k", positive=True)
    labels: str = setting(
        "embedded",
        help="label in the input: embedded (one-hot in place of the first features) or added (a fixed random pattern "
        "per class)",
        choices=("embedded", "added"),
    )
    scale: float = setting(1.0, help="value of the hot feature, or standard deviation of the patterns", positive=True)


class ForwardForward(Estimator):
    """g_k = ∂/∂h'_k log(1 + exp(θ d − ‖h'_k‖²)) of a second pass whose input holds the label, d units of h_k.

    The second pass runs every example twice: with its label (positive) and with a wrong one (negative), drawn
    uniformly for each batch. ‖h'_k‖² is the goodness, and σ(‖h'_k‖² − θ d) the probability that an example is positive.
    Segment k minimises the log loss of this probability over the positive and negative examples of the batch, with its
    input fixed; the gradient of a negative example is that of log(1 + exp(‖h'_k‖² − θ d)). What is reported as g_k is
    the gradient of the positive examples.

    The first pass, with the input as it is, is the network's own. From its last hidden layer the output segment learns
    to name the class, and its activations are recorded.

    In the paper each layer divides its input by its length, so that it cannot read the goodness of the layer below from
    it. Networks of this package do not; their batch norm fixes the mean square of each unit over a batch, which leaves
    differences between examples.

    References
    ----------
    Hinton (2022), The forward-forward algorithm: some preliminary investigations, arXiv 2212.13345.
    """

    formula = "∂/∂h'_k log(1 + exp(θ d − ‖h'_k‖²)), h' from a second pass with the label in the input"
    reference = "Hinton (2022), The forward-forward algorithm: some preliminary investigations"
    Options = ForwardForwardOptions
    needs = frozenset({"labels", "again"})
    learns_again = True
    options: ForwardForwardOptions
    patterns: Tensor

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, **options)
        n_features, n = site.n_features, site.n_outputs
        if n < 2:
            raise ValueError("Forward-forward needs wrong labels, but the network has one output. Use two or more.")
        if n_features is None:
            raise ValueError(
                "Forward-forward writes the label into the input, whose number of features is unknown. Give Chain.of "
                "an example, such as X[:2], or a Chain its n_features."
            )
        if self.options.labels == "embedded" and n_features < n:
            raise ValueError(
                f"Forward-forward writes one of {n} labels into the first {n} features, but examples have "
                f"{n_features}. Use labels=added."
            )
        self.draws = Draws(site.seed, site.boundary)
        if self.options.labels == "embedded":
            patterns = torch.eye(n, n_features)
        else:
            patterns = torch.randn(n, n_features, generator=generator)
        self.register_buffer("patterns", patterns * self.options.scale)

    def inputs_again(self, X: Tensor, labels: Tensor | None, error: Tensor | None) -> Tensor:
        """Return the examples with their labels, then the examples with wrong labels."""
        assert labels is not None
        if labels.is_floating_point():
            raise ValueError("Forward-forward needs classes, but the labels are floats. Use another rule.")
        axis, n = labels.ndim - 1, self.site.n_outputs
        right = F.one_hot(labels, n).to(X.dtype)  # (*lead, N, n_outputs)
        chances = self.draws.normal_like(right).masked_fill(right > 0, -torch.inf)
        wrong = F.one_hot(chances.argmax(dim=-1), n).to(X.dtype)
        flat = X.flatten(axis + 1)
        if self.options.labels == "embedded":
            flat = torch.cat([torch.zeros_like(right), flat[..., n:]], dim=-1)
        both = torch.cat([flat + label @ self.patterns for label in (right, wrong)], dim=axis)
        return both.unflatten(-1, X.shape[axis + 1 :])

    def gradient(self, signals: Signals) -> Tensor:
        """Return the gradients of the local losses of positive, then of negative examples."""
        assert signals.again is not None
        h = signals.again
        margin, sign = self._margins(h)
        slope = -2 * sign * torch.sigmoid(-margin)  # (*lead, 2 N)
        return h * slope.view(*slope.shape, *[1] * len(self.site.shape))

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the mean over examples of the local losses with the label and with the wrong one, shape (*lead)."""
        assert signals.again is not None
        return -2 * F.logsigmoid(self._margins(signals.again)[0]).mean(dim=-1)

    def _margins(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return ± (‖h‖² − θ d), positive where an example is told rightly, and the signs, both (*lead, 2 N)."""
        goodness = h.flatten(-len(self.site.shape)).square().sum(dim=-1) - self.options.threshold * self.site.size
        sign = torch.ones_like(goodness)
        sign[..., sign.shape[-1] // 2 :] = -1
        return sign * goodness, sign
