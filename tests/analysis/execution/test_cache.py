"""The cache: results read back as they were written, damage named, links refused."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from analysis.execution.cache import Cache, TaskResult, Undefined
from checkpoints import Damaged

TABLE = pd.DataFrame(
    {
        "layer": ["hidden.1", "001", "Ö"],
        "accuracy": [1 / 3, np.nan, np.inf],
        "small": np.array([0.1, 0.2, 0.3], np.float32),
        "n": [1, 2, 3],
        "ok": [True, False, True],
        "maybe": pd.array([1, None, 3], dtype="Int64"),
        "mixed": pd.Series([1, "a", None], dtype=object),
        "message": ["", None, "NA"],
        "rule": pd.Categorical(["noise", None, "bp"], ["sg", "noise", "bp"], ordered=True),
        "depth": pd.Categorical([4, 2, 4], [2, 4, 8]),
    }
)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_a_result_is_read_back_as_it_was_written(cache: Cache) -> None:
    written = TaskResult(
        arrays={"x": np.arange(6.0).reshape(2, 3).T, "mask": np.array([True, False]), "one": np.array(3.0)},
        values={"a": None, "b": "Ö", "c": np.float64(1 / 3)},
        warnings=("careful",),
        undefined=(Undefined(1, "hidden.1", "cka", "It is constant."),),
    )
    cache.write("kind-1", written)
    again = cache.read("kind-1")
    for name, array in written.arrays.items():
        assert_array_equal(again.arrays[name], array, strict=True)
    assert (again.values, again.warnings, again.undefined) == (written.values, written.warnings, written.undefined)
    assert "kind-1" in cache
    assert "kind-2" not in cache


def test_tables_keep_columns_dtypes_and_values(cache: Cache) -> None:
    tables = {"all": TABLE, "empty": TABLE.iloc[:0], "other": TABLE[["n"]]}
    cache.write("k", TaskResult(tables=tables))
    again = cache.read("k")
    assert again.arrays == {}
    for name, table in tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table, check_exact=True)


def test_equal_results_are_equal_files(tmp_path: Path) -> None:
    result = TaskResult({"x": np.ones(2), "y": np.zeros(3)}, {"t": TABLE}, {"a": 1, "b": 2}, ["careful"])
    for name in ("one", "two"):
        Cache(tmp_path / name).write("k", result)
    one, two = (next((tmp_path / name / "cache").iterdir()).read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_damaged_file_is_named_with_what_to_do(cache: Cache, content: bytes) -> None:
    cache.write("k", TaskResult())
    (path,) = cache.path.iterdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"k\.safetensors is damaged \(.*\)\. Remove it, and give the same command ag"):
        cache.read("k")


@pytest.mark.parametrize(
    "about",
    [
        "[]",
        "{}",
        '{"tables": {"t": {"n_rows": 1, "columns": [["x", "float64", null]]}}, "values": {}, "warnings": []}',
        '{"tables": {"t": {"n_rows": 2, "columns": [["x", "object", ["a"]]]}}, "values": {}, "warnings": [], '
        '"undefined": []}',
        '{"tables": {}, "values": 3, "warnings": [], "undefined": []}',
        '{"tables": {}, "values": {}, "warnings": [], "undefined": [[1]]}',
        "[" * 100_000,
    ],
)
def test_a_file_with_other_content_is_damaged(cache: Cache, about: str) -> None:
    from safetensors.numpy import save_file

    cache.make_folder()
    save_file({}, cache.path / "k.safetensors", {"about": about})
    with pytest.raises(ValueError, match=r"k\.safetensors is damaged"):
        cache.read("k")


def test_a_missing_result_is_named(cache: Cache) -> None:
    with pytest.raises(Damaged, match=r"k\.safetensors is missing or not a regular file"):
        cache.read("k")


def test_unfinished_files_are_removed_and_others_kept(cache: Cache) -> None:
    cache.remove_staging()
    cache.write("k", TaskResult())
    shutil.copy(next(cache.path.iterdir()), cache.path / ".tmp-k-1")
    cache.remove_staging()
    assert [path.name for path in cache.path.iterdir()] == ["k.safetensors"]
    cache.remove(["k", "absent"])
    assert "k" not in cache


def test_a_linked_cache_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".tmp-precious").touch()
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "cache").symlink_to(tmp_path / "elsewhere")
    cache = Cache(tmp_path / "analysis")
    for act in (cache.remove_staging, lambda: cache.write("k", TaskResult())):
        with pytest.raises(Damaged, match=r"cache is missing"):
            act()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [".tmp-precious"]


def test_a_linked_file_is_not_read(cache: Cache, tmp_path: Path) -> None:
    cache.write("k", TaskResult(values={"a": 1}))
    (cache.path / "link.safetensors").symlink_to(cache.path / "k.safetensors")
    assert "link" not in cache
    with pytest.raises(Damaged, match="not a regular file"):
        cache.read("link")


def test_a_pickled_cache_is_its_folder(cache: Cache) -> None:
    cache.write("k", TaskResult(values={"a": 1}))
    sent = pickle.dumps(cache)
    assert len(sent) < 300
    assert pickle.loads(sent).read("k").values == json.loads('{"a": 1}')
