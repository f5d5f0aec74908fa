"""Tasks of an analysis: their keys, their order, what they compute and where it is kept."""

import json
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
from analysis.comparison.tasks import similarity_batches as batches_module
from analysis.comparison.tasks.plan import COMPARATORS_SHOWN
from analysis.comparison.tasks.rdm_file import write_rdms
from analysis.comparison.tasks.similarity_batches import compare_batches
from analysis.comparison.view import View, views_of_run, views_of_runs
from analysis.config.analysis import AnalysisConfig
from analysis.execution import TaskResult, pending
from checkpoints import Damaged, Layer
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
        ({"distance": "cosine"}, {"rdm"}),
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
        *("rdm", "rdm_similarity", "probes", "similarity", "layers", "gradient_quality")
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
    for limit in ("_GROUP_BYTES", "_BATCH_BYTES"):  # two layers of the first two widths
        monkeypatch.setattr(f"analysis.comparison.tasks.plan.{limit}", 8 * 12 * 7)
    tasks = computed(views)
    layers = [task.inputs["sources"][0].layers for task in tasks.by_table["similarity"]]
    assert layers[0] == ("hidden.1", "hidden.2")
    assert ("hidden.3",) in layers
    assert len(layers) == 10  # of four batches, each with itself and every later one
    assert len(tasks.by_table["probes"]) > len(views)
    values = similarity_matrices(tasks)["cka"]
    arrays = {f"{v.label}{n}": a[v.rows("test")] for v in views for n, a in v.activations.items()}
    np.testing.assert_allclose(values, pairwise(arrays).values, atol=1e-12)


def test_all_layers_that_fit_in_memory_are_compared_in_one_task_and_each_is_read_once(
    related: Callable[..., list[View]], computed: Computed, monkeypatch: pytest.MonkeyPatch
) -> None:
    views, reads = related(2, 3, 1), []
    read = Layer.__getitem__
    monkeypatch.setattr(Layer, "__getitem__", lambda layer, rows: reads.append(layer.key) or read(layer, rows))
    tasks = plan_tasks(views, AnalysisConfig(), computed(views).cache)
    (task,) = tasks.by_table["similarity"]
    tasks.cache.remove([task.key])
    reads.clear()
    task.run()
    assert len(reads) == 6
    for rdms in tasks.by_table["rdm"]:
        tasks.cache.remove([rdms.key])
        rdms.run()
    assert len(reads) == 12


@pytest.mark.parametrize("measure", ["cka", next(name for name, each in MEASURES.items() if not each.is_symmetric)])
@pytest.mark.parametrize("n_batches", [1, 2])
def test_layers_that_are_compared_at_once_have_the_values_of_each_pair_of_sources(measure: str, n_batches: int) -> None:
    rng = np.random.default_rng(0)
    sources = [{f"{k}": rng.normal(size=(20, 4)) for k in range(n)} for n in (2, 1, 2)]
    batches = [[0, 1, 2]] if n_batches == 1 else [[0], [1, 2]]
    together = compare_batches(sources, batches, measure).arrays
    singly = batches_module._by_source(sources, batches, measure).arrays
    assert together.keys() == singly.keys()
    for name, values in together.items():
        np.testing.assert_allclose(values, singly[name], rtol=1e-12)


def test_a_layer_without_similarity_is_named_with_its_source() -> None:
    rng = np.random.default_rng(0)
    sources = [{"a": rng.normal(size=(20, 4))}, {"a": rng.normal(size=(20, 4)), "b": np.ones((20, 4))}]
    found = compare_batches(sources, [[0, 1]], "cka")
    assert {(each.source, each.layer, each.result) for each in found.undefined} == {(1, "b", "cka")}
    assert np.isnan(found.arrays["forth"]).tolist() == [[False, False, True], [False, False, True], [True] * 3]
    assert found.messages == {}


def test_a_band_has_no_more_pairs_than_a_task_may_take(
    related: Callable[..., list[View]], monkeypatch: pytest.MonkeyPatch
) -> None:
    views = related(2, 2, 2)
    monkeypatch.setattr("analysis.comparison.tasks.plan._MOST_PAIRS", 16)
    tasks = plan(views, measures=("cka", "pls"))
    assert [task.inputs["measure"] for task in tasks.by_table["similarity"]] == ["cka", "pls", "pls", "pls"]
    assert [task.inputs["sides"] for task in tasks.by_table["similarity"]] == [[3], [2], [2, 1], [1]]


def test_rdms_that_fit_in_memory_share_a_task(
    related: Callable[..., list[View]], computed: Computed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    views = related(3, 3)
    together = computed(views)
    assert [len(task.inputs["sources"][0].layers) for task in together.by_table["rdm"]] == [3, 3]
    whole = [together.columns(name) for name in ("rdm", "rdm_similarity")]
    monkeypatch.setattr("analysis.comparison.tasks.plan._RDM_BYTES", 2 * 2 * 12**2)
    singly = computed(views)
    assert [len(task.inputs["sources"][0].layers) for task in singly.by_table["rdm"]] == [2, 1, 2, 1]
    assert [singly.columns(name) for name in ("rdm", "rdm_similarity")] == whole


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
        assert (again.values, again.undefined) == (result.values, list(result.undefined))
        assert again.arrays.keys() == result.arrays.keys() == {"0", "1", "2"}
        for name, matrix in result.arrays.items():
            np.testing.assert_array_equal(again.arrays[name], matrix, strict=True)


@pytest.mark.parametrize("content", [b"", b"no HDF5"])
def test_an_unreadable_file_of_rdms_counts_as_empty(runs: Mapping[str, Path], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rdm.h5").write_bytes(content)
    tasks = list(plan(views_of_run(runs["backprop"], "last"), AnalysisCache(tmp_path)))
    assert len(pending(tasks)) == len({task.key for task in tasks})


def test_external_links_in_the_file_of_rdms_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"0123")
    with h5py.File(tmp_path / "rdm.h5", "w") as file:
        stored_result(file, "outside").create_dataset("0", (1,), "<f4", external=[(str(tmp_path / "secret"), 0, 4)])
        stored_result(file, "nowhere")["0"] = h5py.SoftLink("/missing")
        stored_result(file, "other")["0"] = np.zeros(3)
        stored_result(file, "whole")["0"] = np.zeros(3, "<f4")
        file["keys"]["array"] = np.zeros(3, "<f4")
    cache, names = AnalysisCache(tmp_path), ("outside", "nowhere", "other", "whole", "array")
    assert [key in cache for key in names] == [False, False, False, True, False]
    with pytest.raises(Damaged, match="is external or virtual"):
        cache.read("outside")


def stored_result(file: h5py.File, key: str) -> h5py.Group:
    group = file.require_group("keys").create_group(key)
    group.attrs["result"] = json.dumps({"values": {"class_structure": [0.5]}, "warnings": [], "undefined": []})
    return group


@pytest.mark.parametrize(
    "text",
    [
        *("no JSON", "3", "[1]", '["a"]', "{}"),
        '{"values": {"class_structure": [0.5]}, "warnings": [], "undefined": [[0]]}',
        '{"values": {"class_structure": []}, "warnings": [], "undefined": []}',
    ],
)
def test_results_whose_description_is_malformed_are_computed_again(tmp_path: Path, text: str) -> None:
    with h5py.File(tmp_path / "rdm.h5", "w") as file:
        group = stored_result(file, "k")
        group["0"] = np.zeros(3, "<f4")
        group.attrs["result"] = text
    assert "k" not in AnalysisCache(tmp_path)
    with pytest.raises(Damaged, match=r"/keys/k in .*rdm\.h5 (is malformed|has 1 matrices and 0 values)"):
        AnalysisCache(tmp_path).read("k")


def test_warnings_of_a_matrix_are_kept_with_it(
    known_view: Callable[..., View], computed: Computed, tmp_path: Path
) -> None:
    inputs = np.r_[[[0.0, 0.0]], np.random.default_rng(0).normal(size=(5, 2))]
    views = [known_view("x", inputs, [0, 0, 0, 1, 1, 1], [np.eye(2)])]
    tasks = computed(views, distance="cosine")
    (task,) = tasks.by_table["rdm"]
    messages = task.result().values["said"]
    assert messages[0][0] == [0]
    assert "1 of 6 stimuli have zero norm" in messages[0][1]
    write_rdms(tmp_path / "rdm.h5", tasks)
    AnalysisCache(tmp_path).remove([task.key])
    assert AnalysisCache(tmp_path).read(task.key).values["said"] == messages
