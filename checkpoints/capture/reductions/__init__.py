"""Reductions of activations before they are stored, and REDUCTIONS: the dict of them all, by name.

To add a reduction, derive a class from ``Reduction`` in a file of its own and add a line to ``REDUCTIONS``. From
outside the package, decorate it with ``analysis.register("reductions", name)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

from checkpoints.capture.reductions.projection import SparseProjection
from checkpoints.capture.reductions.protocol import Custom, Flatten, Reduction
from checkpoints.capture.reductions.spatial import SpatialMean, SpatialPool
from checkpoints.capture.reductions.tokens import FirstToken, LastToken, MaskedMean, Token, TokenMean

__all__ = [
    "REDUCTIONS",
    "Custom",
    "FirstToken",
    "Flatten",
    "LastToken",
    "MaskedMean",
    "Reduction",
    "SparseProjection",
    "SpatialMean",
    "SpatialPool",
    "Token",
    "TokenMean",
    "as_reduction",
    "parse_reduction",
]

REDUCTIONS: dict[str, type[Reduction]] = {
    "flatten": Flatten,
    "spatial_mean": SpatialMean,
    "spatial_pool": SpatialPool,
    "token": Token,
    "token_mean": TokenMean,
    "first_token": FirstToken,
    "last_token": LastToken,
    "masked_mean": MaskedMean,
    "sparse_projection": SparseProjection,
}


def as_reduction(reduction: Reduction | Callable[[Tensor], Tensor] | str) -> Reduction:
    """Return a reduction, given as itself, as its text or as a plain function of activations."""
    if isinstance(reduction, Reduction):
        return reduction
    if isinstance(reduction, str):
        return parse_reduction(reduction)
    if not callable(reduction) or isinstance(reduction, type):
        raise TypeError(
            f"{reduction!r} is not a reduction; expected one such as SpatialMean(), its text such as 'spatial_mean', "
            "or a function of a tensor."
        )
    return Custom(reduction)


def parse_reduction(text: str) -> Reduction:
    """Return the reduction that a text such as "spatial_pool(4)" describes; ``str`` of a reduction gives this text.

    Raises
    ------
    ValueError
        If the name is not a key of ``REDUCTIONS``, or the reduction does not take the arguments.

    Examples
    --------
    >>> parse_reduction("sparse_projection(100, seed=3)")
    SparseProjection(n_components=100, seed=3)
    >>> parse_reduction("spatial_mean(channels=last)")
    SpatialMean(channels='last')
    """
    form = re.fullmatch(r"(\w+)(?:\((.*)\))?", text.strip())
    if form is None or form[1] not in REDUCTIONS:
        raise ValueError(f"Unknown reduction '{text}'. Choose one of: {', '.join(REDUCTIONS)}.")
    entry = REDUCTIONS[form[1]]
    positional, named = _arguments(form[2] or "")
    try:
        return entry(*positional, **named)
    except TypeError as error:
        example = entry.example or form[1]
        raise ValueError(f"Reduction '{text}' is not understood; expected e.g. {example}.") from error


def _arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Return positional and named arguments; whole numbers become int."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for argument in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = argument.rpartition("=")
        number = int(value) if re.fullmatch(r"-?\d+", value) else value
        if equals:
            named[name.strip()] = number
        else:
            positional.append(number)
    return positional, named
