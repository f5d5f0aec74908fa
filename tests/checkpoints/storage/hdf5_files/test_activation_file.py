from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import Activations
from checkpoints.storage.hdf5_files.activation_file import LayerValues, write_activations
from tests.checkpoints.activation_layers import HEADER, IDS, N, values, wide, write


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "activations.h5"


@pytest.mark.parametrize(
    ("rows", "columns", "chunks"),
    [
        (40, 10, (40, 10)),
        (600, 1024, (200, 1024)),
        (40, 33_000, (20, 8192)),
        (499, 4096, (499, 525)),
        (1, 8193, (1, 8192)),
    ],
)
def test_chunks_are_about_a_mebibyte_of_which_a_block_holds_a_whole_number(
    path: Path, rows: int, columns: int, chunks: tuple[int, int]
) -> None:
    wide(path, rows, columns)
    with h5py.File(path) as file:
        dataset = file["layers/0000/data"]
        assert dataset.chunks == chunks
        assert dataset.fletcher32
        assert (dataset.compression, dataset.shuffle) == (None, False)


def test_compression_is_gzip_and_makes_relu_layers_smaller(path: Path) -> None:
    array = np.maximum(np.random.default_rng(0).normal(size=(64, 512)), 0).astype(np.float32)
    layers = {"relu": LayerValues(array, (512,), "torch.float32")}
    sizes = []
    for compress in (False, True):
        write(path, layers, np.arange(64).astype(str), {}, compress=compress)
        sizes.append(path.stat().st_size)
    assert sizes[1] < 0.7 * sizes[0]
    np.testing.assert_array_equal(Activations(path)["relu"][:], array, strict=True)
    with h5py.File(path) as file:
        dataset = file["layers/0000/data"]
        assert (dataset.compression, dataset.compression_opts, dataset.fletcher32) == ("gzip", 1, True)


def test_a_layer_needs_one_row_per_stimulus(path: Path) -> None:
    with pytest.raises(ValueError, match="Layer 'a' has 5 rows for 4 stimuli"):
        write(path, {"a": values(3)}, IDS[:4], HEADER)


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    columns=st.sampled_from([1, 3, 8192, 8195]),
    dtype=st.sampled_from(["<f2", "<f4", "<f8"]),
    compress=st.booleans(),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_blocks_of_any_size_become_one_layer(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], columns: int, dtype: str, compress: bool
) -> None:
    path = tmp_path_factory.mktemp("blocks") / "activations.h5"
    n = sum(sizes)
    array = np.random.default_rng(n).normal(size=(n, columns)).astype(dtype)
    parts = np.split(array, np.cumsum(sizes)[:-1])
    blocks = ({"a": LayerValues(part, (columns,), "x"), "b": LayerValues(-part, (columns,), "x")} for part in parts)
    write_activations(path, blocks, np.arange(n).astype(str), HEADER, compress=compress)
    layers = Activations(path)
    np.testing.assert_array_equal(layers["a"][:], array, strict=True)
    np.testing.assert_array_equal(layers["b"][:], -array, strict=True)


def test_blocks_must_have_the_same_layers_and_all_stimuli(folder: Path) -> None:
    def write_blocks(*blocks: dict[str, LayerValues]) -> None:
        (folder / "a.h5").unlink(missing_ok=True)
        write_activations(folder / "a.h5", blocks, np.arange(2 * N).astype(str), HEADER)

    with pytest.raises(ValueError, match="The layers differ between blocks of stimuli: b"):
        write_blocks({"a": values(3)}, {"a": values(3), "b": values(3)})
    with pytest.raises(ValueError, match="The layers differ between blocks of stimuli: their order"):
        write_blocks({"a": values(3), "b": values(3)}, {"b": values(3), "a": values(3)})
    with pytest.raises(ValueError, match=r"Layer 'a' has shape \(3,\) in one block of stimuli and \(1, 3\) in another"):
        write_blocks({"a": values(3)}, {"a": values(1, 3)})
    with pytest.raises(ValueError, match="5 rows of 1 layers were captured for 10 stimuli"):
        write_blocks({"a": values(3)})
    with pytest.raises(ValueError, match="0 rows of 0 layers were captured for 10 stimuli"):
        write_blocks()
    write_blocks({"a": values(3)}, {"a": values(3)})
    assert len(Activations(folder / "a.h5")["a"]) == 2 * N


def test_more_layers_than_can_be_read_again_are_not_written(path: Path) -> None:
    layers = dict.fromkeys(map(str, range(10_001)), values(1))
    with pytest.raises(ValueError, match="10001 layers were captured; at most 10000 can be read again"):
        write(path, layers, IDS, HEADER)
