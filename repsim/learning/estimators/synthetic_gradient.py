"""Synthetic gradients: a small module at the boundary learns to predict the gradient from the activation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning.estimators.estimator import Estimator, Signals

__all__ = ["SyntheticGradient"]


class SyntheticGradient(Estimator):
    """g_k = S(h_k[, y]), where S minimises the mean over examples of ‖S(h_k[, y]) − t_k‖².

    S is linear, or a relu network with hidden layers. Conditioning on the label adds a learned vector per class to
    the first layer, which is that layer applied to [h, one_hot(y)]. Weight and bias of the last layer start at zero,
    so that learning begins with no gradient rather than a random one.

    Parameters
    ----------
    width : int
        d, the width of the boundary.
    n_classes : int
        Number of classes; used only if ``label_conditioned``.
    hidden_layers : int, default 0
        0 makes S linear.
    hidden_width : int, optional
        Units in each hidden layer; ``width`` by default.
    label_conditioned : bool, default True
        Whether S sees the label.
    generator : torch.Generator
        Source of the initial hidden weights (nothing is drawn for a linear S).

    References
    ----------
    Jaderberg et al. (2017), Decoupled neural interfaces using synthetic gradients, sections 2 and 2.1.
    Czarnecki et al. (2017), Understanding synthetic gradients and decoupled neural interfaces.

    Examples
    --------
    >>> import torch
    >>> S = SyntheticGradient(16, 10, generator=torch.Generator())
    >>> S.gradient(Signals(torch.ones(4, 16), torch.tensor([0, 1, 2, 3]))).count_nonzero()
    tensor(0)
    """

    def __init__(
        self,
        width: int,
        n_classes: int,
        *,
        hidden_layers: int = 0,
        hidden_width: int | None = None,
        label_conditioned: bool = True,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.needs = frozenset({"activation", "labels"} if label_conditioned else {"activation"})
        widths = [width, *[hidden_width or width] * hidden_layers, width]
        layers = [nn.utils.skip_init(nn.Linear, fan_in, fan_out) for fan_in, fan_out in pairwise(widths)]
        self.layers = nn.ModuleList(layers)
        self.label_vectors = nn.utils.skip_init(nn.Embedding, n_classes, widths[1]) if label_conditioned else None
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            for layer in layers[:-1]:
                layer.weight.normal_(0.0, sqrt(2.0 / layer.in_features), generator=generator)

    @classmethod
    def build(
        cls, width: int, n_classes: int, *, options: Mapping[str, Any], generator: torch.Generator
    ) -> SyntheticGradient:
        """Return a module whose keyword arguments are the options."""
        return cls(width, n_classes, generator=generator, **options)

    def gradient(self, signals: Signals) -> Tensor:
        """Return S(h[, y]), shape (N, d), with its graph to the parameters of S."""
        first, *rest = self.layers
        g = first(signals.activation)
        if self.label_vectors is not None:
            g = g + self.label_vectors(signals.labels)
        for layer in rest:
            g = layer(F.relu(g))
        return g

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the mean over examples of ‖S(h[, y]) − t‖², a scalar."""
        assert signals.target is not None  # the step knows every target by the time that losses are asked for
        return (gradient - signals.target).square().sum(dim=1).mean()
