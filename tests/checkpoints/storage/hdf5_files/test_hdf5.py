import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from checkpoints import Damaged
from checkpoints.storage.hdf5_files.hdf5 import created, opened, read_column, set_attributes, write_column
from checkpoints.storage.hdf5_files.hdf5_attributes import attribute
from checkpoints.storage.hdf5_files.hdf5_datasets import checked_dataset, checked_group

KIND = "repsim-test"
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def fill(file: h5py.File) -> None:
    set_attributes(file, {"format": KIND, "format_version": 1, "number": 7, "sizes": np.array([3, 4])})
    file.create_dataset("group/data", data=VALUES)


@pytest.fixture
def path(folder: Path) -> Path:
    path = folder / "test.h5"
    with created(path) as (file, _):
        fill(file)
    return path


def read(path: Path) -> Any:
    with opened(path, KIND) as file:
        return checked_dataset(path, checked_group(path, file, "group"), "data", "<f4", 2)[()]


def edit(path: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def replace(path: Path, **options: Any) -> None:
    """Put another dataset in the place of /group/data."""
    with h5py.File(path, "r+") as file:
        del file["group/data"]
        file.create_dataset("group/data", **options)


def test_a_created_file_is_an_hdf5_file_whose_metadata_carries_checksums(path: Path) -> None:
    np.testing.assert_array_equal(read(path), VALUES, strict=True)
    assert path.read_bytes()[8] == 3  # version of the superblock, from 2 on with checksums


def test_an_existing_file_is_not_replaced(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=f"File exists; {path} could not be written"), created(path):
        pytest.fail("the block was entered")
    assert path.read_bytes() == before


def test_text_attributes_have_fixed_length(path: Path) -> None:
    with h5py.File(path) as file:
        kind = h5py.h5a.open(file.id, b"format").get_type()
    assert not kind.is_variable_str()
    assert kind.get_size() == len(KIND)


def test_nothing_stays_open(path: Path) -> None:
    kinds = h5py.h5f.OBJ_FILE | h5py.h5f.OBJ_DATASET | h5py.h5f.OBJ_GROUP
    before = h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, kinds)
    read(path)
    with pytest.raises(Damaged), opened(path, KIND):
        raise OSError
    with opened(path, KIND):
        assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, kinds) > before
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, kinds) == before


@pytest.mark.parametrize("place", ["nothing", "a folder", "a link", "a dangling link"])
def test_only_a_regular_file_is_opened(path: Path, place: str) -> None:
    other = path.with_name("other.h5")
    if place == "a folder":
        other.mkdir()
    elif place != "nothing":
        other.symlink_to(path if place == "a link" else "nowhere")
    with pytest.raises(Damaged, match=f"{other} is missing or not a regular file"):
        read(other)


@pytest.mark.parametrize("length", [0, 1, 8, 200, -1])
def test_an_incomplete_hdf5_file_is_damaged(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(Damaged, match=rf"{path} cannot be read \("):
        read(path)


def test_another_format_or_version_is_damaged(path: Path) -> None:
    with (
        pytest.raises(Damaged, match=f"{path} has format 'repsim-test'; expected 'repsim-other'"),
        opened(path, "repsim-other"),
    ):
        pytest.fail("the block was entered")
    edit(path, lambda file: file.attrs.modify("format_version", 2))
    with pytest.raises(Damaged, match=f"{path} has format version 2; this version of repsim reads 1"):
        read(path)


@pytest.mark.parametrize("error", [OSError, RuntimeError, KeyError])
def test_a_read_that_fails_in_the_block_names_the_file(path: Path, error: type[Exception]) -> None:
    with pytest.raises(Damaged, match=rf"{path} cannot be read \(.*wrong checksum"), opened(path, KIND):
        raise error("wrong checksum")


@pytest.mark.parametrize("error", [ValueError, TypeError, IndexError])
def test_an_error_in_a_selection_is_not_reported_as_damage(path: Path, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^selection$"), opened(path, KIND):
        raise error("selection")


def test_attributes_come_back_as_python_values(path: Path) -> None:
    with opened(path, KIND) as file:
        assert attribute(path, file, "format", "text") == KIND
        assert attribute(path, file, "number", "whole number") == 7
        assert attribute(path, file, "sizes", "list of sizes") == [3, 4]


def of_time_type(file: h5py.File) -> None:
    h5py.h5a.create(file.id, b"x", h5py.h5t.UNIX_D32LE, h5py.h5s.create(h5py.h5s.SCALAR))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", [None, 3, [b"a", b"b"], np.bytes_(b"\xff"), np.zeros(0, "S2"), h5py.Empty("S1"), of_time_type]),
        ("whole number", [None, 1.0, "1", [1, 2], h5py.Empty("i8"), of_time_type]),
        ("list of sizes", [None, 3, "34", [1.5, 2.0], [-3, -4], [[3], [4]], [b"3"], h5py.Empty("i8"), of_time_type]),
    ],
)
def test_an_attribute_of_another_kind_is_damaged(path: Path, kind: str, values: list[Any]) -> None:
    for value in values:
        with h5py.File(path, "w") as file:
            if callable(value):
                value(file)
            elif value is not None:
                file.attrs["x"] = value
            with pytest.raises(Damaged, match=f"Attribute 'x' of / in {path} is missing or is not a {kind}"):
                attribute(path, file, "x", kind)


@pytest.mark.parametrize(
    "options",
    [
        {"data": VALUES.astype(">f4")},
        {"data": VALUES.astype(np.float64)},
        {"data": VALUES.astype(np.float16)},
        {"data": VALUES.astype(np.int32)},
        {"data": VALUES.astype(bool)},
        {"data": VALUES.astype(complex)},
        {"data": VALUES.astype("S3")},
        {"data": VALUES[0]},
        {"data": VALUES[None]},
        {"data": VALUES[0, 0]},
        {"data": h5py.Empty("<f4")},
    ],
)
def test_other_types_and_dimensions_are_refused(path: Path, options: dict[str, Any]) -> None:
    replace(path, **options)
    with pytest.raises(Damaged, match=rf"/group/data in {path} has \d axes of type .*; expected 2 of <f4"):
        read(path)


def test_gzip_shuffle_and_checksums_are_read(path: Path) -> None:
    replace(path, data=VALUES, compression="gzip", shuffle=True, fletcher32=True)
    np.testing.assert_array_equal(read(path), VALUES, strict=True)


def test_a_forged_size_of_a_stored_chunk_does_not_raise_the_limit(path: Path) -> None:
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        set_attributes(file, {"format": KIND, "format_version": 1})
        options = {"chunks": (1, 1000), "compression": "gzip"}
        dataset = file.create_dataset("group/data", shape=(3, 10**10), dtype="<f4", **options)
        dataset.id.write_direct_chunk((0, 0), b"x" * 1234)
    content = path.read_bytes()
    assert content.count(struct.pack("<II", 1234, 0)) == 1
    path.write_bytes(content.replace(struct.pack("<II", 1234, 0), struct.pack("<II", 2**31, 0)))
    with pytest.raises(Damaged, match=rf"/group/data in {path} claims 120000000000 bytes but stores far fewer"):
        read(path)


@pytest.mark.parametrize(
    ("values", "dtype"), [(np.array(["", "é", "longer"]), "|S"), (np.array([3, -1]), "<i8"), (np.array([0.1]), "<f8")]
)
def test_columns_round_trip_with_a_checksum(path: Path, values: Any, dtype: str) -> None:
    edit(path, lambda file: write_column(file, "column", values))
    with opened(path, KIND) as file:
        np.testing.assert_array_equal(read_column(path, file, "column", dtype), values, strict=True)
        assert file["column"].fletcher32


def test_a_damaged_column_names_the_file(path: Path) -> None:
    edit(path, lambda file: write_column(file, "column", np.array(["needle"])))
    content = path.read_bytes()
    assert content.count(b"needle") == 1
    path.write_bytes(content.replace(b"needle", b"noodle"))
    with pytest.raises(Damaged, match=rf"{path} cannot be read \("), opened(path, KIND) as file:
        read_column(path, file, "column", "|S")


def test_text_that_is_not_utf8_is_damaged(path: Path) -> None:
    edit(path, lambda file: write_column(file, "column", np.array([b"\xff"])))
    with pytest.raises(Damaged, match=rf"/column in {path} is not UTF-8 text \("), opened(path, KIND) as file:
        read_column(path, file, "column", "|S")


@pytest.fixture
def fresh(folder: Path) -> Path:
    return folder / "fresh.h5"


@pytest.mark.parametrize("text", ["\ud800", "a\0", "x" * (2**16 + 1)])
def test_a_text_that_would_not_be_read_again_is_not_written(fresh: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"The name .* (is not Unicode text|ends with a zero byte|has 65537 bytes)"):  # noqa: SIM117
        with created(fresh) as (file, _):
            set_attributes(file, {"name": text})


@pytest.mark.parametrize("text", ["", "é日本\U0001f600", "a\0b", "x" * 2**16, "é" * 2**15])
def test_a_text_that_is_written_is_read_again(fresh: Path, text: str) -> None:
    with created(fresh) as (file, _):
        set_attributes(file, {"format": KIND, "format_version": 1, "text": text})
    with opened(fresh, KIND) as file:
        assert attribute(fresh, file, "text", "text") == text


def test_a_column_of_invalid_unicode_is_not_written(fresh: Path) -> None:
    with pytest.raises(ValueError, match=r"in /ids is not Unicode text; it cannot be stored as UTF-8"):  # noqa: SIM117
        with created(fresh) as (file, _):
            write_column(file, "ids", np.array(["a", "\ud800"]))


@pytest.mark.parametrize("padding", [h5py.h5t.STR_NULLTERM, h5py.h5t.STR_SPACEPAD, h5py.h5t.STR_NULLPAD])
@pytest.mark.parametrize("character_set", [h5py.h5t.CSET_ASCII, h5py.h5t.CSET_UTF8])
def test_texts_of_other_writers_are_read_to_their_end(fresh: Path, padding: int, character_set: int) -> None:
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(8)
    kind.set_strpad(padding)
    kind.set_cset(character_set)
    content = {h5py.h5t.STR_NULLTERM: b"ab\0junk\0", h5py.h5t.STR_SPACEPAD: b"ab      "}.get(padding, b"ab" + bytes(6))
    with created(fresh) as (file, _):
        set_attributes(file, {"format": KIND, "format_version": 1})
        stored = h5py.h5a.create(file["/"].id, b"text", kind, h5py.h5s.create(h5py.h5s.SCALAR))
        stored.write(np.frombuffer(content, "S8").reshape(()), kind)
    with opened(fresh, KIND) as file:
        assert attribute(fresh, file, "text", "text") == "ab"


@pytest.mark.parametrize("dtype", ["<i8", ">i8", "<i4", "<u8", "|u1", ">u2"])
def test_whole_numbers_of_any_width_are_read(fresh: Path, dtype: str) -> None:
    largest = int(np.iinfo(dtype).max)
    with created(fresh) as (file, _):
        set_attributes(file, {"format": KIND, "format_version": 1})
        file.attrs["one"], file.attrs["sizes"] = np.array(largest, dtype), np.array([0, 1, largest], dtype)
        file.attrs["none"], file.attrs["several"] = np.zeros(0, dtype), np.zeros((2, 2), dtype)
    with opened(fresh, KIND) as file:
        assert attribute(fresh, file, "one", "whole number") == largest
        assert attribute(fresh, file, "sizes", "list of sizes") == [0, 1, largest]
        assert attribute(fresh, file, "none", "list of sizes") == []
        for name, kind in {"sizes": "whole number", "one": "list of sizes", "several": "list of sizes"}.items():
            with pytest.raises(Damaged, match=f"Attribute '{name}' of / in .* is missing or is not a {kind}"):
                attribute(fresh, file, name, kind)
