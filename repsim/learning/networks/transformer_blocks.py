"""Parts of transformers: patches of images, embedding, attention, blocks and readout of sequences."""

from __future__ import annotations

from math import prod, sqrt

import torch
from torch import Tensor, nn

from repsim.learning.checks import check_integer
from repsim.learning.networks.chain import Apply, apply_as_is

__all__ = [
    "Attention",
    "FeedForward",
    "PatchEmbedding",
    "Positionwise",
    "SequenceReadout",
    "TransformerBlock",
    "into_sequence",
]

_POSITION_STD = 0.3  # of the initial vectors of the positions


def into_sequence(shape: tuple[int, ...], patch: int | None) -> tuple[nn.Module, int, int]:
    """Return the module that turns an example into a sequence, and the numbers of positions and features."""
    if len(shape) not in (2, 3):
        raise ValueError(
            "A transformer needs images, of shape (channels, height, width), or sequences, of shape (positions, "
            f"features); these examples have shape {shape}. Use network 'mlp', or give X as (n, height, width)."
        )
    if len(shape) == 2:
        if patch is not None:
            raise ValueError(
                f"patch is {patch}, but sequences of shape {shape} are not cut into patches; leave it out."
            )
        return nn.Identity(), *shape
    side = max(1, shape[1] // 4) if patch is None else patch
    check_integer("patch", side, 1)
    if shape[1] % side or shape[2] % side:
        which = ", a quarter of its height" if patch is None else ""
        raise ValueError(
            f"An image of {shape[1]} × {shape[2]} pixels cannot be cut into patches of {side} × {side}{which}; give a "
            "patch that divides height and width."
        )
    return Patches(side), prod(shape[1:]) // side**2, shape[0] * side**2


class Patches(nn.Module):
    """Square patches of images (..., channels, height, width), as sequences (..., positions, channels · side²)."""

    stacks_by_parts = True  # see stack

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, X: Tensor) -> Tensor:
        """Return the patches row by row, each with all pixels of its first channel first."""
        X = X.unflatten(-1, (-1, self.side)).unflatten(-3, (-1, self.side))  # (..., rows, side, columns, side)
        return X.movedim((-4, -2), (-5, -4)).flatten(-3).flatten(-3, -2)


class PatchEmbedding(nn.Module):
    """An affine map of each position, plus a learned vector of the position."""

    stacks_by_parts = True

    def __init__(self, linear: nn.Linear, n_positions: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear: nn.Module = linear
        drawn = torch.empty(n_positions, linear.out_features)
        self.position = nn.Parameter(drawn.normal_(0.0, _POSITION_STD, generator=generator))

    def forward(self, X: Tensor) -> Tensor:
        """Return sequences (..., N, positions, width) of sequences (..., N, positions, features)."""
        return self.linear(X) + self.position.unsqueeze(-3)


class Positionwise(nn.Module):
    """A norm of vectors applied to every position; batch norm counts positions as examples."""

    stacks_by_parts = True

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, X: Tensor) -> Tensor:
        """Return normalised sequences (..., N, positions, width)."""
        return self.norm(X.flatten(-3, -2)).unflatten(-2, X.shape[-3:-1])


class Attention(nn.Module):
    """Self-attention of several heads: softmax(q kᵀ / √d) v for q, k and v from one affine map, and one of the result.

    References
    ----------
    Vaswani et al. (2017), Attention is all you need, equation 1.
    """

    stacks_by_parts = True

    def __init__(self, to_qkv: nn.Module, merge: nn.Module, heads: int) -> None:
        super().__init__()
        self.to_qkv, self.merge, self.heads = to_qkv, merge, heads

    def forward(self, X: Tensor, apply: Apply = apply_as_is) -> Tensor:
        """Return sequences of the shape of X, (..., positions, width)."""
        qkv = apply(self.to_qkv, X).unflatten(-1, (3, self.heads, -1))  # (..., positions, 3, heads, d)
        q, k, v = (each.transpose(-3, -2) for each in qkv.unbind(-3))  # (..., heads, positions, d)
        weights = (q @ k.mT / sqrt(q.shape[-1])).softmax(dim=-1)
        return apply(self.merge, (weights @ v).transpose(-3, -2).flatten(-2))


class FeedForward(nn.Module):
    """Two affine maps of each position with a nonlinearity between them."""

    stacks_by_parts = True

    def __init__(self, affine: nn.Module, activation: nn.Module, contract: nn.Module) -> None:
        super().__init__()
        self.affine, self.activation, self.contract = affine, activation, contract

    def forward(self, X: Tensor, apply: Apply = apply_as_is) -> Tensor:
        """Return contract(activation(affine(X)))."""
        return apply(self.contract, self.activation(apply(self.affine, X)))


class TransformerBlock(nn.Module):
    """h = X + attention(norm(X)); h + feed_forward(norm(h)).

    References
    ----------
    Vaswani et al. (2017), Attention is all you need, figure 1, with each norm before its branch (Dosovitskiy et al.
    2021, equations 2 and 3).
    """

    stacks_by_parts = True

    def __init__(
        self, attention_norm: nn.Module, attention: Attention, feed_norm: nn.Module, feed_forward: FeedForward
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = attention_norm, attention
        self.feed_norm, self.feed_forward = feed_norm, feed_forward

    def forward(self, X: Tensor, apply: Apply = apply_as_is) -> Tensor:
        """Return the output of the block, of the shape of X."""
        h = X + self.attention(self.attention_norm(X), apply)
        return h + self.feed_forward(self.feed_norm(h), apply)


class SequenceReadout(nn.Module):
    """The output segment of a transformer: norm, mean over positions and one linear map."""

    stacks_by_parts = True

    def __init__(self, norm: nn.Module, affine: nn.Module) -> None:
        super().__init__()
        self.norm, self.affine = norm, affine

    def forward(self, X: Tensor, apply: Apply = apply_as_is) -> Tensor:
        """Return logits (N, n_outputs) for sequences X (N, positions, width)."""
        return apply(self.affine, self.norm(X).mean(dim=-2))
