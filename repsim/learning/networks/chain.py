"""Chains of segments: the networks that learning rules train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import torch
from torch import Tensor, nn

from repsim.learning.networks.cutting import check_equal_outputs, cut, join, measure

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
    shapes : sequence of int or tuple of int, optional
        Shape of one example at each boundary, h_1 … h_{K-1}: a width, (positions, width) of a sequence, or (channels,
        height, width). By default it is unknown until ``measure`` was called.
    input_shape : tuple of int, optional
        Shape to which each row of the input is unflattened before f_1. By default rows are not reshaped.
    n_features : int, optional
        Number of values of one example of the input. By default it follows from ``input_shape``, or is unknown until
        ``measure`` was called.
    """

    stacks_by_parts = True  # see stack
    is_own = False  # True if the user wrote the blocks, which may draw random numbers and may not be stackable

    def __init__(
        self,
        hidden: Sequence[nn.Module],
        output: nn.Module,
        shapes: Sequence[int | tuple[int, ...]] | None = None,
        input_shape: tuple[int, ...] | None = None,
        n_features: int | None = None,
    ) -> None:
        super().__init__()
        self._n_features = prod(input_shape) if n_features is None and input_shape is not None else n_features
        self.input = nn.Identity() if input_shape is None else nn.Unflatten(-1, input_shape)
        self.hidden = nn.ModuleDict({str(k): segment for k, segment in enumerate(hidden, start=1)})
        self.output = output
        self._shapes = None if shapes is None else tuple(_as_tuple(shape) for shape in shapes)
        self._n_outputs: int | None = None

    @classmethod
    def of(
        cls,
        module: nn.Module | Sequence[nn.Module | tuple[str, nn.Module]] | Mapping[str, nn.Module],
        boundaries: Sequence[str] | None = None,
        *,
        example: Tensor | None = None,
        input_shape: tuple[int, ...] | None = None,
    ) -> Chain:
        """Return a module whose children run in sequence as a chain of segments, cut after named children.

        The chain holds the module's own blocks, with their weights; a segment of several blocks runs them in sequence.

        Parameters
        ----------
        module : nn.Module, sequence or mapping
            An ``nn.Sequential``; a module whose ``forward`` runs its children one after the other; or a list, or a
            dict, of blocks (a list may hold pairs of a name and a block). Children that are an ``nn.ModuleList`` are
            opened: their blocks are named ``blocks.0``, ``blocks.1``, and so are those of an ``nn.Sequential`` that a
            boundary lies in.
        boundaries : sequence of str, optional
            Names of the children after which a boundary lies. By default there is one before each child with weight
            matrices (parameters of two or more axes), except the first, so that norms, activations and pooling belong
            to the weights before them.
        example : Tensor, shape (N, ...), optional
            Two or more inputs, with which the shapes at the boundaries are found, and the chain is compared with the
            module in evaluation and in training mode. Copies run, so nothing of the module changes. It is needed for
            modules other than ``nn.Sequential`` and collections of blocks; for these the shapes are unknown without it,
            until ``measure`` was called.
        input_shape : tuple of int, optional
            Shape to which each row of the input is unflattened; ``example`` then has flattened rows too.

        Returns
        -------
        Chain

        Raises
        ------
        ValueError
            If a boundary names no child or the last one; if two segments share a parameter or a buffer; if the module
            does not compute the sequence of its children; or if a block cannot run or returns something other than one
            tensor with one row per example.

        Examples
        --------
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> Chain.of(net, example=torch.zeros(2, 6)).shapes
        ((8,), (8,))
        >>> Chain.of(net, ["3"], example=torch.zeros(2, 6)).shapes
        ((8,),)
        """
        if isinstance(module, Chain):
            raise ValueError("The module is a Chain already; use it as it is.")
        segments = cut(module, boundaries)
        is_plain = not isinstance(module, nn.Module) or type(module).forward is nn.Sequential.forward
        if example is None and not is_plain:
            raise ValueError(
                f"{type(module).__name__} may compute more than its children in sequence, which is checked with an "
                "example. Give example=X[:2]."
            )
        *hidden, output = (join(blocks) for blocks in segments)
        chain = cls(hidden, output, None, input_shape)
        chain.is_own = True
        if example is not None:
            rows = _at_least_two(chain.input(example))
            chain._shapes, chain._n_outputs = _frozen(measure(segments, rows))
            chain._n_features = rows[0].numel()
            if isinstance(module, nn.Module):
                check_equal_outputs(module, segments, rows)
        return chain

    def measure(self, example: Tensor) -> None:
        """Find the shapes at the boundaries by a forward pass of copies on two or more inputs.

        Raises
        ------
        ValueError
            If a segment cannot run or does not return one tensor with one row per example, or if the shapes are known
            and differ.
        """
        parts = [{name: segment} for name, segment in zip(self._names(), self.segments, strict=True)]
        rows = _at_least_two(self.input(example))
        shapes, self._n_outputs = _frozen(measure(parts, rows))
        if self._shapes not in (None, shapes):
            raise ValueError(f"The shapes at the boundaries are {shapes}, but the chain was given {self._shapes}.")
        self._shapes, self._n_features, self.is_own = shapes, rows[0].numel(), True

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of one example at each boundary."""
        if self._shapes is None:
            raise ValueError("The shapes at the boundaries are unknown; give Chain.of an example, such as X[:2].")
        return self._shapes

    @property
    def n_outputs(self) -> int:
        """The number of outputs per example of a chain that was measured."""
        if self._n_outputs is None:
            raise ValueError("The number of outputs is unknown; give Chain.of an example, such as X[:2].")
        return self._n_outputs

    @property
    def n_features(self) -> int | None:
        """The number of values of one example of the input, or None if it is unknown."""
        return self._n_features

    @property
    def segments(self) -> tuple[nn.Module, ...]:
        """The segments f_1 … f_K in the order in which a batch passes through them."""
        return (*self.hidden.values(), self.output)

    def learning_below(self, k: int) -> nn.Module:
        """Return the module whose parameters the gradient at boundary k teaches first: segment k."""
        return self.segments[k - 1]

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

    def _names(self) -> list[str]:
        return [*(f"hidden.{k}" for k in self.hidden), "output"]


def _as_tuple(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def _frozen(measured: tuple[list[tuple[int, ...]], int]) -> tuple[tuple[tuple[int, ...], ...], int]:
    return tuple(measured[0]), measured[1]


def _at_least_two(X: Tensor) -> Tensor:
    """Return examples, the first one twice if it is alone, as batch norm needs two in training mode."""
    return X if len(X) > 1 else torch.cat([X, X])


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
