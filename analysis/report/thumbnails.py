"""Thumbnails of stimuli that are images, read again from their data set or file."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from analysis.config.recorded_steps import is_trained_here
from analysis.training.user_stimuli.stimulus_loading import load_stimuli
from checkpoints import Run, Stimuli
from repsim.learning import Dataset, load_dataset

__all__ = ["Sprite", "images_of", "sprite_of", "thumbnails"]

_SIDE = 32
_MOST_READ = 5_000  # stimuli of a file or folder, all of which are read for their hash
_COLUMNS = 16


class Sprite(NamedTuple):
    """One picture that holds the tiles of many, row by row."""

    source: str
    width: int
    height: int
    columns: int


def thumbnails(run: Run, rows: NDArray[np.int64]) -> tuple[Sprite | None, str]:
    """Return a sprite of the stimuli in these rows, or None and the reason."""
    try:
        return sprite_of(images_of(run, rows)), ""
    except (ValueError, OSError, ImportError) as error:
        return None, f"No pictures of the stimuli: {error}"


def images_of(run: Run, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return the images that a run recorded in some rows, shape (n, h, w, 1 or 3).

    Nothing is downloaded, and no code of the user runs.
    """
    config = run.config
    if run.stimuli.positions is not None:
        raise ValueError("the stimuli are tokens of sequences and not images.")
    if is_trained_here(config):
        inputs = _of_data_set(run, config)[rows]
    elif isinstance(config.get("source"), dict) and isinstance(config.get("data"), dict):
        inputs = _of_file(run, str(config["data"].get("name", "")), rows)
    else:
        raise ValueError("the run does not name its data set.")
    return _channels_last(inputs)


def _of_data_set(run: Run, config: dict[str, Any]) -> NDArray[Any]:
    data, trained_on = config["data"], config["training"].get("data")
    name, folder = data.get("name"), data.get("data_dir")
    chosen = trained_on if isinstance(trained_on, str) and Path(trained_on).name == name else name
    if not isinstance(chosen, str):
        raise ValueError("the run does not name its data set.")
    if chosen == "mnist" and folder is None:
        raise ValueError(
            "mnist was downloaded for training, and a report downloads nothing. Train with --data-dir to see images."
        )
    dataset = load_dataset(chosen, folder)
    inputs = _recorded(run, dataset)
    if dataset.image_shape is None:
        raise ValueError(f"the examples of {name} are not images.")
    return inputs.reshape(len(inputs), *dataset.image_shape)


def _recorded(run: Run, dataset: Dataset) -> NDArray[Any]:
    """Return the examples whose numbers are the ids of the stimuli, after comparing them with the recorded hash."""
    kept = run.stimuli
    indices = np.array([int(each) if each.isdecimal() else -1 for each in map(str, kept.ids)])
    if indices.min() < 0 or indices.max() >= len(dataset.y):
        raise ValueError(f"{dataset.name} has no examples with the ids of the stimuli.")
    found = Stimuli.of(kept.ids, dataset.y[indices], kept.split, dataset.X[indices])
    return _checked(kept, found, dataset.name, np.arange(len(kept)))


def _of_file(run: Run, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return the inputs of a file, or of a folder of images, beside which the report is made."""
    path = Path(name)
    if not name or path.name != name or not path.exists():
        raise ValueError(f"{name or 'the file of stimuli'} is not in the folder that the report was made in.")
    if len(run.stimuli) > _MOST_READ:
        raise ValueError(f"there are more than {_MOST_READ} stimuli, which are not read again.")
    return _checked(run.stimuli, load_stimuli(path).stimuli, name, rows)


def _checked(kept: Stimuli, found: Stimuli, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    if not np.array_equal(kept.ids, found.ids) or kept.content_hash != found.content_hash:
        raise ValueError(f"{name} does not hold the recorded stimuli (its hash differs).")
    inputs = found.inputs_at(rows.tolist())
    if not isinstance(inputs, np.ndarray):
        raise ValueError(f"the inputs in {name} are not images.")
    return inputs


def _channels_last(inputs: NDArray[Any]) -> NDArray[Any]:
    if inputs.ndim == 3:
        return inputs[..., None]
    if inputs.ndim == 4 and inputs.shape[1] in (1, 3):
        return np.moveaxis(inputs, 1, -1)
    raise ValueError(f"the stimuli have shape {inputs.shape[1:]}, and images are (h, w), (1, h, w) or (3, h, w).")


def sprite_of(images: NDArray[Any]) -> Sprite:
    """Return images (n, h, w, c) on one sheet, each at most 32 pixels a side; the darkest value is black."""
    tiles = np.stack([_shrunk(image) for image in np.asarray(images, dtype=np.float64)])
    low, high = float(tiles.min()), float(tiles.max())
    grey = np.rint((tiles - low) * (255 / (high - low) if high > low else 0.0)).astype(np.uint8)
    n, height, width, _ = grey.shape
    columns = min(_COLUMNS, n)
    sheet = np.zeros((-(-n // columns) * height, columns * width, 3), dtype=np.uint8)
    for index, tile in enumerate(grey):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = tile  # one channel is spread over three
    file = BytesIO()
    imsave(file, sheet, format="png")
    return Sprite("data:image/png;base64," + base64.b64encode(file.getvalue()).decode(), width, height, columns)


def _shrunk(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average square blocks until no side is above 32; a last partial block is kept."""
    block = -(-max(image.shape[:2]) // _SIDE)
    if block == 1:
        return image
    for axis in (0, 1):
        starts = np.arange(0, image.shape[axis], block)
        counts = np.diff(np.r_[starts, image.shape[axis]])
        sums = np.add.reduceat(image, starts, axis=axis)
        image = sums / counts.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return image
