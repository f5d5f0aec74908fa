"""Selection of modules, and of their tensors: by names, patterns, regular expressions or predicates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from checkpoints.capture.modules import callable_modules
from checkpoints.name_patterns import name_expression, no_match

__all__ = [
    "NETWORK",
    "LayerKey",
    "Pattern",
    "Selector",
    "as_selectors",
    "chosen_modules",
    "match_layers",
    "module_names",
]

Pattern = str | re.Pattern[str] | Callable[[str, nn.Module], bool]

NETWORK = "(network)"  # the layer name of the network's own output
_LEAF = re.compile(r"(?P<module>.+?)(?:#(?P<call>\d+))?(?P<input>:input)?(?P<path>(?:\[[^\[\]]*\])*)")


@dataclass(frozen=True)
class LayerKey:
    """The identity of a recorded tensor: its module, the call, the side, and the path inside a tuple or dict."""

    module: str
    call: int  # from 0
    side: str  # "input" or "output", or "gradient" of a loss with respect to the output
    path: tuple[str, ...]  # keys and positions, outermost first; empty for a plain tensor

    @property
    def path_text(self) -> str:
        """The path as it is written in a layer's name."""
        return "".join(f"[{part}]" for part in self.path)

    def name(self, *, several_calls: bool) -> str:
        """Return the layer's name: ``module#call:input[path]``, without the parts that have their default."""
        call = f"#{self.call}" if several_calls else ""
        return f"{self.module}{call}{':input' if self.side == 'input' else ''}{self.path_text}"


@dataclass(frozen=True)
class Selector:
    """One pattern in parsed form."""

    text: str  # for messages
    accepts: Callable[[str, nn.Module], bool]
    exact: bool  # whether the pattern names one module
    call: int | None  # the number of the call to record; None for every call
    side: str  # "input", "output", "both" or "gradient"
    path: tuple[str, ...]  # the path to record, or its beginning; "*" stands for any part

    def takes(self, key: LayerKey) -> bool:
        """Return whether a tensor of an accepted module is selected."""
        return (
            self.side in ("both", key.side)
            and self.call in (None, key.call)
            and len(self.path) <= len(key.path)
            and all(expected in ("*", part) for expected, part in zip(self.path, key.path, strict=False))
        )


def as_selectors(
    patterns: Pattern | Sequence[Pattern], modules: Mapping[str, nn.Module], side: str, *, network: bool = False
) -> tuple[Selector, ...]:
    """Parse patterns, each of which must accept a module.

    ``side`` is the side of patterns without ``:input``. With ``network``, a pattern may match the network itself; it
    always may if there is no other module.
    """
    one = isinstance(patterns, str | re.Pattern | nn.Module) or callable(patterns)
    listed: list[Pattern] = [patterns] if one else list(patterns)  # type: ignore[list-item, arg-type]
    if not listed:
        raise ValueError("The list of layers is empty; give at least one name or pattern.")
    selectors = tuple(_as_selector(pattern, modules, side, network or len(modules) == 1) for pattern in listed)
    for selector in selectors:
        if not any(selector.accepts(name, module) for name, module in modules.items()):
            raise ValueError(no_match(selector.text, list(modules)))
    return selectors


def module_names(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that a forward pass can reach, by every name under which they are registered.

    The name of the model itself is ``"(network)"``, and it comes last.
    """
    modules = callable_modules(model)
    root = modules.pop("", None)
    return modules if root is None else {**modules, NETWORK: root}


def chosen_modules(
    selectors: Sequence[Selector], modules: Mapping[str, nn.Module]
) -> dict[str, tuple[nn.Module, tuple[Selector, ...]]]:
    """Return the modules that selectors accept, by name, with those selectors, in the model's order.

    A selector takes a module that has several names once, under the first name that it accepts.
    """
    taken: dict[str, list[Selector]] = {}
    for selector in selectors:
        seen: set[int] = set()
        for name, module in modules.items():
            if id(module) not in seen and selector.accepts(name, module):
                seen.add(id(module))
                taken.setdefault(name, []).append(selector)
    return {name: (module, tuple(taken[name])) for name, module in modules.items() if name in taken}


def match_layers(model: nn.Module, patterns: Pattern | Sequence[Pattern]) -> tuple[str, ...]:
    """Return the names of the modules that match any of the patterns, in the model's order.

    A module that is registered under several names is returned once for each pattern, under the first that matches.

    Raises
    ------
    ValueError
        If a pattern matches no module.
    """
    modules = module_names(model)
    return tuple(chosen_modules(as_selectors(patterns, modules, "output"), modules))


def _as_selector(pattern: Pattern, modules: Mapping[str, nn.Module], side: str, network: bool) -> Selector:
    if isinstance(pattern, str):
        named = pattern and not pattern.startswith((":", "[", "#"))
        return _from_text(pattern if named else NETWORK + pattern, modules, side, network)
    if isinstance(pattern, re.Pattern):
        expression = pattern
        accepts = _inside(lambda name, _: bool(expression.fullmatch(name)), network)
        return Selector(pattern.pattern, accepts, False, None, side, ())
    if callable(pattern) and not isinstance(pattern, type | nn.Module):
        predicate = pattern
        accepts = _inside(lambda name, module: bool(predicate(name, module)), network)
        return Selector(getattr(pattern, "__qualname__", type(pattern).__name__), accepts, False, None, side, ())
    raise TypeError(f"{pattern!r} is not a pattern; expected text, a compiled regular expression or a function.")


def _from_text(pattern: str, modules: Mapping[str, nn.Module], side: str, network: bool) -> Selector:
    leaf = None if pattern in modules else _LEAF.fullmatch(pattern)
    if leaf is None:
        return _by_name(pattern, pattern, None, side, (), network)
    call = None if leaf["call"] is None else int(leaf["call"])
    path = tuple(re.findall(r"\[([^\[\]]*)\]", leaf["path"]))
    return _by_name(pattern, leaf["module"], call, "input" if leaf["input"] else side, path, network)


def _by_name(text: str, module: str, call: int | None, side: str, path: tuple[str, ...], network: bool) -> Selector:
    if module == NETWORK:
        return Selector(text, lambda name, _: name == NETWORK, True, call, side, path)
    expression = name_expression(module)
    exact = not set(module) & set("*?")
    return Selector(text, _inside(lambda name, _: bool(expression.fullmatch(name)), network), exact, call, side, path)


def _inside(accepts: Callable[[str, nn.Module], bool], network: bool) -> Callable[[str, nn.Module], bool]:
    """Return a test that accepts the network itself only if it has no layers inside."""
    return lambda name, module: (network or name != NETWORK) and accepts(name, module)
