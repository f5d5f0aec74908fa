"""SHA-256 of the source of a module: its file, and those beside it or in its package that it imports."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SourceDigest", "digest_of_module", "digest_of_source"]

_OURS = frozenset({"repsim", "probes", "checkpoints", "analysis"})
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True)
class SourceDigest:
    """Files of a module and what it imports, and the hash of their names and contents."""

    sha256: str
    files: tuple[Path, ...]


def digest_of_source(path: Path) -> SourceDigest:
    """Return the files that a Python file consists of, directly or indirectly, and their hash.

    These are the file, and the files that it imports from its own folder or, if it belongs to a package, from its
    package. Other packages, and data that the code reads, are not among them. The hash does not depend on the folder.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    package = _folder_of_package(path)
    root = path.parent if package is None else package.parent
    only = package.name if package is not None else path.stem if _INSTALLED & set(root.parts) else None
    contents: dict[Path, bytes] = {}
    queue = [path]
    while queue:
        each = queue.pop()
        if each not in contents:
            contents[each] = each.read_bytes()
            queue += [found for name in _imported(each, contents[each], root) for found in _files(root, name, only)]
    hashed = hashlib.sha256()
    for each in sorted(contents):
        name = each.relative_to(root).as_posix().encode()
        hashed.update(b"%d:%b%d:%b" % (len(name), name, len(contents[each]), contents[each]))
    return SourceDigest(hashed.hexdigest(), tuple(sorted(contents)))


def digest_of_module(name: str) -> SourceDigest | None:
    """Return the digest of an importable module, which is not imported; None if it has no Python file."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    if rest:
        found = [each for each in _candidates(path.parent.joinpath(*rest)) if each.is_file()]
        if not found:
            return None
        path = found[0]
    return digest_of_source(path) if path.is_file() else None


def _folder_of_package(path: Path) -> Path | None:
    """Return the outermost package that a file belongs to."""
    folder = path.parent
    if not (folder / "__init__.py").is_file():
        return None
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _imported(path: Path, content: bytes, root: Path) -> Iterator[str]:
    """Yield the full names of modules that a file may import; nothing if it is not Python."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return
    within = path.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = within[: len(within) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _files(root: Path, name: str, only: str | None) -> Iterator[Path]:
    """Yield the files below a folder that importing a module runs."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts) or parts[0] in _OURS or only not in (None, parts[0]):
        return
    for length in range(1, len(parts) + 1):
        yield from (each for each in _candidates(root.joinpath(*parts[:length])) if each.is_file())


def _candidates(module: Path) -> tuple[Path, Path]:
    return module.with_name(f"{module.name}.py"), module / "__init__.py"
