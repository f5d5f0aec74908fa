"""Pieces of an analysis: what they are called, what they come to, and how they are kept."""

import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from analysis.comparison import KINDS, Found, Piece, Planned, Source, Store, plan, tasks_of
from analysis.comparison.plan import COMPARATORS_SHOWN
from analysis.comparison.rdm_file import write_rdms
from analysis.comparison.results import similarities
from analysis.comparison.view import View, views_of_run, views_of_runs
from analysis.config.analysis import AnalysisConfig
from analysis.workflows.measuring import measure
from checkpoints import Damaged
from probes.solvers.path import CS
from repsim.similarity import COMPARATORS, MEASURES, pairwise

Pieces = Callable[..., tuple[Planned, Store]]


def keys(views: list[View], **config: Any) -> list[str]:
    return [piece.key for piece in plan(views, AnalysisConfig(**config)).pieces()]


def test_the_settings_of_an_analysis_are_those_of_the_rooms_it_asks() -> None:
    assert AnalysisConfig.Cs == CS
    assert set(COMPARATORS_SHOWN) <= set(COMPARATORS)
    AnalysisConfig().check_choices()
    assert AnalysisConfig.from_dict(AnalysisConfig(measures=("pls",)).to_dict()) == AnalysisConfig(measures=("pls",))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"distances": "cosine"},
            r"^Unknown setting 'distances' of an analysis\. Choose from: Cs, distance, measures\.$",
        ),
        ({"distance": 3}, r"^distance is 3; expected text\.$"),
        ({"measures": "cka"}, r"^measures is 'cka'; expected a list of names\.$"),
        ({"measures": [1]}, r"^measures is 1; expected text\.$"),
        ({"Cs": [True]}, r"^Cs is \[True\]; expected a list of numbers\.$"),
        ({"Cs": 0.1}, r"^Cs is 0\.1; expected a list of numbers\.$"),
    ],
)
def test_settings_of_another_kind_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnalysisConfig.from_dict(values)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (AnalysisConfig(measures=()), r"^No measures were given; expected one or more, such as cka\.$"),
        (AnalysisConfig(measures=("cka", "cka")), r"^measures are cka, cka; expected each once\.$"),
        (AnalysisConfig(measures=("hsic",)), r"^Unknown measure 'hsic'\. Choose from: cka, "),
        (AnalysisConfig(distance="crossnobis"), r"^Unknown distance 'crossnobis'\. Choose one of: correlation"),
    ],
)
def test_what_there_is_not_is_refused(config: AnalysisConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.check_choices()


# Keys


def test_a_key_follows_from_the_bits_that_are_read_and_from_nothing_else(
    runs: Mapping[str, Path], copied: Callable[[str], Path]
) -> None:
    here = views_of_run(runs["backprop"], "last")
    assert keys(here) == keys(views_of_run(copied("backprop"), "last"))  # elsewhere
    assert keys(here) == keys([View("another name", here[0].run, here[0].step)])
    assert not set(keys(here)) & set(keys(views_of_run(runs["backprop"], "first")))
    assert not set(keys(here)) & set(keys(views_of_run(runs["synthetic"], "last")))


@pytest.mark.parametrize(
    ("config", "changed"),
    [
        ({"distance": "cosine"}, {"rdm", "class_structure"}),
        ({"Cs": (0.1,)}, {"probes"}),
        ({"measures": ("pls",)}, {"similarity"}),
    ],
)
def test_a_setting_changes_only_what_depends_on_it(
    runs: Mapping[str, Path], config: dict[str, Any], changed: set[str]
) -> None:
    views = views_of_run(runs["backprop"], "last")
    other = set(keys(views, **config)) - set(keys(views))
    assert {key.partition("-")[0] for key in other} == changed


def test_every_kind_is_planned(runs: Mapping[str, Path]) -> None:
    views = views_of_runs([runs["backprop"], runs["synthetic"]])
    assert {piece.kind for piece in plan(views, AnalysisConfig()).pieces()} == set(KINDS)


def test_a_piece_comes_after_those_it_needs(runs: Mapping[str, Path], tmp_path: Path) -> None:
    tasks = tasks_of(plan(views_of_runs([runs["backprop"], runs["synthetic"]]), AnalysisConfig()), tmp_path)
    done: set[str] = set()
    for task in tasks:
        assert set(task.after) <= done
        done.add(task.key)
    assert len(done) == len(tasks)


def test_wide_layers_are_compared_and_probed_in_several_pieces(
    known_view: Callable[..., View], monkeypatch: pytest.MonkeyPatch, pieces_of: Pieces
) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(6, width)) for width in (3, 4, 5)]
    split = ["train", "validation", "test", "test"] * 6
    views = [known_view(name, rng.normal(size=(24, 6)), np.arange(24) % 3, maps, split=split) for name in "ab"]
    monkeypatch.setattr("analysis.comparison.plan._GROUP_BYTES", 8 * 12 * 7)  # two layers of the first two widths
    planned, store = pieces_of(views)
    layers = [[layer for _, layer in block.rows] for block in planned.similarity]
    assert layers[0] == ["hidden.1", "hidden.2"]
    assert ["hidden.3"] in layers
    found = similarities(views, planned, store)["cka"]
    arrays = {f"{v.label}{n}": a[v.rows("test")] for v in views for n, a in v.activations.items()}
    np.testing.assert_allclose(found, pairwise(arrays).values, atol=1e-12)


def test_a_measure_that_is_not_symmetric_is_computed_both_ways(
    known_view: Callable[..., View], pieces_of: Pieces
) -> None:
    name = next(name for name, each in MEASURES.items() if not each.is_symmetric)
    rng = np.random.default_rng(0)
    views = [
        known_view(label, rng.normal(size=(30, 6)), np.arange(30) % 3, [rng.normal(size=(6, 4))]) for label in "ab"
    ]
    found = similarities(views, *pieces_of(views, measures=(name,)))[name]
    a, b = (view.activations["hidden.1"][:] for view in views)
    assert found[0, 1] == pytest.approx(pairwise({"a": a}, {"b": b}, measure=name).values.item())
    assert found[1, 0] == pytest.approx(pairwise({"b": b}, {"a": a}, measure=name).values.item())
    assert found[0, 1] != found[1, 0]


# Reading


def test_a_file_that_changed_after_the_plan_is_named(copied: Callable[[str], Path]) -> None:
    (view,) = views_of_run(copied("backprop"), "last")
    source = Source.of(view)
    file = view.run[38].path / "activations.h5"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(Damaged, match=r"activations\.h5 has changed since it was committed \(SHA-256 differs\)\.$"):
        source.read()


def test_a_view_travels_as_paths_and_names(runs: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs["backprop"].parent)
    (view,) = views_of_run("backprop", "last", ["hidden.1"])
    _ = view.activations, view.run.stimuli
    sent = pickle.dumps(view)
    assert len(sent) < 1000
    monkeypatch.chdir("/")
    there = pickle.loads(sent)
    assert (there.label, there.step, there.network, list(there.activations)) == (
        "step 38",
        38,
        "backprop",
        ["hidden.1"],
    )


# Store


def test_a_piece_is_read_back_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path)
    found = Found({"x": np.arange(6.0).reshape(2, 3)}, {"a": None, "b": "Ö"}, ["careful"])
    store.write("kind-1", found)
    again = store.read("kind-1")
    np.testing.assert_array_equal(again.arrays["x"], found.arrays["x"], strict=True)
    assert (again.facts, again.warnings) == (found.facts, found.warnings)
    assert "kind-1" in store
    assert "kind-2" not in store


def test_equal_pieces_are_equal_files(tmp_path: Path) -> None:
    found = Found({"x": np.ones(2), "y": np.zeros(3)}, {"a": 1, "b": 2}, ["careful"])
    for name in ("one", "two"):
        Store(tmp_path / name).write("k", found)
    one, two = (next((tmp_path / name / "pieces").iterdir()).read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_damaged_piece_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    store.write("k", Found())
    (path,) = (tmp_path / "pieces").iterdir()
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"k\.safetensors is damaged \(.*\)\. Remove it, and give the same command again"
    ):
        store.read("k")


def test_matrices_are_found_again_in_the_file_of_rdms(runs: Mapping[str, Path], tmp_path: Path) -> None:
    views = views_of_run(runs["backprop"], "last")
    measure(views, tmp_path)
    planned = plan(views, AnalysisConfig())
    before = {piece.key: Store(tmp_path).read(piece.key).arrays["rdm"] for piece in planned.rdms.values()}
    Store(tmp_path).forget(before)
    assert tasks_of(planned, tmp_path) == []
    for key, matrix in before.items():
        np.testing.assert_array_equal(Store(tmp_path).read(key).arrays["rdm"], matrix, strict=True)


@pytest.mark.parametrize("content", [b"", b"no HDF5"])
def test_a_file_of_rdms_that_is_none_holds_nothing(runs: Mapping[str, Path], tmp_path: Path, content: bytes) -> None:
    planned = plan(views_of_run(runs["backprop"], "last"), AnalysisConfig())
    (tmp_path / "rdm.h5").write_bytes(content)
    assert len(tasks_of(planned, tmp_path)) == len({piece.key for piece in planned.pieces()})


def test_a_piece_that_is_there_is_left_alone(runs: Mapping[str, Path], tmp_path: Path) -> None:
    planned = plan(views_of_run(runs["backprop"], "last"), AnalysisConfig())
    task = tasks_of(planned, tmp_path)[0]
    piece: Piece = task.argument.piece
    Store(tmp_path).write(piece.key, Found({"rdm": np.zeros(1)}))
    task.function(task.argument)
    assert Store(tmp_path).read(piece.key).arrays["rdm"].tolist() == [0.0]


def test_what_killed_processes_left_is_cleared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.clear_staging()
    store.write("k", Found())
    shutil.copy(next((tmp_path / "pieces").iterdir()), tmp_path / "pieces" / ".tmp-k-1")
    store.clear_staging()
    assert [path.name for path in (tmp_path / "pieces").iterdir()] == ["k.safetensors"]


def test_a_link_in_the_place_of_pieces_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".tmp-precious").touch()
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "pieces").symlink_to(tmp_path / "elsewhere")
    store = Store(tmp_path / "analysis")
    for act in (store.clear_staging, lambda: store.write("k", Found())):
        with pytest.raises(
            Damaged, match=r"pieces is missing or not a folder of its own \(a link is not followed\)\.$"
        ):
            act()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [".tmp-precious"]


def test_matrices_that_lie_outside_of_the_file_of_rdms_are_none(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"0123")
    with h5py.File(tmp_path / "rdm.h5", "w") as file:
        group = file.create_group("keys")
        group.create_dataset("outside", (1,), "<f4", external=[(str(tmp_path / "secret"), 0, 4)])
        group["nowhere"] = h5py.SoftLink("/missing")
        group["other"] = np.zeros(3)
        group["whole"] = np.zeros(3, "<f4")
    store = Store(tmp_path)
    assert [key in store for key in ("outside", "nowhere", "other", "whole")] == [False, False, False, True]
    with pytest.raises(Damaged, match="is external or virtual; it is not read"):
        store.read("outside")


def test_what_a_matrix_had_to_say_is_kept_with_it(
    known_view: Callable[..., View], pieces_of: Pieces, tmp_path: Path
) -> None:
    inputs = np.r_[[[0.0, 0.0]], np.random.default_rng(0).normal(size=(5, 2))]
    views = [known_view("x", inputs, [0, 0, 0, 1, 1, 1], [np.eye(2)])]
    planned, store = pieces_of(views, distance="cosine")
    (piece,) = planned.rdms.values()
    said = store.read(piece.key).warnings
    assert "1 of 6 stimuli have zero norm" in said[0]
    write_rdms(tmp_path / "rdm.h5", views, "cosine", planned.rdms, store)
    store.forget([piece.key])
    assert Store(tmp_path).read(piece.key).warnings == said
