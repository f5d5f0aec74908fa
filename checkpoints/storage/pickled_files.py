"""Pickled files of other programs: tensors and plain values are read, everything else becomes a stand-in."""

from __future__ import annotations

import builtins
import pickle
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from checkpoints.errors import Damaged
from checkpoints.storage.regular_files import check_regular

__all__ = ["StandIn", "read_pickle"]

_FIRST_SAFE_TORCH = (2, 10)
_MOST_CLASSES = 1000
_MODULE = "stand_in"  # by which torch's messages show that an object is a stand-in
_UNKNOWN = re.compile(r"GLOBAL (\S+) was not an allowed global")
_CONTAINER = re.compile(rf"Can only (\w+) (?:for|to|lists).*got <class '{_MODULE}\.(.+?)'>", re.DOTALL)
_FLOATS = {2: "e", 4: "f", 8: "d"}  # by the number of bytes
_RUNS_CODE = (  # modules of the standard library
    *("_pickle", "asyncio", "code", "codeop", "commands", "ctypes", "importlib", "marshal", "multiprocessing", "nt"),
    *("os", "pickle", "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys", "webbrowser"),
)


class StandIn:
    """An object in a pickled file whose class is not loaded; it takes any arguments and any state, and keeps none."""

    name = "object"

    def __new__(cls, *_: Any) -> Any:
        """Return a stand-in, whatever the arguments are."""
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        """Ignore the arguments."""

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


class _NumPyType(StandIn):
    """The type of NumPy numbers: its code, such as ``i8``, and the order of its bytes."""

    code, order = "", "little"

    def __init__(self, code: Any = "", *_: Any) -> None:
        """Keep the code."""
        self.code = code if isinstance(code, str) else ""

    def __setstate__(self, state: Any) -> None:
        """Keep the order of the bytes, which is the second part of the state of a dtype."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.order = "big"


class _NumPyNumber(StandIn):
    """A NumPy number, which becomes a plain number if it is a whole or floating-point one."""

    def __new__(cls, dtype: Any = None, content: Any = b"", *_: Any) -> Any:
        """Return the number, or a stand-in."""
        kind, size = (dtype.code[:1], dtype.code[1:]) if isinstance(dtype, _NumPyType) else ("", "")
        if not isinstance(content, bytes) or size != str(len(content)):
            return super().__new__(cls)
        if kind in ("i", "u"):
            return int.from_bytes(content, dtype.order, signed=kind == "i")
        if kind == "f" and len(content) in _FLOATS:
            return struct.unpack((">" if dtype.order == "big" else "<") + _FLOATS[len(content)], content)[0]
        return super().__new__(cls)


def read_pickle(path: Path) -> Any:
    """Return the content of a file of ``torch.save``, read by torch's restricted reader (``weights_only=True``).

    No class is imported and no code of the file runs: objects other than tensors and plain values become ``StandIn``,
    NumPy numbers become plain ones, and objects of classes derived from dict or list plain dicts or lists.

    Raises
    ------
    Damaged
        If the file is missing, cannot be read, or calls a function that runs code.
    ValueError
        If torch is too old to read pickles safely.
    """
    if _torch_version() < _FIRST_SAFE_TORCH:
        raise ValueError(
            f"{path} is a pickle, which torch {torch.__version__} does not read safely. Install torch 2.10 or newer, "
            "or convert the file to .safetensors where it is trusted."
        )
    check_regular(path)
    try:
        _check_archive(path)
        with _no_classes_allowed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(path)
    except Damaged:
        raise
    except Exception as error:  # a malformed pickle can make its reader raise anything
        raise Damaged(
            f"{path} is not a file of plain tensors, but a whole model, other objects or no pickle; it was not read. "
            "Save model.state_dict()."
        ) from error


def _read(path: Path) -> Any:
    """Read a file anew until every foreign class has a stand-in of the right kind; mostly the first reading succeeds.

    torch lists the classes only of files in its present format, and which of them are containers shows in reading.
    """
    kinds: dict[str, type] = dict.fromkeys(_foreign_names(path), StandIn)
    while True:
        _check_harmless(path, kinds)
        try:
            with torch.serialization.safe_globals([(_stand_in(*each), each[0]) for each in kinds.items()]):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            learnt = _described_kind(str(error))
            if learnt is None or kinds.get(learnt[0]) not in (None, StandIn) or learnt in kinds.items():
                raise
            kinds.update([learnt])


def _foreign_names(path: Path) -> list[str]:
    return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path)) if zipfile.is_zipfile(path) else []


def _described_kind(message: str) -> tuple[str, type] | None:
    """Return the class that a message of torch's reader is about, and what it should have been."""
    if unknown := _UNKNOWN.search(message):
        name = unknown[1]
        return (name if "." in name else f"builtins.{name}"), StandIn
    if container := _CONTAINER.search(message):
        return container[2], OrderedDict if container[1].startswith("SETITEM") else list
    return None


def _stand_in(name: str, kind: type) -> Any:
    """Return a class of its own for each name, whose objects are stand-ins, dicts or lists."""
    own: dict[str, Any] = {"__module__": _MODULE, "__qualname__": name, "name": name}
    if kind is StandIn:
        return type(name, (_NUMPY.get(name, StandIn),), own)
    return type(name, (StandIn,), {**own, "__new__": lambda cls, *_: kind()})


def _check_harmless(path: Path, names: Collection[str]) -> None:
    """Raise Damaged for names of functions that run code: although they are not called, the file is not trusted."""
    if len(names) > _MOST_CLASSES:
        raise Damaged(f"{path} names more than {_MOST_CLASSES} classes; it was not read.")
    for name in names:
        module, _, function = name.rpartition(".")
        built_in = getattr(builtins, function, None) if module == "builtins" else None
        if name.split(".")[0] in _RUNS_CODE or (callable(built_in) and not _is_plain(built_in)):
            raise Damaged(f"{path} calls {name}, which no file of weights needs; it was not read.")


def _is_plain(built_in: Any) -> bool:
    return isinstance(built_in, type) or built_in is getattr  # by which pickles name methods


@contextmanager
def _no_classes_allowed() -> Iterator[None]:
    """Suspend the list of classes that this process allows to be loaded, so that reading does not depend on it."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        yield
    finally:
        torch.serialization.add_safe_globals(allowed)


def _check_archive(path: Path) -> None:
    """Raise Damaged if the records of a zip archive are compressed or overlap, and so exceed its size."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
        size = path.stat().st_size
        if sum(record.file_size for record in records) > size or any(record.compress_type for record in records):
            raise Damaged(f"{path} is a compressed archive; expected one as torch.save writes it.")


def _torch_version() -> tuple[int, ...]:
    return tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])


_NUMPY: dict[str, type[StandIn]] = {
    "numpy.dtype": _NumPyType,
    "numpy._core.multiarray.scalar": _NumPyNumber,
    "numpy.core.multiarray.scalar": _NumPyNumber,
}
