"""Series of checkpoints of a user's network: recorded into one run, continued, extended, and compared over training."""

import io
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from analysis import Interrupted, record_model, train_run
from analysis.comparison.equal_steps import similarity_at_equal_steps
from analysis.comparison.result import ComparisonResult
from analysis.comparison.view import views_of_runs
from analysis.config.recording import CaptureConfig, ModelConfig
from analysis.config.stimulus_files import StimulusConfig
from analysis.execution.progress import Reporter
from analysis.training import record_models as recording
from analysis.training import steps_to_record
from checkpoints import Run
from repsim.learning import TrainingConfig
from repsim.similarity import linear_cka

MODULE = """
from torch import nn

def net(width=3):
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 2))

ready = net()
"""


def state(step: int, width: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    net = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 2))
    drawn = {name: torch.rand(value.shape, generator=generator) for name, value in net.state_dict().items()}
    return {**drawn, "1.num_batches_tracked": torch.tensor(step)}


def save(*steps: int, folder: str = "ckpt", shift: int = 0) -> None:
    Path(folder).mkdir(exist_ok=True)
    for step in steps:
        content = {"model": {f"module.{name}": value for name, value in state(step + shift).items()}, "epoch": step}
        torch.save(content, f"{folder}/epoch_{step}.pt")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder with a module, three checkpoints and stimuli."""
    monkeypatch.chdir(tmp_path)
    Path("net_of_series.py").write_text(MODULE)
    save(1, 2, 10)
    np.savez("stimuli.npz", X=np.random.default_rng(0).random((40, 4)), y=np.arange(40) % 2)
    yield tmp_path
    sys.modules.pop("net_of_series", None)


def record(output: str = "new", data: str = "stimuli.npz", **options: Any) -> tuple[Run, str]:
    """Record a series, and return the run and what was said."""
    said = io.StringIO()
    capture = {name: options.pop(name) for name in CaptureConfig.__annotations__ if name in options}
    source: dict[str, Any] = {"model": "net_of_series:net", "weights": ("ckpt/epoch_*.pt",), **options}
    reporter = Reporter(Console(file=said, width=1000))
    stimuli = StimulusConfig(data=data, targets=source.pop("targets", None))
    run = record_model(ModelConfig(**source), output, data=stimuli, capture=CaptureConfig(**capture), progress=reporter)
    return run, said.getvalue()


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def stop_before(step: int, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] = KeyboardInterrupt) -> None:
    def stopped(run: Run, at: int, *arguments: Any, **options: Any) -> None:
        if at == step:
            raise error
        checkpoint(run, at, *arguments, **options)

    checkpoint = Run.checkpoint
    monkeypatch.setattr(Run, "checkpoint", stopped)


# One run


def test_each_file_is_recorded_as_one_alone() -> None:
    run, _ = record()
    assert run.verify() == run.recorded_steps == [1, 2, 10]
    assert (run.status["state"], run.status["step"]) == ("finished", 10)
    alone, _ = record("alone", weights=("ckpt/epoch_2.pt",), step=2)
    for name, layer in alone[2].activations.items():
        np.testing.assert_array_equal(run[2][name][:], layer[:])
    assert run[2].state["extra"] == alone[2].state["extra"]
    for step in run.steps:
        held = run[step].weights()
        assert all(torch.equal(held[name], value) for name, value in state(step).items())


def test_a_ready_network_takes_each_file_in_turn() -> None:
    run, _ = record(model="net_of_series:ready")
    assert [run[step].weights()["1.num_batches_tracked"].item() for step in run.steps] == [1, 2, 10]


def test_messages_are_said_once_and_progress_counts_files() -> None:
    _, said = record()
    assert [line.partition(" in ")[0] for line in said.splitlines()] == [
        "ckpt/epoch_1.pt is recorded as step 1, ..., ckpt/epoch_10.pt as step 10.",
        "reading weights: 3/3",
        "ckpt/epoch_1.pt and 2 more: the weights fit without the prefix 'module.'.",
        "new: 3/3",
    ]


def test_a_bad_last_file_is_found_before_the_first_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state(11, width=5), "ckpt/epoch_11.pt")
    with pytest.raises(ValueError, match=r"epoch_11\.pt does not fit the model: of 9 entries, .* of another shape"):
        record()
    assert not Path("new").exists()


def test_few_networks_are_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import weakref

    made: list[Any] = []
    load_model = recording.load_model

    def counted(*arguments: Any, **options: Any) -> nn.Module:
        alive = [each for each in made if each() is not None]
        assert len(alive) <= 1
        model = load_model(*arguments, **options)
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr(recording, "load_model", counted)
    save(3, 4, 5, 6)
    record()
    assert len(made) == 7 + 7  # each is tried before the first is recorded


def test_a_file_that_changes_while_it_is_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    load_model = recording.load_model

    def and_write(model: str, path: Path, **options: Any) -> nn.Module:
        loaded = load_model(model, path, **options)
        if path.name == "epoch_2.pt":
            torch.save(state(3), path)
        return loaded

    monkeypatch.setattr(recording, "load_model", and_write)
    with pytest.raises(ValueError, match=r"epoch_2\.pt has changed while it was recorded\. Repeat the command"):
        record()
    assert not Path("new").exists()


# Continuing


def test_the_same_command_continues_a_recording_that_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = record("whole")
    with monkeypatch.context() as patch:
        stop_before(10, patch)
        with pytest.raises(Interrupted, match=r"^Stopped; new holds steps 1, 2\. Continue with the same command\.$"):
            record()
    before = files(Path("new/checkpoints"))
    assert Run.open("new").status["state"] == "interrupted"
    run, said = record()
    assert said.startswith("new holds steps 1, 2 of these weights already; recording 1 more.\n")
    assert (run.verify(), run.status["state"]) == ([1, 2, 10], "finished")
    assert before.items() <= files(Path("new/checkpoints")).items()
    for name, layer in whole[10].activations.items():
        np.testing.assert_array_equal(run[10][name][:], layer[:])


def test_what_a_killed_process_left_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep_all(run: Run) -> Any:
        return monkeypatch.context()

    for step in (1, 10):  # before the first commit, and after others
        with monkeypatch.context() as patch:
            patch.setattr(steps_to_record, "_removed_if_empty", keep_all)
            stop_before(step, patch, SystemExit)
            with pytest.raises(SystemExit):
                record(f"before-{step}")
        assert Run.open(f"before-{step}").status["state"] == "stopped"
        run, _ = record(f"before-{step}")
        assert (run.verify(), run.status["state"]) == ([1, 2, 10], "finished")


def test_an_interruption_before_the_first_step_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_before(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        record()
    assert not Path("new").exists()


def test_repeating_a_finished_recording_changes_nothing() -> None:
    record()
    before = files(Path("new"))
    run, said = record()
    assert said == "new holds steps 1, 2, 10 of these weights already; there is nothing to record.\n"
    assert (run.steps, files(Path("new"))) == ([1, 2, 10], before)


def test_files_that_are_added_to_a_series_are_recorded() -> None:
    record()
    save(3, 11)
    shutil.move("ckpt", "moved")  # their content counts, not their place
    run, said = record(weights=("moved/*.pt",))
    assert said.startswith("new holds steps 1, 2, 10 of these weights already; recording 2 more.\n")
    assert (run.verify(), run.status["step"], run.status["state"]) == ([1, 2, 3, 10, 11], 11, "finished")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "net_of_series:net()"}, r"records model net_of_series:net, not net_of_series:net\(\)"),
        ({"key": "model"}, "records key none, not model"),
        ({"dtype": "float16"}, "records dtype float32, not float16"),
        ({"layers": ("0", "3")}, r"records layers \*\*, not 0,3"),
        ({"save_weights": False}, "records save_weights True, not False"),
        ({"data": "others.npz"}, "records other stimuli"),
        ({"data": "renamed.npz"}, "records other stimuli"),
        (
            {"targets": "targets.csv"},
            r"records other targets, groups or parts of the stimuli \(repsim analyze takes .* too\)",
        ),
        ({"weights": ("other/*.pt",)}, r"the weights of step 1 there are not those of other/epoch_1\.pt"),
        (
            {"weights": ("ckpt/epoch_2.pt", "ckpt/epoch_10.pt")},
            r"holds step 1 of .*ckpt/epoch_1\.pt, which is not among the weights given",
        ),
    ],
)
def test_what_differs_is_not_added_to_a_run(options: dict[str, Any], message: str) -> None:
    record()
    save(1, 2, 10, folder="other", shift=5)
    np.savez("others.npz", X=np.ones((40, 4)), y=np.arange(40) % 2)
    np.savez("renamed.npz", X=np.load("stimuli.npz")["X"], y=np.resize(["a", "b"], 40))
    Path("targets.csv").write_text("\n".join(["id,size", *(f"{k:08d},{k}.5" for k in range(40))]))
    before = files(Path("new"))
    with pytest.raises(
        FileExistsError, match=f"^new exists already, and {message}\\. Repeat the command that began it, or choose"
    ):
        record(**options)
    assert files(Path("new")) == before


def test_other_runs_and_folders_are_not_continued() -> None:
    Path("folder").mkdir()
    train_run("trained", TrainingConfig(data="xor:5", depth=1, width=2, epochs=1))
    record("built", weights=())
    for output in ("folder", "trained", "built"):
        refused = rf"^{output} exists already\. Choose another --output, or give --exists replace"
        with pytest.raises(FileExistsError, match=refused):
            record(output)
    with pytest.raises(FileExistsError, match=r"^built exists already\. Choose"):
        record("built", weights=())


def test_a_model_is_required() -> None:
    with pytest.raises(ValueError, match=r"^model is missing; give module:factory\.$"):
        record(model=None)


# Comparison


def test_two_series_are_compared_at_equal_steps(measure: Callable[..., ComparisonResult], tmp_path: Path) -> None:
    save(1, 2, 3, folder="other", shift=5)
    a, _ = record("a", layers=("0",))
    b, _ = record("b", layers=("0",), weights=("other/*.pt",))
    tables = measure(views_of_runs([a.path, b.path], "all"), tmp_path, Cs=(0.1,)).tables
    found = similarity_at_equal_steps(tables).set_index("step")["value"]
    rows = a.stimuli.split == "test"
    assert found.to_dict() == pytest.approx(
        {step: linear_cka(a[step]["0"][:][rows], b[step]["0"][:][rows]) for step in (1, 2)}
    )
