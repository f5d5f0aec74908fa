"""Networks and other objects of the user, built from text: ``module:factory`` or ``module:factory(arguments)``."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from analysis.own_parts.siblings import ROOT
from checkpoints.generators import preserve_generators

__all__ = ["build_model", "build_object"]

_MOST_NAMED = 10  # names in a module that a message lists


def build_model(spec: str, *, seed: int | None = None, blocks: bool = False) -> Any:
    """Return the network that a factory builds.

    Parameters
    ----------
    spec : str
        An importable module, also one in the working directory, and the name in it of an ``nn.Module``, or of a
        function or class that returns one, with arguments if it takes any: ``"my_models:resnet"``,
        ``"my_models:Net(width=64)"``. Arguments are literals: numbers, texts, True, None, and lists, tuples, sets and
        dicts of them. The module's code runs.
    seed : int, optional
        Seed of the global generators from which the weights are drawn; a network that is ready, whose weights follow
        from no seed, is then refused. By default 0.
    blocks : bool, default False
        Whether a list, tuple or dict is allowed, of the blocks of a network.

    Raises
    ------
    ValueError
        If the text is not understood, or the network cannot be built.
    """
    model = build_object(spec, "Model", lambda target: isinstance(target, nn.Module), seed=seed)
    if not isinstance(model, (nn.Module, list, tuple, dict) if blocks else nn.Module):
        raise ValueError(f"Model '{spec}' is a {type(model).__name__}; expected a torch.nn.Module.")
    return model


def build_object(spec: str, kind: str, is_ready: Callable[[Any], bool] | None, *, seed: int | None = None) -> Any:
    """Return the object that text names, or that the factory which it names returns.

    Parameters
    ----------
    spec : str
        See ``build_model``.
    kind : str
        What the object is, for messages: "Model", "Data".
    is_ready : callable (object) -> bool, or None
        Whether what is named is the object itself and not its factory, which is called. None calls it only if the text
        has parentheses.
    seed : int, optional
        Where global generators start in the factory; by default 0. If given, it must decide the object, so the text
        must name a factory.

    Raises
    ------
    ValueError
        If the text is not understood, or the object cannot be built.
    """
    parsed = _parse(spec, kind)
    _check_name(spec, kind, parsed.module)
    with _working_directory_importable():
        try:
            with preserve_generators():
                target: Any = importlib.import_module(parsed.module)
            for part in parsed.names:
                target = getattr(target, part)
            ready = not parsed.is_call if is_ready is None else is_ready(target)
            if ready and seed is not None:
                raise TypeError("it is ready already, so no seed decides it; name a function or class")
            if ready and parsed.is_call:
                raise TypeError("it is ready already; leave the parentheses out")
            with preserve_generators(seed or 0):  # what it draws is the same each time
                return target if ready else target(*parsed.args, **parsed.kwargs)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise ValueError(
                f"{kind} '{spec}' could not be built ({type(error).__name__}: {error}).{_advice(parsed, error)}"
            ) from error


def _advice(parsed: _ParsedSpec, error: BaseException) -> str:
    """Return what to type instead if a module or a name in it does not exist, as a sentence after a space."""
    if isinstance(error, ModuleNotFoundError) and error.name == parsed.module:
        return f" There is no such module in {Path.cwd()}, and none is installed. Expected MODULE:NAME, without .py."
    module = sys.modules.get(parsed.module)
    if not isinstance(error, AttributeError) or module is None or hasattr(module, parsed.names[0]):
        return ""
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == parsed.module
    ]
    return f" Choose one of: {', '.join(own[:_MOST_NAMED])}." if own else ""


def _check_name(spec: str, kind: str, module: str) -> None:
    """Raise ValueError if a module of the user has the name of a package of this distribution."""
    name = module.partition(".")[0]
    found = [path for path in (Path(f"{name}.py"), Path(name)) if path.exists()]
    if found and (ROOT / name / "__init__.py").is_file() and Path.cwd() != ROOT:
        raise ValueError(
            f"{kind} '{spec}' is not imported from {found[0]}, as {name} is the name of a package of repsim. Rename "
            f"it, for example to my_{found[0]}."
        )


@dataclass(frozen=True)
class _ParsedSpec:
    module: str
    names: list[str]
    is_call: bool
    args: list[Any]
    kwargs: dict[str, Any]


def _parse(spec: str, kind: str) -> _ParsedSpec:
    module, _, text = spec.partition(":")
    try:
        node = ast.parse(text.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else None
        names = _dotted(node if call is None else call.func)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        names = []
    if not names or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(
            f"{kind} '{spec}' is not understood; expected module:factory, such as my_models:resnet, or with arguments "
            "'my_models:Net(width=64)'."
        )
    if call is None:
        return _ParsedSpec(module, names, False, [], {})
    described = f"{kind.lower()} '{spec}'"
    args = [_literal(described, value) for value in call.args]
    kwargs = {each.arg or "**": _literal(described, each.value, is_unpacked=each.arg is None) for each in call.keywords}
    return _ParsedSpec(module, names, True, args, kwargs)


def _dotted(node: ast.expr) -> list[str]:
    """Return the parts of ``a.b.c``, or nothing for any other expression."""
    if isinstance(node, ast.Name):
        return [node.id]
    inner = _dotted(node.value) if isinstance(node, ast.Attribute) else []
    return [*inner, node.attr] if inner and isinstance(node, ast.Attribute) else []


def _literal(described: str, node: ast.expr, *, is_unpacked: bool = False) -> Any:
    try:
        if is_unpacked:
            raise ValueError("unpacking")
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        shown = ("**" if is_unpacked else "") + ast.unparse(node)
        raise ValueError(
            f"Argument {shown} of {described} is no literal; give numbers, quoted texts, True, False, None, or "
            "lists, tuples and dicts of them, or write a factory without arguments."
        ) from error


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
