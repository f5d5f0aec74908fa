"""Runs that were made to harm their readers: refused by name, soon, in little memory, and inside the run.

Every case changes a small valid run and updates its hashes, as an attacker would. A server that has imported everything
reads it in a forked process, so that time, memory and signals belong to the case.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import tests.checkpoints.hostile.file_cases
import tests.checkpoints.hostile.hdf5_cases
import tests.checkpoints.hostile.state_cases  # noqa: F401
from checkpoints import Activations
from checkpoints.storage.hdf5_files.activation_file import LayerValues, write_activations
from tests.checkpoints.hostile import reader as server
from tests.checkpoints.hostile.corpus import CASES, DATA, LARGEST
from tests.checkpoints.hostile.reader import FLOATS, Place, Reader, TouchedFiles, contents, seal, write_run

MOST_SECONDS = 5
MOST_MEMORY = 300 * 2**20  # or, if an honest read takes more than 200 MiB as with torch 2.13:
ROOM = 100 * 2**20  # beyond that read


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that ``place`` copies."""
    folder = tmp_path_factory.mktemp("original")
    write_run(folder / "run")
    (folder / "given").mkdir()
    shutil.copytree(folder / "run", folder / "outside")
    (folder / "outside" / "secret").write_bytes(FLOATS.tobytes())
    (folder / "outside" / ".tmp-precious").write_text("do not remove")
    return folder


@pytest.fixture
def place(original: Path, tmp_path: Path) -> Place:
    return Place(shutil.copytree(original, tmp_path / "case"))


@pytest.fixture(scope="module")
def reader(original: Path) -> Iterator[Reader]:
    command = [sys.executable, server.__file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        reader = Reader(process)
        copy = Place(shutil.copytree(original, original.parent / f"{original.name}-honest"))
        report = reader.read(copy)
        assert report["errors"] == {}
        reader.honest = report["memory"]
        yield reader
        assert process.stdin is not None
        process.stdin.close()


def size_on_disk(folder: Path) -> int:
    return max(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_run_is_refused_by_name_and_harms_nothing(name: str, place: Place, reader: Reader) -> None:
    case = CASES[name]
    case.make(place)
    if case.sealed:
        seal(place)
    assert size_on_disk(place.folder) <= LARGEST
    before = contents(place.outside)
    watch = TouchedFiles(place.outside)
    resume = "resume" in case.refusing or not case.refusing  # the other cases are for readers; resuming syncs a lot
    report = reader.read(place, resume=resume, torch_version=case.torch_version)
    touched = watch.close()
    errors = report["errors"]
    assert report["status"] == 0, f"ended with status {report['status']}"
    assert touched == []
    assert contents(place.outside) == before
    assert report["seconds"] < MOST_SECONDS
    assert report["memory"] < max(MOST_MEMORY, reader.honest + ROOM)
    for operation, (types, message) in errors.items():
        assert {"OSError", "ValueError", "KeyError"} & set(types), (operation, types, message)
        assert str(place.folder) in message, (operation, types, message)
    for operation in case.refusing:
        types, message = errors[operation]
        assert re.search(case.message, message), (operation, message)


@pytest.mark.parametrize("name", ["external link at layers/0000/data", "external storage", "virtual_dataset"])
def test_the_watch_sees_a_reader_that_follows_links(name: str, place: Place) -> None:
    CASES[name].make(place)
    watch = TouchedFiles(place.outside)
    with h5py.File(place.activations) as file:
        assert file[DATA][()].shape == (6, 8)
    assert watch.close()


@pytest.mark.parametrize("compress", [False, True])
def test_honest_zeros_are_read_though_they_shrink_most(tmp_path: Path, compress: bool) -> None:
    path, ids = tmp_path / "activations.h5", np.array(["a", "b", "c", "d"])
    zeros = LayerValues(np.zeros((4, 500_000), np.float32), (500_000,), "torch.float32")
    write_activations(path, [{"zeros": zeros}], ids, {"step": 1}, compress=compress)
    layer = Activations(path)["zeros"]
    for selected in (layer[:], layer[[3, 0, 1, 2]], np.concatenate(list(layer.blocks(1))), layer[...]):
        np.testing.assert_array_equal(selected, zeros.values, strict=True)
    assert layer[-1, 7] == layer[np.int64(2), 7] == 0


def test_incompressible_values_are_read_though_gzip_gave_up(tmp_path: Path) -> None:
    path, ids = tmp_path / "activations.h5", np.array(["a", "b"])
    values = np.random.default_rng(0).normal(size=(2, 100_000))
    write_activations(path, [{"noise": LayerValues(values, (100_000,), "float64")}], ids, {"step": 1}, compress=True)
    np.testing.assert_array_equal(Activations(path)["noise"][:], values, strict=True)
