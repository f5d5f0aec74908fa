"""Import of files and modules with the user's own parts, by this process and by its workers."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

from repsim.registration import PartModule, forget, own_parts
from repsim.source_digest import digest_of_module, digest_of_source

__all__ = ["import_parts", "imported_by_request", "imported_modules", "load"]

_IMPORTED: dict[str, PartModule] = {}  # by name


def import_parts(given: str | Path) -> PartModule:
    """Import a Python file, or a module by its name, that registers parts, and return what was imported.

    A file that has changed since it was imported is imported again. A file may have the name of another module, such as
    ``analysis.py``; neither hides the other.

    Parameters
    ----------
    given : str or path
        A path that ends in ``.py``, or the name of a module that can be imported, also from the working directory.

    Raises
    ------
    ValueError
        If there is no such file or module, or importing it fails.
    """
    text = str(given)
    if not text.endswith(".py"):
        return _import_name(text)
    path = Path(text).absolute()
    if not path.is_file():
        raise ValueError(f"There is no file {path} to import; give the path of a Python file, or the name of a module.")
    module = PartModule(_name_of_file(path), path, digest_of_source(path).sha256)
    if _IMPORTED.get(module.name) != module:
        _run(module)
    return module


def imported_modules() -> list[PartModule]:
    """Return the modules that other processes must import to have the parts of this one."""
    of_parts = {part.module.name: part.module for part in own_parts() if part.module.path is not None}
    return list({**_IMPORTED, **of_parts}.values())


def imported_by_request() -> list[PartModule]:
    """Return the modules that ``import_parts`` has imported."""
    return list(_IMPORTED.values())


def load(modules: Sequence[PartModule]) -> None:
    """Import what another process has imported.

    Raises
    ------
    ValueError
        If a module cannot be imported here, or is another than there.
    """
    for module in modules:
        if module.sha256 not in [each.sha256 for each in imported_modules() if each.name == module.name]:
            _load(module)


def _import_name(name: str) -> PartModule:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(
            f"'{name}' is neither a Python file nor the name of a module; give a path that ends in .py, or a name such "
            "as my_package.parts."
        )
    with _parts_of(name):
        _make_importable(Path.cwd())
        imported = importlib.import_module(name)
    module = PartModule.of(name, getattr(imported, "__file__", None))
    if _IMPORTED.get(name, module) != module:
        _run(module)  # it has changed
    _IMPORTED[name] = module
    return module


def _name_of_file(path: Path) -> str:
    """Return the name in ``sys.modules`` of a file, which no other module has."""
    return f"own_parts_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"


def _load(module: PartModule) -> None:
    """Import one module of another process."""
    assert module.path is not None
    found = digest_of_source(module.path) if module.path.is_file() else digest_of_module(module.name)
    if found is None:
        raise ValueError(
            f"{module.path}, which the command imported, is not here. Workers must see it under the same path."
        )
    if found.sha256 != module.sha256:
        raise ValueError(
            f"{module.path}, or a file that it imports, has changed since the command read it. Give the command again."
        )
    _run(module)


def _run(module: PartModule) -> None:
    """Run the file of a module under its name, in place of what it registered before."""
    assert module.path is not None
    forget(module.name)
    _IMPORTED.pop(module.name, None)
    files = digest_of_source(module.path).files if module.path.is_file() else ()
    for name, each in list(sys.modules.items()):  # a changed file beside it is read again, too
        if _file(each) in files:
            del sys.modules[name]
    with _parts_of(str(module.path)):
        _make_importable(module.path.parent)
        if module.name.startswith("own_parts_") or importlib.util.find_spec(module.name.partition(".")[0]) is None:
            _run_file(module.name, module.path)
        else:
            importlib.import_module(module.name)
    if module.path.is_file() and digest_of_source(module.path).sha256 != module.sha256:
        raise ValueError(f"{module.path} was changed while it was imported. Give the command again.")
    _IMPORTED[module.name] = module


def _run_file(name: str, path: Path) -> None:
    loader = _Uncached(name, str(path))
    imported = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    imported.__file__ = str(path)
    sys.modules[name] = imported
    try:
        loader.exec_module(imported)
    except BaseException:
        sys.modules.pop(name, None)
        forget(name)
        raise


class _Uncached(SourceFileLoader):
    """Loader that reads the source itself, as cached code may be of a version of the same second and size."""

    def path_stats(self, path: str) -> dict[str, int]:
        """Raise OSError, which leaves the cache alone."""
        raise OSError


def _file(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if isinstance(file, str) else None


def _make_importable(folder: Path) -> None:
    """Let modules of a folder be imported, unless others have their names."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


@contextmanager
def _parts_of(what: str) -> Iterator[None]:
    """Report errors of the user's code in one sentence, and write no cached code."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    except (Exception, SystemExit) as error:
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{what} cannot be imported: {said}") from error
    finally:
        sys.dont_write_bytecode = before
