"""Pickled files with other objects beside the tensors: nothing of them is imported, built or run."""

import argparse
import collections
import datetime
import enum
import os
import pickle
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import Damaged, read_weights
from checkpoints.storage.pickled_files import StandIn, read_pickle

WEIGHT = torch.arange(6.0).reshape(2, 3)


class Settings(dict):
    pass


class Names(list):
    pass


class Colour(enum.Enum):
    RED = 1


class Slotted:
    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = torch.ones(2)


class Reduced:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


def slotted_state() -> Any:
    return Reduced(Reduced, (), ({"a": 1}, {"b": 2}))


OBJECTS: dict[str, Callable[[], Any]] = {
    "a namespace": lambda: argparse.Namespace(lr=0.1),
    "a numpy text": lambda: np.str_("a"),
    "a numpy complex number": lambda: np.complex128(1),
    "a numpy number of no type": lambda: Reduced(np.float64(0).__reduce__()[0], (None, b"")),
    "a numpy number of too few bytes": lambda: Reduced(np.float64(0).__reduce__()[0], (np.dtype("f8"), b"1")),
    "a numpy array": lambda: np.ones(3),
    "a date": lambda: datetime.datetime(2024, 1, 1),
    "a path": lambda: Path("x"),
    "an enum": lambda: Colour.RED,
    "an object": Slotted,
    "a state of two dicts": slotted_state,
    "a frozen set": lambda: frozenset([1]),
    "a module": lambda: torch.nn.Linear(2, 2),
    "a method of an object": lambda: Colour.RED.__repr__,
}


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
def test_other_objects_are_stand_ins(folder: Path, make: Callable[[], Any]) -> None:
    torch.save({"w": WEIGHT, "other": make()}, folder / "w.pt")
    content = read_pickle(folder / "w.pt")
    assert torch.equal(content["w"], WEIGHT)
    assert isinstance(content["other"], StandIn)
    assert not vars(content["other"])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", ["<i8", ">i4", "u1", "<f2", "<f4", ">f8"])
def test_numpy_numbers_are_plain_ones(folder: Path, dtype: str, zipped: bool) -> None:
    number = np.array([3], dtype)[0]
    torch.save(
        {"w": WEIGHT, "step": number, "type": number.dtype}, folder / "w.pt", _use_new_zipfile_serialization=zipped
    )
    content = read_pickle(folder / "w.pt")
    assert (content["step"], type(content["step"])) == (3, type(number.item()))
    assert isinstance(content["type"], StandIn)


@pytest.mark.parametrize("zipped", [True, False])
def test_dicts_and_lists_of_other_classes_are_plain_ones(folder: Path, zipped: bool) -> None:
    values = {
        "w": WEIGHT,
        "settings": Settings(a=Settings(b=1)),
        "default": collections.defaultdict(list, {"x": [1]}),
        "names": Names(["a", "b"]),
        "namespace": argparse.Namespace(),
        "step": np.int64(3),
        "set": {1},
    }
    torch.save(values, folder / "w.pt", _use_new_zipfile_serialization=zipped)
    content = read_pickle(folder / "w.pt")
    assert torch.equal(content["w"], WEIGHT)
    assert content["settings"] == {"a": {"b": 1}}
    assert content["default"] == {"x": [1]}
    assert (content["names"], content["set"]) == (["a", "b"], {1})
    assert isinstance(content["namespace"], StandIn)


def test_no_module_of_a_file_is_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    (folder / "theirs.py").write_text("class Thing: pass\n")
    import theirs  # type: ignore[import-not-found]

    torch.save({"w": WEIGHT, "thing": theirs.Thing()}, folder / "w.pt")
    del sys.modules["theirs"]
    (folder / "theirs.py").write_text("raise SystemExit('imported')\n")
    content = read_pickle(folder / "w.pt")
    assert "theirs" not in sys.modules
    assert content["thing"].name == "theirs.Thing"


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "system"),
        (subprocess.Popen, r"(subprocess|commands)\.Popen"),
        (eval, "builtins.eval"),
        (runpy.run_path, "runpy"),
    ],
)
def test_a_file_that_calls_a_function_which_runs_code_is_refused(
    folder: Path, function: Any, name: str, zipped: bool
) -> None:
    ran = folder / "ran"
    argument = f"__import__('pathlib').Path({str(ran)!r}).touch()" if function is eval else f"touch {ran}"
    torch.save(
        {"w": WEIGHT, "x": Reduced(function, (argument,))}, folder / "w.pt", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(Damaged, match=rf"w\.pt (calls .*{name}\S*, which no file of|is not a file of plain tensors)"):
        read_weights(folder / "w.pt")
    assert not ran.exists()


def harm(path: str) -> None:
    Path(path).touch()


def test_functions_of_other_modules_are_not_called(folder: Path) -> None:
    ran = folder / "ran"
    torch.save({"w": WEIGHT, "x": Reduced(harm, (str(ran),))}, folder / "w.pt")
    assert isinstance(read_pickle(folder / "w.pt")["x"], StandIn)
    assert not ran.exists()


def test_classes_that_the_process_allows_are_not_built_either(folder: Path) -> None:
    torch.save({"w": WEIGHT, "x": Slotted()}, folder / "w.pt")
    with torch.serialization.safe_globals([Slotted]):
        assert isinstance(read_pickle(folder / "w.pt")["x"], StandIn)
        assert Slotted in torch.serialization.get_safe_globals()
    assert Slotted not in torch.serialization.get_safe_globals()


def test_a_file_of_very_many_classes_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checkpoints.storage.pickled_files._MOST_CLASSES", 1)
    torch.save({"w": WEIGHT, "a": Slotted(), "b": argparse.Namespace()}, folder / "w.pt")
    with pytest.raises(Damaged, match="names more than 1 classes; it was not read"):
        read_pickle(folder / "w.pt")


def test_a_whole_model_is_refused_with_what_to_save(folder: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), folder / "w.pt")
    with pytest.raises(Damaged, match=r"but a whole torch\.nn\..*\.Linear, .* Save model\.state_dict\(\)\."):
        read_weights(folder / "w.pt")


def test_a_bare_pickle_is_refused(folder: Path) -> None:
    (folder / "w.pt").write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(Damaged, match=r"not a file of plain tensors, .* Save model\.state_dict\(\)\."):
        read_weights(folder / "w.pt")
