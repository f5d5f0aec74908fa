"""Chains of segments: the networks that learning rules train."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

__all__ = ["Apply", "Chain", "Readout", "ResidualBlock", "Segment"]

Apply = Callable[[nn.Module, Tensor], Tensor]  # applies an affine map to its input


def apply_as_is(affine: nn.Module, X: Tensor) -> Tensor:
    """Return affine(X)."""
    return affine(X)


class Chain(nn.Module):
    """A chain of segments f_1 … f_K: hidden segments, then one output segment that returns logits.

    Boundary k lies between segment k and segment k + 1, for k = 1 … K - 1. The activation h_k that crosses it is the
    output of the submodule ``hidden.k``, counted from 1 as in the literature. A chain knows nothing of the rule that
    trains it.

    Parameters
    ----------
    hidden : sequence of nn.Module
        f_1 … f_{K-1}; each maps (N, *shape_{k-1}) to (N, *shape_k).
    output : nn.Module
        f_K; maps (N, *shape_{K-1}) to logits (N, n_outputs).
    shapes : sequence of int or tuple of int
        Shape of one example at each boundary, h_1 … h_{K-1}: a width, or (channels, height, width).
    input_shape : tuple of int, optional
        Shape to which each row of the input is unflattened before f_1. By default rows are not reshaped.
    """

    stacks_by_parts = True  # see stack

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
    """One affine map with its normalisation, nonlinearity and pooling: the layers between two boundaries.

    A learning rule may replace the backward pass of affine maps. It then passes ``apply``, which the segment calls for
    each of its affine maps in place of ``affine(X)``.
    """

    stacks_by_parts = True  # see stack

    def __init__(
        self, affine: nn.Module, norm: nn.Module, activation: nn.Module, pool: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.affine, self.norm, self.activation, self.pool = affine, norm, activation, pool or nn.Identity()

    def forward(self, X: Tensor, apply: Apply = apply_as_is) -> Tensor:
        """Return pool(activation(norm(affine(X))))."""
        return self.pool(self.activation(self.norm(apply(self.affine, X))))


class ResidualBlock(nn.Module):
    """Two affine maps with a skip connection: pool(activation(norm(affine(activation(norm(affine(X))))) + X))).

    References
    ----------
    He, Zhang, Ren, Sun (2016), Deep residual learning for image recognition, figure 2.
    """

    stacks_by_parts = True  # see stack

    def __init__(self, first: Segment, affine: nn.Module, norm: nn.Module, activation: nn.Module, pool: nn.Module):
        super().__init__()
        self.first, self.affine, self.norm, self.activation, self.pool = first, affine, norm, activation, pool

    def forward(self, X: Tensor, apply: Apply = apply_as_is) -> Tensor:
        """Return the output of the block, with as many channels as X."""
        residual = self.norm(apply(self.affine, self.first(X, apply)))
        return self.pool(self.activation(X + residual))


class Readout(nn.Module):
    """The output segment of a convolutional network: pooling, flattening and one linear map."""

    stacks_by_parts = True  # see stack

    def __init__(self, pool: nn.Module, affine: nn.Module) -> None:
        super().__init__()
        self.pool, self.affine = pool, affine

    def forward(self, X: Tensor, apply: Apply = apply_as_is) -> Tensor:
        """Return logits (N, n_outputs) for feature maps X (N, channels, height, width)."""
        return apply(self.affine, self.pool(X).flatten(-3))
