"""Entries of the registries of learning, made and checked from what a user registers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from repsim.registration import registering
from repsim.registry_kinds import KINDS

if TYPE_CHECKING:
    from torch import Tensor

    from repsim.learning import Dataset, Estimator

__all__ = ["register_rule"]

R = TypeVar("R", bound="type[Estimator]")


def register_rule(name: str) -> Callable[[R], R]:
    """Return a decorator that makes a subclass of ``Estimator`` known as a learning rule.

    Wherever a rule is named, also on the command line, ``name`` then stands for it; its options are the fields of its
    ``Options``. The rule is tried on random signals, of which those that it does not list in ``needs`` are missing.

    Parameters
    ----------
    name : str
        Key in ``ESTIMATORS``.

    Returns
    -------
    callable
        Takes the class and returns it unchanged.

    Raises
    ------
    ValueError
        If the name belongs to another rule; if the rule lacks ``formula``, ``reference`` or ``needs``; or if its
        gradient for random signals fails, has another shape than the activation, or is not finite.
    TypeError
        If what is decorated is not a subclass of ``Estimator``, or ``Options`` not one of ``RuleOptions``.

    Examples
    --------
    >>> from repsim.learning import ESTIMATORS, Estimator, parse_rules, register_rule
    >>> @register_rule("half-backprop")
    ... class HalfBackprop(Estimator):
    ...     formula, reference, needs = "t_k / 2", "an example", frozenset({"target"})
    ...
    ...     def gradient(self, signals):
    ...         return signals.target / 2
    >>> parse_rules("half-backprop@2", None, depth=3)
    {2: Rule(name='half-backprop', options={}, observe=False)}
    >>> del ESTIMATORS["half-backprop"]
    """
    return registering(KINDS["rules"], name, {})


def make_rule(name: str, given: Any) -> type[Estimator]:
    """Return the estimator that is registered as a rule, if it keeps its declarations."""
    from repsim.learning.estimators.estimator import Estimator, RuleOptions

    if not isinstance(given, type) or not issubclass(given, Estimator):
        raise TypeError(f"The rule '{name}' is {given!r}; expected a subclass of repsim.learning.Estimator.")
    if not (isinstance(given.Options, type) and issubclass(given.Options, RuleOptions)):
        raise TypeError(f"The Options of the rule '{name}' are {given.Options!r}; expected a subclass of RuleOptions.")
    for attribute in ("formula", "reference"):
        if not isinstance(getattr(given, attribute, None), str):
            raise ValueError(f"The rule '{name}' has no {attribute}; give its class a text of this name.")
    _try_rule(name, given)
    return given


def _try_rule(name: str, rule: type[Estimator]) -> None:
    """Raise ValueError unless the gradient of a rule for random signals is finite and has the right shape."""
    import torch
    from torch import Generator

    from repsim.learning.estimators.estimator import Site
    from repsim.learning.networks.architectures import mlp

    generator = Generator().manual_seed(0)
    segment = mlp(6, 3, depth=2, width=6, generator=generator).segments[1]
    try:
        site = Site((6,), 3, boundary=1, above=segment, shape_above=(6,), n_features=6)
        estimator = rule(site, generator=generator)
    except Exception as error:
        raise ValueError(f"The rule '{name}' cannot be built ({type(error).__name__}: {error}).") from error
    signals = _signals(_needs(name, estimator), segment, generator)
    try:
        with torch.no_grad():
            gradient = estimator.gradient(signals)
    except Exception as error:
        missing = ", ".join(sorted(each.name for each in fields(signals) if getattr(signals, each.name) is None))
        raise ValueError(
            f"The gradient of the rule '{name}' fails on random signals ({type(error).__name__}: {error}). Signals "
            f"that it does not list in needs are None: {missing}."
        ) from error
    if not isinstance(gradient, torch.Tensor) or gradient.shape != signals.activation.shape:
        shape = tuple(getattr(gradient, "shape", ())) or type(gradient).__name__
        raise ValueError(
            f"The gradient of the rule '{name}' has shape {shape}; expected {tuple(signals.activation.shape)}, that of "
            "the activation."
        )
    if not gradient.isfinite().all():
        raise ValueError(f"The gradient of the rule '{name}' has values that are NaN or infinite.")


def _needs(name: str, estimator: Estimator) -> frozenset[str]:
    """Return the signals that an estimator needs; ValueError if it does not say so, or names others."""
    from repsim.learning.estimators.estimator import Signals

    known, needs = {each.name for each in fields(Signals)}, getattr(estimator, "needs", None)
    if not isinstance(needs, frozenset | set) or needs - known:
        raise ValueError(f"The rule '{name}' needs {needs!r}; expected a frozenset of: {', '.join(sorted(known))}.")
    return frozenset(needs)


def _signals(needs: frozenset[str], segment: Any, generator: Any) -> Any:
    import torch

    from repsim.learning.estimators.estimator import Signals

    n = 8
    shapes = {
        **dict.fromkeys(
            ("target", "influence", "activation_above", "gradient_above", "true_gradient", "again"), (n, 6)
        ),
        "error": (n, 3),
    }
    given: dict[str, Any] = {name: torch.randn(shapes[name], generator=generator) for name in shapes if name in needs}
    if "labels" in needs:
        given["labels"] = torch.arange(n) % 3
    if "segment_above" in needs:
        given["segment_above"] = segment
    return Signals(torch.randn(n, 6, generator=generator), **given)


def make_network(name: str, given: Any) -> Callable[..., Any]:
    """Return a function that builds a ``Chain`` from the shape of an example, n_outputs and the settings of ``mlp``."""
    from repsim.learning.networks.recurrent_cells import CELLS

    if name in CELLS:
        raise ValueError(f"'{name}' is a recurrent network of this package; choose another name for yours.")
    return _function("network", name, given, ((6,), 3), "(shape, n_outputs, *, depth, width, …, generator)", _MLP)


_MLP = ("depth", "width", "norm", "activation", "shift", "generator")


def make_activation(name: str, given: Any, *, gain: float = 1.0) -> Any:
    """Return an ``Activation``, given as such, or as a function or class that returns a module."""
    from torch import nn

    from repsim.learning.networks.architectures import Activation

    entry = given if isinstance(given, Activation) else Activation(_function("activation", name, given, (), "()"), gain)
    if not isinstance(made := entry.module(), nn.Module):
        raise TypeError(f"The activation '{name}' makes a {type(made).__name__}; expected a torch.nn.Module.")
    return entry


def make_loss(name: str, given: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of the output (..., N, n_outputs) and classes (..., N) with one loss per example (..., N)."""
    import torch

    function = _function("loss", name, given, (0, 0), "(output, y)")
    y = torch.arange(8).view(2, 4) % 3
    output = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    try:
        loss = function(output, y)
    except Exception as error:
        raise ValueError(f"The loss '{name}' fails on random data ({type(error).__name__}: {error}).") from error
    if not isinstance(loss, torch.Tensor) or loss.shape != y.shape:
        shape = tuple(getattr(loss, "shape", ())) or type(loss).__name__
        raise ValueError(
            f"The loss '{name}' has shape {shape} for y of shape {tuple(y.shape)}; expected one loss per example, with "
            "leading axes kept."
        )
    if not loss.isfinite().all():
        raise ValueError(f"The loss '{name}' has values that are NaN or infinite.")
    return function


def make_optimizer(name: str, given: Any) -> Callable[[Any], Any]:
    """Return a function, or a class, that makes an optimizer of parameter groups."""
    import torch

    function = _function("optimizer", name, given, ([],), "(parameter groups)")
    made = function([{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": 0.1}])
    if not isinstance(made, torch.optim.Optimizer):
        raise TypeError(f"The optimizer '{name}' makes a {type(made).__name__}; expected a torch.optim.Optimizer.")
    return function


def make_schedule(name: str, given: Any) -> Callable[[float], float]:
    """Return a function from progress (0 to 1) to a factor of the learning rate."""
    function = _function("schedule", name, given, (0.5,), "(progress)")
    for progress in (0.0, 0.5, 1.0):
        factor = function(progress)
        if isinstance(factor, bool) or not isinstance(factor, float | int) or not 0 <= factor < math.inf:
            raise ValueError(f"The schedule '{name}' is {factor!r} at {progress}; expected a number of 0 or more.")
    return function


def make_dataset(name: str, given: Any) -> Callable[[Path | None], Dataset]:
    """Return a function from the data folder to a ``Dataset``.

    What is registered takes the folder or nothing, and returns a ``Dataset``, or X and y as in an ``.npz`` file.
    """
    takes_folder = bool(inspect.signature(given).parameters) if callable(given) else False
    arguments = (None,) if takes_folder else ()
    return partial(_load, name, _function("data set", name, given, arguments, "(data_dir) or ()"), takes_folder)


def _load(name: str, function: Callable[..., Any], takes_folder: bool, data_dir: Path | None) -> Dataset:
    import numpy as np

    from repsim.learning.data.dataset import Dataset
    from repsim.learning.data.user_data import build_dataset

    found = function(data_dir) if takes_folder else function()
    if isinstance(found, Dataset):
        return found
    if not isinstance(found, tuple) or len(found) != 2:
        raise ValueError(f"The data set '{name}' is a {type(found).__name__}; expected a Dataset, or the pair (X, y).")
    X, y = (np.asarray(each) for each in found)
    return build_dataset(name, X, y)


def _function(
    noun: str, name: str, given: Any, arguments: tuple[Any, ...], takes: str, keywords: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """Return a function that can be called with some arguments."""
    if not callable(given):
        raise TypeError(f"The {noun} '{name}' is {given!r}; expected a function of {takes}.")
    try:
        inspect.signature(given).bind(*arguments, **dict.fromkeys(keywords))
    except TypeError as error:
        raise TypeError(
            f"The {noun} '{name}' is a function of {inspect.signature(given)}; expected one of {takes} ({error})."
        ) from None
    except ValueError:
        pass  # a function of C without a signature
    function: Callable[..., Any] = given
    return function
