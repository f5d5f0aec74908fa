"""Entries of the registries of ``probes`` and ``checkpoints``, made and checked from what a user registers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["make_baseline", "make_reduction", "make_solver"]


def make_reduction(name: str, given: Any) -> type[Any]:
    """Return a subclass of ``Reduction``, given as such, or as a function of activations (n, …) that returns (n, …)."""
    import torch

    from checkpoints.capture.reductions import Custom, Reduction

    if isinstance(given, type):
        if not issubclass(given, Reduction):
            raise TypeError(f"The reduction '{name}' is {given!r}; expected a subclass of Reduction, or a function.")
        return given
    _check_call("reduction", name, given, (0,), {}, "(activations)")

    class Named(Custom):
        example = name

        def __init__(self) -> None:
            super().__init__(given)

        def __str__(self) -> str:
            return name

    reduced = Named()(torch.ones(4, 6), torch.ones(4, 6))
    if not isinstance(reduced, torch.Tensor) or len(reduced) != 4:
        shape = tuple(getattr(reduced, "shape", ())) or type(reduced).__name__
        raise ValueError(
            f"The reduction '{name}' returned {shape} for activations of shape (4, 6); expected a tensor with one row "
            "per stimulus."
        )
    return Named


def make_solver(name: str, given: Any) -> Callable[..., Any]:
    """Return a function with the arguments of ``probes.solvers.lbfgs``."""
    return _check_call("probe solver", name, given, (0, 0, 1.0), {}, "(X, y, C, **settings)")


def make_baseline(name: str, given: Any) -> Callable[..., Any]:
    """Return a function of the inputs, the widths of the layers and a seed that returns layers by name."""
    return _check_call("baseline", name, given, (0, ()), {"seed": 0}, "(inputs, widths, *, seed)")


def _check_call(
    noun: str, name: str, given: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], takes: str
) -> Callable[..., Any]:
    if not callable(given):
        raise TypeError(f"The {noun} '{name}' is {given!r}; expected a function of {takes}.")
    try:
        inspect.signature(given).bind(*arguments, **keywords)
    except TypeError as error:
        raise TypeError(
            f"The {noun} '{name}' is a function of {inspect.signature(given)}; expected one of {takes} ({error})."
        ) from None
    function: Callable[..., Any] = given
    return function
