"""Networks as chains of segments: a Chain knows its boundaries, not the rule that it learns by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "NORMS", "Chain", "Segment", "mlp"]


class Chain(nn.Module):
    """A chain of segments f_1 … f_K: hidden segments, then one output segment that returns logits.

    Boundary k lies between segment k and segment k + 1, for k = 1 … K - 1. The activation h_k that crosses it is the
    output of the submodule ``hidden.k``, counted from 1 as in the literature.

    Parameters
    ----------
    hidden : sequence of nn.Module
        f_1 … f_{K-1}; each maps (N, d_{k-1}) to (N, d_k).
    output : nn.Module
        f_K; maps (N, d_{K-1}) to logits (N, n_classes).
    widths : sequence of int
        d_1 … d_{K-1}, the width of each hidden segment's output.
    """

    def __init__(self, hidden: Sequence[nn.Module], output: nn.Module, widths: Sequence[int]) -> None:
        super().__init__()
        self.hidden = nn.ModuleDict({str(k): segment for k, segment in enumerate(hidden, start=1)})
        self.output = output
        self.widths = tuple(widths)

    @property
    def segments(self) -> tuple[nn.Module, ...]:
        """The segments f_1 … f_K in the order in which a batch passes through them."""
        return (*self.hidden.values(), self.output)

    @property
    def boundaries(self) -> range:
        """The boundaries 1 … K - 1."""
        return range(1, len(self.hidden) + 1)

    def forward(self, X: Tensor) -> Tensor:
        """Return logits (N, n_classes) for inputs X (N, n_features)."""
        for segment in self.segments:
            X = segment(X)
        return X


class Segment(nn.Module):
    """One affine map, its normalisation and its nonlinearity: what lies between two boundaries."""

    def __init__(self, affine: nn.Module, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.affine, self.norm, self.activation = affine, norm, activation

    def forward(self, X: Tensor) -> Tensor:
        """Return activation(norm(affine(X)))."""
        return self.activation(self.norm(self.affine(X)))


def mlp(
    n_features: int,
    n_classes: int,
    *,
    depth: int = 20,
    width: int = 128,
    norm: str = "batch",
    activation: str = "relu",
    generator: torch.Generator,
) -> Chain:
    """Return a multi-layer perceptron as a chain of ``depth`` hidden segments and a linear output segment.

    Hidden weights are drawn from N(0, gain² / fan_in) with the gain of the activation (He et al. 2015); the output
    weights from N(0, 1 / fan_in). Biases start at zero; under batch norm the affine maps have none, as its shift
    makes them redundant.

    Parameters
    ----------
    n_features, n_classes : int
        Input width and number of logits.
    depth : int, default 20
        Number of hidden segments, 1 or more.
    width : int, default 128
        Units in each hidden segment.
    norm : str, default "batch"
        A key of ``NORMS``.
    activation : str, default "relu"
        A key of ``ACTIVATIONS``.
    generator : torch.Generator
        Source of the initial weights.

    Returns
    -------
    Chain
        With submodules ``hidden.1`` … ``hidden.<depth>`` and ``output``.

    References
    ----------
    He, Zhang, Ren, Sun (2015), Delving deep into rectifiers, equation 10.

    Examples
    --------
    >>> import torch
    >>> net = mlp(64, 10, depth=3, width=16, generator=torch.Generator().manual_seed(0))
    >>> list(net.boundaries), net(torch.zeros(5, 64)).shape
    ([1, 2, 3], torch.Size([5, 10]))
    """
    make_activation, gain = ACTIVATIONS[activation]
    make_norm = NORMS[norm]
    fan_ins = [n_features, *[width] * (depth - 1)]
    hidden = [
        Segment(_affine(fan_in, width, gain, norm != "batch", generator), make_norm(width), make_activation())
        for fan_in in fan_ins
    ]
    return Chain(hidden, _affine(width, n_classes, 1.0, True, generator), widths=[width] * depth)


def _affine(fan_in: int, fan_out: int, gain: float, bias: bool, generator: torch.Generator) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out, bias=bias)  # draws nothing from the global generator
    with torch.no_grad():
        layer.weight.normal_(0.0, gain / sqrt(fan_in), generator=generator)
        if bias:
            layer.bias.zero_()
    return layer


ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "relu": (nn.ReLU, sqrt(2.0)),
    "tanh": (nn.Tanh, 5.0 / 3.0),
    "sigmoid": (nn.Sigmoid, 1.0),
    "linear": (nn.Identity, 1.0),
}

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
    "none": lambda width: nn.Identity(),
}
