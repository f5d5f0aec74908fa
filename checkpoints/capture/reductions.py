"""Reductions of activations before they are stored: a mean over space, one token, a random projection."""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import isqrt, sqrt
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from checkpoints.capture.feature_axis import feature_axis

__all__ = [
    "Custom",
    "Flatten",
    "Reduction",
    "SparseProjection",
    "SpatialMean",
    "SpatialPool",
    "Token",
    "TokenMean",
    "as_reduction",
    "parse_reduction",
]


class Reduction(ABC):
    """Maps activations (n, …) to (n, …); what remains is flattened. ``str`` of it is kept in the file."""

    @abstractmethod
    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return the reduced activations.

        Parameters
        ----------
        values : Tensor, shape (n, …)
            On the network's device, without gradient; must not be changed.
        inputs : Tensor or dict of str to Tensor
            The batch of stimuli as it was given, which may be on another device than the network.
        """

    def resolved(self, module: nn.Module, shape: tuple[int, ...]) -> Reduction:
        """Return the reduction with everything settled that depends on the layer, so that ``str`` states it.

        Called once for each layer, before its activations are reduced. Warns of what could not be verified.

        Parameters
        ----------
        module : nn.Module
            The module whose output or input is reduced.
        shape : tuple of int
            Of these activations, (n, …).
        """
        return self


@dataclass(frozen=True)
class Flatten(Reduction):
    """All values, in row-major order."""

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return the values."""
        return values

    def __str__(self) -> str:
        """Return the name."""
        return "flatten"


@dataclass(frozen=True)
class _ByAxis(Reduction):
    """A reduction that must know which axis holds the features.

    Parameters
    ----------
    channels : str, default "auto"
        ``"first"``: axis 1 holds the features (channels). ``"last"``: the last axis does. ``"auto"``: inferred from
        the module when it is recorded, with a warning where that is not certain; see
        ``checkpoints.capture.feature_axis``.
    """

    channels: str = field(default="auto", kw_only=True)

    default_axis: ClassVar[str]  # where nothing indicates one

    def __post_init__(self) -> None:
        """Check the axis."""
        if self.channels not in _CHANNELS:
            raise ValueError(f"Unknown channels {self.channels!r}. Choose one of: {', '.join(_CHANNELS)}.")

    def resolved(self, module: nn.Module, shape: tuple[int, ...]) -> Reduction:
        """Return the reduction with ``channels`` "first" or "last"; warn if that is not certain."""
        if self.channels != "auto" or len(shape) < 3:
            return self
        axis, certain = feature_axis(module, shape, self.default_axis)
        if not certain:
            text = f"(n, {', '.join(map(str, shape[1:]))})"  # n is that of a trial
            warnings.warn(
                f"{self} takes the {'second' if axis == 'first' else 'last'} axis of the activations of "
                f"{type(module).__name__}, shape {text}, as the features (channels), which could not be verified. "
                "Give channels='first' or channels='last' to say which it is.",
                stacklevel=2,
            )
        return replace(self, channels=axis)

    def _written(self, name: str, *arguments: str) -> str:
        stated = [*arguments, *([] if self.channels == "auto" else [f"channels={self.channels}"])]
        return f"{name}({', '.join(stated)})" if stated else name


@dataclass(frozen=True)
class SpatialMean(_ByAxis):
    """The mean over space: one number per channel.

    Parameters
    ----------
    channels : str, default "auto"
        ``"first"`` for activations (n, channels, *space), ``"last"`` for (n, *space, channels). ``"auto"`` infers it
        from the type of the module, for example "first" for a convolution and "last" for a linear layer, and warns
        where that is not certain. Without a module (if the reduction is called directly) it is "first".

    Raises
    ------
    ValueError
        If ``channels`` is unknown or the values have no spatial axes.
    """

    default_axis: ClassVar[str] = "first"

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, channels)."""
        maps = _maps(values, self.channels)
        return maps.mean(tuple(range(2, maps.ndim)), dtype=_wide(maps.dtype))

    def __str__(self) -> str:
        """Return the name and the axis."""
        return self._written("spatial_mean")


@dataclass(frozen=True)
class SpatialPool(_ByAxis):
    """Means over a grid of ``size`` cells along each of one to three spatial axes.

    Parameters
    ----------
    size : int
        Cells along each axis, 1 or more.
    channels : str, default "auto"
        As for ``SpatialMean``.

    Raises
    ------
    ValueError
        If ``size`` is below 1, ``channels`` is unknown, or the values have no, or more than three, spatial axes.
    """

    size: int

    default_axis: ClassVar[str] = "first"

    def __post_init__(self) -> None:
        """Check the size."""
        super().__post_init__()
        _check_whole(self.size, "size")
        if self.size < 1:
            raise ValueError(f"The grid has {self.size} cells along an axis; expected 1 or more.")

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, channels, size, …), channels first in any case."""
        maps = _maps(values, self.channels)
        maps, axes = maps.to(_wide(maps.dtype)), maps.ndim - 2
        if axes > 3:
            raise ValueError(f"Activations of shape {tuple(values.shape)} have more than three spatial axes.")
        pool = getattr(functional, f"adaptive_avg_pool{axes}d")
        size = (self.size,) * axes
        return torch.complex(pool(maps.real, size), pool(maps.imag, size)) if maps.is_complex() else pool(maps, size)

    def __str__(self) -> str:
        """Return the name, the size and the axis."""
        return self._written("spatial_pool", str(self.size))


@dataclass(frozen=True)
class Token(_ByAxis):
    """One token: 0 is BERT's [CLS], -1 the last.

    Parameters
    ----------
    index : int
        Of the token.
    channels : str, default "auto"
        ``"last"`` for activations (n, n_tokens, n_features, …), ``"first"`` for (n, n_features, n_tokens), such as
        those of a one-dimensional convolution. ``"auto"`` infers it from the type of the module; without one, or where
        nothing indicates an axis, it is "last".

    Raises
    ------
    ValueError
        If ``channels`` is unknown, or the values have no such token.
    """

    index: int

    default_axis: ClassVar[str] = "last"

    def __post_init__(self) -> None:
        """Check the index."""
        super().__post_init__()
        _check_whole(self.index, "index")

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, n_features, …)."""
        tokens = _tokens(values, self.channels)
        n_tokens = tokens.shape[1]
        if not -n_tokens <= self.index < n_tokens:
            raise ValueError(f"There is no token {self.index} among {n_tokens}.")
        return tokens[:, self.index]

    def __str__(self) -> str:
        """Return the name, the index and the axis."""
        return self._written("token", str(self.index))


@dataclass(frozen=True)
class TokenMean(_ByAxis):
    """The mean over the tokens.

    Parameters
    ----------
    mask : str, optional
        Name of the input that is 0 where a token is padding, such as ``"attention_mask"``; padding is left out. Without
        it every token counts.
    channels : str, default "auto"
        As for ``Token``.

    Raises
    ------
    ValueError
        If ``channels`` is unknown, the inputs have no such mask, it does not fit, or it leaves a stimulus no token.
    """

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
        wide = _wide(tokens.dtype)
        if self.mask is None:
            return tokens.mean(1, dtype=wide)
        if not isinstance(inputs, Mapping) or self.mask not in inputs:
            names = ", ".join(inputs) if isinstance(inputs, Mapping) else "one tensor without a name"
            raise ValueError(f"There is no mask '{self.mask}' among the inputs ({names}).")
        mask = inputs[self.mask] != 0
        if mask.shape != tokens.shape[:2]:
            raise ValueError(f"Mask '{self.mask}' has shape {tuple(mask.shape)} for tokens {tuple(tokens.shape[:2])}.")
        if not mask.any(1).all():
            raise ValueError(f"Mask '{self.mask}' leaves a stimulus no token.")
        kept = mask.reshape(*mask.shape, *[1] * (tokens.ndim - 2)).to(tokens.device)
        return torch.where(kept, tokens, 0).sum(1, dtype=wide) / kept.sum(1)

    def __str__(self) -> str:
        """Return the name, the mask and the axis."""
        return self._written("token_mean", *([f"mask={self.mask}"] if self.mask else []))


@dataclass(frozen=True)
class SparseProjection(Reduction):
    """A random projection to ``n_components`` numbers; the same for equal ``seed``, width and number of components.

    Each component adds up √d of the d features, drawn without replacement, with random signs. Squared distances are
    kept on average, and within a factor 1 ± ε for n stimuli if the components number O(log n / ε²). Of a complex
    number the real and the imaginary part are two features.

    References
    ----------
    Li, Hastie, Church (2006), Very sparse random projections, section 3.

    Raises
    ------
    ValueError
        If there are no components.
    """

    n_components: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the number of components."""
        _check_whole(self.n_components, "n_components")
        _check_whole(self.seed, "seed")
        if self.n_components < 1:
            raise ValueError(f"{self.n_components} components were asked for; expected 1 or more.")

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, n_components)."""
        wide = values.to(_wide(values.dtype)).resolve_conj()
        flat = (torch.view_as_real(wide) if wide.is_complex() else wide).flatten(1)
        projection = _projection(flat.shape[1], self.n_components, self.seed, flat.device, flat.dtype)
        return torch.sparse.mm(projection, flat.T).T

    def __str__(self) -> str:
        """Return the name."""
        return f"sparse_projection({self.n_components}, seed={self.seed})"


@dataclass(frozen=True)
class Custom(Reduction):
    """A function of the activations (n, …) alone that returns (n, …)."""

    function: Callable[[Tensor], Tensor]

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return what the function returns."""
        return self.function(values.clone())  # the network goes on with the values, and the function may change its own

    def __str__(self) -> str:
        """Return the function's name."""
        return f"custom({getattr(self.function, '__qualname__', type(self.function).__name__)})"


def as_reduction(reduction: Reduction | Callable[[Tensor], Tensor]) -> Reduction:
    """Return a reduction, made from a plain function if it is one.

    Raises
    ------
    TypeError
        If it cannot be called.
    """
    if isinstance(reduction, Reduction):
        return reduction
    if not callable(reduction) or isinstance(reduction, type):
        raise TypeError(f"{reduction!r} is no reduction; expected one such as SpatialMean() or a function of a tensor.")
    return Custom(reduction)


def parse_reduction(text: str) -> Reduction:
    """Return the reduction that ``str`` of it describes.

    Raises
    ------
    ValueError
        If it is not understood.

    Examples
    --------
    >>> parse_reduction("sparse_projection(100, seed=3)")
    SparseProjection(n_components=100, seed=3)
    >>> parse_reduction("spatial_mean(channels=last)")
    SpatialMean(channels='last')
    """
    form = re.fullmatch(r"(\w+)(?:\((.*)\))?", text.strip())
    if form is None or form[1] not in _BY_NAME:
        raise ValueError(f"Unknown reduction '{text}'. Choose one of: {', '.join(_BY_NAME)}.")
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for argument in filter(None, (part.strip() for part in (form[2] or "").split(","))):
        name, equals, value = argument.rpartition("=")
        number = int(value) if re.fullmatch(r"-?\d+", value) else value
        if equals:
            named[name.strip()] = number
        else:
            positional.append(number)
    try:
        return _BY_NAME[form[1]](*positional, **named)
    except TypeError as error:
        raise ValueError(f"Reduction '{text}' is not understood; expected such as {_EXAMPLES[form[1]]}.") from error


_CHANNELS = ("auto", "first", "last")

_BY_NAME: dict[str, Callable[..., Reduction]] = {
    "flatten": Flatten,
    "spatial_mean": SpatialMean,
    "spatial_pool": SpatialPool,
    "token": Token,
    "token_mean": TokenMean,
    "sparse_projection": SparseProjection,
}

_EXAMPLES = {
    "flatten": "flatten",
    "spatial_mean": "spatial_mean or spatial_mean(channels=last)",
    "spatial_pool": "spatial_pool(4)",
    "token": "token(0)",
    "token_mean": "token_mean or token_mean(mask=attention_mask)",
    "sparse_projection": "sparse_projection(100, seed=0)",
}


def _check_whole(value: Any, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a whole number.")


def _maps(values: Tensor, channels: str) -> Tensor:
    """Return (n, channels, *space)."""
    if values.ndim < 3:
        raise ValueError(f"Activations of shape {tuple(values.shape)} have no spatial axes.")
    return values.movedim(-1, 1) if channels == "last" else values


def _tokens(values: Tensor, channels: str) -> Tensor:
    """Return (n, n_tokens, n_features, …)."""
    if values.ndim < 3:  # of (n, n_features) a token would be a feature
        raise ValueError(f"Activations of shape {tuple(values.shape)} have no tokens.")
    if channels != "first":
        return values
    if values.ndim > 3:
        raise ValueError(f"Activations of shape {tuple(values.shape)}, channels first, have no single axis of tokens.")
    return values.movedim(1, 2)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type to add up in: sums of half floats overflow, and integers have no mean."""
    if dtype.is_complex:
        return torch.complex128 if dtype == torch.complex128 else torch.complex64
    return torch.float32 if dtype.is_floating_point and dtype != torch.float64 else torch.float64


@lru_cache(maxsize=32)  # one is used for every block of stimuli
def _projection(n_features: int, n_components: int, seed: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the projection as a sparse (n_components, n_features) matrix."""
    draw = np.random.default_rng([seed, n_features, n_components])
    chosen = max(1, isqrt(n_features))
    columns = np.stack([draw.choice(n_features, chosen, replace=False) for _ in range(n_components)])
    signs = draw.choice(np.array([-1.0, 1.0]), size=columns.shape)
    columns_in_order = np.argsort(columns, axis=1)
    values = np.take_along_axis(signs, columns_in_order, 1) * sqrt(n_features / (chosen * n_components))
    rows = torch.arange(n_components).repeat_interleave(chosen)
    places = torch.stack([rows, torch.from_numpy(np.sort(columns, axis=1).ravel())])
    return torch.sparse_coo_tensor(
        places, torch.from_numpy(values.ravel()), (n_components, n_features), check_invariants=True, is_coalesced=True
    ).to(device, dtype)
