"""Networks of others: what builds them, their weights and their stimuli come from files."""

import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import safetensors.torch
import torch
import typer.testing
from rich.console import Console
from torch import nn

from analysis import analyze_run, record_model, resume_run
from analysis.cli import app
from analysis.comparison.view import View
from analysis.config.recording import CaptureConfig, ModelConfig
from analysis.config.stimulus_files import StimulusConfig
from analysis.execution.progress import Reporter
from analysis.training.user_stimuli.stimulus_loading import load_stimuli
from checkpoints import Capture, Run, Stimuli
from checkpoints.storage.regular_files import sha256
from checkpoints.storage.weight_paths import weight_digest
from repsim.settings import Settings

MODULE = """
import torch
from torch import nn

def cnn():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3))

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.out = nn.Linear(4, 2)
    def forward(self, ids, mask):
        return self.out((self.embed(ids) * mask[..., None]).sum(1))

ready = cnn()
number = 3
class inner:
    made = staticmethod(Two)

def drawn():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

class Late(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(64, 2)
    def forward(self, X):
        if X[:, 0, 0, 0].max() > 50:
            raise IndexError("too bright")
        return self.out(X.flatten(1))

class Fixed(nn.Module):
    def __init__(self, size=8):
        super().__init__()
        self.out = nn.Linear(64, 2)
        self.size = size
    def forward(self, X):
        return self.out(X.reshape(self.size, 64))

class NotOne(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(64, 2)
    def forward(self, X):
        return self.out(X.flatten(1).squeeze(0)).reshape(len(X), 2) if len(X) > 1 else X.missing

passes = []
class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(64, 2)
    def forward(self, X):
        passes.append(len(X))
        return self.out(X.flatten(1))

def words():
    torch.manual_seed(2)
    return nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4))

def sparse():
    model = drawn()
    model.register_buffer("graph", torch.eye(3).to_sparse())
    return model

def quantized():
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(drawn(), {nn.Linear})

def offloaded():
    from accelerate import cpu_offload
    return cpu_offload(drawn(), execution_device=torch.device("cpu"))

def empty():
    return drawn().to("meta")

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.head.weight = self.embed.weight
    def forward(self, X):
        return self.head(self.embed(X.flatten(1)))

def leaves():
    raise SystemExit(3)

def broken():
    raise RuntimeError("no such thing")
"""
LABELS = np.resize(["cat", "dog", "eel"], 60)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder with a module, weights and stimuli of somebody's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somebody.py").write_text(MODULE)
    X = np.random.default_rng(0).random((60, 1, 8, 8))
    np.savez(tmp_path / "stimuli.npz", X=X, y=LABELS)
    yield tmp_path
    sys.modules.pop("somebody", None)


def network() -> nn.Module:
    import somebody  # type: ignore[import-not-found]

    return somebody.cnn()


S = TypeVar("S", bound=Settings)


def record(**options: Any) -> Run:
    """Record a model of the place; settings of the model and the capture are given like options of ``record_model``."""

    def taken(config: type[S]) -> S:
        return config.from_dict({name: options.pop(name) for name in config.__annotations__ if name in options})

    options = {"model": "somebody:cnn", "output": "new", "data": "stimuli.npz", **options}
    data = taken(StimulusConfig) if isinstance(options["data"], str) else options.pop("data")
    return record_model(taken(ModelConfig), data=data, capture=taken(CaptureConfig), **options)


@pytest.fixture
def weights(place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    monkeypatch.syspath_prepend(str(place))
    state = {name: value + 1 for name, value in network().state_dict().items()}
    safetensors.torch.save_file(state, "weights.safetensors")
    torch.save({"state_dict": state}, "weights.pt")
    return state


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_activations_are_those_of_the_network_with_the_weights(weights: dict[str, Any], suffix: str) -> None:
    run = record(weights=f"weights.{suffix}", step=7, layers=["0", "4"])
    assert run.verify() == run.recorded_steps == [7]
    model = network()
    model.load_state_dict(weights)
    X = torch.from_numpy(np.load("stimuli.npz")["X"]).float()[run.stimuli.ids.astype(int)]
    with torch.no_grad():
        np.testing.assert_allclose(run[7]["4"][:], model.eval()(X).numpy(), atol=1e-5)
    assert list(run[7].activations) == ["0", "4"]
    assert all(torch.equal(run[7].weights()[name], value) for name, value in weights.items())


def test_the_config_describes_the_recording(weights: dict[str, Any], place: Path) -> None:
    run = record(weights="weights.pt", reduce=["0=spatial_mean", "*=sparse_projection(5, seed=2)"], dtype="float16")
    path = str(place / "weights.pt")
    assert run.config["source"] == {"model": "somebody:cnn", "key": None, "weights": [path]}
    assert run[0].state["extra"] == {"weights": path, "weights_sha256": sha256(Path(path))}
    assert run.config["data"] == {"name": "stimuli.npz", "classes": ["cat", "dog", "eel"]}
    layers = run.last().activations
    assert [(layer.reduction, layer.shape[1]) for layer in layers.values()][:2] == [
        ("spatial_mean(channels=first)", 4),
        ("sparse_projection(5, seed=2)", 5),
    ]
    assert {layer.dtype for layer in layers.values()} == {np.dtype("<f2")}


@pytest.mark.usefixtures("blank_figures", "place")
def test_a_recorded_network_is_analyzed_with_the_names_of_its_classes() -> None:
    run = record()
    assert View("x", run, 0).classes == {0: "cat", 1: "dog", 2: "eel"}
    result = analyze_run(run.path)
    assert (result.tables["probes"]["status"] == "ok").all()
    assert list(result.tables["probes"]["layer"]) == ["0", "1", "2", "3", "4"]


@pytest.mark.usefixtures("place")
def test_a_model_may_be_a_module_or_take_several_arguments() -> None:
    ready = record(model="somebody:ready", output="ready").last()
    np.testing.assert_array_equal(ready["0"][:], record(output="made").last()["0"][:])
    ids = np.arange(40).reshape(10, 4) % 10
    np.savez("tokens.npz", ids=[f"s{i}" for i in range(10)], y=np.arange(10) % 2, mask=np.ones((10, 4)), tokens=ids)
    with pytest.raises(ValueError, match=r"The network cannot be run on the stimuli \(TypeError: .*unexpected keyword"):
        record(model="somebody:inner.made", output="no", data="tokens.npz")
    assert not Path("no").exists()


def test_several_inputs_are_passed_by_name(place: Path) -> None:
    np.savez("parts.npz", a=np.ones((4, 2)), b=np.arange(4), y=[1, 0, 1, 0])
    loaded = load_stimuli("parts.npz")
    assert isinstance(loaded.stimuli.inputs, dict)
    assert loaded.stimuli.inputs["b"].tolist() == [1, 3, 0, 2]
    assert (loaded.stimuli.inputs["a"].dtype, loaded.classes) == (np.float32, ("0", "1"))


def test_ids_and_split_are_taken_from_the_file(place: Path) -> None:
    np.savez("own.npz", X=np.ones((3, 2)), ids=["a", "b", "c"], split=["test", "train", "validation"])
    stimuli = load_stimuli("own.npz").stimuli
    assert (stimuli.ids.tolist(), stimuli.split.tolist()) == (["a", "b", "c"], ["test", "train", "validation"])


def test_without_a_split_each_class_is_divided(place: Path) -> None:
    stimuli = load_stimuli("stimuli.npz").stimuli
    for label in range(3):
        parts, counts = np.unique(stimuli.split[stimuli.labels == label], return_counts=True)
        assert dict(zip(parts.tolist(), counts.tolist(), strict=True)) == {"test": 4, "train": 12, "validation": 4}


def test_names_of_classes_are_stored_with_the_stimuli(place: Path) -> None:
    np.savez("named.npz", X=np.zeros((3, 2)), y=["owl", "cat", "owl"])
    assert load_stimuli("named.npz").stimuli.classes == ("cat", "owl")


def test_groups_stay_whole_and_their_classes_are_divided_evenly(place: Path) -> None:
    rng = np.random.default_rng(0)
    groups, labels = rng.integers(0, 30, size=600), rng.integers(0, 3, size=600)
    np.savez("grouped.npz", X=np.zeros((600, 2)), y=labels, groups=groups)
    stimuli = load_stimuli("grouped.npz").stimuli
    assert stimuli.groups is not None
    parts_of = {group: set(stimuli.split[stimuli.groups == group].tolist()) for group in set(stimuli.groups.tolist())}
    assert {len(parts) for parts in parts_of.values()} == {1}
    for label in range(3):
        own = stimuli.split[stimuli.labels == label]
        assert np.mean(own == "train") == pytest.approx(0.6, abs=0.05)
        assert np.mean(own == "test") == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("sizes", [[1, 1, 1], [50, 1, 1], [5, 5, 5, 5]])
def test_every_part_has_a_group(place: Path, sizes: list[int]) -> None:
    n = sum(sizes)
    np.savez("grouped.npz", X=np.zeros((n, 2)), y=np.arange(n) % 2, groups=np.repeat(np.arange(len(sizes)), sizes))
    assert set(load_stimuli("grouped.npz").stimuli.split.tolist()) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("groups", "split", "message"),
    [
        (
            [0, 0, 1, 1],
            None,
            r"wrong\.npz: 2 groups cannot be divided into train, validation, test without dividing one",
        ),
        ([0, 1, 2], None, r"wrong\.npz: Groups have shape \(3,\) for 4 stimuli; expected one per stimulus"),
        (list("aabb"), ["train", "test", "test", "test"], r"wrong\.npz: Group 'a' is in the parts train and test of"),
    ],
)
def test_groups_that_cannot_be_divided_are_refused(place: Path, groups: Any, split: Any, message: str) -> None:
    parts = {} if split is None else {"split": split}
    np.savez("wrong.npz", X=np.zeros((4, 2)), y=[0, 1, 0, 1], groups=groups, **parts)
    with pytest.raises(ValueError, match=message):
        load_stimuli("wrong.npz")


def test_a_table_gives_targets_and_groups_by_id(place: Path) -> None:
    np.savez("own.npz", X=np.zeros((4, 2)), y=[0, 1, 0, 1], ids=list("abcd"))
    Path("targets.csv").write_text("speed,id,who\n1.5,d,x\n2,a,y\n3,c,z\n4,b,z\n9,other,z\n")
    stimuli = load_stimuli(StimulusConfig(data="own.npz", targets="targets.csv", groups="who")).stimuli
    assert stimuli.ids.tolist() == ["a", "c", "b", "d"]
    assert stimuli.targets["speed"].tolist() == [2.0, 3.0, 4.0, 1.5]
    assert stimuli.groups is not None
    assert stimuli.groups.tolist() == ["y", "z", "z", "x"]


def test_stimuli_with_targets_and_no_labels_are_divided_for_probes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("own.npz", X=np.zeros((5, 1, 8, 8)), ids=list("abcde"))
    Path("targets.csv").write_text("id,speed\n" + "".join(f"{each},0.5\n" for each in "abcde"))
    config = StimulusConfig(data="own.npz", targets="targets.csv")
    assert sorted(load_stimuli(config).stimuli.split.tolist()) == ["test", "train", "train", "train", "validation"]
    record(data=config, progress=True)
    assert "own.npz has no labels, which repsim analyze needs." in capsys.readouterr().err


def test_conditions_that_alternate_in_a_file_are_in_every_part_of_the_default_split(place: Path) -> None:
    n = 300
    np.savez("alternating.npz", X=np.zeros((n, 2)), y=np.arange(n) % 3, ids=np.arange(n))
    stimuli = load_stimuli("alternating.npz").stimuli
    assert Counter(stimuli.split.tolist()) == {"train": 180, "validation": 60, "test": 60}
    for period in (2, 5, 7, 10):
        conditions = stimuli.ids.astype(int) // 3 % period  # within a class
        for part in ("train", "validation", "test"):
            assert set(conditions[stimuli.split == part].tolist()) == set(range(period))
    again = load_stimuli("alternating.npz").stimuli
    assert again.split.tolist() == stimuli.split.tolist()


def test_stimuli_without_labels_are_recorded_but_not_analyzed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("plain.npz", X=np.zeros((4, 1, 8, 8)))
    run = record(data="plain.npz")
    assert run.stimuli.split.tolist() == ["test"] * 4
    assert run.stimuli.ids.tolist() == ["00000000", "00000001", "00000002", "00000003"]
    with pytest.raises(ValueError, match="new recorded no stimuli for train or validation; an analysis needs labels"):
        analyze_run(run.path)
    assert not (run.path / "analysis").exists()


NUMBERS = np.arange(6) % 3


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (NUMBERS, ("0", "1", "2")),
        (NUMBERS[:, None], ("0", "1", "2")),
        (np.eye(3)[NUMBERS], ("0", "1", "2")),
        (np.eye(4, dtype=bool)[NUMBERS], ("0", "1", "2")),
        (NUMBERS > 0, ("False", "True")),
        (NUMBERS.astype(np.float32), ("0.0", "1.0", "2.0")),
        (np.array(list("cde"))[NUMBERS], ("c", "d", "e")),
        (np.array(list("cde"))[NUMBERS][:, None], ("c", "d", "e")),
        (np.array(list("cde"), dtype=bytes)[NUMBERS], ("c", "d", "e")),
    ],
    ids=["numbers", "column", "one-hot", "one-hot booleans", "booleans", "floats", "text", "column of text", "bytes"],
)
@pytest.mark.usefixtures("place")
def test_labels_of_a_file_may_be_a_vector_a_column_or_one_hot(y: np.ndarray, classes: tuple[str, ...]) -> None:
    np.savez("labels.npz", X=np.arange(6.0)[:, None], y=y)
    loaded = load_stimuli("labels.npz")
    assert loaded.classes == classes
    names = y.reshape(6) if y.size == 6 else y.argmax(1)
    names = names.astype(str) if names.dtype.kind == "S" else names
    order = loaded.stimuli.ids.astype(int)
    assert [classes[label] for label in loaded.stimuli.labels] == [str(names[index]) for index in order]
    np.testing.assert_array_equal(np.asarray(loaded.stimuli.inputs)[:, 0], order)


X = np.zeros((6, 2))
OTHER_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "a number": ({"X": X, "y": 3}, r"wrong\.npz: Labels are a single value; expected one label for each stimulus"),
    "two numbers": ({"X": X, "y": np.ones((6, 2))}, r"wrong\.npz: Labels have shape \(6, 2\); expected one label"),
    "two texts": ({"X": X, "y": np.full((6, 2), "a")}, r"wrong\.npz: Labels have shape \(6, 2\)"),
    "transposed": ({"X": X, "y": np.arange(6)[None]}, r"wrong\.npz: Labels have shape \(1, 6\)"),
    "NaN": ({"X": X, "y": [0, 1, 2, np.nan, 1, 0]}, r"wrong\.npz: 1 of 6 labels are NaN or None; leave"),
    "quantities": (
        {"X": X, "y": [0.0, 1.5, 2.0, 1.0, 1.0, 0.0]},
        r"wrong\.npz: Label 1\.5 is no class.*as a column of --targets",
    ),
    "complex": ({"X": X, "y": np.full(6, 1j)}, r"wrong\.npz: y has type complex128; expected labels"),
    "fields": ({"X": X, "y": np.zeros(6, [("a", int)])}, r"wrong\.npz: y has type .*; expected labels"),
    "fewer": ({"X": X, "y": [0, 1]}, r"wrong\.npz: Stimuli have ids of shape \(6,\), labels \(2,\)"),
    "fewer, one-hot": ({"X": X, "y": np.eye(2)}, r"wrong\.npz: Stimuli have ids of shape \(6,\), labels \(2,\)"),
    "other rows": ({"a": X, "b": X[:5]}, r"Stimuli have ids of shape \(6,\), .* inputs \(6, 2\), \(5, 2\)"),
    "complex inputs": ({"X": X * 1j}, r"X in wrong\.npz has type complex128 and shape \(6, 2\); expected real numbers"),
    "one input": ({"X": 3.0}, r"X in wrong\.npz has type float64 and shape \(\); expected real numbers, one row"),
    "ragged": ({"X": np.array([[1], [1, 2]], dtype=object)}, r"wrong\.npz holds Python objects, .*padded"),
}


@pytest.mark.parametrize(("arrays", "message"), OTHER_FILES.values(), ids=OTHER_FILES)
@pytest.mark.usefixtures("place")
def test_a_file_whose_arrays_do_not_fit_is_rejected(arrays: dict[str, Any], message: str) -> None:
    np.savez("wrong.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        record(data="wrong.npz")
    assert not Path("new").exists()


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no colon": ({"model": "somebody"}, "Model 'somebody' is not understood; expected module:factory"),
    "no module": ({"model": "nobody:cnn"}, "could not be built .ModuleNotFoundError: No module named 'nobody'"),
    "no name": (
        {"model": "somebody:rnn"},
        "could not be built .AttributeError: module 'somebody' has no attribute 'rnn'",
    ),
    "fails": ({"model": "somebody:broken"}, "could not be built .RuntimeError: no such thing"),
    "leaves": ({"model": "somebody:leaves"}, "could not be built .SystemExit: 3"),
    "negative step": ({"step": -1}, "step is -1; expected a whole number of 0 or more"),
    "fails late": (
        {"model": "somebody:Late", "data": "late.npz"},
        "cannot be run on the stimuli .IndexError: too bright",
    ),
    "no network": ({"model": "somebody:inner"}, "Model 'somebody:inner' is a inner; expected a torch.nn.Module"),
    "no call": ({"model": "somebody:number"}, "could not be built .TypeError: 'int' object is not callable"),
    "key alone": ({"key": "ema"}, "key 'ema' was given without weights; give the file that it is in"),
    "no such key": ({"weights": "other.safetensors", "key": "ema"}, "no dict of tensors at key 'ema'"),
    "no weights": ({"weights": "none.pt"}, r"none\.pt is missing or not a regular file"),
    "other weights": (
        {"weights": "other.safetensors"},
        r"other\.safetensors does not fit the model: of 9 entries, 8 missing",
    ),
    "no data": ({"data": "none.npz"}, r"There is no file none\.npz; expected an \.npz file"),
    "no stimuli": ({"data": "labels.npz"}, r"labels\.npz holds no stimuli \(found: y\)"),
    "text": ({"data": "text.npz"}, r"X in text\.npz has type <U1 and shape \(1,\); expected real numbers, one row"),
    "not finite": ({"data": "nan.npz"}, r"X in nan\.npz has values that are NaN or infinite"),
    "other length": ({"data": "long.npz"}, r"long\.npz: Stimuli have ids of shape \(2,\)"),
    "other shape": ({"data": "flat.npz"}, "The network cannot be run on the stimuli .RuntimeError"),
    "no layer": ({"layers": ["conv"]}, "No layer matches 'conv'"),
    "no reduction": ({"reduce": ["0=mean"]}, "Unknown reduction 'mean'"),
    "no pattern": (
        {"reduce": ["spatial_mean"]},
        "Reduction 'spatial_mean' is not understood; expected PATTERN=REDUCTION",
    ),
    "two reductions": ({"reduce": ["0=spatial_mean", "0=flatten"]}, "Two reductions were given for '0'"),
    "cannot be reduced": ({"reduce": ["4=spatial_mean"]}, "Layer '4' cannot be reduced by spatial_mean"),
    "no device": ({"device": "abacus"}, "There is no device 'abacus' here"),
    "no dtype": ({"dtype": "int8"}, "Unknown dtype 'int8'"),
    "a run there": ({"output": "place"}, "place exists already"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found_before_anything_is_written(place: Path, options: dict[str, Any], message: str) -> None:
    (place / "place").mkdir()
    safetensors.torch.save_file({"a": torch.zeros(1)}, "other.safetensors")
    np.savez("labels.npz", y=[1, 2])
    np.savez("text.npz", X=["a"])
    np.savez("nan.npz", X=[[np.nan]])
    np.savez("long.npz", X=np.zeros((2, 1)), y=[1, 2, 3])
    np.savez("flat.npz", X=np.zeros((2, 5)))
    np.savez("late.npz", X=np.arange(64 * 6.0).reshape(6, 1, 8, 8))
    before = sorted(path.name for path in place.iterdir())
    with pytest.raises((ValueError, OSError), match=message):
        record(**options)
    assert sorted(path.name for path in place.iterdir() if path.name != "__pycache__") == before


@pytest.mark.usefixtures("place")
def test_weights_that_the_factory_draws_are_the_same_each_time() -> None:
    generator = torch.get_rng_state()
    first, second = (record(model="somebody:drawn", output=name).last() for name in ("first", "second"))
    np.testing.assert_array_equal(first["1"][:], second["1"][:])
    assert torch.equal(torch.get_rng_state(), generator)


# Batches


@pytest.mark.usefixtures("place")
def test_a_network_of_one_batch_size_is_recorded_with_it() -> None:
    np.savez("some.npz", X=np.random.default_rng(0).random((24, 64)), y=np.arange(24) % 2)
    run = record(model="somebody:Fixed", data="some.npz", batch_size=8)
    assert run.last()["out"].shape == (24, 2)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("model", "n", "size", "message"),
    [
        ("Fixed", 20, 8, r"runs on 8 stimuli but not on the 4 of the last block \(RuntimeError: shape '\[8, 64\]' is"),
        ("Fixed", 9, 8, r"runs on 8 stimuli but not on the 1 of the last block \(RuntimeError: shape"),
        ("NotOne", 17, 8, r"runs on 8 stimuli but not on the 1 of the last block \(AttributeError: 'Tensor' object"),
        ("NotOne", 7, 3, r"runs on 3 stimuli but not on the 1 of the last block \(AttributeError"),
    ],
)
def test_a_last_block_that_cannot_be_run_is_found_before_anything_is_written(
    model: str, n: int, size: int, message: str
) -> None:
    np.savez("some.npz", X=np.random.default_rng(0).random((n, 64)))
    with pytest.raises(ValueError, match=rf"^The network {message}.*Give a --batch-size that divides {n}\.$"):
        record(model=f"somebody:{model}", data="some.npz", batch_size=size)
    assert not Path("new").exists()


@pytest.mark.usefixtures("place")
def test_a_last_block_that_runs_is_recorded() -> None:
    np.savez("some.npz", X=np.random.default_rng(0).random((18, 64)))
    assert record(model="somebody:NotOne", data="some.npz", batch_size=8).last()["out"].shape == (18, 2)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("size", [None, 20, 100])
def test_a_network_is_tried_on_few_stimuli(size: int | None) -> None:
    record(model="somebody:Counting", batch_size=size)
    passes = sys.modules["somebody"].passes
    # Each stimulus is recorded once; two of each of three blocks are also shown together, to compare their rows.
    assert sum(each for each in passes if each > 4) == (66 if size == 20 else 60)
    assert len(passes) <= 13


# Weights


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("sparse", "'graph' is stored as sparse_coo; only dense tensors can be stored"),
        ("empty", r"'1\.weight' is on the meta device and no hook of accelerate holds its values.*"),
    ],
)
def test_a_network_whose_weights_cannot_be_saved_is_refused_before_it_runs(
    model: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Capture, "blocks", lambda *_: pytest.fail("the network was run"))
    message = f"^The weights of the network cannot be saved: {reason}; give --no-weights to record activations alone"
    with pytest.raises(ValueError, match=message):
        record(model=f"somebody:{model}")
    assert not Path("new").exists()


@pytest.mark.usefixtures("place", "blank_figures")
def test_activations_alone_are_recorded_verified_and_analyzed() -> None:
    with_weights, without = record(), record(output="alone", save_weights=False)
    assert without.verify() == [0]
    assert [with_weights.last().has_weights, without.last().has_weights] == [True, False]
    for layer in with_weights.last().activations:
        np.testing.assert_array_equal(without.last()[layer][:], with_weights.last()[layer][:])
    assert (analyze_run(without.path).tables.folder / "report.html").is_file()
    assert record(model="somebody:sparse", output="third", save_weights=False).verify() == [0]


@pytest.mark.usefixtures("place")
def test_a_quantized_network_is_recorded_with_its_weights() -> None:
    X = np.random.default_rng(0).random((12, 64))
    X[:, 0], X[:, 1] = 0, 1  # the range of each stimulus, so that each is quantized alike in every batch
    np.savez("some.npz", X=X)
    run = record(model="somebody:quantized", data="some.npz")
    assert run.verify() == [0]
    assert run.last().weights()["1._packed_params.dtype"] is torch.qint8
    path = run.last().path / "weights.safetensors"
    again = record(model="somebody:quantized", data="some.npz", weights=str(path), output="again")
    np.testing.assert_array_equal(again.last()["1"][:], run.last()["1"][:])


@pytest.mark.usefixtures("place")
def test_an_offloaded_network_is_recorded_with_its_weights() -> None:
    pytest.importorskip("accelerate")
    plain, run = record(model="somebody:drawn"), record(model="somebody:offloaded", output="offloaded")
    assert run.verify() == [0]
    assert all(torch.equal(run.last().weights()[name], value) for name, value in plain.last().weights().items())
    np.testing.assert_array_equal(run.last()["1"][:], plain.last()["1"][:])


@pytest.mark.usefixtures("place")
def test_weights_are_not_loaded_into_an_offloaded_network() -> None:
    pytest.importorskip("accelerate")
    path = record(model="somebody:drawn").last().path / "weights.safetensors"
    message = r"does not fit the model: '1\.weight' of the model is on the meta device"
    with pytest.raises(ValueError, match=message):
        record(model="somebody:offloaded", weights=str(path), output="other")


def test_an_offloaded_network_stays_where_it_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.setattr("analysis.training.record_models.check_device", lambda _: torch.device("cuda"))
    with pytest.raises(ValueError, match=r"The network is offloaded, so it cannot be moved to cuda\. Leave"):
        record(model="somebody:offloaded", device="cuda")
    assert not (place / "new").exists()


def test_one_name_of_tied_weights_is_enough(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(place))
    import somebody

    model = somebody.Tied()
    safetensors.torch.save_model(model, "tied.safetensors")
    run = record(model="somebody:Tied", weights="tied.safetensors")
    assert list(run.last().weights()) == ["embed.weight", "head.weight"]
    assert all(torch.equal(value, model.embed.weight) for value in run.last().weights().values())
    safetensors.torch.save_file({"other.weight": model.embed.weight.data}, "other.safetensors")
    message = r"other\.safetensors does not fit the model: of 2 entries, 2 missing \('embed\.weight'; 'head\.weight'\)"
    with pytest.raises(ValueError, match=message):
        record(model="somebody:Tied", weights="other.safetensors", output="other")


def test_the_key_names_the_weights_of_a_file_and_is_recorded(weights: dict[str, torch.Tensor]) -> None:
    older = {f"module.{name}": value - 1 for name, value in weights.items()}
    torch.save({"model": weights, "ema": {"shadow": older, "decay": 0.9}}, "both.pt")
    with pytest.raises(
        ValueError, match=r"both\.pt holds several weights that fit .* --key: model, ema\.shadow\.module\."
    ):
        record(weights="both.pt")
    arguments = "record --model somebody:cnn() --weights both.pt --key ema.shadow --data stimuli.npz --output new"
    result = typer.testing.CliRunner().invoke(app, arguments.split())
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        0,
        "both.pt: the weights fit without the prefix 'module.'.",
    )
    run = Run.open("new")
    assert all(torch.equal(value, older[f"module.{name}"]) for name, value in run.last().weights().items())
    assert (run.config["source"]["key"], run.config["source"]["model"]) == ("ema.shadow", "somebody:cnn()")


def test_a_folder_of_weights_is_recorded_with_the_digest_of_its_files(weights: dict[str, torch.Tensor]) -> None:
    Path("saved").mkdir()
    names = {name: f"{index % 2}.safetensors" for index, name in enumerate(weights)}
    for file in set(names.values()):
        safetensors.torch.save_file({name: weights[name] for name in weights if names[name] == file}, f"saved/{file}")
    Path("saved/model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    run = record(weights="saved")
    assert all(torch.equal(value, weights[name]) for name, value in run.last().weights().items())
    assert run.last().state["extra"]["weights_sha256"] == weight_digest("saved")


@pytest.mark.usefixtures("place")
def test_missing_weights_are_reported() -> None:
    said = io.StringIO()
    record(progress=Reporter(Console(file=said, width=1000)))
    assert (
        said.getvalue() == "No weights were given: somebody:cnn is recorded with those that it makes or loads itself.\n"
    )


@pytest.mark.usefixtures("place")
def test_a_recorded_model_cannot_be_resumed() -> None:
    with pytest.raises(ValueError, match="new holds recordings of somebody:cnn; there is nothing to train"):
        resume_run(record().path)


@pytest.mark.usefixtures("place")
def test_an_interrupted_recording_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "checkpoint", interrupted)
        record()
    assert not Path("new").exists()
    assert record().steps == [0]


def test_the_search_path_is_restored(place: Path) -> None:
    before = list(sys.path)
    record()
    with pytest.raises(ValueError, match="could not be built"):
        record(model="somebody:broken", output="other")
    assert sys.path == before


@pytest.mark.usefixtures("place")
def test_stimuli_of_one_class_are_not_analyzed() -> None:
    np.savez("one.npz", X=np.zeros((10, 1, 8, 8)), y=["cat"] * 10)
    with pytest.raises(ValueError, match="new recorded stimuli of one class only; an analysis needs labels"):
        analyze_run(record(data="one.npz").path)


def test_names_of_classes_that_do_not_fit_the_labels_are_not_used(tmp_path: Path) -> None:
    stimuli = Stimuli.of(["a", "b"], [3, 7], ["test", "test"], np.zeros((2, 1)))
    with Run.create(tmp_path / "run", {"data": {"classes": ["cat", "dog"]}}, stimuli) as run:
        assert View("x", run, 0).classes == {3: "3", 7: "7"}


# Rows that are tokens

TEXT = np.random.default_rng(0).integers(0, 10, (15, 4))
SHOWN = (np.arange(4) < 1 + np.arange(15)[:, None] % 4).astype(np.int64)
WORDS = np.where(SHOWN == 1, np.array(["even", "odd"])[TEXT % 2], "padding")


def test_tokens_that_are_not_padding_are_rows(place: Path) -> None:
    np.savez("text.npz", X=TEXT, token_mask=SHOWN, y=WORDS, ids=[f"s{k}" for k in range(15)])
    run = record(model="somebody:words", data="text.npz", rows="tokens", batch_size=4)
    stimuli = run.stimuli
    assert stimuli.ids.tolist() == [f"s{n}:{t}" for n in range(15) for t in range(4) if SHOWN[n, t]]
    assert stimuli.labels.tolist() == [int(TEXT[n, t] % 2) for n in range(15) for t in range(4) if SHOWN[n, t]]
    parts = [stimuli.split[stimuli.groups == f"s{k}"].tolist() for k in range(15)]
    assert all(len(set(part)) == 1 for part in parts)
    assert Counter(part[0] for part in parts) == {"train": 9, "validation": 3, "test": 3}
    assert run.config["data"]["classes"] == ["even", "odd"]
    assert run.config["recording"]["rows"] == "tokens"
    weights = run.last().weights()["0.weight"].numpy()
    np.testing.assert_array_equal(run.last()["0"][:], weights[TEXT[SHOWN == 1]])


@pytest.mark.usefixtures("place")
def test_the_attention_mask_says_which_tokens_are_rows_unless_there_is_a_token_mask() -> None:
    arrays = {"input_ids": TEXT, "attention_mask": SHOWN, "y": np.arange(15) % 3}
    np.savez("text.npz", **arrays)
    loaded = load_stimuli(StimulusConfig(data="text.npz", rows="tokens"))
    assert sorted(loaded.stimuli.inputs) == ["attention_mask", "input_ids"]
    assert (len(loaded.stimuli), loaded.classes) == (SHOWN.sum(), ("0", "1", "2"))
    np.savez("text.npz", **arrays, token_mask=SHOWN[:, ::-1])
    other = load_stimuli(StimulusConfig(data="text.npz", rows="tokens")).stimuli
    assert sorted(other.inputs) == ["attention_mask", "input_ids"]
    assert other.ids[0] == "00000000:3"
    np.savez("text.npz", X=TEXT)
    assert len(load_stimuli(StimulusConfig(data="text.npz", rows="tokens")).stimuli) == TEXT.size


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (
            {"y": WORDS},
            {},
            r"text.npz: Labels have shape \(15, 4\); expected one label for each stimulus, .* give --rows tokens",
        ),
        ({"token_mask": 2 * SHOWN}, {"rows": "tokens"}, r"text.npz: The mask has values other than 0 and 1"),
        ({}, {"rows": "tokens", "reduce": ("0=token(0)",)}, r"Reductions make one row per stimulus, and the mask asks"),
        ({}, {"rows": "words"}, r"Unknown rows 'words'. Choose one of: stimuli, tokens"),
    ],
    ids=["labels of tokens", "mask", "reduction", "rows"],
)
def test_rows_that_contradict_the_file_or_the_reductions_are_refused(
    place: Path, arrays: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    np.savez("text.npz", **{"X": TEXT, "y": np.arange(15) % 3, **arrays})
    with pytest.raises(ValueError, match=message):
        record(model="somebody:words", data="text.npz", **options)
    assert not Path("new").exists()
