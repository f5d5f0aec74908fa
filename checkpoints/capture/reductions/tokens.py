"""Reductions over tokens: one token, or the mean over all that are not padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from checkpoints.capture.reductions.by_axis import AxisReduction
from checkpoints.capture.reductions.protocol import check_whole, wide_type

__all__ = ["Token", "TokenMean"]


@dataclass(frozen=True)
class Token(AxisReduction):
    """One token: 0 is BERT's [CLS], -1 the last.

    Parameters
    ----------
    index : int
        Position of the token.
    channels : str, default "auto"
        ``"last"`` for activations (n, n_tokens, n_features, …), ``"first"`` for (n, n_features, n_tokens), such as
        those of a one-dimensional convolution. ``"auto"`` infers it from the type of the module; without a module, or
        if nothing indicates an axis, it is "last".

    Raises
    ------
    ValueError
        If ``channels`` is unknown, or the values have no such token.
    """

    example: ClassVar[str] = "token(0)"

    index: int

    default_axis: ClassVar[str] = "last"

    def __post_init__(self) -> None:
        """Check the index."""
        super().__post_init__()
        check_whole(self.index, "index")

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, n_features, …)."""
        tokens = _tokens(values, self.channels)
        n_tokens = tokens.shape[1]
        if not -n_tokens <= self.index < n_tokens:
            raise ValueError(f"There is no token {self.index} among {n_tokens}.")
        return tokens[:, self.index]

    def __str__(self) -> str:
        """Return the name, the index and the axis."""
        return self._text("token", str(self.index))


@dataclass(frozen=True)
class TokenMean(AxisReduction):
    """The mean over the tokens.

    Parameters
    ----------
    mask : str, optional
        Name of the input that is 0 for padding, such as ``"attention_mask"``; padding is left out. By default all
        tokens count.
    channels : str, default "auto"
        As for ``Token``.

    Raises
    ------
    ValueError
        If ``channels`` is unknown; or if the mask is not among the inputs, has another shape than the tokens, or is 0
        for all tokens of a stimulus.
    """

    example: ClassVar[str] = "token_mean or token_mean(mask=attention_mask)"

    mask: str | None = None

    default_axis: ClassVar[str] = "last"

    def __post_init__(self) -> None:
        """Check the name."""
        super().__post_init__()
        if not isinstance(self.mask, str | None):
            raise TypeError(f"mask is {self.mask!r}; expected the name of an input.")

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, n_features, …)."""
        tokens = _tokens(values, self.channels)
        wide = wide_type(tokens.dtype)
        if self.mask is None:
            return tokens.mean(1, dtype=wide)
        if not isinstance(inputs, Mapping) or self.mask not in inputs:
            names = ", ".join(inputs) if isinstance(inputs, Mapping) else "one tensor without a name"
            raise ValueError(f"There is no mask '{self.mask}' among the inputs ({names}).")
        mask = inputs[self.mask] != 0
        if mask.shape != tokens.shape[:2]:
            raise ValueError(f"Mask '{self.mask}' has shape {tuple(mask.shape)} for tokens {tuple(tokens.shape[:2])}.")
        if not mask.any(1).all():
            raise ValueError(f"Mask '{self.mask}' leaves a stimulus no token; expected one or more per stimulus.")
        kept = mask.reshape(*mask.shape, *[1] * (tokens.ndim - 2)).to(tokens.device)
        return torch.where(kept, tokens, 0).sum(1, dtype=wide) / kept.sum(1)

    def __str__(self) -> str:
        """Return the name, the mask and the axis."""
        return self._text("token_mean", *([f"mask={self.mask}"] if self.mask else []))


def _tokens(values: Tensor, channels: str) -> Tensor:
    """Return (n, n_tokens, n_features, …)."""
    if values.ndim < 3:  # in (n, n_features) a feature would be taken for a token
        raise ValueError(f"Activations of shape {tuple(values.shape)} have no tokens.")
    if channels != "first":
        return values
    if values.ndim > 3:
        raise ValueError(f"Activations of shape {tuple(values.shape)}, channels first, have no single axis of tokens.")
    return values.movedim(1, 2)
