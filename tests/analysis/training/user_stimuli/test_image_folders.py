"""Folders of images: what is a class, a part of the split or ignored, and which images are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from analysis.config.stimulus_files import StimulusConfig
from analysis.training.user_stimuli.image_folders import image_stimuli
from analysis.training.user_stimuli.stimulus_columns import stimuli_of

RNG = np.random.default_rng(0)


def save(file: Path, size: tuple[int, int] = (5, 4), mode: str = "RGB") -> np.ndarray:
    """Write an image of noise, and return it in RGB."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    image = PIL.Image.fromarray(pixels).convert(mode)
    image.save(file)
    with PIL.Image.open(file) as written:
        return np.asarray(written.convert("RGB"))


def read(folder: Path, transform: Callable[[Any], Any] | None = None) -> tuple[Any, list[str]]:
    said: list[str] = []
    return stimuli_of(image_stimuli(folder, transform, said.append), StimulusConfig()).stimuli, said


def test_folders_are_classes_and_paths_are_ids(tmp_path: Path) -> None:
    images = {name: save(tmp_path / name) for name in ("dog/é 1.png", "cat/2.png", "cat/deep/1.png", "cat/10.PNG")}
    stimuli, said = read(tmp_path)
    assert stimuli.ids.tolist() == ["cat/10.PNG", "cat/2.png", "cat/deep/1.png", "dog/é 1.png"]
    assert (stimuli.labels.tolist(), stimuli.classes) == ([0, 0, 0, 1], ("cat", "dog"))
    expected = np.stack([images[name] for name in stimuli.ids.tolist()]).astype(np.float32) / 255
    np.testing.assert_array_equal(stimuli.first_inputs(4), expected.transpose(0, 3, 1, 2))
    assert said == [f"{tmp_path} is read as one folder per class (2): 4 images."]


@pytest.mark.parametrize("validation", ["val", "validation", "Valid"])
def test_train_val_and_test_are_parts_of_the_split(tmp_path: Path, validation: str) -> None:
    for part in ("train", validation, "test"):
        for label in ("a", "b"):
            save(tmp_path / part / label / "1.png")
    stimuli, said = read(tmp_path)
    of_id = dict(zip(stimuli.ids.tolist(), stimuli.split.tolist(), strict=True))
    assert of_id[f"{validation}/a/1.png"] == "validation"
    assert (of_id["train/b/1.png"], of_id["test/a/1.png"], stimuli.classes) == ("train", "test", ("a", "b"))
    assert "which are the split: 6 images" in said[0]


def test_images_without_folders_have_no_labels(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        save(tmp_path / name)
    stimuli, said = read(tmp_path)
    assert (stimuli.classes, stimuli.ids.tolist()) == ((), ["1.png", "2.png"])
    assert "images without labels: 2 images" in said[0]


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_part_without_folders_of_classes_beside_parts_with_them_is_refused(tmp_path: Path, part: str) -> None:
    for name in ("train/cat/1.png", "train/dog/1.png", f"{part}/1.png"):
        save(tmp_path / name)
    message = rf"{part}/1.png is in no folder of a class, and .* name its folder '.{part}', which leaves it out"
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_images_of_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    pixels = save(tmp_path / "1.png", mode=mode)
    values = np.asarray(read(tmp_path)[0].first_inputs(1))
    np.testing.assert_array_equal(values[0], pixels.transpose(2, 0, 1).astype(np.float32) / 255)


TRANSFORMS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "image": (lambda image: image.resize((3, 2)), (3, 2, 3)),
    "array": (lambda image: np.asarray(image.resize((3, 2))), (2, 3, 3)),
    "tensor": (lambda image: torch.ones(7), (7,)),
}


@pytest.mark.parametrize(("transform", "shape"), TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_transform_makes_images_of_one_size(
    tmp_path: Path, transform: Callable[[Any], Any], shape: tuple[int, ...]
) -> None:
    save(tmp_path / "a" / "1.png")
    save(tmp_path / "a" / "2.png", size=(9, 7))
    with pytest.raises(ValueError, match=r"2.png has 9 x 7 pixels, and others have 5 x 4; .* Give --transform mod"):
        read(tmp_path)
    assert np.asarray(read(tmp_path, transform)[0].first_inputs(2)).shape == (2, *shape)


def test_other_files_are_ignored_and_counted(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    for name in (".DS_Store", "a/.hidden.png", "a/notes.txt", "a/README"):
        (tmp_path / name).touch()
    stimuli, said = read(tmp_path)
    assert len(stimuli) == 1
    assert said[0].startswith(f"4 files and folders in {tmp_path} that are hidden or no images were ignored (2 hidden")


def test_links_are_followed_once(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "file.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "round").symlink_to(tmp_path / "data" / "a")
    assert read(tmp_path / "data")[0].ids.tolist() == ["a/file.png", "b/1.png"]


def damaged(folder: Path) -> None:
    save(folder / "a" / "1.png", size=(50, 40))
    save(folder / "a" / "2.png", size=(50, 40))
    (folder / "a" / "2.png").write_bytes((folder / "a" / "2.png").read_bytes()[:300])


def deep(folder: Path) -> None:
    (folder / "a").mkdir()
    PIL.Image.fromarray(np.full((4, 4), 60000, np.uint16)).save(folder / "a" / "1.png")


def beside(folder: Path) -> None:
    save(folder / "a" / "1.png")
    save(folder / "2.png")


def mixed(folder: Path) -> None:
    save(folder / "train" / "a" / "1.png")
    save(folder / "cat" / "2.png")


def beside_parts(folder: Path) -> None:
    save(folder / "train" / "a" / "1.png")
    save(folder / "2.png")


def one_empty(folder: Path) -> None:
    save(folder / "a" / "1.png")
    (folder / "b").mkdir()


def dangling(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "1.png").symlink_to(folder / "nowhere.png")


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda folder: None, r"holds no images \(.bmp, .gif"),
    "empty class": (one_empty, r"b holds no images \(.*remove it, or name it '.b'"),
    "damaged": (damaged, r"a/2.png cannot be read as an image \("),
    "dangling": (dangling, r"a/1.png cannot be read as an image \("),
    "16 bits": (deep, r"a/1.png cannot be read as an image \(its mode I;16 has more than 8 bits"),
    "beside": (beside, r"2.png lies beside the folder a; expected either one folder per class, or images alone"),
    "mixed": (mixed, "has the folders train and cat; expected one folder per class, or only train, val and test"),
    "beside parts": (beside_parts, "2.png lies beside the folder train; move it into one of the folders"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_what_is_unclear_or_damaged_is_refused(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    make(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


def test_an_error_of_the_transform_names_the_image(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    with pytest.raises(ValueError, match=r"a/1.png could not be transformed \(ZeroDivisionError: division by zero\)"):
        read(tmp_path, lambda image: 1 / 0)
