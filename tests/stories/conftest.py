"""What the stories share: a folder of their own, and the command line in this process."""

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import pytest

from analysis.cli import main

mpl.use("Agg")


class Said(NamedTuple):
    code: int
    out: str
    err: str


Repsim = Callable[[str], Said]


@pytest.fixture
def repsim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Repsim:
    """Run one command line in this process."""

    def call(line: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["repsim", *shlex.split(line)])
        with pytest.raises(SystemExit) as stop:
            main()
        return Said(stop.value.code or 0, *capsys.readouterr())  # type: ignore[arg-type]

    return call


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder whose modules can be imported, and forget these modules afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]
