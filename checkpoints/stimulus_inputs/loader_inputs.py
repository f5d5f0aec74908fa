"""Inputs from a torch DataLoader: its data set, collate function and worker processes, in our own order."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence, Sized
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from checkpoints.conversion import as_array, read_item
from checkpoints.errors import UnreadableInputs
from checkpoints.generators import preserve_generators
from checkpoints.stimulus_inputs.item_inputs import NO_ORDER, ItemInputs, Part, arrays_of, split_labels

__all__ = ["LoaderInputs"]

_MOST_TOGETHER = 64  # items of a loader that has a batch sampler instead of a batch size


class LoaderInputs(ItemInputs):
    """Items of a loader's data set, numbered as the data set numbers them, whatever the loader's order.

    The loader's worker processes read ahead, and end with each pass. Single stimuli are read in this process.

    Raises
    ------
    ValueError
        If the data set has no order, if the loader makes no batches, or if it leaves items out.
    """

    def __init__(self, loader: DataLoader[Any], what: str, *, with_labels: bool) -> None:
        if isinstance(loader.dataset, IterableDataset):
            raise ValueError(f"{what} cannot be read in order. {NO_ORDER}")
        if loader.batch_sampler is None:
            raise ValueError(f"{what} come from a loader that makes no batches (batch_size=None); give its data set.")
        super().__init__(loader.dataset, what, with_labels=with_labels)
        sampler = loader.sampler
        n_drawn = len(sampler) if isinstance(sampler, Sized) else len(self)  # unknown of a sampler without a length
        if loader.batch_size is not None and n_drawn != len(self):
            raise ValueError(
                f"{what} come from a loader whose sampler draws {n_drawn} of {len(self)} items; choose the items with "
                "torch.utils.data.Subset instead."
            )
        self._loader = loader

    def _read(self, rows: Sequence[int]) -> Part:
        with preserve_generators():
            items = [read_item(self.dataset, int(row), self.what) for row in rows]
            with _described_errors(self.what, rows):
                batch = self._loader.collate_fn(items)
        return self._unpacked(batch, rows)

    def _parts(self, rows: Sequence[int], size: int) -> Iterator[Part]:
        """Yield inputs and labels; batches of at most the loader's size make up one part."""
        together = min(size, self._loader.batch_size or _MOST_TOGETHER)
        plan = [_split(rows[start : start + size], together) for start in range(0, len(rows), size)]
        with closing(self._batches([each for batches in plan for each in batches])) as loaded:
            for batches in plan:
                yield _joined([next(loaded) for _ in batches])

    def _batches(self, batches: list[list[int]]) -> Generator[Part, None, None]:
        """Yield inputs and labels of each batch, read by worker processes if the loader has any."""
        loader, generator = self._loader, torch.Generator()
        generator.seed()  # so that random transforms differ in each pass, and are noticed
        loading: Any = iter(
            DataLoader(
                self.dataset,
                batch_sampler=batches,
                collate_fn=loader.collate_fn,
                num_workers=loader.num_workers,
                worker_init_fn=loader.worker_init_fn,
                multiprocessing_context=loader.multiprocessing_context,
                timeout=loader.timeout,
                prefetch_factor=loader.prefetch_factor,
                generator=generator,
            )
        )
        try:
            for rows in batches:
                with preserve_generators(), _described_errors(self.what, rows):
                    batch = next(loading)
                yield self._unpacked(batch, rows)
        finally:
            end_workers = getattr(loading, "_shutdown_workers", None)  # otherwise they live as long as an error is kept
            if end_workers is not None:
                end_workers()

    def _unpacked(self, batch: Any, rows: Sequence[int]) -> Part:
        """Return inputs and labels of what the collate function returned for some items."""
        batch = tuple(batch) if isinstance(batch, list) and len(batch) <= 2 else batch
        given, labels = split_labels(batch, self.what, with_labels=self._with_labels)
        where = f"item {rows[0]}" if len(rows) == 1 else f"items {rows[0]} to {rows[-1]}"
        inputs = arrays_of(given, self.what, where)
        labels = None if labels is None else as_array(labels, "Labels")
        for part in (*inputs.values(), *(() if labels is None else (labels,))):
            if part.shape[:1] != (len(rows),):
                raise UnreadableInputs(
                    f"The loader's collate_fn returned an array of shape {part.shape} for {len(rows)} stimuli; "
                    "expected one row for each."
                )
        self._check({name: part[0] for name, part in inputs.items()}, where)
        return inputs, labels


def _split(rows: Sequence[int], size: int) -> list[list[int]]:
    return [[int(row) for row in rows[start : start + size]] for start in range(0, len(rows), size)]


def _joined(parts: list[Part]) -> Part:
    """Return the inputs and labels of several batches, one after the other."""
    if len(parts) == 1:
        return parts[0]
    inputs = {name: np.concatenate([part[name] for part, _ in parts]) for name in parts[0][0]}
    labels = [labels for _, labels in parts]
    return inputs, None if any(each is None for each in labels) else np.concatenate(labels)


@contextmanager
def _described_errors(what: str, rows: Sequence[int]) -> Iterator[None]:
    """Raise any error of the user's data set or collate function as one sentence."""
    try:
        yield
    except UnreadableInputs:
        raise
    except Exception as error:
        last = str(error).strip().splitlines()[-1:] or [""]  # those of worker processes end with the error itself
        name = type(error).__name__
        text = last[0] if last[0].startswith(name) else f"{name}: {last[0]}"
        raise UnreadableInputs(f"{what} could not be read among items {rows[0]} to {rows[-1]} ({text}).") from error
