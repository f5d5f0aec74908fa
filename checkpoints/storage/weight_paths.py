"""Files of weights: which file of a folder is read, and which files the index of several names."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from checkpoints.errors import Damaged
from checkpoints.storage.regular_files import read_bytes, sha256

__all__ = ["INDEX", "Shards", "read_index", "standard_files", "weight_digest", "weight_path"]

INDEX = ".index.json"

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
_EXPECTED = ".safetensors, .pt, .pth, .bin, .ckpt, .tar, the .index.json of several files, or a folder of these"
_STANDARD = ("model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors")  # with or without index
_MOST_NAMES = 6
_LARGEST_INDEX = 2**26  # bytes


@dataclass(frozen=True)
class Shards:
    """The files that an index names, each with the names of its entries."""

    names: Mapping[Path, list[str]]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files, in the order of the index."""
        return tuple(self.names)


def weight_path(path: Path) -> Path:
    """Return the file of weights that a path means: itself, or the one in the folder.

    Raises
    ------
    ValueError
        If the type of the file is unknown, or the folder holds none or several that could be meant.
    """
    if path.is_dir():
        return _file_of_folder(path)
    if not path.name.endswith((INDEX, *_SUFFIXES)):
        raise ValueError(f"{path} has an unknown type; expected {_EXPECTED}.")
    return path


def _file_of_folder(folder: Path) -> Path:
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith((INDEX, *_SUFFIXES)))
    if not names:
        raise ValueError(f"{folder} holds no weights; expected {_EXPECTED}.")
    standard = next(iter(standard_files(folder)), None)
    if standard is None:
        meant = [name for name in names if name.endswith(INDEX)] or names
    else:  # others beside it are the state of a training, or the same weights in an older format
        stem, suffix = Path(standard).stem, Path(standard).suffix
        numbered = [name for name in names if name.startswith(f"{stem}_") and name.endswith((suffix, suffix + INDEX))]
        meant = [name for name in names if name in (standard, standard + INDEX)] + numbered
    if len(meant) > 1:
        more = f" and {len(meant) - _MOST_NAMES} more" if len(meant) > _MOST_NAMES else ""
        series = _as_series(folder, meant) if standard is None else ""
        raise ValueError(
            f"{folder} holds several files of weights; give one: {', '.join(meant[:_MOST_NAMES])}{more}.{series}"
        )
    return folder / meant[0]


def standard_files(folder: Path) -> list[str]:
    """Return the usual names under which a folder holds weights, alone or with an index; the first of them is read."""
    return [name for name in _STANDARD if (folder / name).exists() or (folder / (name + INDEX)).exists()]


def _as_series(folder: Path, names: list[str]) -> str:
    """Return how files of one type are given as a series, as a further sentence."""
    suffixes = {Path(name).suffix for name in names}
    return f" To record them as a series, give the pattern '{folder}/*{suffixes.pop()}'." if len(suffixes) == 1 else ""


def read_index(path: Path) -> Shards:
    """Return the files that an index names.

    Raises
    ------
    Damaged
        If the index cannot be read, names a file outside its folder, or names a file that is missing.
    """
    try:
        files = json.loads(read_bytes(path.resolve(), _LARGEST_INDEX))["weight_map"]
        entries = [(str(name), files[name]) for name in files if isinstance(files[name], str)]
        if not entries or len(entries) < len(files):
            raise ValueError("weight_map names no file for some weights")
    except Damaged:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"{path} is not the index of several files of weights ({error}).") from error
    names: dict[Path, list[str]] = defaultdict(list)
    for name, file in entries:
        if "/" in file or "\\" in file or not file.endswith(_SUFFIXES):
            raise Damaged(f"{path} names {file!r}; expected the name of a file of weights in the same folder.")
        names[path.parent / file].append(name)
    if missing := [file.name for file in names if not file.is_file()]:
        raise Damaged(
            f"{path} names {missing[0]}, which is missing ({len(missing)} of {len(names)} files are); "
            "put all of them into its folder."
        )
    return Shards(names)


def weight_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file of weights, or of the list of the SHA-256 and names of several, as ``sha256sum``."""
    file = weight_path(Path(path))
    if not file.name.endswith(INDEX):
        return sha256(file.resolve())
    lines = (f"{sha256(each.resolve())}  {each.name}\n" for each in (file, *read_index(file).files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
