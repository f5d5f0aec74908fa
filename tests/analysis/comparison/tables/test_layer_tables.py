import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from analysis.comparison.tables.schema import TABLES
from analysis.comparison.tasks import AnalysisTasks
from analysis.comparison.view import View
from repsim import compare_rdms, linear_cka, rdm

KEYS = ["view", "run", "step"]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


Computed = Callable[..., AnalysisTasks]


def build(name: str, tasks: AnalysisTasks) -> pd.DataFrame:
    return TABLES[name].build(tasks, {})


# Class structure

POINTS = np.array([[1.0, 1.0], [1.0, 1.0], [4.0, 5.0], [4.0, 5.0]])  # two classes of equal points, 5 apart


def test_class_structure_is_the_distance_between_classes(known_view: Callable[..., View], computed: Computed) -> None:
    views = [known_view("x", POINTS, [0, 0, 1, 1], [2 * np.eye(2), 3 * np.eye(2), np.eye(2)])]
    table = build("class_structure", computed(views, distance="euclidean"))
    assert list(table.columns) == [*KEYS, "layer", "depth", "class_structure", "fraction_of_final"]
    assert list(table["depth"]) == [1, 2, 3]
    assert list(table["class_structure"]) == pytest.approx([10.0, 15.0, 5.0])
    assert list(table["fraction_of_final"]) == pytest.approx([2.0, 3.0, 1.0])


def test_a_fraction_is_of_the_last_layer_of_the_same_network(
    known_view: Callable[..., View], computed: Computed
) -> None:
    views = [
        known_view(name, POINTS, [0, 0, 1, 1], [np.eye(2), last * np.eye(2)]) for name, last in (("a", 2), ("b", 4))
    ]
    table = build("class_structure", computed(views, distance="euclidean"))
    assert list(table["fraction_of_final"]) == pytest.approx([0.5, 1.0, 0.25, 1.0])


def test_no_fraction_is_taken_of_an_undefined_last_layer(known_view: Callable[..., View], computed: Computed) -> None:
    views = [known_view("x", POINTS, [0, 0, 1, 1], [np.eye(2), np.zeros((2, 2))])]
    tasks = computed(views, distance="cosine")
    table = build("class_structure", tasks)
    (row,) = build("undefined", tasks).to_dict("records")
    assert (row["layer"], row["depth"], row["results"]) == ("hidden.2", 2, "rdm, class_structure, cka")
    assert row["reason"].startswith("Layer 'hidden.2': 4 of 4 stimuli have zero norm")
    assert tasks.warnings() == []
    assert table["class_structure"].notna().tolist() == [True, False]
    assert table["fraction_of_final"].isna().all()


# Similarity of RDMs


def test_rdms_of_equal_layers_correlate_at_their_depth_only(
    known_view: Callable[..., View], computed: Computed
) -> None:
    rng = np.random.default_rng(0)
    inputs, labels, (one, two) = rng.normal(size=(12, 4)), np.arange(12) % 2, rng.normal(size=(2, 4, 3))
    views = [known_view("a", inputs, labels, [one, two]), known_view("b", inputs, labels, [one, one, two])]
    table = build("rdm_similarity", computed(views, distance="euclidean"))
    assert list(table.columns) == [*KEYS, "reference", "layer", "depth", "pearson", "spearman"]
    assert list(table["view"]) == ["b", "b"]
    assert list(table["reference"]) == ["a", "a"]
    assert list(table["depth"]) == [1, 2]  # a has no third layer
    assert table["pearson"][0] == pytest.approx(1.0)
    assert table["spearman"][0] == pytest.approx(1.0)
    assert table["pearson"][1] < 0.9


def test_stimuli_undefined_in_one_network_are_left_out_of_both(
    known_view: Callable[..., View], rng: np.random.Generator, computed: Computed
) -> None:
    inputs, labels = np.abs(rng.normal(size=(9, 3))), np.arange(9) // 3
    inputs[0] = [2.0, 0.0, 0.0]
    without_first = np.diag([0.0, 1.0, 1.0])
    views = [known_view("a", inputs, labels, [np.eye(3)]), known_view("b", inputs, labels, [without_first])]
    tasks = computed(views, distance="cosine")
    table = build("rdm_similarity", tasks)
    (said,) = tasks.warnings()
    assert re.match(r"b: Layer 'hidden\.1': 1 of 9 stimuli have zero norm \(rows 0\)", said)
    expected = compare_rdms(rdm(inputs[1:], "cosine"), rdm(inputs[1:] @ without_first, "cosine"))
    assert table["pearson"].item() == pytest.approx(expected, abs=1e-6)


def test_one_network_has_no_reference_but_the_same_columns(
    related: Callable[..., list[View]], computed: Computed
) -> None:
    views = related(2)
    table = build("rdm_similarity", computed(views, distance="euclidean"))
    assert list(table.columns) == [*KEYS, "reference", "layer", "depth", "pearson", "spearman"]
    assert table.empty


# CKA


def test_cka_is_that_of_every_ordered_pair_on_the_test_stimuli(
    related: Callable[..., list[View]], computed: Computed
) -> None:
    views = related(2, 1)
    table = build("similarity", computed(views))
    assert list(table.columns) == ["view_a", "layer_a", "depth_a", "view_b", "layer_b", "depth_b", "cka"]
    assert len(table) == 9
    by_label = {view.label: view for view in views}
    for row in table.itertuples():
        a, b = (
            by_label[view].activations[layer][by_label[view].rows("test")]
            for view, layer in ((row.view_a, row.layer_a), (row.view_b, row.layer_b))
        )
        assert row.cka == pytest.approx(linear_cka(a, b), abs=1e-10)
        assert row.layer_a == f"hidden.{row.depth_a}"


def test_cka_that_is_undefined_names_the_layer(
    known_view: Callable[..., View], rng: np.random.Generator, computed: Computed
) -> None:
    views = [known_view("x", rng.normal(size=(8, 3)), np.arange(8) % 2, [np.eye(3), np.zeros((3, 3))])]
    tasks = computed(views)
    table = build("similarity", tasks)
    ((place, found),) = tasks.undefined().items()
    assert place == (0, "hidden.2")
    assert "Its activations have zero HSIC with themselves" in {each.result: each.reason for each in found}["cka"]
    assert tasks.warnings() == []
    assert table["cka"].notna().tolist() == [True, False, False, False]
