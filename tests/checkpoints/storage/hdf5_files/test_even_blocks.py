import numpy as np
import pytest

from checkpoints.storage.hdf5_files.activation_file import LayerValues
from checkpoints.storage.hdf5_files.even_blocks import even_blocks

VALUES = {"a": np.arange(46.0).reshape(23, 2), "b": np.arange(23.0)[:, None]}


@pytest.mark.parametrize(("sizes", "heights"), [([5, 9, 2, 7], [5, 5, 5, 5, 3]), ([23], [23]), ([8, 8, 7], [8, 8, 7])])
def test_rows_stay_in_order_in_blocks_as_high_as_the_first(sizes: list[int], heights: list[int]) -> None:
    stops = np.cumsum(sizes)
    blocks = [
        {name: LayerValues(values[stop - size : stop], (values.shape[1],), "x") for name, values in VALUES.items()}
        for size, stop in zip(sizes, stops, strict=True)
    ]
    found = list(even_blocks(blocks))
    assert [len(block["a"]) for block in found] == heights
    for name, values in VALUES.items():
        np.testing.assert_array_equal(np.concatenate([block[name].values for block in found]), values)
