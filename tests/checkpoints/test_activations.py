import os
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import checkpoints.activations
from checkpoints import Activations, Damaged, Layer
from checkpoints.storage.hdf5_files.activation_file import LayerValues, write_activations
from checkpoints.storage.regular_files import file_signature, is_settled
from tests.checkpoints.activation_layers import HEADER, IDS, N, values, wide, write
from tests.checkpoints.small_runs import flip_bits

FLOATS = st.floats(width=32)
LAYERS = {
    "conv.1": values(2, 3, 4),
    "a/b": values(7, seed=1, source_dtype="torch.bfloat16"),
    "loss é": values(seed=2, source_dtype="torch.float16"),
}


@pytest.fixture
def path(folder: Path) -> Path:
    path = folder / "activations.h5"
    write(path, LAYERS, IDS, HEADER)
    return path


def edit(path: Path, change: Callable[[h5py.File], Any]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def test_layers_come_back_exactly_by_name_in_network_order(path: Path) -> None:
    activations = Activations(path)
    assert list(activations) == list(LAYERS)
    assert len(activations) == len(LAYERS)
    assert activations.stimulus_ids.tolist() == IDS.tolist()
    for name, layer in LAYERS.items():
        read = activations[name]
        np.testing.assert_array_equal(np.asarray(read), layer.values, strict=True)
        assert (read.name, read.feature_shape, read.source_dtype) == (name, layer.feature_shape, layer.source_dtype)
        assert (read.shape, read.dtype, read.ndim, len(read)) == (layer.values.shape, np.float32, 2, N)


@given(array=arrays.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=FLOATS))
@settings(derandomize=True, deadline=None, max_examples=40)
@pytest.mark.parametrize("compress", [False, True])
def test_every_float32_comes_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, array: NDArray[np.float32], compress: bool
) -> None:
    path = tmp_path_factory.mktemp("floats") / "activations.h5"
    layers = {"x": LayerValues(array, array.shape[1:], "torch.float32")}
    write(path, layers, np.arange(len(array)).astype(str), {}, compress=compress)
    assert Activations(path)["x"][:].tobytes() == array.tobytes()


def test_layers_share_the_ids_of_their_file_which_are_read_only(path: Path) -> None:
    activations = Activations(path)
    assert all(layer.stimulus_ids is activations.stimulus_ids for layer in activations.values())
    with pytest.raises(ValueError, match="read-only"):
        activations.stimulus_ids[0] = "x"


def test_any_hdf5_reader_finds_the_documented_layout(path: Path) -> None:
    with h5py.File(path) as file:
        assert dict(file.attrs) == {
            "format": b"repsim-activations",
            "format_version": 1,
            "run_uuid": b"0-1-2",
            "step": 7,
            "stimulus_hash": b"aa",
            "weights_hash": b"bb",
        }
        assert sorted(file) == ["layers", "stimulus_id"]
        assert file["stimulus_id"][()].tolist() == [name.encode() for name in IDS]
        assert list(file["layers"]) == ["0000", "0001", "0002"]
        for group, (name, layer) in zip(file["layers"].values(), LAYERS.items(), strict=True):
            assert list(group) == ["data", "feature"]
            assert [dimension[0].name for dimension in group["data"].dims] == ["/stimulus_id", group["feature"].name]
            np.testing.assert_array_equal(group["data"][()], layer.values, strict=True)
            attributes = dict(group.attrs)
            for shape in ("feature_shape", "source_shape"):
                assert attributes.pop(shape).tolist() == list(layer.feature_shape)
            assert attributes == {
                "name": name.encode(),
                "module": name.encode(),
                "call_index": 0,
                "side": b"output",
                "path": b"",
                "source_dtype": layer.source_dtype.encode(),
                "reduction": b"flatten",
                "n_rows": N,
            }


def test_a_compressed_layer_of_zeros_is_not_rejected_as_a_bomb(path: Path) -> None:
    layers = {"dead": LayerValues(np.zeros((512, 4096), dtype=np.float32), (4096,), "torch.float32")}
    write(path, layers, np.arange(512).astype(str), {}, compress=True)
    assert path.stat().st_size < 100_000
    assert not Activations(path)["dead"][:].any()


@given(data=st.data())
@settings(derandomize=True, deadline=None, max_examples=30)
def test_slices_equal_slices_of_the_whole_array(shared_wide: tuple[Layer, NDArray], data: st.DataObject) -> None:
    layer, array = shared_wide
    rows = data.draw(st.slices(len(array)).filter(lambda part: part.step is None or part.step > 0))
    column = data.draw(st.integers(0, array.shape[1] - 1))
    np.testing.assert_array_equal(layer[rows], array[rows], strict=True)
    np.testing.assert_array_equal(layer[rows, column], array[rows, column], strict=True)
    row = data.draw(st.integers(0, len(array) - 1))
    np.testing.assert_array_equal(layer[row], array[row], strict=True)


@given(data=st.data())
@settings(derandomize=True, deadline=None, max_examples=60)
def test_rows_in_any_order_and_columns_are_those_of_the_whole(
    shared_wide: tuple[Layer, NDArray], data: st.DataObject
) -> None:
    layer, array = shared_wide
    n = len(array)
    rows = data.draw(
        st.lists(st.integers(-n, n - 1), max_size=12)
        | st.lists(st.booleans(), min_size=n, max_size=n).map(lambda mask: np.array(mask))
    )
    columns = data.draw(st.sampled_from([(), (slice(3, 9),), (5,), (slice(8190, 8200),)]))
    index = np.asarray(rows, dtype=bool if isinstance(rows, np.ndarray) else int)
    np.testing.assert_array_equal(layer[(rows, *columns)], array[(index, *columns)], strict=True)


@pytest.mark.parametrize("rows", [[9], [-10], [0, 99]])
def test_rows_out_of_range_are_rejected(shared_wide: tuple[Layer, NDArray], rows: list[int]) -> None:
    with pytest.raises(IndexError, match="Layer 'wide' has rows 0 to 8; the selection goes beyond them"):
        shared_wide[0][rows]


@pytest.mark.parametrize("rows", [[True, False], [[0, 1]], [0.5]])
def test_row_selections_of_other_kinds_are_rejected(shared_wide: tuple[Layer, NDArray], rows: Any) -> None:
    with pytest.raises(IndexError, match="Rows of layer 'wide' must be numbers, or a mask of 9 truth values"):
        shared_wide[0][rows]


@pytest.fixture(scope="module")
def shared_wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Layer, NDArray]:
    """Return a layer of three rows of chunks, and its values."""
    path = tmp_path_factory.mktemp("wide") / "activations.h5"
    array = np.random.default_rng(0).normal(size=(9, 33_000)).astype(np.float32)
    blocks = ({"wide": LayerValues(part, (33_000,), "torch.float32")} for part in np.split(array, 3))
    write_activations(path, blocks, np.arange(9).astype(str), HEADER)
    return Activations(path)["wide"], array


@pytest.mark.parametrize("rows", [1, 4, 9, 100])
def test_blocks_concatenate_to_the_whole_array(shared_wide: tuple[Layer, NDArray], rows: int) -> None:
    layer, array = shared_wide
    blocks = list(layer.blocks(rows))
    np.testing.assert_array_equal(np.concatenate(blocks), array, strict=True)
    assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    assert 1 <= len(blocks[-1]) <= rows


@pytest.mark.parametrize("rows", [0, -1])
def test_blocks_need_at_least_one_row(shared_wide: tuple[Layer, NDArray], rows: int) -> None:
    with pytest.raises(ValueError, match=f"rows is {rows}; expected 1 or more"):
        next(shared_wide[0].blocks(rows))


def test_a_layer_becomes_an_array_only_by_copy(path: Path) -> None:
    layer = Activations(path)["conv.1"]
    assert np.asarray(layer, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match=r"Layer 'conv\.1' is on disk; it cannot become an array without a copy"):
        np.array(layer, copy=False)


def test_an_invalid_selection_is_not_reported_as_damage(path: Path) -> None:
    layer = Activations(path)["conv.1"]
    for selection, error in ((N, IndexError), ("name", ValueError), ((0, 0, 0), ValueError)):
        with pytest.raises(error) as raised:
            layer[selection]
        assert not isinstance(raised.value, Damaged)


def test_nothing_is_open_or_read_between_reads(path: Path) -> None:
    kinds = h5py.h5f.OBJ_FILE | h5py.h5f.OBJ_DATASET | h5py.h5f.OBJ_GROUP
    before = h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, kinds)
    layer = Activations(path)["conv.1"]
    block = next(layer.blocks(2))
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, kinds) == before
    moved = path.rename(path.with_name("moved.h5"))
    with pytest.raises(Damaged, match=f"{path} is missing or not a regular file"):
        layer[:]
    moved.rename(path)
    np.testing.assert_array_equal(layer[:2], block)


def test_an_unknown_layer_is_an_error_that_lists_the_names(path: Path) -> None:
    with pytest.raises(KeyError, match=r"No layer 'fc' was recorded\. Choose one of: conv\.1, a/b, loss é\."):
        Activations(path)["fc"]
    assert "fc" not in Activations(path)


def test_a_damaged_block_names_the_file_and_spares_the_others(path: Path) -> None:
    array = wide(path)
    needle = array[35, 100:104].tobytes()
    content = path.read_bytes()
    assert content.count(needle) == 1
    path.write_bytes(content.replace(needle, bytes(16)))
    layer = Activations(path)["wide"]
    for selection in (slice(None), 35, slice(20, 21), [3, 35], np.arange(40) == 39):
        with pytest.raises(Damaged, match=rf"{path} cannot be read \("):
            layer[selection]
    np.testing.assert_array_equal(layer[:20], array[:20])
    np.testing.assert_array_equal(layer[[19, 0, 19]], array[[19, 0, 19]])
    np.testing.assert_array_equal(layer[:, 8192:], array[:, 8192:])


def test_a_flipped_bit_is_found_or_harmless(path: Path) -> None:
    arrays = {name: (layer, layer[:]) for name, layer in Activations(path).items()}
    outcomes = set()
    for _ in flip_bits(path, 100):
        try:
            read = Activations(path)
            again = {name: (layer, layer[:]) for name, layer in read.items()}
        except Damaged as error:
            assert str(path) in str(error)
            outcomes.add("found")
        else:
            assert read.stimulus_ids.tolist() == IDS.tolist()
            assert [layer for layer, _ in again.values()] == [layer for layer, _ in arrays.values()]
            assert all((again[name][1] == arrays[name][1]).all() for name in LAYERS)
            outcomes.add("harmless")
    assert outcomes == {"found", "harmless"}


@pytest.mark.parametrize("name", ["name", "source_dtype", "feature_shape", "n_rows"])
def test_a_missing_attribute_of_a_layer_is_damage(path: Path, name: str) -> None:
    edit(path, lambda file: file["layers/0001"].attrs.__delitem__(name))
    with pytest.raises(Damaged, match=f"Attribute '{name}' of /layers/0001 in {path} is missing or is not a"):
        Activations(path)


def link_all_outside(file: h5py.File) -> None:
    del file["layers"]
    file["layers"] = h5py.ExternalLink("other.h5", "/layers")


def test_a_layer_is_checked_again_whenever_it_is_read(path: Path) -> None:
    path.with_name("other.h5").write_bytes(path.read_bytes())
    layer = Activations(path)["conv.1"]
    edit(path, link_all_outside)
    with pytest.raises(Damaged, match=f"/layers in {path} is missing or only a link"):
        layer[:]


@given(positions=st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 255)), min_size=1, max_size=4))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_scribbled_files_are_read_or_damaged_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, positions: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("scribbled") / "activations.h5"
    write(path, {"a": values(3)}, IDS, HEADER)
    content = bytearray(path.read_bytes())
    for position, byte in positions:
        content[position % len(content)] = byte
    path.write_bytes(content)
    try:
        assert Activations(path)["a"][:].shape == (N, 3)
    except Damaged as error:
        assert str(path) in str(error)


# Listing


def many(path: Path, n_layers: int = 101) -> None:
    layers = {f"block.{index}": LayerValues(np.full((N, 2), index, np.float32), (2,), "x") for index in range(n_layers)}
    write_activations(path, [layers], IDS, {"step": 1})


def settle(path: Path) -> None:
    """Wait until the file is no longer young."""
    while not is_settled(file_signature(path)):
        time.sleep(0.02)


@pytest.mark.parametrize("n_layers", [1, 100, 101, 150])
def test_any_number_of_layers_is_listed_in_network_order(folder: Path, n_layers: int) -> None:
    many(folder / "a.h5", n_layers)
    activations = Activations(folder / "a.h5")
    names = [f"block.{index}" for index in range(n_layers)]
    assert (list(activations), len(activations)) == (names, n_layers)
    assert [layer.name for layer in activations.values()] == names
    assert (activations[names[-1]][:] == n_layers - 1).all()
    assert names[-1] in activations
    assert "block" not in activations


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file["layers/0100"].attrs.create("n_rows", 4), "these contradict each other"),
        (lambda file: file["layers/0100"].attrs.__delitem__("reduction"), "Attribute 'reduction' of /layers/0100"),
        (lambda file: relayed(file, "layers/0100/data", np.ones((N, 2), "<i4")), "axes of type <i4; expected 2 of"),
    ],
)
def test_many_layers_are_checked_before_one_is_handed_out(
    folder: Path, change: Callable[[h5py.File], None], message: str
) -> None:
    many(folder / "a.h5")
    edit(folder / "a.h5", change)
    activations = Activations(folder / "a.h5")
    for act in (activations.check, lambda: activations["block.0"], lambda: list(activations.values())):
        with pytest.raises(Damaged, match=message):
            act()


def relayed(file: h5py.File, name: str, values: Any) -> None:
    del file[name]
    file[name] = values


def test_a_file_is_listed_once_and_again_when_it_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, listed = folder / "a.h5", []
    real = checkpoints.activations._list_names
    monkeypatch.setattr(checkpoints.activations, "_list_names", lambda path: (listed.append(path), real(path))[1])
    many(path, 3)
    settle(path)
    for _ in range(3):
        assert len(Activations(path)) == 3
    assert len(listed) == 1
    edit(path, lambda file: file.__delitem__("layers/0002"))  # in place
    settle(path)
    assert [len(Activations(path)) for _ in range(2)] == [2, 2]
    assert len(listed) == 2
    many(folder / "b.h5", 4)
    (folder / "b.h5").replace(path)
    settle(path)
    assert [len(Activations(path)) for _ in range(2)] == [4, 4]
    assert len(listed) == 3


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_listed_anew(folder: Path) -> None:
    for name, value in {"a.h5": "first", "b.h5": "other"}.items():
        layer = LayerValues(np.zeros((N, 2), np.float32), (2,), "x")
        write_activations(folder / name, [{value: layer}], IDS, {"step": 1})
        settle(folder / name)
    assert (folder / "a.h5").stat().st_size == (folder / "b.h5").stat().st_size
    time_of_first = (folder / "a.h5").stat().st_mtime_ns
    assert list(Activations(folder / "a.h5")) == ["first"]
    (folder / "b.h5").replace(folder / "a.h5")
    os.utime(folder / "a.h5", ns=(time_of_first, time_of_first))
    assert list(Activations(folder / "a.h5")) == ["other"]


def test_a_file_near_the_root_has_no_stimuli(path: Path) -> None:
    layer = next(iter(Activations(path).values()))
    assert replace(layer, file=Path("/a.h5")).stimuli is None


def test_a_recently_written_file_is_listed_each_time(folder: Path) -> None:
    path = folder / "a.h5"
    for value in ("first", "other") * 3:
        path.unlink(missing_ok=True)
        write_activations(path, [{value: LayerValues(np.zeros((N, 2), np.float32), (2,), "x")}], IDS, {"step": 1})
        assert list(Activations(path)) == [value]


def test_activations_can_be_pickled(folder: Path) -> None:
    many(folder / "a.h5")
    activations = pickle.loads(pickle.dumps(Activations(folder / "a.h5")))
    assert (activations["block.7"][:] == 7).all()


def test_a_link_in_the_place_of_a_listed_file_is_refused(folder: Path) -> None:
    many(folder / "a.h5", 3)
    settle(folder / "a.h5")
    assert len(Activations(folder / "a.h5")) == 3
    (folder / "a.h5").rename(folder / "b.h5")
    (folder / "a.h5").symlink_to(folder / "b.h5")
    with pytest.raises(Damaged, match="is missing or not a regular file"):
        Activations(folder / "a.h5")
