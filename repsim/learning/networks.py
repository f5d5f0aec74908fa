"""Networks as chains of segments: a Chain knows its boundaries, not the rule that it learns by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod, sqrt
from typing import TypeVar

import torch
from torch import Tensor, nn

from repsim.learning.checks import check_choice, check_finite, check_integer

__all__ = [
    "ACTIVATIONS",
    "NETWORKS",
    "NORMS",
    "Apply",
    "Chain",
    "Readout",
    "ResidualBlock",
    "Segment",
    "conv_net",
    "mlp",
    "residual_net",
]

Apply = Callable[[nn.Module, Tensor], Tensor]
_Affine = TypeVar("_Affine", nn.Linear, nn.Conv2d)


def call(affine: nn.Module, X: Tensor) -> Tensor:
    """Apply an affine map as it is."""
    return affine(X)


class Chain(nn.Module):
    """A chain of segments f_1 … f_K: hidden segments, then one output segment that returns logits.

    Boundary k lies between segment k and segment k + 1, for k = 1 … K - 1. The activation h_k that crosses it is the
    output of the submodule ``hidden.k``, counted from 1 as in the literature.

    Parameters
    ----------
    hidden : sequence of nn.Module
        f_1 … f_{K-1}; each maps (N, *shape_{k-1}) to (N, *shape_k).
    output : nn.Module
        f_K; maps (N, *shape_{K-1}) to logits (N, n_outputs).
    shapes : sequence of int or tuple of int
        The shape of one example's h_1 … h_{K-1}: a width, or (channels, height, width).
    input_shape : tuple of int, optional
        What one row of the input is unflattened to before f_1; rows stay as they are by default.
    """

    stacks_by_parts = True  # see stacking.stack

    def __init__(
        self,
        hidden: Sequence[nn.Module],
        output: nn.Module,
        shapes: Sequence[int | tuple[int, ...]],
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.input = nn.Identity() if input_shape is None else nn.Unflatten(-1, input_shape)
        self.hidden = nn.ModuleDict({str(k): segment for k, segment in enumerate(hidden, start=1)})
        self.output = output
        self.shapes = tuple((shape,) if isinstance(shape, int) else tuple(shape) for shape in shapes)

    @property
    def segments(self) -> tuple[nn.Module, ...]:
        """The segments f_1 … f_K in the order in which a batch passes through them."""
        return (*self.hidden.values(), self.output)

    @property
    def boundaries(self) -> range:
        """The boundaries 1 … K - 1."""
        return range(1, len(self.hidden) + 1)

    def check_boundary(self, k: int) -> None:
        """Raise ValueError unless there is a boundary k."""
        if k not in self.boundaries:
            raise ValueError(f"There is no boundary {k}; this network has boundaries 1 to {len(self.boundaries)}.")

    def forward(self, X: Tensor) -> Tensor:
        """Return logits (N, n_outputs) for inputs X (N, n_features)."""
        h = self.input(X)
        for segment in self.segments:
            h = segment(h)
        return h


class Segment(nn.Module):
    """One affine map, its normalisation, its nonlinearity and its pooling: what lies between two boundaries.

    A learning rule may ask for another way back through affine maps than their transpose. It then passes ``apply``,
    which every segment here uses for each affine map that it holds.
    """

    stacks_by_parts = True  # see stacking.stack

    def __init__(
        self, affine: nn.Module, norm: nn.Module, activation: nn.Module, pool: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.affine, self.norm, self.activation, self.pool = affine, norm, activation, pool or nn.Identity()

    def forward(self, X: Tensor, apply: Apply = call) -> Tensor:
        """Return pool(activation(norm(affine(X))))."""
        return self.pool(self.activation(self.norm(apply(self.affine, X))))


class ResidualBlock(nn.Module):
    """Two affine maps and a way around them: pool(activation(norm(affine(activation(norm(affine(X))))) + X))).

    References
    ----------
    He, Zhang, Ren, Sun (2016), Deep residual learning for image recognition, figure 2.
    """

    stacks_by_parts = True  # see stacking.stack

    def __init__(self, first: Segment, affine: nn.Module, norm: nn.Module, activation: nn.Module, pool: nn.Module):
        super().__init__()
        self.first, self.affine, self.norm, self.activation, self.pool = first, affine, norm, activation, pool

    def forward(self, X: Tensor, apply: Apply = call) -> Tensor:
        """Return the block's output; it has as many channels as X."""
        residual = self.norm(apply(self.affine, self.first(X, apply)))
        return self.pool(self.activation(X + residual))


class Readout(nn.Module):
    """The output segment of a network of maps: pooling, flattening and one linear map."""

    stacks_by_parts = True  # see stacking.stack

    def __init__(self, pool: nn.Module, affine: nn.Module) -> None:
        super().__init__()
        self.pool, self.affine = pool, affine

    def forward(self, X: Tensor, apply: Apply = call) -> Tensor:
        """Return logits (N, n_outputs) for maps X (N, channels, height, width)."""
        return apply(self.affine, self.pool(X).flatten(-3))


def mlp(
    n_features: int,
    n_outputs: int,
    *,
    depth: int = 20,
    width: int = 128,
    norm: str = "batch",
    activation: str = "relu",
    shift: float = 0.0,
    generator: torch.Generator,
) -> Chain:
    """Return a multi-layer perceptron as a chain of ``depth`` hidden segments and a linear output segment.

    Hidden weights are drawn from N(0, gain² / fan_in) with the gain of the activation (He et al. 2015); the output
    weights from N(0, 1 / fan_in). Under batch norm the affine maps have no bias, as its shift makes one redundant.

    Under batch norm the gradients of relu networks grow by a factor of about 1.2 a segment on the way back (Yang et al.
    2019), so that networks of fifty segments hardly train. With a shift of 1 most units pass what they get at first,
    gradients grow by 1.06, and they train.

    Parameters
    ----------
    n_features, n_outputs : int
        Input width and number of logits.
    depth : int, default 20
        Number of hidden segments, 1 or more.
    width : int, default 128
        Units in each hidden segment.
    norm : str, default "batch"
        A key of ``NORMS``.
    activation : str, default "relu"
        A key of ``ACTIVATIONS``.
    shift : float, default 0
        Where the shifts of the norms start or, without a norm, the biases of the hidden segments. All other biases
        start at zero.
    generator : torch.Generator
        Source of the initial weights.

    Returns
    -------
    Chain
        With submodules ``hidden.1`` … ``hidden.<depth>`` and ``output``.

    Raises
    ------
    ValueError
        If the norm or the activation is unknown, the depth below 1, or the shift not finite.

    References
    ----------
    He, Zhang, Ren, Sun (2015), Delving deep into rectifiers, equation 10.
    Yang, Pennington, Rao, Sohl-Dickstein, Schoenholz (2019), A mean field theory of batch normalization.

    Examples
    --------
    >>> import torch
    >>> net = mlp(64, 10, depth=3, width=16, generator=torch.Generator().manual_seed(0))
    >>> list(net.boundaries), net(torch.zeros(5, 64)).shape
    ([1, 2, 3], torch.Size([5, 10]))
    """
    parts = _Parts(depth, norm, activation, shift, generator)
    fan_ins = [n_features, *[width] * (depth - 1)]
    hidden = [Segment(parts.linear(fan_in, width), parts.norm(width), parts.activation()) for fan_in in fan_ins]
    return Chain(hidden, _readout(width, n_outputs, generator), shapes=[width] * depth)


def conv_net(
    shape: tuple[int, int, int],
    n_outputs: int,
    *,
    depth: int = 4,
    width: int = 16,
    norm: str = "batch",
    activation: str = "relu",
    shift: float = 0.0,
    generator: torch.Generator,
) -> Chain:
    """Return a convolutional network: ``depth`` segments of conv, norm, activation and pooling, and a linear output.

    Convolutions are 3×3 and keep the size of the map; maxima over 2×2 halve it in each segment whose map is 8 wide or
    more. Weights are drawn as in ``mlp``; maps are flattened before the output.

    Parameters
    ----------
    shape : tuple of int
        (channels, height, width) of an image. Rows of the input may be flat.
    n_outputs, depth, norm, activation, shift, generator
        As in ``mlp``.
    width : int, default 16
        Channels of each hidden segment.

    Raises
    ------
    ValueError
        If the shape is not that of an image, or as in ``mlp``.

    Examples
    --------
    >>> import torch
    >>> net = conv_net((1, 28, 28), 10, depth=2, width=4, generator=torch.Generator().manual_seed(0))
    >>> net.shapes, net(torch.zeros(5, 784)).shape
    (((4, 14, 14), (4, 7, 7)), torch.Size([5, 10]))
    """
    parts = _Parts(depth, norm, activation, shift, generator)
    channels, *size = _image(shape)
    hidden, shapes = [], []
    for fan_in in [channels, *[width] * (depth - 1)]:
        pool, size = _halve(nn.MaxPool2d, size)
        hidden.append(Segment(parts.conv(fan_in, width), parts.norm2d(width), parts.activation(), pool))
        shapes.append((width, *size))
    output = Readout(nn.Identity(), _readout(width * prod(size), n_outputs, generator))
    return Chain(hidden, output, shapes, input_shape=tuple(shape))


def residual_net(
    shape: tuple[int, int, int],
    n_outputs: int,
    *,
    depth: int = 4,
    width: int = 16,
    norm: str = "batch",
    activation: str = "relu",
    shift: float = 0.0,
    generator: torch.Generator,
) -> Chain:
    """Return a residual network: a conv segment, ``depth`` - 1 residual blocks, the mean over the map, a linear output.

    Every block holds two 3×3 convolutions; means over 2×2 halve the map after each segment whose map is 8 wide or more.

    Parameters
    ----------
    shape, n_outputs, depth, width, norm, activation, shift, generator
        As in ``conv_net``, with its errors.

    References
    ----------
    He, Zhang, Ren, Sun (2016), Deep residual learning for image recognition.

    Examples
    --------
    >>> import torch
    >>> net = residual_net((1, 28, 28), 10, depth=2, width=4, generator=torch.Generator().manual_seed(0))
    >>> net.shapes, net(torch.zeros(5, 784)).shape
    (((4, 14, 14), (4, 7, 7)), torch.Size([5, 10]))
    """
    parts = _Parts(depth, norm, activation, shift, generator)
    channels, *size = _image(shape)
    pool, size = _halve(nn.AvgPool2d, size)
    hidden: list[nn.Module] = [Segment(parts.conv(channels, width), parts.norm2d(width), parts.activation(), pool)]
    shapes = [(width, *size)]
    for _ in range(depth - 1):
        pool, size = _halve(nn.AvgPool2d, size)
        first = Segment(parts.conv(width, width), parts.norm2d(width), parts.activation())
        second = parts.conv(width, width)
        hidden.append(ResidualBlock(first, second, parts.norm2d(width), parts.activation(), pool))
        shapes.append((width, *size))
    output = Readout(nn.AdaptiveAvgPool2d(1), _readout(width, n_outputs, generator))
    return Chain(hidden, output, shapes, input_shape=tuple(shape))


class _Parts:
    """What the hidden segments of one network are made of."""

    def __init__(self, depth: int, norm: str, activation: str, shift: float, generator: torch.Generator) -> None:
        check_choice("norm", norm, NORMS)
        check_choice("activation", activation, ACTIVATIONS)
        check_finite("shift", shift)
        check_integer("depth", depth, 1)
        self._norms = NORMS[norm]
        self.activation, self._gain = ACTIVATIONS[activation]
        self._shift, self._bias = shift, 0.0 if norm != "none" else shift
        self._has_bias, self._generator = norm != "batch", generator

    def norm(self, width: int) -> nn.Module:
        return self._shifted(self._norms[0](width))

    def norm2d(self, channels: int) -> nn.Module:
        return self._shifted(self._norms[1](channels))

    def linear(self, fan_in: int, fan_out: int) -> nn.Linear:
        layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out, bias=self._has_bias)
        return _draw(layer, self._gain / sqrt(fan_in), self._generator, self._bias)

    def conv(self, fan_in: int, fan_out: int) -> nn.Conv2d:
        layer = nn.utils.skip_init(nn.Conv2d, fan_in, fan_out, 3, padding=1, bias=self._has_bias)
        return _draw(layer, self._gain / sqrt(9 * fan_in), self._generator, self._bias)

    def _shifted(self, norm: nn.Module) -> nn.Module:
        if not isinstance(norm, nn.Identity):
            norm.get_parameter("bias").data.fill_(self._shift)
        return norm


def _readout(fan_in: int, fan_out: int, generator: torch.Generator) -> nn.Linear:
    return _draw(nn.utils.skip_init(nn.Linear, fan_in, fan_out), 1.0 / sqrt(fan_in), generator)


@torch.no_grad()
def _draw(layer: _Affine, std: float, generator: torch.Generator, bias: float = 0.0) -> _Affine:
    """Fill a layer that was made without drawing from the global generator."""
    layer.weight.normal_(0.0, std, generator=generator)
    if layer.bias is not None:
        layer.bias.fill_(bias)
    return layer


def _image(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 3:
        raise ValueError(
            f"A convolutional network needs images, of shape (channels, height, width); these examples have shape "
            f"{tuple(shape)}. Use network 'mlp', or give X as (n, height, width)."
        )
    return shape


def _halve(pool: type[nn.MaxPool2d] | type[nn.AvgPool2d], size: list[int]) -> tuple[nn.Module, list[int]]:
    return (pool(2), [side // 2 for side in size]) if min(size) >= 8 else (nn.Identity(), size)


ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "relu": (nn.ReLU, sqrt(2.0)),
    "tanh": (nn.Tanh, 5.0 / 3.0),
    "sigmoid": (nn.Sigmoid, 1.0),
    "linear": (nn.Identity, 1.0),
}

NETWORKS: dict[str, Callable[..., Chain]] = {
    "mlp": lambda shape, *sizes, **settings: mlp(prod(shape), *sizes, **settings),
    "conv": conv_net,
    "residual": residual_net,
}

NORMS: dict[str, tuple[Callable[[int], nn.Module], Callable[[int], nn.Module]]] = {  # of vectors, of maps
    "batch": (nn.BatchNorm1d, nn.BatchNorm2d),
    "layer": (nn.LayerNorm, lambda channels: nn.GroupNorm(1, channels)),
    "none": (lambda width: nn.Identity(), lambda channels: nn.Identity()),
}
