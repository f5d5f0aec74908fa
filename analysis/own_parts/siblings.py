"""The packages beside ``analysis``, imported before a file of the user can take their names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

__all__ = ["ROOT", "import_siblings"]

ROOT = Path(__file__).absolute().parents[2]
_SIBLINGS = ("checkpoints", "probes", "repsim")


def import_siblings() -> None:
    """Import the packages that ``analysis`` needs from the folder that holds it, whatever is first on the path.

    A script called ``probes.py`` in the working directory would otherwise be imported in the place of the package: the
    working directory is on the path in notebooks, in ``python -m``, and while a user's module is imported.

    Raises
    ------
    ImportError
        If another module of one of these names has been imported before; the message names its file.
    """
    before = list(sys.path)
    sys.path.insert(0, str(ROOT))
    try:
        for name in _SIBLINGS:
            found = getattr(importlib.import_module(name), "__file__", None)
            if found is None or Path(found).absolute().parents[1] != ROOT:
                raise ImportError(
                    f"'{name}' was imported from {found or 'a folder without __init__.py'}, which hides a package of "
                    f"repsim in {ROOT}. Rename that file."
                )
    finally:
        sys.path[:] = before
