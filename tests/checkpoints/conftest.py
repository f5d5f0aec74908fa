import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from checkpoints import Capture, Run, Stimuli
from tests.checkpoints.small_runs import CONFIG, build, build_stimuli, train


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Every test starts from the same draws and leaves the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """Return a block in which no file can grow beyond so many bytes: what does not fit is half written, then fails."""

    @contextmanager
    def full(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return full


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder."""
    path = tmp_path / "folder"
    path.mkdir()
    return path


@pytest.fixture
def run(folder: Path, stimuli: Stimuli) -> Iterator[Run]:
    """A new run, being written."""
    with Run.create(folder / "run", CONFIG, stimuli) as run:
        yield run


@pytest.fixture
def recorded(folder: Path, original: Path) -> Path:
    """Return the path of a run with steps 0 (weights), 5 (recorded) and two lines of metrics; nobody holds its lock."""
    return shutil.copytree(original, folder / "recorded")


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run that ``recorded`` copies."""
    path = tmp_path_factory.mktemp("original") / "run"
    model = build()
    optimizer = torch.optim.Adam(model.parameters())
    capture = Capture(model, ["0", "2"])
    with Run.create(path, CONFIG, build_stimuli()) as run:
        run.checkpoint(0, model)
        train(model, optimizer, 2)
        run.checkpoint(5, model, optimizer, capture=capture, extra={"epoch": 1})
        run.log({"step": 1, "loss": 0.5})
        run.log({"step": 5, "loss": 0.25})
    return path


@pytest.fixture
def network() -> nn.Sequential:
    return build()


@pytest.fixture
def stimuli() -> Stimuli:
    return build_stimuli()
