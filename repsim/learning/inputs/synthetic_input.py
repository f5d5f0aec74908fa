"""Synthetic input: a module that learns to predict the activation at a boundary from the stimulus."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from repsim.learning.estimators.class_vectors import ClassVectors
from repsim.learning.estimators.estimator import RuleOptions, Site
from repsim.learning.networks.initial_weights import draw_weights
from repsim.settings import setting

__all__ = ["SyntheticInput", "SyntheticInputOptions", "locks_above", "predict_inputs"]


@dataclass(frozen=True, kw_only=True)
class SyntheticInputOptions(RuleOptions):
    """Options of the module I."""

    hidden_layers: int = setting(0, help="hidden layers of the module I; 0 for a linear module", lowest=0)
    hidden_width: int | None = setting(None, help="units of each hidden layer; none for as many as h_k has", lowest=1)
    label_conditioned: bool = setting(
        False, help="whether the label is an input of I; segments above then learn from predictions that contain it"
    )


class SyntheticInput(nn.Module):
    """ĥ_k = I(x[, y]) in place of h_k for the segments above, where I minimises the mean over examples of ‖ĥ_k − h_k‖².

    The segments above boundary k train on ĥ_k, so that they need not wait for the segments below; h_k is the activation
    that arrives from these. I is linear, or a relu network with hidden layers, of all numbers of the stimulus as one
    vector. If I is conditioned on the label, a learned vector per class is added to the output of its first layer.
    Weights start at random, so that batch norm above does not divide by a variance of zero; class vectors and biases
    start at zero. Evaluation and recording use the true forward pass, without I.

    Parameters
    ----------
    site : Site
        The boundary.
    n_inputs : int
        Numbers of one stimulus, 1 or more.
    generator : torch.Generator, optional
        Source of the initial weights.
    **options
        Fields of ``SyntheticInputOptions``.

    Raises
    ------
    ValueError
        If an option is out of range.
    TypeError
        If an option is unknown.

    References
    ----------
    Jaderberg et al. (2017), Decoupled neural interfaces using synthetic gradients, sections 2.1 and 3.3.

    Examples
    --------
    >>> import torch
    >>> predictor = SyntheticInput(Site((16,), 10), 6, generator=torch.Generator())
    >>> predictor(torch.ones(4, 6)).shape
    torch.Size([4, 16])
    """

    name: ClassVar[str] = "synthetic-input"
    formula: ClassVar[str] = "the segments above train on ĥ_k = I_k(x[, y]) in place of h_k"
    learns: ClassVar[str] = "I: ‖I_k(x[, y]) − h_k‖²"
    reference: ClassVar[str] = "Jaderberg et al. (2017), Decoupled neural interfaces using synthetic gradients"
    Options: ClassVar[type[SyntheticInputOptions]] = SyntheticInputOptions
    places: ClassVar[str] = "middle"
    needs: frozenset[str]
    stacks_by_parts = True

    def __init__(self, site: Site, n_inputs: int, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__()
        self.site = replace(site, above=None)  # it does not hold modules of the network
        self.options: Any = self.Options(**options)
        self.needs = frozenset({"stimulus", "labels"} if self.options.label_conditioned else {"stimulus"})
        widths = [n_inputs, *[self.options.hidden_width or site.size] * self.options.hidden_layers, site.size]
        layers: list[Any] = [nn.utils.skip_init(nn.Linear, *fan) for fan in pairwise(widths)]
        self.layers: Any = nn.ModuleList(layers)
        conditioned = self.options.label_conditioned
        self.label_vectors = ClassVectors(site.n_outputs, (widths[1],)) if conditioned else None
        for gain, layer in zip([2.0] * self.options.hidden_layers + [1.0], layers, strict=True):
            draw_weights(layer, math.sqrt(gain / layer.weight.shape[-1]), generator)

    def forward(self, X: Tensor, y: Tensor | None = None) -> Tensor:
        """Return ĥ_k, shape (*lead, N, *shape), for stimuli (*lead, N, ...) and, if needed, their labels.

        Raises
        ------
        ValueError
            If the stimuli are whole numbers, or the labels are missing.
        """
        self._check(X, y)
        first, *rest = self.layers
        h = first(X.flatten(first.weight.ndim - 1))
        if self.label_vectors is not None:
            h = h + self.label_vectors(y)
        for layer in rest:
            h = layer(F.relu(h))
        return h.unflatten(-1, self.site.shape)

    def loss(self, predicted: Tensor, activation: Tensor) -> Tensor:
        """Return the mean over examples of ‖ĥ_k − h_k‖², shape (*lead); h_k gets no gradient."""
        residual = (predicted - activation.detach()).flatten(-len(self.site.shape))
        return residual.square().sum(dim=-1).mean(dim=-1)

    def relative_error(self, predicted: Tensor, activation: Tensor) -> Tensor:
        """Return ‖ĥ_k − h_k‖ / ‖h_k‖ over all examples and units, shape (*lead); NaN if h_k is 0."""
        error, size = (
            each.detach().double().flatten(-1 - len(self.site.shape)).norm(dim=-1)
            for each in (predicted - activation, activation)
        )
        return (error / size).masked_fill(size == 0, math.nan)

    def _check(self, X: Tensor, y: Tensor | None) -> None:
        k = self.site.boundary
        if not X.is_floating_point():
            raise ValueError(
                f"The synthetic input at boundary {k} is predicted from the numbers of a stimulus, but these stimuli "
                f"are whole numbers ({X.dtype}), such as tokens. Leave synthetic-input out."
            )
        if y is None and self.label_vectors is not None:
            raise ValueError(
                f"The synthetic input at boundary {k} is conditioned on the label, but y is None. Give the labels, or "
                "use label_conditioned=false."
            )


def predict_inputs(modules: Mapping[int, SyntheticInput], X: Tensor, y: Tensor | None) -> dict[int, Tensor]:
    """Return ĥ_k at each boundary that has a module, with its graph to the parameters of the module."""
    return {k: module(X, y) for k, module in modules.items()}


def locks_above(module: SyntheticInput | None) -> frozenset[str]:
    """Return the lock of the segments above a boundary, derived from what they wait for.

    They are *forward locked* if they need the activation from below, that is, unless a synthetic input replaces it.

    Returns
    -------
    frozenset of str
        A subset of ``{"forward"}``.

    References
    ----------
    Jaderberg et al. (2017), Decoupled neural interfaces using synthetic gradients, section 1.

    Examples
    --------
    >>> locks_above(None)
    frozenset({'forward'})
    """
    needs = frozenset({"activation"}) if module is None else module.needs
    return frozenset({"forward"} if "activation" in needs else ())
