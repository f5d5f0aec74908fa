"""Inputs that are read when they are needed, recognised by their type."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import h5py
import numpy as np

from checkpoints.conversion import as_array, is_data_set
from checkpoints.stimulus_inputs.array_inputs import ArrayInputs
from checkpoints.stimulus_inputs.input_source import InputSource, NamedInputs

__all__ = ["as_source", "input_name"]


def as_source(values: Any, n: int | None = None, *, with_labels: bool = False) -> InputSource | None:
    """Return a source of inputs that are not in memory, or None if they are.

    Sources are data sets, loaders, memory-mapped arrays and datasets of HDF5 files, and mappings in which at least one
    part is one of these.

    Parameters
    ----------
    values : object
        Inputs of a network, as ``Stimuli.of`` takes them.
    n : int, optional
        Number of stimuli that a source must have.
    with_labels : bool
        Whether items of a data set may be pairs of input and label.

    Raises
    ------
    ValueError
        If there are not ``n`` stimuli, if an iterable data set has no order, or if a loader leaves items out.
    """
    if isinstance(values, InputSource):
        return values
    if not isinstance(values, Mapping):
        return _checked(_source(values, "", with_labels), "", n)
    parts = {name: _source(part, str(name), False) for name, part in values.items()}
    if all(part is None for part in parts.values()):
        return None
    sources = {name: _in_memory(values[name], name) if part is None else part for name, part in parts.items()}
    return NamedInputs({name: _checked(part, name, n) for name, part in sources.items()})


def input_name(name: str) -> str:
    """Return a plural noun for an input in messages."""
    return f"Inputs '{name}'" if name else "Inputs"


def _source(values: Any, name: str, with_labels: bool) -> InputSource | None:
    what = input_name(name)
    if isinstance(values, np.memmap | h5py.Dataset):
        return ArrayInputs.of(values, what)
    data = sys.modules.get("torch.utils.data")  # without it, nothing is a loader
    if data is not None and isinstance(values, data.DataLoader):
        from checkpoints.stimulus_inputs.loader_inputs import LoaderInputs  # here, because it imports torch

        return LoaderInputs(values, what, with_labels=with_labels)
    if not is_data_set(values) and not (data is not None and isinstance(values, data.IterableDataset)):
        return None
    from checkpoints.stimulus_inputs.item_inputs import NO_ORDER, ItemInputs  # likewise

    if data is not None and isinstance(values, data.IterableDataset):
        raise ValueError(f"{what} cannot be read in order. {NO_ORDER}")
    return ItemInputs(values, what, with_labels=with_labels)


Source = TypeVar("Source", InputSource, InputSource | None)


def _checked(source: Source, name: str, n: int | None) -> Source:
    if source is not None and n is not None and len(source) != n:
        raise ValueError(
            f"{input_name(name)} have {len(source)} items for {n} stimuli; expected one for each stimulus."
        )
    return source


def _in_memory(values: Any, name: str) -> InputSource:
    return ArrayInputs.of(as_array(values, input_name(name)), input_name(name))
