from pathlib import Path

import h5py
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from checkpoints.storage.hdf5_files.checksum import fletcher32


def stored_by_hdf5(path: Path, words: NDArray[np.uint16]) -> int:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", data=words, chunks=words.shape, fletcher32=True)
        return int.from_bytes(data.id.read_direct_chunk((0, 0))[1][-4:], "little")


WORDS = arrays.arrays(
    "<u2",
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    elements=st.sampled_from([0, 1, 0xFF, 0x100, 0x7FFF, 0xFFFE, 0xFFFF]) | st.integers(0, 0xFFFF),
)


@given(words=WORDS)
@example(words=np.zeros((3, 5), "<u2"))
@example(words=np.full((3, 5), 0xFFFF, "<u2"))
@example(words=np.array([[0xFFFF, 0]], "<u2"))
@example(words=np.array([[0, 0xFFFF]], "<u2"))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_the_checksum_is_that_of_hdf5(tmp_path_factory: pytest.TempPathFactory, words: NDArray[np.uint16]) -> None:
    assert fletcher32(words) == stored_by_hdf5(tmp_path_factory.mktemp("sum") / "file.h5", words)


@pytest.mark.parametrize("shape", [(512, 1024), (2**19, 1), (1, 2**19), (70_000, 3)])
@pytest.mark.parametrize("value", [None, 0, 0xFFFF])
def test_large_chunks_do_not_overflow(folder: Path, shape: tuple[int, int], value: int | None) -> None:
    words = np.random.default_rng(0).integers(0, 2**16, shape).astype("<u2")
    if value is not None:
        words[:] = value
    assert fletcher32(words) == stored_by_hdf5(folder / "file.h5", words)
