"""Shipment of the user's own parts to other processes, by file or by value, and digests of the parts."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from analysis.own_parts.importing import imported_modules, load
from analysis.own_parts.registries import KINDS
from repsim.registration import OwnPart, PartModule, adopt, check_registered, installed_points, own_parts
from repsim.source_digest import digest_of_module

__all__ = ["Shipment", "digests_of_kind", "own_digests", "parts_identity"]

_OURS = frozenset({"repsim", "probes", "checkpoints", "analysis"})


@dataclass(frozen=True)
class Shipment:
    """The user's own parts in a form that can be pickled.

    Attributes
    ----------
    modules : tuple of PartModule
        Files and modules that register parts.
    names : tuple of (str, str, str)
        Kind and name of each part that they register, and the module.
    values : bytes
        Parts of a notebook or the main script, which no process can import, pickled.
    """

    modules: tuple[PartModule, ...]
    names: tuple[tuple[str, str, str], ...]
    values: bytes

    @classmethod
    def of_this_process(cls) -> Shipment:
        """Return the parts of this process; ValueError if one can be neither imported nor pickled."""
        parts = own_parts()
        by_file = [part for part in parts if part.module.path is not None]
        names = tuple((part.kind.name, part.name, part.module.name) for part in by_file)
        values = [_pickled(part) for part in parts if part.module.path is None]
        return cls(tuple(imported_modules()), names, bytes(cloudpickle.dumps(values)) if values else b"")

    def unpack(self) -> None:
        """Add the parts to the registries of this process, unless it has them; ValueError if that is impossible."""
        for kind in {kind for kind, _, _ in self.names}:
            _ = KINDS[kind].registry  # loads parts of installed packages, which fails while one of them is imported
        load(self.modules)
        for kind, name, module in self.names:
            if name not in KINDS[kind].registry:
                raise ValueError(
                    f"The {KINDS[kind].noun} '{name}' is not registered when {module} is imported. Register it where "
                    "the module is read, not in a function that is called later."
                )
        for kind, name, source, sha256, entry in map(
            cloudpickle.loads, cloudpickle.loads(self.values) if self.values else ()
        ):
            adopt(OwnPart(KINDS[kind], name, source, PartModule("__main__", None, sha256), entry))


def own_digests(key: str) -> list[str]:
    """Return the digests of the user's own parts that a JSON text, such as that of a task's key, names.

    Raises
    ------
    ValueError
        If it names an entry that was put into a registry without being registered.
    """
    texts, parts = set(_texts(json.loads(key))), own_parts()
    check_registered(texts)
    named = [part for part in parts if part.name in texts]
    modules = {part.module for part in parts if any(text.startswith(f"{part.module.name}.") for text in texts)}
    return sorted({*map(_digest, named), *(module.sha256 for module in modules if module.sha256)})


def digests_of_kind(kind: str) -> list[str]:
    """Return the digests of the user's own parts in one registry, for tasks that use all of its entries."""
    return sorted({_digest(part) for part in own_parts() if part.kind.name == kind})


def parts_identity() -> list[list[str]]:
    """Return names and hashes of everything that may have added parts, so that results can depend on it.

    These are modules that were imported, parts that have no file, and modules of installed packages; the latter are not
    imported for this.
    """
    points = {(kind, each.name, each.module) for kind in KINDS for each in installed_points(kind)}
    installed = {module.partition(".")[0] for _, _, module in points}
    modules = [[each.name, each.sha256] for each in imported_modules() if each.name.partition(".")[0] not in installed]
    values = [[each.kind.name, each.name, _digest(each)] for each in own_parts() if each.module.path is None]
    found = [[*point, getattr(digest_of_module(point[2]), "sha256", "")] for point in points]
    return [*sorted(modules), *sorted(values), *sorted(found)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _digest(part: OwnPart) -> str:
    """Return the hash of the source of a part or, if it has no file, of its code and of modules of its folder."""
    if part.module.sha256:
        return part.module.sha256
    hashed = hashlib.sha256(_dumped(part, part.entry))
    for path in sorted(_files_of_main()):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def _files_of_main() -> Iterator[Path]:
    """Yield the files of imported modules in the folder of the main script, or the working directory."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    folder = Path.cwd() if main is None else Path(main).absolute().parent
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.startswith(f"{folder}{os.sep}") or not file.endswith(".py"):
            continue
        if name.partition(".")[0] not in _OURS and "site-packages" not in Path(file).parts and Path(file).is_file():
            yield Path(file)


def _pickled(part: OwnPart) -> bytes:
    return _dumped(part, (part.kind.name, part.name, part.source, _digest(part), part.entry))


def _dumped(part: OwnPart, value: Any) -> bytes:
    try:
        return bytes(cloudpickle.dumps(value))
    except Exception as error:  # whatever objects of the user raise
        raise ValueError(
            f"The {part.kind.noun} '{part.name}' is defined in a notebook or the main script, and cannot be sent to "
            f"other processes ({type(error).__name__}: {error}). Put it into a file, and import that file."
        ) from error
