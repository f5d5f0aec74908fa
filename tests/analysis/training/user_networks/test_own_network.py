"""Networks and data of the user in training runs: what they are made of, their seeds, and what is refused."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis.config.recording import RecordingConfig
from analysis.training.fork import fork_run
from analysis.training.rebuilding import rebuild
from analysis.training.seed_runs import resume_seeds, train_seeds
from analysis.training.setup import prepare
from analysis.training.train import train_run
from analysis.training.user_networks.own_data import load_data
from analysis.training.user_networks.own_network import own_network
from repsim.learning import TrainingConfig

MODULE = """
import numpy as np
import torch
from torch import nn
from repsim.learning import Chain, Dataset

def mlp(width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                         nn.Linear(width, 3))

def conv():
    return [nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU()), nn.Conv2d(4, 2, 1),
            nn.Sequential(nn.Flatten(), nn.Linear(2, 3))]

def chain():
    return Chain.of(mlp(), ["2"], input_shape=(3, 2, 2))

ready = mlp()

def wrong_outputs():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 4))

class Inplace(nn.Module):
    def forward(self, h):
        return h.mul_(2)

def inplace():
    return Chain.of([nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), Inplace(), nn.Linear(5, 3)], ["0"],
                    input_shape=(3, 2, 2))

def images(n=60):
    return torch.rand(n, 3, 2, 2), torch.arange(n) % 3

def as_dict():
    X, y = images()
    return {"X": X.flatten(1), "y": y, "shape": (3, 2, 2)}

def as_dataset():
    return torch.utils.data.TensorDataset(*images())

def ours():
    X, y = images()
    return Dataset("mine", X.flatten(1).numpy(), y.numpy(), tuple("abc"), image_shape=(3, 2, 2))

def tokens():
    return np.arange(240).reshape(60, 4) % 7, np.arange(60) % 3

def number():
    return 3

def without_y():
    return {"X": images()[0]}

def misshapen():
    return {**as_dict(), "shape": (5,)}

def ragged():
    return [(np.zeros(i), 0) for i in range(1, 4)]
"""
FEW = RecordingConfig(steps="last", n_train=9, n_validation=3, n_test=3)


BATCH_NORM = """
def batch_norm():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("mine", None)


def settings(model: str | None = "mine:mlp", **changes: Any) -> TrainingConfig:
    return TrainingConfig(**({"model": model, "data": "mine:images", "epochs": 2, "batch_size": 8} | changes))


@pytest.mark.parametrize("name", ["images", "as_dict", "as_dataset", "ours"])
def test_data_of_every_form_have_their_own_shape(name: str) -> None:
    data, expected = load_data(f"mine:{name}"), load_data("mine:images")
    assert data.shape == (3, 2, 2)
    np.testing.assert_array_equal(data.X, expected.X)
    np.testing.assert_array_equal(data.y, expected.y)


def test_tokens_stay_whole_numbers_for_networks_of_the_user_alone() -> None:
    assert load_data("mine:tokens").X.dtype == np.int64
    built_in = prepare(settings(None, data="mine:tokens", depth=2, width=4), FEW)
    assert built_in.dataset.X.dtype == np.float32
    assert load_data("mine:images(n=30)").X.shape == (30, 12)
    assert load_data("xor:3").X.shape == (1000, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("number", r"^Data 'mine:number' is a int; expected a pair \(X, y\), a dict"),
        ("without_y", r"^Data 'mine:without_y' is a dict without y"),
        ("misshapen", r"^X in mine:misshapen has 12 numbers per example, which do not make up the shape \(5,\)"),
        ("ragged", r"^Data 'mine:ragged' is a list whose examples are not pairs \(x, y\) of equal shapes"),
        ("nothing", r"^Data 'mine:nothing' could not be built \(AttributeError"),
    ],
)
def test_other_data_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data(f"mine:{name}")


def test_the_seed_decides_the_weights_of_the_factory() -> None:
    state = torch.get_rng_state()
    first, again, other = (prepare(settings(seed=seed), FEW).learner.network for seed in (1, 1, 2))
    assert torch.equal(first.output.weight, again.output.weight)
    assert not torch.equal(first.output.weight, other.output.weight)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("model", "depth"), [("mlp", 2), ("conv", 2), ("chain", 1), ("mlp(width=5)", 2)])
def test_the_number_of_segments_is_that_of_the_network(model: str, depth: int) -> None:
    setup = prepare(settings(f"mine:{model}", rule="synthetic-gradient@all"), FEW)
    assert setup.training.depth == depth
    assert setup.learner.network.is_own


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "mine:ready"},
            r"^Model 'mine:ready' could not be built .*it is ready already, so no seed decides it",
        ),
        ({"model": "mine:number"}, r"^Model 'mine:number' is a int; expected a torch.nn.Module"),
        (
            {"model": "mine:wrong_outputs"},
            r"^Model 'mine:wrong_outputs' returns 4 outputs .* but the data have 3 classes",
        ),
        (
            {"model": "mine:inplace", "rule": "noise"},
            r"^The network and its rule cannot learn from a batch \(RuntimeError",
        ),
        ({"depth": 7}, r"^depth is 7, but model 'mine:mlp' has 2 hidden segments\. Leave depth out"),
        (
            {"rule": "noise@3"},
            r"^boundaries '3' names boundary 3; a network with 2 hidden layers has boundaries 1 to 2",
        ),
        ({"data": "digits"}, r"^Model 'mine:mlp': Block '1' cannot run on its input of shape \(8, 64\)"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    place: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train_run("runs/a", settings(**changes), FEW)
    assert not (place / "runs").exists()


def test_runs_are_rebuilt_forked_and_refused_with_another_network(place: Path) -> None:
    run = train_run("runs/a", settings(rule="synthetic-gradient@1"), FEW)
    assert set(rebuild(run, run.steps[-1]).learner.placed()) == {(1,)}
    fork = fork_run("runs/fork", "runs/a", run.steps[-1], {"epochs": 3, "rule": "noise@2"})
    assert fork.status["state"] == "finished"
    (place / "mine.py").write_text(MODULE.replace("nn.ReLU()", "nn.Tanh()"))
    sys.modules.pop("mine")
    with pytest.raises(ValueError, match=r"was trained with: it has other layers of equal sizes\. Restore the code"):
        rebuild(run, run.steps[-1])


def test_several_seeds_equal_single_runs(place: Path) -> None:
    changes: dict[str, Any] = {"rule": "synthetic-gradient@1", "clip_norm": 0.5, "weight_decay": 0.1, "warmup": 0.3}
    together = train_seeds("runs/all", settings(**changes), FEW, seeds="0-1", how="stacked")
    alone = train_run("runs/one", settings(seed=1, **changes), FEW)
    assert [each.path for each in resume_seeds("runs/all", "0-1")] == [run.path for run in together]
    for name, expected in alone.last().weights().items():
        torch.testing.assert_close(together[1].last().weights()[name], expected, rtol=1e-3, atol=1e-5)


def test_a_run_of_a_network_of_the_user_is_continued_by_the_settings_it_was_started_with(place: Path) -> None:
    train_run(place / "run", settings(), FEW, progress=False)
    assert train_run(place / "run", settings(), FEW, exists="resume", progress=False).status["state"] == "finished"
    with pytest.raises(ValueError, match=r"made with other settings \(training\.model \"mine:mlp\" there, null here"):
        train_run(place / "run", settings(None, depth=2), FEW, exists="resume", progress=False)
    several = train_seeds(place / "several", settings(), FEW, seeds="0-1", progress=False)
    again = train_seeds(place / "several", settings(), FEW, seeds="0-1", exists="resume", progress=False)
    assert [run.info["uuid"] for run in again] == [run.info["uuid"] for run in several]


def test_batches_that_a_block_cannot_train_on_are_refused_before_anything_is_written(place: Path) -> None:
    (place / "mine.py").write_text(MODULE + BATCH_NORM)
    with pytest.raises(ValueError, match=r"cannot learn from a batch .*Expected more than 1 value per channel"):
        train_run(place / "run", settings("mine:batch_norm", batch_size=1), FEW, progress=False)
    assert not (place / "run").exists()


def test_no_model_is_no_network() -> None:
    assert own_network(TrainingConfig(), (3,), 2, torch.zeros(2, 3)) is None
