"""Synthetic gradients: a module that learns to predict the gradient from the activation and the label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from repsim.learning.estimators.class_vectors import ClassVectors, sum_by_label
from repsim.learning.estimators.estimator import Estimator, RuleOptions, Signals, Site
from repsim.learning.estimators.sequences import SequenceConv
from repsim.learning.networks.initial_weights import draw_weights
from repsim.settings import setting

__all__ = ["BPLambda", "SyntheticGradient", "SyntheticGradientProp"]

LINKS = ("linear", "sigmoid", "softmax")


@dataclass(frozen=True, kw_only=True)
class SyntheticGradientOptions(RuleOptions):
    """Options of the module S."""

    hidden_layers: int = setting(0, help="hidden layers of the module S; 0 for a linear module", lowest=0)
    hidden_width: int | None = setting(
        None, help="units (or channels) of each hidden layer; none for as many as h_k has", lowest=1
    )
    label_conditioned: bool = setting(True, help="whether the label is an input of S; states between windows have none")
    kernel_size: int = setting(3, help="for feature maps and sequences: side length of the convolutions, odd", lowest=1)
    link: str = setting(
        "linear",
        help="form of S: linear, or D · φ(A h) + V y + c with φ a sigmoid or softmax, which fits the log loss",
        choices=LINKS,
    )

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {self.kernel_size}; expected an odd number.")


class SyntheticGradient(Estimator):
    """g_k = S(h_k[, y]), where S minimises the mean over examples of ‖S(h_k[, y]) − t_k‖².

    S is linear, or a relu network with hidden layers. For feature maps (channels, height, width) and sequences
    (positions, width) its layers are convolutions over the map or the positions, which preserve their number. If S is
    conditioned on the label, a learned vector (or map) per class is added to the output of its first layer, which for
    vectors equals that layer applied to [h, one_hot(y)]. Weight and bias of the last layer start at zero, so that the
    first gradients are zero rather than random.

    Below a linear output the gradient of the squared error is linear in h and y; that of the log loss is
    W_Kᵀ (softmax(W_K h) − y). With ``link="sigmoid"`` or ``"softmax"`` S has the form D · φ(A h) + V y + c, with one
    unit of φ per output of the network and hidden layers before A. D, V and c start at zero, A is random.

    References
    ----------
    Jaderberg et al. (2017), Decoupled neural interfaces using synthetic gradients, sections 2 and 2.1.
    Czarnecki et al. (2017), Understanding synthetic gradients and decoupled neural interfaces.

    Examples
    --------
    >>> import torch
    >>> S = SyntheticGradient(Site((16,), 10), generator=torch.Generator())
    >>> S.gradient(Signals(torch.ones(4, 16), torch.tensor([0, 1, 2, 3]))).count_nonzero()
    tensor(0)
    """

    formula = "S_k(h_k[, y])"
    learns = "S: ‖S_k(h_k[, y]) − t_k‖²"
    reference = "Jaderberg et al. (2017), Decoupled neural interfaces using synthetic gradients"
    Options = SyntheticGradientOptions
    places = "middle"
    regresses = True

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, **options)
        if len(site.shape) not in _LAYERS:
            raise ValueError(
                f"h_{site.boundary} has shape {site.shape} for each example; a synthetic gradient needs a vector, a "
                "sequence (positions, width) or a map (channels, height, width). Flatten it in the block before."
            )
        conditioned = self.options.label_conditioned and site.has_labels
        self.needs = frozenset({"activation", "labels"} if conditioned else {"activation"})
        channels = site.shape[self._channel_axis]
        widths = [channels, *[self.options.hidden_width or channels] * self.options.hidden_layers]
        widths += [channels] if self._is_linear else [self._link_width(), channels]
        layers = [self._layer(fan_in, fan_out) for fan_in, fan_out in pairwise(widths)]
        self.layers: Any = nn.ModuleList(layers)
        labelled = widths[1] if self._is_linear else channels
        self.label_vectors = ClassVectors(site.n_outputs, self._with_channels(labelled)) if conditioned else None
        for layer in layers[:-1]:
            draw_weights(layer, sqrt(2.0 / layer.weight[0].numel()), generator)
        for parameter in layers[-1].parameters():
            nn.init.zeros_(parameter)

    def _layer(self, fan_in: int, fan_out: int) -> Any:
        kind: Any = _LAYERS[len(self.site.shape)]
        if kind is nn.Linear:
            return nn.utils.skip_init(kind, fan_in, fan_out)
        side = self.options.kernel_size
        return nn.utils.skip_init(kind, fan_in, fan_out, side, padding=side // 2)

    @property
    def _channel_axis(self) -> int:
        """The axis of one example that holds features: the first of a map, the last of a vector or a sequence."""
        return -3 if len(self.site.shape) == 3 else -1

    def _with_channels(self, channels: int) -> tuple[int, ...]:
        shape = list(self.site.shape)
        shape[self._channel_axis] = channels
        return tuple(shape)

    @property
    def _is_linear(self) -> bool:
        """Whether S has no φ; its label then enters at the first layer, otherwise at the last."""
        return bool(self.options.link == "linear")

    def _link_width(self) -> int:
        """Return the number of units of φ."""
        n = self.site.n_outputs
        if self.options.link == "softmax" and n == 1:
            raise ValueError(
                "link is softmax and the network has one output, whose softmax is constant; expected two or more "
                "outputs. Choose link=sigmoid or link=linear."
            )
        return n

    @property
    def _is_affine(self) -> bool:
        """Whether S is one affine map of vectors, whose gradients are computed here without autograd."""
        return len(self.layers) == 1 and len(self.site.shape) == 1

    def gradient(self, signals: Signals) -> Tensor:
        """Return S(h[, y]), with its graph to the parameters of S unless S is affine."""
        if self._is_affine:
            return self._affine(signals)
        return self.traced(signals)

    @torch.no_grad()
    def _affine(self, signals: Signals) -> Tensor:
        """Return h Wᵀ + b + y V, as a contiguous tensor."""
        weight, bias = self.layers[0].weight, self.layers[0].bias
        h = signals.activation
        if self.label_vectors is None:
            g = torch.empty_like(h, memory_format=torch.contiguous_format).copy_(bias.unsqueeze(-2))
        else:
            g = self.label_vectors(signals.labels, plus=bias).expand(h.shape).contiguous()  # already a copy
        if h.ndim == 2:
            return g.addmm_(h, weight.T)
        g.flatten(0, -3).baddbmm_(h.flatten(0, -3), weight.flatten(0, -3).mT)
        return g

    def traced(self, signals: Signals) -> Tensor:
        """Return S(h[, y]), with its graph to the parameters of S and to an activation that requires a gradient."""
        first, *rest = self.layers
        g = first(signals.activation)
        if self._is_linear:
            g = self._plus_label(g, signals)
        for layer in rest[:-1]:
            g = layer(F.relu(g))
        if rest:
            g = rest[-1](self._link(g))
        return g if self._is_linear else self._plus_label(g, signals)

    def _plus_label(self, g: Tensor, signals: Signals) -> Tensor:
        """Return g plus the vector of each label, if S is conditioned on the label."""
        if self.label_vectors is None:
            return g
        assert signals.labels is not None
        return g + self.label_vectors(signals.labels)

    def _link(self, g: Tensor) -> Tensor:
        """Return φ(g), which comes before the last layer: relu if S has hidden layers only."""
        if self._is_linear:
            return F.relu(g)
        return torch.sigmoid(g) if self.options.link == "sigmoid" else g.softmax(dim=self._channel_axis)

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the mean over examples of ‖S(h[, y]) − t‖², shape (*lead)."""
        assert signals.target is not None  # losses are computed after all targets are known
        return self.loss_of_residual(gradient - signals.target, signals)

    def loss_of_residual(self, residual: Tensor, signals: Signals) -> Tensor:
        """Return the mean over examples of ‖r‖², shape (*lead)."""
        if not self._is_affine:
            return residual.flatten(-len(self.site.shape)).square().sum(dim=-1).mean(dim=-1)
        vectors = None if self.label_vectors is None else self.label_vectors.weight
        weight, bias = self.layers[0].weight, self.layers[0].bias
        return _SquaredResidual.apply(weight, bias, vectors, residual, signals.activation, signals.labels)


_LAYERS: dict[int, type[nn.Module]] = {1: nn.Linear, 2: SequenceConv, 3: nn.Conv2d}  # by the axes of one example


class SyntheticGradientProp(SyntheticGradient):
    """SG + prop: g_k = S(h_k[, y]) + ∂/∂h_k ‖S(h_k[, y]) − t_k‖², so that the network also minimises the loss of S.

    The segments below then learn activations from which the gradient can be predicted. As the loss depends on t_k, the
    rule is backward locked.

    References
    ----------
    Czarnecki et al. (2017), Understanding synthetic gradients and decoupled neural interfaces.
    """

    formula = "S_k(h_k[, y]) + ∂/∂h_k ‖S_k(h_k[, y]) − t_k‖²"
    reference = "Czarnecki et al. (2017), Understanding synthetic gradients"
    regresses = False  # g_k is not S alone

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, generator=generator, **options)
        self.needs = self.needs | {"target"}

    def gradient(self, signals: Signals) -> Tensor:
        """Return S(h[, y]) plus the gradient in h of its squared distance from t."""
        assert signals.target is not None
        with torch.enable_grad():
            h = signals.activation.detach().requires_grad_()
            estimate = self.traced(replace(signals, activation=h))
            (slope,) = torch.autograd.grad((estimate - signals.target).square().sum(), h)
        return estimate.detach() + slope

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the mean over examples of ‖S(h[, y]) − t‖², shape (*lead)."""
        return super().loss(super().gradient(signals), signals)


@dataclass(frozen=True, kw_only=True)
class BPLambdaOptions(SyntheticGradientOptions):
    """Options of the module S, and λ."""

    lam: float = setting(0.5, help="weight λ of the target, from 0 to 1", lowest=0, highest=1)


class BPLambda(SyntheticGradient):
    """BP(λ): g_k = λ t_k + (1 − λ) S(h_k[, y]), where S learns like a synthetic gradient.

    t_k is the pull-back of the gradient chosen at the boundary above. λ = 1 is backprop, λ = 0 a synthetic gradient.

    References
    ----------
    Jaderberg et al. (2017), Decoupled neural interfaces using synthetic gradients.
    """

    formula = "λ t_k + (1 − λ) S_k(h_k[, y])"
    Options = BPLambdaOptions
    regresses = False  # g_k is not S alone

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, generator=generator, **options)
        if self.options.lam > 0:
            self.needs = self.needs | {"target"}

    def gradient(self, signals: Signals) -> Tensor:
        """Return λ t + (1 − λ) S(h[, y])."""
        estimate, lam = super().gradient(signals), self.options.lam
        if lam == 0:
            return estimate
        assert signals.target is not None
        return lam * signals.target + (1 - lam) * estimate.detach()

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the mean over examples of ‖S(h[, y]) − t‖², shape (*lead)."""
        return super().loss(super().gradient(signals), signals)


class _SquaredResidual(torch.autograd.Function):
    """The mean over examples of ‖r‖² for r = h Wᵀ + b + y V − t; ∂W = 2/N rᵀ h, ∂b = 2/N Σ r, ∂V = 2/N yᵀ r."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, vectors: Tensor | None, r: Tensor, h: Tensor, labels: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(r, h, vectors, labels)
        return torch.linalg.vector_norm(r, dim=(-2, -1)).square() / r.shape[-2]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        r, h, vectors, labels = ctx.saved_tensors
        scale = (slope * (2 / r.shape[-2]))[..., None, None]  # (*lead, 1, 1)
        to_weight = (r.mT @ h).mul_(scale)
        if vectors is None:
            return to_weight, r.sum(dim=-2).mul_(scale.squeeze(-1)), None, None, None, None
        to_vectors = sum_by_label(r, labels, vectors.shape[-2]).mul_(scale)
        is_partition = not labels.is_floating_point()  # every example has one class
        to_bias = to_vectors.sum(dim=-2) if is_partition else r.sum(dim=-2).mul_(scale.squeeze(-1))
        return to_weight, to_bias, to_vectors, None, None, None
