"""Networks by name: multi-layer perceptrons, convolutional and residual networks, and transformers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import prod, sqrt
from typing import Any, NamedTuple

import torch
from torch import nn

from repsim.learning.checks import check_choice, check_finite, check_integer
from repsim.learning.networks.chain import Chain, Readout, ResidualBlock, Segment
from repsim.learning.networks.initial_weights import draw_weights
from repsim.learning.networks.transformer_blocks import (
    Attention,
    FeedForward,
    PatchEmbedding,
    Positionwise,
    SequenceReadout,
    TransformerBlock,
    into_sequence,
)
from repsim.registration import add_installed
from repsim.registry_kinds import KINDS

__all__ = ["ACTIVATIONS", "NETWORKS", "NORMS", "Activation", "Norm", "conv_net", "mlp", "residual_net", "transformer"]


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
    weights from N(0, 1 / fan_in). With batch norm the affine maps have no bias, because the shift of the norm makes it
    redundant.

    With batch norm the gradients of relu networks grow by a factor of about 1.2 per segment in the backward pass (Yang
    et al. 2019), so that networks of fifty segments hardly train. With a shift of 1 most units are active at first,
    gradients grow by a factor of 1.06 per segment, and such networks train.

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
        Initial shift of the norms or, without a norm, initial bias of the hidden segments. All other biases start at
        zero.
    generator : torch.Generator
        Source of the initial weights.

    Returns
    -------
    Chain
        With submodules ``hidden.1`` … ``hidden.<depth>`` and ``output``.

    Raises
    ------
    ValueError
        If the norm or the activation is unknown, the depth is below 1, or the shift is not finite.

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
    layers = _Layers(depth, norm, activation, shift, generator)
    fan_ins = [n_features, *[width] * (depth - 1)]
    hidden = [Segment(layers.linear(fan_in, width), layers.norm(width), layers.activation()) for fan_in in fan_ins]
    return Chain(hidden, _readout(width, n_outputs, generator), shapes=[width] * depth, n_features=n_features)


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

    Convolutions are 3×3 and preserve the size of the map. Max pooling over 2×2 halves it in each segment whose map is 8
    or more pixels wide. Weights are drawn as in ``mlp``; maps are flattened before the output segment.

    Parameters
    ----------
    shape : tuple of int
        (channels, height, width) of an image. Rows of the input may be flattened images.
    n_outputs, depth, norm, activation, shift, generator
        As in ``mlp``.
    width : int, default 16
        Channels of each hidden segment.

    Raises
    ------
    ValueError
        If the shape is not (channels, height, width), or for the reasons given in ``mlp``.

    Examples
    --------
    >>> import torch
    >>> net = conv_net((1, 28, 28), 10, depth=2, width=4, generator=torch.Generator().manual_seed(0))
    >>> net.shapes, net(torch.zeros(5, 784)).shape
    (((4, 14, 14), (4, 7, 7)), torch.Size([5, 10]))
    """
    layers = _Layers(depth, norm, activation, shift, generator)
    channels, *size = _image(shape)
    hidden, shapes = [], []
    for fan_in in [channels, *[width] * (depth - 1)]:
        pool, size = _halve(nn.MaxPool2d, size)
        hidden.append(Segment(layers.conv(fan_in, width), layers.norm2d(width), layers.activation(), pool))
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
    """Return a residual network: a conv segment, ``depth`` - 1 residual blocks, global pooling and a linear output.

    Every block holds two 3×3 convolutions. Average pooling over 2×2 halves the map in each segment whose map is 8 or
    more pixels wide; the output segment sees the mean over the map.

    Parameters
    ----------
    shape, n_outputs, depth, width, norm, activation, shift, generator
        As in ``conv_net``, which raises the same errors.

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
    layers = _Layers(depth, norm, activation, shift, generator)
    channels, *size = _image(shape)
    pool, size = _halve(nn.AvgPool2d, size)
    hidden: list[nn.Module] = [Segment(layers.conv(channels, width), layers.norm2d(width), layers.activation(), pool)]
    shapes = [(width, *size)]
    for _ in range(depth - 1):
        pool, size = _halve(nn.AvgPool2d, size)
        first = Segment(layers.conv(width, width), layers.norm2d(width), layers.activation())
        second = layers.conv(width, width)
        hidden.append(ResidualBlock(first, second, layers.norm2d(width), layers.activation(), pool))
        shapes.append((width, *size))
    output = Readout(nn.AdaptiveAvgPool2d(1), _readout(width, n_outputs, generator))
    return Chain(hidden, output, shapes, input_shape=tuple(shape))


def transformer(
    shape: Sequence[int],
    n_outputs: int,
    *,
    depth: int = 4,
    width: int = 64,
    heads: int = 4,
    patch: int | None = None,
    generator: torch.Generator,
    **layers: Any,
) -> Chain:
    """Return a transformer encoder: ``depth`` blocks on a sequence, the mean over positions, and a linear output.

    An image is cut into square patches, each of which is one position, row by row. Every position is mapped to
    ``width`` units, to which a learned vector of the position is added; this embedding and the first block are segment
    1, each further block is a segment. A block is h + attention(norm(h)), then h + feed-forward(norm(h)), where the
    feed-forward layer has 4 · ``width`` units. Without masks: every position sees every other.

    Weights are drawn from N(0, 1 / fan_in), before the activation with its gain; those of the last map of each branch,
    which is added to h, are divided by √(2 · depth), so that h does not grow with the depth.

    Parameters
    ----------
    shape : sequence of int
        (channels, height, width) of an image, or (positions, features) of a sequence. Rows of the input may be
        flattened.
    n_outputs : int
        Number of logits.
    depth : int, default 4
        Number of blocks, 1 or more.
    width : int, default 64
        Units at each position, a multiple of ``heads``.
    heads : int, default 4
        Number of attention heads.
    patch : int, optional
        Side length of a patch in pixels, which divides height and width of the image; by default a quarter of its
        height. Sequences have none.
    generator : torch.Generator
        Source of the initial weights.
    **layers
        ``norm`` (default "layer"), ``activation`` and ``shift``, as in ``mlp``. Batch norm is over examples and
        positions.

    Returns
    -------
    Chain
        With sequences (positions, width) at its boundaries.

    Raises
    ------
    ValueError
        If the shape is that of flat data, if patches do not divide the image, if heads do not divide the width, or for
        the reasons given in ``mlp``.

    References
    ----------
    Vaswani et al. (2017), Attention is all you need.
    Dosovitskiy et al. (2021), An image is worth 16x16 words: transformers for image recognition at scale.

    Examples
    --------
    >>> import torch
    >>> net = transformer((1, 8, 8), 10, depth=2, width=16, generator=torch.Generator().manual_seed(0))
    >>> net.shapes, net(torch.zeros(5, 64)).shape
    (((16, 16), (16, 16)), torch.Size([5, 10]))
    """
    make = _Layers(depth, generator=generator, **{"norm": "layer", "activation": "relu", "shift": 0.0, **layers})
    check_integer("heads", heads, 1)
    if width % heads:
        raise ValueError(f"width is {width} and heads is {heads}; expected a width that is a multiple of heads.")
    cut, n_positions, n_features = into_sequence(tuple(shape), patch)
    embed = PatchEmbedding(_readout(n_features, width, generator), n_positions, generator)
    first, *others = [_transformer_block(make, width, heads, 1 / sqrt(2 * depth), generator) for _ in range(depth)]
    output = SequenceReadout(Positionwise(make.norm(width)), _readout(width, n_outputs, generator))
    hidden = [nn.Sequential(OrderedDict(patches=cut, embedding=embed, block=first)), *others]
    return Chain(hidden, output, [(n_positions, width)] * depth, input_shape=tuple(shape))


def _transformer_block(
    make: _Layers, width: int, heads: int, scale: float, generator: torch.Generator
) -> TransformerBlock:
    """Return a block, with ``scale`` times the usual initial weights in the last map of each of its branches."""
    inner = 4 * width  # Vaswani et al. (2017), section 3.3
    merge, contract = (_readout(fan_in, width, generator, scale) for fan_in in (width, inner))
    return TransformerBlock(
        Positionwise(make.norm(width)),
        Attention(_readout(width, 3 * width, generator), merge, heads),
        Positionwise(make.norm(width)),
        FeedForward(make.linear(width, inner, has_bias=True), make.activation(), contract),
    )


class _Layers:
    """Factory of the layers of one network's hidden segments."""

    def __init__(self, depth: int, norm: str, activation: str, shift: float, generator: torch.Generator) -> None:
        check_choice("norm", norm, NORMS)
        check_choice("activation", activation, ACTIVATIONS)
        check_finite("shift", shift)
        check_integer("depth", depth, 1)
        self._norm, self._shift, self._generator = NORMS[norm], shift, generator
        self.activation, self._gain = ACTIVATIONS[activation]
        self._bias = 0.0 if self._norm.has_shift else shift

    def norm(self, width: int) -> nn.Module:
        return self._shifted(self._norm.of_vectors(width))

    def norm2d(self, channels: int) -> nn.Module:
        return self._shifted(self._norm.of_maps(channels))

    def linear(self, fan_in: int, fan_out: int, *, has_bias: bool = False) -> nn.Linear:
        layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out, bias=has_bias or not self._norm.replaces_bias)
        return draw_weights(layer, self._gain / sqrt(fan_in), self._generator, self._bias)

    def conv(self, fan_in: int, fan_out: int) -> nn.Conv2d:
        layer = nn.utils.skip_init(nn.Conv2d, fan_in, fan_out, 3, padding=1, bias=not self._norm.replaces_bias)
        return draw_weights(layer, self._gain / sqrt(9 * fan_in), self._generator, self._bias)

    def _shifted(self, norm: nn.Module) -> nn.Module:
        if self._norm.has_shift:
            norm.get_parameter("bias").data.fill_(self._shift)
        return norm


def _readout(fan_in: int, fan_out: int, generator: torch.Generator, scale: float = 1.0) -> nn.Linear:
    return draw_weights(nn.utils.skip_init(nn.Linear, fan_in, fan_out), scale / sqrt(fan_in), generator)


def _image(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 3:
        raise ValueError(
            f"A convolutional network needs images, of shape (channels, height, width); these examples have shape "
            f"{tuple(shape)}. Use network 'mlp', or give X as (n, height, width)."
        )
    return shape


def _halve(pool: type[nn.MaxPool2d] | type[nn.AvgPool2d], size: list[int]) -> tuple[nn.Module, list[int]]:
    return (pool(2), [side // 2 for side in size]) if min(size) >= 8 else (nn.Identity(), size)


NETWORKS: dict[str, Callable[..., Chain]] = {  # from the shape of an example, n_outputs and the settings of ``mlp``
    "mlp": lambda shape, *sizes, **settings: mlp(prod(shape), *sizes, **settings),
    "conv": conv_net,
    "residual": residual_net,
    "transformer": transformer,
}


class Activation(NamedTuple):
    """A nonlinearity, and the gain of the initial weights of the affine map before it."""

    module: Callable[[], nn.Module]
    gain: float


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(nn.ReLU, sqrt(2.0)),
    "tanh": Activation(nn.Tanh, 5.0 / 3.0),
    "sigmoid": Activation(nn.Sigmoid, 1.0),
    "linear": Activation(nn.Identity, 1.0),
}


class Norm(NamedTuple):
    """A normalisation of vectors (of a width) and of feature maps (of a number of channels)."""

    of_vectors: Callable[[int], nn.Module]
    of_maps: Callable[[int], nn.Module]
    has_shift: bool = True  # a parameter named bias
    replaces_bias: bool = False  # its shift makes the bias of the affine map before it redundant


NORMS: dict[str, Norm] = {
    "batch": Norm(nn.BatchNorm1d, nn.BatchNorm2d, replaces_bias=True),
    "layer": Norm(nn.LayerNorm, lambda channels: nn.GroupNorm(1, channels)),
    "none": Norm(lambda width: nn.Identity(), lambda channels: nn.Identity(), has_shift=False),
}

for _kind in ("networks", "norms", "activations"):
    add_installed(KINDS[_kind])
