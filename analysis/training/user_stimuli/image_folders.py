"""Folders of images as stimuli: one folder per class, in parts of the split if train, val and test folders say so."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from analysis.training.user_stimuli.stimulus_columns import GivenStimuli
from checkpoints.errors import UnreadableInputs
from checkpoints.stimulus_inputs.item_inputs import ItemInputs

__all__ = ["Images", "image_stimuli"]

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_PARTS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
_WIDE_MODES = ("F", "I", "I;16", "I;16B", "I;16L", "I;16N")  # whose values 8 bits cannot hold
_SHOWN_NAMES = 3


class Images:
    """Images of one size as a map-style data set: float32 in [0, 1], shape (3, height, width), or as transformed.

    Parameters
    ----------
    files : sequence of path
    transform : callable (PIL image in RGB) -> array, tensor or PIL image, optional
    """

    def __init__(self, files: Sequence[Path], transform: Callable[[Any], Any] | None = None) -> None:
        self._files, self._transform = files, transform
        self._size: tuple[int, int] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._files)

    def __getitem__(self, index: int) -> Any:
        """Return an image; an UnreadableInputs names its file."""
        file = self._files[index]
        image = _opened(file)
        if self._transform is not None:
            try:
                image = self._transform(image)
            except Exception as error:  # the user's code may raise anything
                described = f"{type(error).__name__}: {' '.join(str(error).split())}"
                raise UnreadableInputs(f"{file} could not be transformed ({described}).") from error
            if not isinstance(image, Image.Image):
                return image
        self._size = self._size or image.size
        if image.size != self._size:
            (width, height), (first_width, first_height) = image.size, self._size
            raise UnreadableInputs(
                f"{file} has {width} x {height} pixels, and others have {first_width} x {first_height}; expected "
                "images of one size. Give --transform module:function, a function that makes them so."
            )
        return np.moveaxis(np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255), -1, 0)


def image_stimuli(folder: Path, transform: Callable[[Any], Any] | None, say: Callable[[str], None]) -> GivenStimuli:
    """Return the images of a folder as stimuli, with relative paths as ids.

    Folders in it are classes, in alphabetical order. If all of them are called train, val (or validation, valid) or
    test, they are parts of the split, and folders in these are classes. Images that are in no folder have no labels.
    Links are followed.

    Raises
    ------
    ValueError
        If there are no images, if a folder has none, if images lie beside folders, if only some folders are parts of
        the split, or if only some parts have folders of classes.
    """
    ignored: Counter[str] = Counter()
    parts = _parts(folder)
    found = [
        (file, _PARTS.get(part.name.lower(), ""), label) for part in parts for file, label in _labelled(part, ignored)
    ]
    if not found:
        raise ValueError(f"{folder} holds no images ({', '.join(_SUFFIXES)}).")
    if ignored:
        names = ", ".join(f"{count} {name}" for name, count in ignored.most_common(_SHOWN_NAMES))
        say(f"{ignored.total()} files and folders in {folder} that are hidden or no images were ignored ({names}).")
    files, split, labels = zip(*found, strict=True)
    _check_all_or_none(files, labels)
    columns: dict[str, Any] = {"ids": [file.relative_to(folder).as_posix() for file in files]}
    has_labels = labels[0] is not None
    if has_labels:
        columns["y"] = np.array(labels)
    if parts != [folder]:
        columns["split"] = np.array(split)
    _say_reading(folder, columns, parts, say)
    inputs = ItemInputs(Images(files, transform), "Images", with_labels=False)
    return GivenStimuli(inputs, columns, str(folder))


def _parts(folder: Path) -> list[Path]:
    """Return the folders that are parts of the split, or the folder itself if there are none."""
    folders = _visible_folders(folder)
    named = [each for each in folders if each.name.lower() in _PARTS]
    if not named:
        return [folder]
    if others := [each for each in folders if each not in named]:
        raise ValueError(
            f"{folder} has the folders {named[0].name} and {others[0].name}; expected one folder per class, or only "
            "train, val and test with one folder per class in each. Rename or move one of them."
        )
    if files := [each for each in _entries(folder) if _is_image(each)]:
        raise ValueError(f"{files[0]} lies beside the folder {named[0].name}; move it into one of the folders.")
    return named


def _labelled(part: Path, ignored: Counter[str]) -> Iterator[tuple[Path, str | None]]:
    """Yield each image below a folder with the name of its class, or None if there are no folders of classes."""
    classes = _visible_folders(part)
    loose = [each for each in _entries(part) if not each.is_dir() and _is_image(each)]
    if classes and loose:
        raise ValueError(
            f"{loose[0]} lies beside the folder {classes[0].name}; expected either one folder per class, or images "
            "alone. Move it into one of the folders."
        )
    _count_others(part, ignored)
    yield from ((file, None) for file in loose)
    for each in classes:
        files = list(_images_below(each, ignored, ()))
        if not files:
            raise ValueError(f"{each} holds no images ({', '.join(_SUFFIXES)}); remove it, or name it '.{each.name}'.")
        yield from ((file, each.name) for file in files)


def _check_all_or_none(files: Sequence[Path], labels: Sequence[str | None]) -> None:
    """Raise ValueError if some images lie in folders of classes and others, in another part of the split, do not."""
    if None in labels and len(set(labels)) > 1:
        file = files[labels.index(None)]
        raise ValueError(
            f"{file} is in no folder of a class, and images in other parts of the split are. Move it into one, or name "
            f"its folder '.{file.parent.name}', which leaves it out."
        )


def _images_below(folder: Path, ignored: Counter[str], above: tuple[str, ...]) -> Iterator[Path]:
    """Yield the images of a folder and of those in it; a link to a folder above is not followed again."""
    here = os.path.realpath(folder)
    if here in above:
        return
    _count_others(folder, ignored)
    for each in _entries(folder):
        if each.is_dir():
            yield from _images_below(each, ignored, (*above, here))
        elif _is_image(each):
            yield each


def _count_others(folder: Path, ignored: Counter[str]) -> None:
    for each in folder.iterdir():
        if each.name.startswith("."):
            ignored["hidden"] += 1
        elif not each.is_dir() and not _is_image(each):
            ignored[each.suffix.lower() or each.name] += 1


def _entries(folder: Path) -> list[Path]:
    """Return the visible files and folders in a folder by name."""
    return sorted((each for each in folder.iterdir() if not each.name.startswith(".")), key=lambda each: each.name)


def _visible_folders(folder: Path) -> list[Path]:
    return [each for each in _entries(folder) if each.is_dir()]


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in _SUFFIXES


def _opened(file: Path) -> Image.Image:
    """Return an image in RGB."""
    try:
        with Image.open(file) as image:
            if image.mode in _WIDE_MODES:
                raise ValueError(f"its mode {image.mode} has more than 8 bits, which RGB has not; convert it first")
            return image.convert("RGB")
    except Exception as error:  # damaged images make Pillow raise almost anything
        described = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableInputs(f"{file} cannot be read as an image ({described}).") from error


def _say_reading(folder: Path, columns: dict[str, Any], parts: list[Path], say: Callable[[str], None]) -> None:
    """Say how the folders were understood."""
    classes = len(set(columns["y"].tolist())) if "y" in columns else 0
    labels = f"one folder per class ({classes})" if classes else "images without labels"
    split = "" if "split" not in columns else f" in {', '.join(each.name for each in parts)}, which are the split"
    say(f"{folder} is read as {labels}{split}: {len(columns['ids'])} images.")
