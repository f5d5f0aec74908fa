"""Registration of the user's own parts: entries of registries, and the modules that register them.

A registry is a dict. ``add_entry`` adds to one, refuses names that are taken by something else, and remembers which
module called it, so that other processes can import that module, and results can depend on its source.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import resolve_name
from types import FrameType
from typing import Any, TypeVar

from repsim.source_digest import digest_of_source

__all__ = [
    "OwnPart",
    "PartModule",
    "RegistryKind",
    "add_entry",
    "add_installed",
    "adopt",
    "check_registered",
    "forget",
    "installed_points",
    "own_parts",
    "registering",
]

G = TypeVar("G")
Make = Callable[..., Any]

_OURS = frozenset({"repsim", "probes", "checkpoints", "analysis"})
_NAME = re.compile(r"[A-Za-z][\w.-]*")


@dataclass(frozen=True)
class RegistryKind:
    """One registry that is open to users.

    Attributes
    ----------
    name : str
        Plural noun, also the end of the group of entry points: ``"measures"`` of ``repsim.measures``.
    noun : str
        What messages call an entry.
    place : str
        The dict, as ``module:NAME``.
    make : str
        The function that checks what is registered and returns the entry, as ``module:name``. It takes the name of the
        entry, what is registered, and what is declared about it as keywords. Or the class that entries have.
    """

    name: str
    noun: str
    place: str
    make: str

    @property
    def registry(self) -> MutableMapping[str, Any]:
        """The dict, imported when it is asked for. What it holds then is taken for the entries of this package."""
        found: MutableMapping[str, Any] = resolve_name(self.place)
        _PACKAGED.setdefault(self, dict(found))
        return found

    def how_to_register(self, name: str) -> str:
        """Return the decorator that registers an entry, as it is typed."""
        return f'@analysis.register("{self.name}", "{name}")'

    def entry(self, name: str, given: Any, declared: Mapping[str, Any]) -> Any:
        """Return the entry that is made of what a user registers."""
        make = resolve_name(self.make)
        if not isinstance(make, type):
            return make(name, given, **declared)
        if not isinstance(given, make) or declared:
            raise TypeError(f"The {self.noun} '{name}' is {given!r}; expected a {make.__name__}, and nothing declared.")
        return given


@dataclass(frozen=True)
class PartModule:
    """A module that registers parts, as it was when it was imported.

    Attributes
    ----------
    name : str
        Its name in ``sys.modules``.
    path : Path or None
        Its file; None for a notebook, an interactive session or the main script, which no process can import.
    sha256 : str
        Hash of its source, with the files beside it that it imports; "" without a file.
    """

    name: str
    path: Path | None
    sha256: str

    @classmethod
    def of(cls, name: str, file: str | None) -> PartModule:
        """Return a module by name and file."""
        path = Path(file).absolute() if file else None
        if name == "__main__" or path is None or not path.is_file():
            return cls(name, None, "")
        return cls(name, path, digest_of_source(path).sha256)

    def __str__(self) -> str:
        """Return the path of the file, or the name."""
        return self.name if self.path is None else str(self.path)


@dataclass(frozen=True)
class OwnPart:
    """One entry that a user has registered.

    Attributes
    ----------
    kind : RegistryKind
    name : str
        Its key in the registry.
    source : str
        File and qualified name of the function or class, or of the module for other objects; an entry is replaced by
        one of the same source only.
    module : PartModule
        The module that registered it.
    entry : object
        The value in the registry.
    """

    kind: RegistryKind
    name: str
    source: str
    module: PartModule
    entry: Any


_PARTS: dict[tuple[str, str], OwnPart] = {}  # by kind and name
_PACKAGED: dict[RegistryKind, dict[str, Any]] = {}  # entries of the package, of registries that are complete


def own_parts() -> list[OwnPart]:
    """Return the parts that users have registered and that are still in their registries."""
    return [part for part in _PARTS.values() if part.kind.registry.get(part.name) is part.entry]


def registering(kind: RegistryKind, name: str, declared: Mapping[str, Any]) -> Callable[[G], G]:
    """Return a decorator that checks and registers what it decorates, and returns it unchanged."""

    def register(given: G) -> G:
        add_entry(kind, name, given, declared)
        return given

    return register


def add_entry(
    kind: RegistryKind,
    name: str,
    given: Any,
    declared: Mapping[str, Any] | None = None,
    module: PartModule | None = None,
) -> None:
    """Check an entry of the user and add it to its registry.

    Parameters
    ----------
    kind : RegistryKind
    name : str
        Letters, digits, dots, hyphens and underscores; the first is a letter.
    given : object
        A function, a class or an entry.
    declared : mapping, optional
        What is declared about it; see the function ``kind.make``.
    module : PartModule, optional
        The module that registers it; by default the one that called.

    Raises
    ------
    ValueError, TypeError
        If the name cannot be used, or belongs to another entry; or if the entry fails the checks of its kind.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"The {kind.noun} cannot be named {name!r}; use letters, digits, dots, hyphens and underscores, with a "
            "letter first."
        )
    module = module or _calling_module()
    source, registry, known = _source(given, module), kind.registry, _PARTS.get((kind.name, name))
    if name in registry and (known is None or registry[name] is not known.entry or known.source != source):
        owner = "the package" if known is None else known.module
        raise ValueError(f"The name '{name}' is taken by the {kind.noun} of {owner}; register yours under another.")
    adopt(OwnPart(kind, name, source, module, kind.entry(name, given, declared or {})))


def adopt(part: OwnPart) -> None:
    """Add a part that another process has checked to its registry."""
    part.kind.registry[part.name] = part.entry
    _PARTS[part.kind.name, part.name] = part


def forget(module: str) -> None:
    """Remove the parts that a module has registered from their registries."""
    for part in own_parts():
        if part.module.name == module:
            del part.kind.registry[part.name]
            del _PARTS[part.kind.name, part.name]


def check_registered(names: Collection[str], kinds: Collection[str] = ()) -> None:
    """Check that no entry of these names, or kinds, was put into its registry without being registered.

    Stored results depend on the source of registered parts; of other entries it is unknown whether they have changed.

    Raises
    ------
    ValueError
        If there is one; the message names it.
    """
    for kind, packaged in _PACKAGED.items():
        for name, entry in kind.registry.items():
            known = _PARTS.get((kind.name, name))
            is_asked = name in names or kind.name in kinds
            if is_asked and entry is not packaged.get(name) and (known is None or entry is not known.entry):
                raise ValueError(
                    f"The {kind.noun} '{name}' was put into {kind.place.partition(':')[2]} directly, so that it is "
                    "unknown whether results that are stored under its name are still its own. Register it instead: "
                    f"{kind.how_to_register(name)}."
                )


def add_installed(kind: RegistryKind) -> None:
    """Add what other packages offer as entry points of the group ``repsim.KIND``; warn of those that are broken.

    It is called once the registry has all entries of this package.
    """
    _ = kind.registry
    for point in installed_points(kind.name):
        try:
            given = point.load()
            known = _PARTS.get((kind.name, point.name))
            file = getattr(sys.modules[point.module], "__file__", None)
            module = PartModule.of(point.module, file)
            if known is None or known.source != _source(given, module):  # importing it may have registered it
                add_entry(kind, point.name, given, module=module)
        except Exception as error:  # of a package that is not ours
            message = f"{point.name} of repsim.{kind.name} cannot be loaded ({error})."
            warnings.warn(message, RuntimeWarning, stacklevel=2)


def installed_points(kind: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of the group ``repsim.KIND``."""
    return tuple(point for point in _all_points() if point.group == f"repsim.{kind}")


@cache
def _all_points() -> tuple[EntryPoint, ...]:
    """Return the entry points that add parts; reading those of all packages takes some 20 ms."""
    everything: Any = entry_points()
    groups = [group for group in everything.groups if group.startswith("repsim.")]
    return tuple(each for group in groups for each in everything.select(group=group))


def _source(given: Any, module: PartModule) -> str:
    """Return where something is defined: file and qualified name of a function or class, else the module."""
    qualified, name = getattr(given, "__qualname__", None), getattr(given, "__module__", None)
    if not isinstance(qualified, str) or not isinstance(name, str):
        return f"{module}:"
    file = getattr(sys.modules.get(name), "__file__", None)
    return f"{file or name}:{qualified}"


def _calling_module() -> PartModule:
    """Return the innermost module on the stack that is not ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame = frame.f_back
    if frame is None:
        return PartModule("__main__", None, "")
    return PartModule.of(frame.f_globals.get("__name__", "__main__"), frame.f_globals.get("__file__"))
