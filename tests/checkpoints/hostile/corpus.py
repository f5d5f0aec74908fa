"""The corpus of hostile cases, by name, and the functions that add to it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h5py

from tests.checkpoints.hostile.reader import Place, seal, sealed, write_json

LARGEST = 2**20  # bytes of a hostile file on disk
DATA = "layers/0000/data"


@dataclass(frozen=True)
class Case:
    """A change of the run, the operations that must refuse it, and a part of what they say."""

    make: Callable[[Place], None]
    refusing: tuple[str, ...]
    message: str
    sealed: bool = field(default=True, kw_only=True)
    torch_version: str | None = field(default=None, kw_only=True)


CASES: dict[str, Case] = {}


def hostile(
    refusing: str, message: str, **options: Any
) -> Callable[[Callable[[Place], None]], Callable[[Place], None]]:
    """Add the decorated change to the corpus, under its name."""

    def add(make: Callable[[Place], None]) -> Callable[[Place], None]:
        CASES[make.__name__] = Case(make, tuple(filter(None, refusing.split(", "))), message, **options)
        return make

    return add


def in_activations(edit: Callable[[h5py.File, Place], Any], place: Place, **options: Any) -> None:
    with h5py.File(place.activations, "r+", **options) as file:
        edit(file, place)


def hostile_hdf5(message: str, **options: Any) -> Callable[[Callable[[h5py.File, Place], Any]], Any]:
    """Add an edit of ``activations.h5`` to the corpus."""

    def add(edit: Callable[[h5py.File, Place], Any]) -> Any:
        CASES[edit.__name__] = Case(partial(in_activations, edit, **options), ("activations", "verify"), message)
        return edit

    return add


def replaced(file: h5py.File, name: str = DATA, **options: Any) -> h5py.Dataset:
    """Put another dataset in the place of one."""
    del file[name]
    return file.create_dataset(name, **options)


def created(
    file: h5py.File, name: str, kind: Any, shape: tuple[int, ...], properties: Any = None
) -> h5py.h5d.DatasetID:
    """Put a dataset of a type that only HDF5 knows in the place of one."""
    del file[name]
    return h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), properties)


def linked(file: h5py.File, name: str, link: Any) -> None:
    del file[name]
    file[name] = link


def change_json(place: Place, name: str, change: Callable[[Any], Any]) -> None:
    value = json.loads(place.of(name).read_bytes())
    change(value)
    if name == "run.json":
        value = sealed(value)
    write_json(place.of(name), value)
    if name != "MANIFEST.json":
        seal(place)


def changing(name: str, refusing: str, message: str, **changes: Callable[[Any], Any]) -> None:
    for what, change in changes.items():
        make = partial(change_json, name=name, change=change)
        CASES[f"{name} with {what}"] = Case(make, tuple(refusing.split(", ")), message, sealed=False)
