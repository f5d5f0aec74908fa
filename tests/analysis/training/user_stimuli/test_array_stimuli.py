"""Stimuli in .npz, .npy and HDF5 files: in blocks if they are large, with the same hash as in memory."""

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from analysis.training.user_stimuli import array_stimuli
from analysis.training.user_stimuli.stimulus_loading import load_stimuli
from checkpoints.stimulus_inputs.input_source import InputSource

N = 40
X = np.random.default_rng(0).normal(size=(N, 3, 2)).astype(np.float32)
Y = np.arange(N) % 3
COLUMNS = {"y": Y, "ids": np.array([f"é{k}" for k in range(N)]), "split": np.array(["train", "test"] * (N // 2))}


@pytest.fixture(params=["large", "small"])
def is_large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "large":
        monkeypatch.setattr(array_stimuli, "_IN_MEMORY_BYTES", 100)
    return bool(request.param == "large")


def write(path: Path, arrays: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values.tolist() if values.dtype.kind == "U" else values
    return path


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("inputs", [{"X": X}, {"a": X, "b": Y[:, None]}, {"X": X.astype(">f8")}], ids=",".join)
def test_large_files_are_read_in_blocks_and_small_ones_into_memory(
    tmp_path: Path, suffix: str, inputs: dict[str, Any], is_large: bool
) -> None:
    stimuli = load_stimuli(write(tmp_path / f"s{suffix}", {**inputs, **COLUMNS})).stimuli
    assert isinstance(stimuli.inputs, InputSource) is is_large
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_stimuli, "_IN_MEMORY_BYTES", 2**30)
        expected = load_stimuli(write(tmp_path / "expected.npz", {**inputs, **COLUMNS})).stimuli
    assert stimuli.is_same_as(expected)
    assert stimuli.classes == ("0", "1", "2")
    assert stimuli.ids[0] == "é0"


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_file_holds_the_only_input_without_labels(tmp_path: Path, order: Any, is_large: bool) -> None:
    np.save(tmp_path / "x.npy", np.array(X, order=order))
    stimuli = load_stimuli(tmp_path / "x.npy").stimuli
    assert isinstance(stimuli.inputs, InputSource) is is_large
    np.testing.assert_array_equal(stimuli.first_inputs(N), X)
    assert stimuli.classes == ()


def test_a_compressed_file_is_read_as_a_whole_with_a_message(tmp_path: Path, is_large: bool) -> None:
    np.savez_compressed(tmp_path / "x.npz", X=X)
    said: list[str] = []
    assert isinstance(load_stimuli(tmp_path / "x.npz", said.append).stimuli.inputs, np.ndarray)
    assert any("is compressed, so it is read as a whole; save it with numpy.savez" in each for each in said) is is_large


def save_npy(path: Path, content: Any) -> None:
    np.save(path, content, allow_pickle=True)


def shortened(path: Path) -> None:
    np.save(path, X)
    path.write_bytes(path.read_bytes()[:-4])


def of_version_3(path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.zeros(3, [("é", "f4")]), version=(3, 0))


WRONG_NPY: dict[str, tuple[Any, str]] = {
    "objects": (lambda path: save_npy(path, np.array([{}], dtype=object)), "holds Python objects, which are never"),
    "no rows": (
        lambda path: np.save(path, np.zeros((0, 3))),
        r"has shape \(0, 3\); expected one row for each",
    ),
    "a number": (lambda path: np.save(path, 3.0), r"has shape \(\); expected one row"),
    "text": (lambda path: np.save(path, np.array(["a"])), "X in .* has type <U1 and shape .*; expected real numbers"),
    "short": (shortened, "x.npy is shorter than its header claims"),
    "other": (lambda path: path.write_bytes(b"abc"), "x.npy cannot be read"),
    "infinite": (lambda path: np.save(path, np.array([[1.0], [np.inf]])), "values that are NaN or infinite"),
    "version": (of_version_3, "has version 3.0 of the format"),
}


@pytest.mark.parametrize(("make", "message"), WRONG_NPY.values(), ids=WRONG_NPY)
def test_an_npy_file_of_anything_else_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "x.npy")
    with pytest.raises(ValueError, match=message):
        load_stimuli(tmp_path / "x.npy")


@pytest.mark.parametrize("row", [0, N - 1])
def test_values_that_are_not_finite_are_found_in_large_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: int
) -> None:
    monkeypatch.setattr(array_stimuli, "_IN_MEMORY_BYTES", 100)
    values = X.copy()
    values[row, 1] = np.nan
    with pytest.raises(ValueError, match=f"s.npz: The input of stimulus {row} has values that are NaN or infinite"):
        load_stimuli(write(tmp_path / "s.npz", {"X": values}))
    with pytest.raises(ValueError, match=r"s.npz: Input 'a' of stimulus \d+ has values that are NaN or infinite"):
        load_stimuli(write(tmp_path / "s.npz", {"a": values, "b": X}))


def test_a_changed_byte_of_a_large_npz_is_found_by_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_stimuli, "_IN_MEMORY_BYTES", 100)
    path = write(tmp_path / "s.npz", {"X": X})
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"s\.npz cannot be read .*CRC"):
        load_stimuli(path)


def test_a_file_that_is_cut_off_later_is_an_error_and_not_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_stimuli, "_IN_MEMORY_BYTES", 100)
    np.save(tmp_path / "x.npy", X)
    stimuli = load_stimuli(tmp_path / "x.npy").stimuli
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"x\.npy cannot be read"):
        stimuli.first_inputs(3)


def no_inputs(file: h5py.File) -> None:
    file["y"] = Y


def linked(file: h5py.File) -> None:
    file["X"] = h5py.ExternalLink("other.h5", "X")


def of_text(file: h5py.File) -> None:
    file["X"] = ["a", "b"]


def scalar(file: h5py.File) -> None:
    file["X"] = 3.0


def squeezed(file: h5py.File) -> None:
    file.create_dataset("X", data=X, compression="lzf")


WRONG_HDF5: dict[str, tuple[Any, str]] = {
    "no inputs": (no_inputs, r"holds no stimuli \(found: y\)"),
    "link": (linked, "/X in .* is missing or only a link"),
    "text": (of_text, "/X in .* has 1 axes of type"),
    "scalar": (scalar, "X in .* is no array; expected one row for each stimulus"),
    "filter": (squeezed, "uses unknown filters"),
}


@pytest.mark.parametrize(("make", "message"), WRONG_HDF5.values(), ids=WRONG_HDF5)
def test_hdf5_files_of_anything_else_are_refused(tmp_path: Path, make: Any, message: str) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        make(file)
    with pytest.raises(ValueError, match=message):
        load_stimuli(tmp_path / "x.h5")
    (tmp_path / "x.h5").write_bytes(b"no such format")
    with pytest.raises(ValueError, match=r"x\.h5 cannot be read"):
        load_stimuli(tmp_path / "x.h5")


def test_a_zip_archive_of_other_things_is_no_file_of_stimuli(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(ValueError, match=r"x.npz holds no stimuli \(found: nothing\)"):
        load_stimuli(tmp_path / "x.npz")
