"""Reductions over tokens: one token, or the mean; of all, or of those that are not padding."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from checkpoints.capture.reductions.by_axis import AxisReduction
from checkpoints.capture.reductions.protocol import check_whole, wide_type

__all__ = ["FirstToken", "LastToken", "MaskedMean", "Token", "TokenMean"]

_MASK = "attention_mask"


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

    Warns
    -----
    UserWarning
        If the input ``attention_mask`` says that the token is padding.
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
        if _is_padding(inputs, tokens, self.index):
            warnings.warn(
                f"{self} takes padding of some stimuli, as {_MASK} is 0 there. Use last_token or first_token.",
                stacklevel=2,
            )
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
        mask = _mask_of(inputs, self.mask, tokens)
        kept = mask.reshape(*mask.shape, *[1] * (tokens.ndim - 2))
        return torch.where(kept, tokens, 0).sum(1, dtype=wide) / kept.sum(1)

    def __str__(self) -> str:
        """Return the name, the mask and the axis."""
        return self._text("token_mean", *([f"mask={self.mask}"] if self.mask else []))


@dataclass(frozen=True)
class MaskedMean(TokenMean):
    """The mean over the tokens that are not padding; ``TokenMean`` with the mask ``attention_mask`` by default."""

    example: ClassVar[str] = "masked_mean or masked_mean(mask=attention_mask)"

    mask: str = _MASK

    def __post_init__(self) -> None:
        """Check the name."""
        super().__post_init__()
        _check_mask(self.mask)

    def __str__(self) -> str:
        """Return the name, the mask and the axis."""
        return self._text("masked_mean", f"mask={self.mask}")


@dataclass(frozen=True)
class LastToken(AxisReduction):
    """The last token of each stimulus that is not padding, whether the padding is on the right or on the left.

    Parameters
    ----------
    mask : str, default "attention_mask"
        Name of the input that is 0 for padding.
    channels : str, default "auto"
        As for ``Token``.

    Raises
    ------
    ValueError
        As for ``TokenMean``.
    """

    example: ClassVar[str] = "last_token or last_token(mask=attention_mask)"

    mask: str = _MASK

    default_axis: ClassVar[str] = "last"

    def __post_init__(self) -> None:
        """Check the name."""
        super().__post_init__()
        _check_mask(self.mask)

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, n_features, …)."""
        tokens = _tokens(values, self.channels)
        places = self._places(_mask_of(inputs, self.mask, tokens).to(torch.uint8))
        return tokens[torch.arange(len(tokens), device=tokens.device), places]

    def __str__(self) -> str:
        """Return the name, the mask and the axis."""
        return self._text("last_token", f"mask={self.mask}")

    def _places(self, mask: Tensor) -> Tensor:
        return mask.shape[1] - 1 - mask.flip(1).argmax(1)  # argmax finds the first of several


@dataclass(frozen=True)
class FirstToken(LastToken):
    """The first token of each stimulus that is not padding; otherwise as ``LastToken``."""

    example: ClassVar[str] = "first_token or first_token(mask=attention_mask)"

    def __str__(self) -> str:
        """Return the name, the mask and the axis."""
        return self._text("first_token", f"mask={self.mask}")

    def _places(self, mask: Tensor) -> Tensor:
        return mask.argmax(1)


def _is_padding(inputs: Any, tokens: Tensor, index: int) -> bool:
    """Return whether a token is padding of some stimulus, as far as the usual mask is among the inputs."""
    mask = inputs.get(_MASK) if isinstance(inputs, Mapping) else None
    return mask is not None and mask.shape == tokens.shape[:2] and bool((mask[:, index] == 0).any())


def _check_mask(mask: Any) -> None:
    if not isinstance(mask, str):
        raise TypeError(f"mask is {mask!r}; expected the name of an input.")


def _mask_of(inputs: Any, name: str, tokens: Tensor) -> Tensor:
    """Return which tokens are not padding, (n, n_tokens), on the device of the tokens."""
    if not isinstance(inputs, Mapping) or name not in inputs:
        names = ", ".join(inputs) if isinstance(inputs, Mapping) else "one tensor without a name"
        raise ValueError(f"There is no mask '{name}' among the inputs ({names}).")
    mask: Tensor = inputs[name] != 0
    if mask.shape != tokens.shape[:2]:
        raise ValueError(f"Mask '{name}' has shape {tuple(mask.shape)} for tokens {tuple(tokens.shape[:2])}.")
    if not mask.any(1).all():
        raise ValueError(f"Mask '{name}' leaves a stimulus no token; expected one or more per stimulus.")
    return mask.to(tokens.device)


def _tokens(values: Tensor, channels: str) -> Tensor:
    """Return (n, n_tokens, n_features, …)."""
    if values.ndim < 3:  # in (n, n_features) a feature would be taken for a token
        raise ValueError(f"Activations of shape {tuple(values.shape)} have no tokens.")
    if channels != "first":
        return values
    if values.ndim > 3:
        raise ValueError(f"Activations of shape {tuple(values.shape)}, channels first, have no single axis of tokens.")
    return values.movedim(1, 2)
