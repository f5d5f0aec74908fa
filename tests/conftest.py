"""Settings for all tests: threads, processes, seeds and garbage collection; and command lines in this process."""

import gc
import os
import random
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from xdist.scheduler import LoadFileScheduling

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # for the processes that tests start; a busy machine then changes no bits
torch.set_num_threads(1)
mpl.use("Agg")

SHARING = ("tests/analysis/comparison/", "tests/analysis/reproduction/")  # folders whose files share costly fixtures
MOST_WORKERS = 4


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed the global generators before the fixtures of a test, so that no result depends on the tests before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of a CUDA device where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


def pytest_collection_finish() -> None:
    """Exclude what was imported and collected from garbage collection, which would look at it at every pass."""
    gc.collect()
    gc.freeze()
    sys.dont_write_bytecode = True  # modules that a test edits within a second would be imported as they were before


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Use one process more than there are processors, as many tests wait for other processes."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, 1 + processors)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Run all tests of a file, or of a folder whose files share fixtures, in one process."""
    return ByFixtures(config, log)


class ByFixtures(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in SHARING if nodeid.startswith(folder)), super()._split_scope(nodeid))


@pytest.fixture(scope="session", autouse=True)
def in_this_process() -> Iterator[None]:
    """Run the tasks of tests that name no executor in their own process, as starting others takes seconds each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.execution.executors.count_processors", lambda: 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_lines_in_between() -> Iterator[None]:
    """Write no lines about work that takes long, of which a busy machine writes some and others do not."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FIRST_LINE_SECONDS", "LINE_SECONDS"):
            patch.setattr(f"analysis.execution.progress.screens.{name}", float("inf"))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks() -> Iterator[None]:
    """Flush no file to the disk in this process: what tests write need not survive a loss of power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def digits_are_parsed_once() -> Iterator[None]:
    """Keep the digits of scikit-learn: parsing their text takes as long as training many of the networks of tests."""
    from sklearn import datasets

    X, y = datasets.load_digits(return_X_y=True)
    original = datasets.load_digits

    def copied(*, return_X_y: bool = False, **options: Any) -> Any:
        return (X.copy(), y.copy()) if return_X_y and not options else original(return_X_y=return_X_y, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_digits", copied)
        yield


@pytest.fixture(scope="session")
def without_figures() -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which empty files stand for the figures of an analysis, which take most of its time.

    Figures that a test adds are drawn, and so are those that it asks for by their names.
    """
    from analysis.comparison.figures import FIGURES, draw_figures, possible_figures
    from analysis.plots.drawing import Drawing

    usual = set(FIGURES.values())

    def undrawn(tables: Any, name: str, **style: Any) -> Iterator[Drawing]:
        figure = possible_figures(tables).get(name)
        if style or figure not in usual:
            yield from draw_figures(tables, name, **style)
        else:
            yield Drawing(name, figure.heading, figure.caption(tables), Figure(), figure.table, figure.leads)

    @contextmanager
    def blank() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("analysis.comparison.figures.draw_figures", undrawn)
            for module in ("plots.drawing", "report.print_figures"):
                patch.setattr(f"analysis.{module}.save_figure", lambda figure, path: Path(path).write_bytes(b""))
            yield

    return blank


@pytest.fixture
def blank_figures(without_figures: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Save empty files in place of figures."""
    with without_figures():
        yield


class Said(NamedTuple):
    """What came of a command line."""

    code: int
    out: str
    err: str


Repsim = Callable[..., Said]


@pytest.fixture
def repsim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Repsim:
    """Run one command line, as a shell would split it, and further arguments as they are, in this process."""
    from analysis.cli import main

    def call(line: str, *arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["repsim", *shlex.split(line), *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return Said(stop.value.code or 0, *capsys.readouterr())  # type: ignore[arg-type]

    return call


@pytest.fixture
def own() -> Iterator[None]:
    """Remove what a test registers as own parts, and what it imports, from registries and modules."""
    from analysis.own_parts import importing
    from repsim.registration import own_parts

    before, path, names = {id(part) for part in own_parts()}, list(sys.path), set(sys.modules)
    importing._IMPORTED.clear()  # what a test without this fixture left, such as a page of the guide
    yield
    for part in own_parts():
        if id(part) not in before:
            del part.kind.registry[part.name]
    importing._IMPORTED.clear()
    sys.path[:] = path
    for name in set(sys.modules) - names:
        if name.startswith(("own_parts_", "beside_")):
            del sys.modules[name]
