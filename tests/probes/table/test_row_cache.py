import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from probes import NetworkLayers, ProbeConfig, baselines, probe_layers
from probes.table.row_cache import RowCache, key_of
from tests.probes.small_layers import Broken, Lazy

N = 48
SPLIT = np.resize(["train", "train", "validation", "test"], N)


def recordings(kind: Callable[[NDArray], Any] = np.asarray) -> list[NetworkLayers]:
    """Return two checkpoints of one network: five layers, of which two are searched together."""
    rng = np.random.default_rng(0)
    return [
        NetworkLayers(
            layers={
                name: kind(rng.normal(size=(N, d)) + np.arange(N)[:, np.newaxis] % 3) for name, d in widths.items()
            },
            network="mlp",
            seed=0,
            checkpoint=step,
        )
        for step, widths in ((0, {"a": 5, "b": 5, "c": 3}), (10, {"a": 4, "b": 5}))
    ]


ARGUMENTS: dict[str, Any] = {
    "labels": {"class": np.arange(N) % 3, "parity": np.arange(N) % 2},
    "split": SPLIT,
    "config": ProbeConfig(Cs=(0.1,), tol=1e-3, controls=1, solver="lbfgs"),
}
GROUPS = [["a", "b"], ["c"], ["a"], ["b"]]


def table_of(layers: Any = None, **arguments: Any) -> pd.DataFrame:
    return probe_layers(recordings() if layers is None else layers, **{**ARGUMENTS, **arguments})


def assert_same(table: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(table, expected, check_exact=True)


def interrupted(path: Path, after: int, layers: Any = None) -> None:
    """Probe layers until some of them are done."""
    heard: list[str] = []

    def stop(name: str) -> None:
        heard.append(name)
        if len(heard) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        table_of(layers, cache=path, progress=stop)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, bytes]:
    """A table that was not cut off, and its cache."""
    path = tmp_path_factory.mktemp("whole") / "probes.jsonl"
    return table_of(cache=path), path.read_bytes()


# A file of rows


def test_cached_rows_equal_the_stored_ones(tmp_path: Path) -> None:
    path = tmp_path / "probes.jsonl"
    rows = [
        {"C": np.float64(0.1), "n_iter": np.int64(3), "converged": np.bool_(True), "network": np.str_("mlp")},
        {"C": np.inf, "n_iter": 0, "converged": False, "network": "line\nbreak \u2028 é", "seed": None},
    ]
    cache = RowCache(path)
    assert cache.rows("one") is None
    assert not path.exists()
    cache.add("one", rows)
    cache.add("two", [])
    for each in (cache, RowCache(path)):
        found = each.rows("one")
        assert found == rows
        assert [type(value) for value in found[0].values()] == [float, int, bool, str]
        assert each.rows("two") == []
        assert each.rows("three") is None
    assert path.read_bytes().count(b"\n") == 2


def test_an_incomplete_last_line_is_ignored_and_removed_by_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "probes.jsonl"
    cache = RowCache(path)
    cache.add("one", [{"C": 1.0}])
    first = path.read_bytes()
    cache.add("two", [{"C": 2.0}])
    both = path.read_bytes()
    for end in range(len(first), len(both)):
        path.write_bytes(both[:end])
        torn = RowCache(path)
        assert torn.rows("one") == [{"C": 1.0}]
        assert torn.rows("two") is None
        assert path.read_bytes() == both[:end]  # to look changes nothing
        torn.add("two", [{"C": 2.0}])
        assert path.read_bytes() == both


def test_a_short_line_replaces_a_longer_incomplete_one_completely(tmp_path: Path) -> None:
    path = tmp_path / "probes.jsonl"
    path.write_bytes(b'{"key": "one", "rows": [{"message": "' + b"x" * 1000)
    RowCache(path).add("two", [])
    assert path.read_bytes() == b'{"key": "two", "rows": []}\n'


NO_CACHES = [
    (b"layer,accuracy\nfc1,0.5\n", 1),
    (b'{"step": 1}\n', 1),
    (b'{"key": "one"}\n', 1),
    (b'{"key": "one", "rows": 3}\n', 1),
    (b"[1, 2]\n", 1),
    (b"3\n", 1),
    (b"\x89HDF\r\n\x1a\n\x00\x00", 1),
    (b'{"key": "one", "rows": []}\n{"key": "tw\n{"key": "three", "rows": []}\n', 2),
    (b'{"key": "one", "rows": []}\n\n', 2),
    (b'{"format": 1, "status": "done"}', 1),  # without an end of line
]


@pytest.mark.parametrize(("content", "line"), NO_CACHES)
def test_a_file_that_is_no_cache_is_an_error_and_is_not_changed(tmp_path: Path, content: bytes, line: int) -> None:
    path = tmp_path / "probes.jsonl"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=f"Line {line} of .*probes.jsonl is not a line of a cache of probes. Give another"
    ):
        RowCache(path)
    assert path.read_bytes() == content


def test_keys_differ_by_values_kinds_shapes_and_names() -> None:
    y = np.arange(6)
    parts = [
        {"y": y},
        {"x": y},
        {"y": y.astype(float)},
        {"y": y.reshape(2, 3)},
        {"y": y[::-1]},
        {"y": y.tolist()},
        {"y": y.astype(str)},
        {"y": y.astype(str)[::-1]},
        {"y": {"y": y}},
        {"y": None},
        {"y": 1.0},
        {"y": 1.0 + 1e-16 + 1e-15},
        {"y": True},
        {"y": "1.0"},
        {},
    ]
    assert len({key_of(**each) for each in parts}) == len(parts)
    assert key_of(a=1, b={"c": 2, "d": y}) == key_of(b={"d": y.copy(), "c": 2}, a=1)
    assert key_of(y=y.astype(str)) == key_of(y=y.astype(str).astype("U9"))
    assert key_of(y=(1, 2)) == key_of(y=[1, 2])


# A table that goes on


def test_a_cache_changes_no_row(whole: tuple[pd.DataFrame, bytes]) -> None:
    table, content = whole
    assert_same(table, table_of())
    assert content.count(b"\n") == len(GROUPS)
    assert table["status"].eq("ok").all()


@pytest.mark.parametrize(("after", "n_done"), [(1, 1), (3, 2), (5, 4)])
def test_an_interrupted_table_continues_and_equals_the_uninterrupted_one(
    whole: tuple[pd.DataFrame, bytes], tmp_path: Path, after: int, n_done: int
) -> None:
    table, content = whole
    path = tmp_path / "probes.jsonl"
    interrupted(path, after)
    assert path.read_bytes() == b"".join(content.splitlines(keepends=True)[:n_done])
    layers, heard = recordings(Lazy), list[str]()
    assert_same(table_of(layers, cache=path, progress=heard.append), table)
    assert path.read_bytes() == content
    assert heard == [name for group in GROUPS for name in group]
    # Of what is known only the content is looked at; the rest is looked at and read.
    reads = [layer.reads for recording in layers for layer in recording.layers.values()]
    assert reads == [1 if i < n_done else 2 for i, group in enumerate(GROUPS) for _ in group]


def touched(recording: int, name: str) -> list[NetworkLayers]:
    """Return the recordings with another last value in one layer."""
    made = recordings()
    made[recording].layers[name][-1, -1] += 1e-12
    return made


def moved(array: NDArray, one: int = 0, other: int = 2) -> NDArray:
    """Return labels, or a split, with two rows of different value exchanged."""
    changed = array.copy()
    changed[[one, other]] = changed[[other, one]]
    assert (changed != array).any()
    return changed


CLASSES = ARGUMENTS["labels"]
CONFIG: ProbeConfig = ARGUMENTS["config"]
CHANGES: dict[str, dict[str, Any]] = {
    "labels": {"labels": {**CLASSES, "class": moved(CLASSES["class"])}},
    "another target": {"labels": {**CLASSES, "parity": moved(np.arange(N) // 2 % 2)}},
    "name of a target": {"labels": {"class": CLASSES["class"], "odd": CLASSES["parity"]}},
    "training rows": {"split": moved(SPLIT)},
    "test rows": {"split": moved(SPLIT, 2, 3)},
    "C": {"config": replace(CONFIG, Cs=(0.2,))},
    "more Cs": {"config": replace(CONFIG, Cs=(0.01, 0.1))},
    "tol": {"config": replace(CONFIG, tol=1e-4)},
    "max_iter": {"config": replace(CONFIG, max_iter=999)},
    "solver": {"config": replace(CONFIG, solver="newton")},
    "controls": {"config": replace(CONFIG, controls=2)},
    "no controls": {"config": replace(CONFIG, controls=0)},
    "types": {"types": np.arange(N) % 6},
    "codelength": {"config": replace(CONFIG, codelength=True)},
    "memory": {"config": replace(CONFIG, memory=1)},
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_rows_of_other_arguments_are_computed_again(
    whole: tuple[pd.DataFrame, bytes], tmp_path: Path, change: str
) -> None:
    path = tmp_path / "probes.jsonl"
    path.write_bytes(whole[1])
    arguments = CHANGES[change]
    table = table_of(cache=path, **arguments)
    assert_same(table, table_of(**arguments))
    n_groups = 5 if change == "memory" else 4  # layers of equal width are no longer together
    assert path.read_bytes().count(b"\n") == len(GROUPS) + n_groups
    assert_same(table_of(cache=path), whole[0])  # what was there is still there


@pytest.mark.parametrize(("recording", "name"), [(0, "b"), (1, "b")])
def test_only_a_changed_layer_is_computed_again(
    whole: tuple[pd.DataFrame, bytes], tmp_path: Path, recording: int, name: str
) -> None:
    path = tmp_path / "probes.jsonl"
    path.write_bytes(whole[1])
    assert_same(table_of(touched(recording, name), cache=path), table_of(touched(recording, name)))
    assert path.read_bytes().count(b"\n") == len(GROUPS) + 1


@pytest.mark.parametrize("other", [{"network": "cnn"}, {"seed": 1}, {"checkpoint": 1}])
def test_equal_layers_of_another_network_have_rows_of_their_own(tmp_path: Path, other: dict[str, Any]) -> None:
    path, (first, _) = tmp_path / "probes.jsonl", recordings()
    table_of([first], cache=path)
    twin = NetworkLayers(**{**vars(first), **other})
    assert_same(table_of([first, twin], cache=path), table_of([first, twin]))
    assert path.read_bytes().count(b"\n") == 4


def test_a_layer_at_another_place_has_a_row_of_its_own(tmp_path: Path) -> None:
    path, layers = tmp_path / "probes.jsonl", recordings()[0].layers
    table_of({"c": layers["c"]}, cache=path)
    table = table_of({"a": layers["a"], "c": layers["c"]}, cache=path)
    assert table["layer_index"].tolist() == [0, 0, 1, 1]


def test_layers_that_cannot_be_read_are_not_cached(tmp_path: Path) -> None:
    path, sound = tmp_path / "probes.jsonl", recordings()[0].layers
    table = table_of({**sound, "c": Broken(np.asarray(sound["c"]))}, cache=path)
    assert table["status"].tolist() == ["ok"] * 4 + ["failed"] * 2
    assert path.read_bytes().count(b"\n") == 1
    assert_same(table_of(sound, cache=path), table_of(sound))
    assert path.read_bytes().count(b"\n") == 2


def test_rows_of_constant_layers_are_cached_as_failed(tmp_path: Path) -> None:
    path, layers = tmp_path / "probes.jsonl", {"flat": np.ones((N, 2))}
    table = table_of(layers, cache=path)
    assert table["status"].eq("failed").all()
    again = {"flat": Lazy(layers["flat"])}
    assert_same(table_of(again, cache=path), table)
    assert again["flat"].reads == 1


def test_rows_of_baselines_are_cached(tmp_path: Path) -> None:
    path, inputs = tmp_path / "probes.jsonl", np.random.default_rng(1).normal(size=(N, 7))
    layers = {"a": recordings()[0].layers["a"]}
    table = table_of([NetworkLayers(layers=layers), *baselines(inputs, layers)], cache=path)
    assert path.read_bytes().count(b"\n") == 3
    content = path.read_bytes()
    assert_same(table_of([NetworkLayers(layers=layers), *baselines(inputs, layers)], cache=path), table)
    assert path.read_bytes() == content
    table_of([NetworkLayers(layers=layers), *baselines(-inputs, layers)], cache=path)
    assert path.read_bytes().count(b"\n") == 5


def test_a_file_that_is_no_cache_is_an_error_before_any_layer_is_read(tmp_path: Path) -> None:
    path, layers = tmp_path / "metrics.jsonl", {"a": Lazy(np.ones((N, 2)))}
    path.write_text(json.dumps({"step": 1}) + "\n")
    with pytest.raises(ValueError, match=r"Line 1 of .*metrics\.jsonl is not a line of a cache of probes"):
        table_of(layers, cache=path)
    assert path.read_text() == json.dumps({"step": 1}) + "\n"
    assert layers["a"].reads == 0


# A process that dies


class Endless(Lazy):
    """A layer that says that it is being read, and then never comes."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        print("reading", flush=True)
        time.sleep(120.0)
        raise AssertionError


def die(path: str) -> None:
    """Be a process that hangs at the first layer of the second checkpoint."""
    first, second = recordings()
    layers = {**second.layers, "a": Endless(np.asarray(second.layers["a"]))}
    table_of([first, NetworkLayers(**{**vars(second), "layers": layers})], cache=path)


def test_a_table_whose_process_was_killed_continues_and_equals_the_uninterrupted_one(
    whole: tuple[pd.DataFrame, bytes], tmp_path: Path
) -> None:
    table, content = whole
    path = tmp_path / "probes.jsonl"
    program = "import runpy, sys; runpy.run_path(sys.argv[1])['die'](sys.argv[2])"
    command = [sys.executable, "-c", program, __file__, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"".join(content.splitlines(keepends=True)[:2])
    assert_same(table_of(cache=path), table)
    assert path.read_bytes() == content


# Where it fails


def test_a_layer_that_could_not_be_read_is_read_again_in_the_next_call(tmp_path: Path) -> None:
    class Flaky(Lazy):
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
            if self.reads == 1:
                self.reads += 1
                raise OSError("stale file handle")
            return super().__array__(dtype, copy)

    path, sound = tmp_path / "probes.jsonl", {"c": np.asarray(recordings()[0].layers["c"])}
    assert table_of({"c": Flaky(sound["c"])}, cache=path)["status"].eq("failed").all()
    assert_same(table_of(sound, cache=path), table_of(sound))


def test_a_cache_and_warm_starts_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^cache and fits were both given"):
        table_of(recordings(), cache=tmp_path / "probes.jsonl", fits={})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_as_cache_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"^The cache .* is a folder\. Give the name of a file"):
        RowCache(tmp_path)


def test_a_missing_folder_of_the_cache_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^There is no folder for the cache .*absent/probes\.jsonl\. Create"):
        RowCache(tmp_path / "absent" / "probes.jsonl")


@pytest.mark.parametrize("change", ["longer", "gone"])
def test_a_cache_that_another_program_changed_is_not_overwritten(tmp_path: Path, change: str) -> None:
    path = tmp_path / "probes.jsonl"
    cache = RowCache(path)
    cache.add("k", [{"layer": "h1"}])
    if change == "longer":
        RowCache(path).add("other", [{"layer": "h2"}])
    else:
        path.unlink()
    before = path.read_bytes() if path.exists() else b""
    with pytest.raises(ValueError, match="was changed by another program; give each table a cache"):
        cache.add("l", [])
    assert (path.read_bytes() if path.exists() else b"") == before


def test_seeds_and_steps_may_be_numbers_of_numpy(tmp_path: Path) -> None:
    known = {"seed": np.int64(1), "checkpoint": np.int64(1)}
    table = table_of([NetworkLayers(layers=recordings()[0].layers, **known)], cache=tmp_path / "probes.jsonl")
    assert all((table[name] == value).all() for name, value in known.items())


def test_a_failed_control_is_named_in_the_message_and_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    path = tmp_path / "probes.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr("probes.table.probed_layer.lbfgs_many", fail)
        failed = table_of(recordings(), cache=path)
    assert failed["status"].eq("ok").all()
    assert failed["message"].str.endswith("no random_label_accuracy: RuntimeError: out of memory").all()
    assert failed["random_label_accuracy"].isna().all()
    assert table_of(recordings(), cache=path)["random_label_accuracy"].notna().all()
