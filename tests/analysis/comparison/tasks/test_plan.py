"""Tasks of an analysis: their keys, their order, what they compute and where it is kept."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from analysis.comparison.analysis_plan import AnalysisPlan, plan_tasks
from analysis.comparison.tables.layer_tables import similarity_matrices
from analysis.comparison.tasks import AnalysisCache, AnalysisTasks, Source
from analysis.comparison.tasks.plan import COMPARATORS_SHOWN
from analysis.comparison.tasks.rdm_file import write_rdms
from analysis.comparison.view import View, views_of_run, views_of_runs
from analysis.config.analysis import AnalysisConfig
from analysis.execution import TaskResult, pending
from checkpoints import Damaged
from probes.solvers.path import CS
from repsim.similarity import COMPARATORS, MEASURES, pairwise

Computed = Callable[..., AnalysisTasks]
NOWHERE = AnalysisCache(Path("nowhere"))


def plan(views: list[View], cache: AnalysisCache = NOWHERE, **config: Any) -> AnalysisTasks:
    return plan_tasks(views, AnalysisConfig(**config), cache)


def keys(views: list[View], **config: Any) -> list[str]:
    return [task.key for task in plan(views, **config)]


def test_the_settings_of_an_analysis_are_those_of_the_packages_behind_it() -> None:
    assert AnalysisConfig.Cs == CS
    assert set(COMPARATORS_SHOWN) <= set(COMPARATORS)


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


def test_a_task_comes_after_those_it_needs(runs: Mapping[str, Path]) -> None:
    tasks = list(plan(views_of_runs([runs["backprop"], runs["synthetic"]])))
    assert {task.name for task in tasks} == {
        *("rdm", "class_structure", "rdm_similarity", "probes", "similarity", "layers", "gradient_quality")
    }
    done: set[str] = set()
    for task in tasks:
        assert set(task.after) <= done
        done.add(task.key)


def test_a_plan_is_made_once_and_travels_with_its_tasks(runs: Mapping[str, Path], tmp_path: Path) -> None:
    views = tuple(views_of_run(runs["backprop"], "last"))
    here = AnalysisPlan("Title", views, tmp_path, AnalysisConfig(), "")
    assert here.tasks is here.tasks
    there = pickle.loads(pickle.dumps(here))
    assert "tasks" in vars(there)
    assert [task.key for task in there.tasks] == [task.key for task in here.tasks]
    assert there.identity == here.identity


def test_an_analysis_is_stale_once_its_tasks_compute_something_else(
    runs: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = tuple(views_of_run(runs["backprop"], "last"))
    before = AnalysisPlan("Title", views, tmp_path, AnalysisConfig(), "").identity
    assert AnalysisPlan("Title", views, tmp_path, AnalysisConfig(), "").identity == before
    monkeypatch.setattr("analysis.comparison.analysis_plan.VERSION", -1)
    assert AnalysisPlan("Title", views, tmp_path, AnalysisConfig(), "").identity != before


# What is computed


def test_wide_layers_are_compared_and_probed_in_several_tasks(
    known_view: Callable[..., View], monkeypatch: pytest.MonkeyPatch, computed: Computed
) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(6, width)) for width in (3, 4, 5)]
    split = ["train", "validation", "test", "test"] * 6
    views = [known_view(name, rng.normal(size=(24, 6)), np.arange(24) % 3, maps, split=split) for name in "ab"]
    monkeypatch.setattr("analysis.comparison.tasks.plan._GROUP_BYTES", 8 * 12 * 7)  # two layers of the first two widths
    tasks = computed(views)
    layers = [task.inputs["sources"][0].layers for task in tasks.by_table["similarity"]]
    assert layers[0] == ("hidden.1", "hidden.2")
    assert ("hidden.3",) in layers
    assert len(tasks.by_table["probes"]) > len(views)
    values = similarity_matrices(tasks)["cka"]
    arrays = {f"{v.label}{n}": a[v.rows("test")] for v in views for n, a in v.activations.items()}
    np.testing.assert_allclose(values, pairwise(arrays).values, atol=1e-12)


def test_a_measure_that_is_not_symmetric_is_computed_both_ways(
    known_view: Callable[..., View], computed: Computed
) -> None:
    name = next(name for name, each in MEASURES.items() if not each.is_symmetric)
    rng = np.random.default_rng(0)
    views = [
        known_view(label, rng.normal(size=(30, 6)), np.arange(30) % 3, [rng.normal(size=(6, 4))]) for label in "ab"
    ]
    values = similarity_matrices(computed(views, measures=(name,)))[name]
    a, b = (view.activations["hidden.1"][:] for view in views)
    assert values[0, 1] == pytest.approx(pairwise({"a": a}, {"b": b}, measure=name).values.item())
    assert values[1, 0] == pytest.approx(pairwise({"b": b}, {"a": a}, measure=name).values.item())
    assert values[0, 1] != values[1, 0]


def test_a_result_without_what_the_table_needs_is_named(known_view: Callable[..., View], computed: Computed) -> None:
    views = [known_view("x", np.eye(4), [0, 0, 1, 1], [np.eye(4)])]
    tasks = computed(views)
    (task,) = tasks.by_table["similarity"]
    tasks.cache.write(task.key, TaskResult())
    with pytest.raises(ValueError, match=r"^similarity-\w+ in cache/ is damaged: it has no forth\. Remove it"):
        similarity_matrices(tasks)


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


# The file of RDMs as part of the cache


def test_matrices_are_read_from_the_file_of_rdms(measure: Any, runs: Mapping[str, Path], tmp_path: Path) -> None:
    views = views_of_run(runs["backprop"], "last")
    measure(views, tmp_path)
    tasks = plan(views, AnalysisCache(tmp_path))
    before = {task.key: task.result() for task in tasks.by_table["rdm"]}
    AnalysisCache(tmp_path).remove(before)
    assert pending(list(plan(views, AnalysisCache(tmp_path)))) == []
    for key, result in before.items():
        again = AnalysisCache(tmp_path).read(key)
        np.testing.assert_array_equal(again.arrays["rdm"], result.arrays["rdm"], strict=True)


@pytest.mark.parametrize("content", [b"", b"no HDF5"])
def test_an_unreadable_file_of_rdms_counts_as_empty(runs: Mapping[str, Path], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rdm.h5").write_bytes(content)
    tasks = list(plan(views_of_run(runs["backprop"], "last"), AnalysisCache(tmp_path)))
    assert len(pending(tasks)) == len({task.key for task in tasks})


def test_external_links_in_the_file_of_rdms_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"0123")
    with h5py.File(tmp_path / "rdm.h5", "w") as file:
        group = file.create_group("keys")
        group.create_dataset("outside", (1,), "<f4", external=[(str(tmp_path / "secret"), 0, 4)])
        group["nowhere"] = h5py.SoftLink("/missing")
        group["other"] = np.zeros(3)
        group["whole"] = np.zeros(3, "<f4")
    cache = AnalysisCache(tmp_path)
    assert [key in cache for key in ("outside", "nowhere", "other", "whole")] == [False, False, False, True]
    with pytest.raises(Damaged, match="is external or virtual"):
        cache.read("outside")


@pytest.mark.parametrize("text", ["no JSON", "3", "[1]", '["a"]'])
def test_malformed_attributes_of_a_matrix_are_ignored(tmp_path: Path, text: str) -> None:
    with h5py.File(tmp_path / "rdm.h5", "w") as file:
        matrix = file.create_group("keys").create_dataset("k", data=np.zeros(3, "<f4"))
        matrix.attrs["undefined"] = text
    assert AnalysisCache(tmp_path).read("k").undefined == []


def test_warnings_of_a_matrix_are_kept_with_it(
    known_view: Callable[..., View], computed: Computed, tmp_path: Path
) -> None:
    inputs = np.r_[[[0.0, 0.0]], np.random.default_rng(0).normal(size=(5, 2))]
    views = [known_view("x", inputs, [0, 0, 0, 1, 1, 1], [np.eye(2)])]
    tasks = computed(views, distance="cosine")
    (task,) = tasks.by_table["rdm"]
    messages = task.result().warnings
    assert "1 of 6 stimuli have zero norm" in messages[0]
    write_rdms(tmp_path / "rdm.h5", tasks)
    AnalysisCache(tmp_path).remove([task.key])
    assert AnalysisCache(tmp_path).read(task.key).warnings == messages
