"""Small trained runs, made once; runs whose activations are known; and a workplace to give command lines in."""

import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from analysis import ExecutionConfig, compare_runs, record_run, train_run, train_seeds
from analysis.comparison.analysis_plan import AnalysisPlan, plan_tasks
from analysis.comparison.attribution.arms import Arm
from analysis.comparison.result import ComparisonResult
from analysis.comparison.summary import undefined_sentences
from analysis.comparison.tasks import AnalysisCache, AnalysisTasks
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.config.recording import RecordingConfig
from analysis.execution.progress import Reporter
from analysis.workflows.assemble import write_tables
from analysis.workflows.comparisons import compare_arms
from checkpoints import Capture, Run, Stimuli
from repsim.learning import TrainingConfig

HOSTILE = "<img src=x onerror=alert(1)> & $\\foo$"


class Known(nn.Module):
    """A network whose layers 1, 2, … are each its input times a given matrix."""

    def __init__(self, matrices: Sequence[NDArray[Any]]) -> None:
        super().__init__()
        layers = [nn.Linear(*matrix.shape, bias=False) for matrix in matrices]
        self.hidden = nn.ModuleDict({str(index): layer for index, layer in enumerate(layers, start=1)})
        for layer, matrix in zip(layers, matrices, strict=True):
            layer.weight.data = torch.as_tensor(matrix.T.copy(), dtype=torch.float32)

    def forward(self, X: Tensor) -> Tensor:
        for layer in self.hidden.values():
            layer(X)
        return X


class AtUpdate(Reporter):
    """Does something once the given number of updates is made."""

    def __init__(self, update: int, act: Callable[[], Any]) -> None:
        super().__init__(quiet=True)
        self.update, self.act, self.done = update, act, 0

    @contextmanager
    def task(self, name: str, amount: object = None) -> Iterator["AtUpdate"]:
        self.done = getattr(amount, "done", self.done)  # updates of an earlier training
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        if amount == 1 and self.done == self.update:
            self.act()


@pytest.fixture
def at_update() -> Callable[..., Reporter]:
    """Make a reporter that presses Ctrl-C, or does something else, once so many updates are made."""
    return lambda update, act=lambda: os.kill(os.getpid(), signal.SIGINT): AtUpdate(update, act)


@pytest.fixture
def learned() -> Callable[[Path], dict[str, Any]]:
    """Return all that must be the same, bit for bit, in two runs of one configuration."""

    def of(path: Path) -> dict[str, Any]:
        last = Run.open(path).last()
        state = {name: value for name, value in last.state.items() if name != "rng"}  # which draws nothing here
        tensors = {name: (last.path / f"{name}.safetensors").read_bytes() for name in ("weights", "optimizer")}
        layers = {name: layer[:].tobytes() for name, layer in last.activations.items()}
        kept = {name: (path / name).read_bytes() for name in ("metrics.jsonl", "stimuli.h5")}
        return {"state": state} | tensors | layers | kept

    return of


@pytest.fixture(scope="session")
def tiny() -> TrainingConfig:
    """38 updates of three narrow layers."""
    return TrainingConfig(data="digits", depth=3, width=16, epochs=2, batch_size=64)


@pytest.fixture(scope="session")
def few() -> RecordingConfig:
    return RecordingConfig(n_train=200, n_validation=60, n_test=60)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny: TrainingConfig, few: RecordingConfig) -> Mapping[str, Path]:
    """Finished runs on the same stimuli. Tests only read them; what changes a run takes a ``copied`` one."""
    folder = tmp_path_factory.mktemp("runs")
    rules = {
        "backprop": {},
        "synthetic": {"rule": "synthetic-gradient", "boundaries": "middle"},
        HOSTILE: {"rule": "synthetic-gradient", "boundaries": "all", "schedule": "cosine"},
    }
    for name, changes in rules.items():
        train_run(folder / name, replace(tiny, **changes), few)
    return {name: folder / name for name in rules}


@pytest.fixture
def copied(runs: Mapping[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copy a run for a test that changes it."""
    return lambda name: Path(shutil.copytree(runs[name], tmp_path / "copies" / name))


@pytest.fixture(scope="session")
def comparison(runs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> ComparisonResult:
    """All runs compared, one of them with a hostile name."""
    return compare_runs(list(runs.values()), output=tmp_path_factory.mktemp("comparison"))


@pytest.fixture
def computed(tmp_path: Path) -> Callable[..., AnalysisTasks]:
    """Run the tasks of an analysis, without probes unless they are asked for."""

    def run(views: Sequence[View], *, probes: bool = False, **config: Any) -> AnalysisTasks:
        tasks = plan_tasks(views, AnalysisConfig(**config), AnalysisCache(tmp_path))
        for task in tasks:
            if probes or task.name != "probes":
                task.run()
        return tasks

    return run


@pytest.fixture
def measure() -> Callable[..., ComparisonResult]:
    """Write the tables of views, without figures and report, and repeat the warnings of their tasks."""

    def run(views: Sequence[View], folder: Path, **config: Any) -> ComparisonResult:
        plan = AnalysisPlan("Tables", tuple(views), folder, AnalysisConfig(**config), "")
        for task in plan.tasks:
            task.run()
        tables = write_tables(plan, folder)
        for message in [*undefined_sentences(tables), *plan.tasks.warnings()]:
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return ComparisonResult(tables)

    return run


@pytest.fixture
def known_view(tmp_path: Path) -> Callable[..., View]:
    """Record a network of given matrices on given stimuli."""

    def record(
        label: str,
        inputs: ArrayLike,
        labels: ArrayLike,
        matrices: Sequence[NDArray[Any]],
        *,
        split: ArrayLike = "test",
        config: Mapping[str, Any] | None = None,
        ids: Sequence[str] | None = None,
    ) -> View:
        inputs = np.asarray(inputs)
        ids = ids or [f"s{index:03d}" for index in range(len(inputs))]
        stimuli = Stimuli.of(ids, labels, np.broadcast_to(split, len(inputs)), inputs)
        model = Known(matrices)
        capture = Capture(model, ["hidden.*"])
        with Run.create(tmp_path / label, config or {}, stimuli) as run:
            run.checkpoint(7, model, capture=capture)
        return View(label, Run.open(tmp_path / label), 7)

    return record


# Arms


@pytest.fixture(scope="session")
def arm_runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Path, ...]]:
    """Finished runs of three seeds per arm, on the same stimuli, recorded at shares of their training."""
    folder = tmp_path_factory.mktemp("arms")
    usual = TrainingConfig(
        data="digits", depth=3, width=8, activation="tanh", epochs=2, batch_size=128, learning_rate=0.01
    )
    slow: dict[str, Any] = {"learning_rate": 0.003, "epochs": 3}
    arms: dict[str, dict[str, Any]] = {
        "bp": {},
        "sg": {"rule": "synthetic-gradient", "boundaries": "inner", **slow},
        "slow": slow,
        "greedy": {"rule": "decoupled-greedy", "boundaries": "inner", **slow},
        "short": {"depth": 1},
    }
    recording = RecordingConfig(steps="first,50%,100%", n_train=100, n_validation=50, n_test=60)
    return {
        name: tuple(
            run.path for run in train_seeds(folder / name, replace(usual, **changes), recording, seeds=[0, 1, 2])
        )
        for name, changes in arms.items()
    }


@pytest.fixture(scope="session")
def arm_comparison(
    arm_runs: Mapping[str, tuple[Path, ...]],
    tmp_path_factory: pytest.TempPathFactory,
    without_figures: Callable[[], AbstractContextManager[None]],
) -> ComparisonResult:
    """All these arms compared at two steps, with the reference at the accuracy of the method too; figures are empty."""
    roles = {"bp": "reference", "sg": "method", "slow": "schedule-matched", "greedy": "decoupled", "short": "truncated"}
    arms = [Arm(name, role, arm_runs[name]) for name, role in roles.items()]
    smallest = ("similarity=0.05", "class_structure=0.05", "accuracy=0.02", "log_dimension=0.2")
    with without_figures():
        return compare_arms(
            [*arms, Arm("bp at", "accuracy-matched", arm_runs["bp"])],
            config=AnalysisConfig(Cs=(0.1, 1.0)),
            design=DesignConfig(smallest_effects=smallest),
            output=tmp_path_factory.mktemp("arm-comparison"),
            execution=ExecutionConfig(executor="serial"),
        )


@pytest.fixture(scope="session")
def workplace(
    runs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory, tiny: TrainingConfig, few: RecordingConfig
) -> Path:
    """A folder with runs and files of all kinds, in which no mistake may write anything."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copytree(runs["backprop"], folder / "run")
    shutil.copytree(runs["synthetic"], folder / "other")
    train_run(folder / "elsewhere", replace(tiny, split_seed=1), few)
    record_run(folder / "run", folder / "recorded", steps="last")
    (folder / "file").write_text("mine")
    (folder / "fixed.toml").write_text("[training]\ndepth = 3\n")
    (folder / "seeds.toml").write_text("[training]\ndata = 'digits'\n[grid]\nseed = '0-1'\n")
    _damage(Path(shutil.copytree(folder / "run", folder / "damaged")) / "checkpoints/step_00000038/activations.h5")
    _damage(
        Path(shutil.copytree(folder / "run", folder / "lightweight")) / "checkpoints/step_00000038/weights.safetensors"
    )
    for name, text in {"garbled": "{", "future": '{"format": "repsim-run", "format_version": 99}'}.items():
        (folder / name).mkdir()
        (folder / name / "run.json").write_text(text)
    _save_data(folder)
    return folder


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def _save_data(folder: Path) -> None:
    X, y = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3
    arrays: dict[str, dict[str, Any]] = {
        "narrow": {"X": X, "y": y},
        "nan": {"X": np.where(np.arange(60)[:, None] == 7, np.nan, X), "y": y},
        "one-class": {"X": X, "y": 0 * y},
        "objects": {"X": X.astype(object), "y": y},
    }
    for name, content in arrays.items():
        np.savez(folder / f"{name}.npz", **content)
    (folder / "torn.npz").write_bytes((folder / "narrow.npz").read_bytes()[:-50])
