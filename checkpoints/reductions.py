"""Making activations smaller before they are stored: a mean over space, one token, a random projection."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

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
            The batch of stimuli that the network was called with.
        """


@dataclass(frozen=True)
class Flatten(Reduction):
    """Everything, in row-major order."""

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return the values."""
        return values

    def __str__(self) -> str:
        """Return the name."""
        return "flatten"


@dataclass(frozen=True)
class SpatialMean(Reduction):
    """The mean over space of (n, channels, *space): one number a channel.

    Raises
    ------
    ValueError
        If the values have no spatial axes.
    """

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, channels)."""
        return _spatial(values).flatten(2).mean(2)

    def __str__(self) -> str:
        """Return the name."""
        return "spatial_mean"


@dataclass(frozen=True)
class SpatialPool(Reduction):
    """Means over a grid of ``size`` cells along each of one to three spatial axes.

    Raises
    ------
    ValueError
        If ``size`` is below 1 or the values have no, or more than three, spatial axes.
    """

    size: int

    def __post_init__(self) -> None:
        """Check the size."""
        _check_whole(self.size, "size")
        if self.size < 1:
            raise ValueError(f"The grid has {self.size} cells along an axis; expected 1 or more.")

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, channels, size, …)."""
        axes = _spatial(values).ndim - 2
        if axes > 3:
            raise ValueError(f"Activations of shape {tuple(values.shape)} have more than three spatial axes.")
        return _POOLS[axes](values, (self.size,) * axes)

    def __str__(self) -> str:
        """Return the name."""
        return f"spatial_pool({self.size})"


@dataclass(frozen=True)
class Token(Reduction):
    """One token of (n, n_tokens, n_features, …): 0 is BERT's [CLS], -1 the last.

    Raises
    ------
    ValueError
        If the values have no such token.
    """

    index: int

    def __post_init__(self) -> None:
        """Check the index."""
        _check_whole(self.index, "index")

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, …)."""
        n_tokens = _tokens(values).shape[1]
        if not -n_tokens <= self.index < n_tokens:
            raise ValueError(f"There is no token {self.index} among {n_tokens}.")
        return values[:, self.index]

    def __str__(self) -> str:
        """Return the name."""
        return f"token({self.index})"


@dataclass(frozen=True)
class TokenMean(Reduction):
    """The mean over the tokens of (n, n_tokens, n_features, …).

    Parameters
    ----------
    mask : str, optional
        Name of the input that is 0 where a token is padding, such as ``"attention_mask"``; padding is left out. Without
        it every token counts.

    Raises
    ------
    ValueError
        If the inputs have no such mask, it does not fit, or it leaves a stimulus no token.
    """

    mask: str | None = None

    def __post_init__(self) -> None:
        """Check the name."""
        if not isinstance(self.mask, str | None):
            raise TypeError(f"mask is {self.mask!r}; expected the name of an input.")

    def __call__(self, values: Tensor, inputs: Any) -> Tensor:
        """Return (n, …)."""
        _tokens(values)
        if self.mask is None:
            return values.mean(1)
        if not isinstance(inputs, Mapping) or self.mask not in inputs:
            names = ", ".join(inputs) if isinstance(inputs, Mapping) else "one tensor without a name"
            raise ValueError(f"There is no mask '{self.mask}' among the inputs ({names}).")
        mask = inputs[self.mask] != 0
        if mask.shape != values.shape[:2]:
            raise ValueError(f"Mask '{self.mask}' has shape {tuple(mask.shape)} for tokens {tuple(values.shape[:2])}.")
        if not mask.any(1).all():
            raise ValueError(f"Mask '{self.mask}' leaves a stimulus no token.")
        kept = mask.reshape(*mask.shape, *[1] * (values.ndim - 2))
        wide = torch.promote_types(values.dtype, torch.float32)  # the sum of many half floats may overflow
        return torch.where(kept, values, 0).sum(1, dtype=wide) / kept.sum(1)

    def __str__(self) -> str:
        """Return the name."""
        return f"token_mean(mask={self.mask})" if self.mask else "token_mean"


@dataclass(frozen=True)
class SparseProjection(Reduction):
    """A random projection to ``n_components`` numbers; the same for equal ``seed``, width and number of components.

    Each component adds up √d of the d features, drawn without replacement, with random signs. Squared distances are
    kept on average, and within a factor 1 ± ε for n stimuli if the components number O(log n / ε²).

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
        flat = values.flatten(1)
        flat = flat if flat.dtype == torch.float64 else flat.float()
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
        return self.function(values)

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
    >>> parse_reduction("token_mean")
    TokenMean(mask=None)
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
    "spatial_mean": "spatial_mean",
    "spatial_pool": "spatial_pool(4)",
    "token": "token(0)",
    "token_mean": "token_mean or token_mean(mask=attention_mask)",
    "sparse_projection": "sparse_projection(100, seed=0)",
}

_POOLS: dict[int, Callable[..., Tensor]] = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}


def _check_whole(value: Any, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a whole number.")


def _spatial(values: Tensor) -> Tensor:
    if values.ndim < 3:
        raise ValueError(f"Activations of shape {tuple(values.shape)} have no spatial axes.")
    return values


def _tokens(values: Tensor) -> Tensor:
    if values.ndim < 3:  # of (n, n_features) a token would be a feature
        raise ValueError(f"Activations of shape {tuple(values.shape)} have no tokens.")
    return values


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
