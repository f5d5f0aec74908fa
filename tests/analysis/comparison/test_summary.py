from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.comparison.summary import summarise, undefined_sentences
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.tables.schema import TABLES
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig

HERE = {"training": {}, "recording": {}, "data": {}}


@dataclass
class Stub:
    """A run of which only the path, the config and the status are asked for."""

    path: Path
    status: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=lambda: HERE)


def finished(label: str, accuracy: float, step: int = 10) -> View:
    status = {"state": "finished", "step": 10, "test_accuracy": accuracy, "n_test": 60}
    return View(label, Stub(Path(label), status), step)


def structure(**values: list[float]) -> pd.DataFrame:
    """Class structure by layer, one list a view."""
    frames = [
        pd.DataFrame(
            {
                "view": view,
                "layer": [f"hidden.{depth}" for depth in range(1, len(layers) + 1)],
                "depth": range(1, len(layers) + 1),
                "class_structure": layers,
            }
        )
        for view, layers in values.items()
    ]
    table = pd.concat(frames, ignore_index=True)
    final = [layers[-1] for layers in values.values() for _ in layers]
    return table.assign(fraction_of_final=table["class_structure"] / final)


def similarity(*rows: tuple[str, int, str, int, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["view_a", "depth_a", "view_b", "depth_b", "cka"])
    names = {f"layer_{side}": [f"hidden.{depth}" for depth in table[f"depth_{side}"]] for side in "ab"}
    return table.assign(**names)


def undefined(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["view", "layer", "results", "reason"])
    return table.assign(run=table["view"], step=10)


def planted(views: list[View], **frames: pd.DataFrame) -> Tables:
    empty = {name: pd.DataFrame(columns=list(table.columns)) for name, table in TABLES.items()}
    ones = {"class_structure": structure(a=[1.0]), "similarity": similarity(("a", 1, "a", 1, 1.0))}
    of_label = {"target": "label", "kind": "categorical"}
    frames = {name: frames[name].assign(**of_label) if name == "probes" else frames[name] for name in frames}
    return Tables(views, AnalysisConfig(), Path(), empty | ones | frames)


def test_the_summary_names_the_layers_where_class_structure_arises() -> None:
    table = structure(a=[0.1, 0.49, 0.5], b=[0.2, 0.1, -0.3])
    summary = summarise(planted([finished("a", 0.5), finished("b", 0.5)], class_structure=table))
    assert [sentence for sentence in summary if "class structure" in sentence.lower()] == [
        "Class structure reaches 90 % of its final value: a at hidden.2 (2 of 3, final value 0.50).",
        "The last layer has no class structure in b.",
    ]


@pytest.mark.parametrize("of", ["seeds", "steps"])
def test_class_structure_of_several_seeds_is_given_as_ranges_and_of_steps_at_the_last(of: str) -> None:
    values = {"a": [0.1, 0.5, 0.5], "b": [0.1, 0.2, 0.8], "c": [0.1, 0.6, 0.6], "d": [0.4, 0.4, 0.4], "e": [np.nan] * 3}
    views = [replace(finished(label, 0.5), network="net" if label in "abc" else label) for label in values]
    methods = [view.network if of == "seeds" else view.label for view in views]
    probes = pd.DataFrame(
        {"view": list(values), "method": methods, "C_at_edge": False, "status": "ok", "accuracy": 0.5}
    )
    if of == "seeds":
        views = [finished(label, 0.5) for label in values]
    summary = summarise(planted(views, probes=probes, class_structure=structure(**values)))
    net = {
        "seeds": "net at layers 2 to 3 of 3 (3 networks, final values 0.50 to 0.80)",
        "steps": "c at hidden.2 (2 of 3, final value 0.60)",  # the last
    }
    assert [sentence for sentence in summary if "class structure" in sentence.lower()] == [
        f"Class structure reaches 90 % of its final value: {net[of]}, d at hidden.1 (1 of 3, final value 0.40).",
        "Where class structure arises in e is not known: no value for the last layer, 'hidden.3'.",
    ]


def test_the_summary_does_not_guess_where_an_early_layer_is_unknown() -> None:
    summary = summarise(planted([finished("a", 0.5)], class_structure=structure(a=[np.nan, 0.5, 0.5])))
    assert "Where class structure arises in a is not known: no value for 'hidden.1', before 'hidden.2'." in summary


def test_an_undefined_last_layer_is_not_replaced_by_an_earlier_one() -> None:
    summary = summarise(planted([finished("a", 0.5)], class_structure=structure(a=[0.5, 0.5, np.nan])))
    assert "Where class structure arises in a is not known: no value for the last layer, 'hidden.3'." in summary


def test_the_summary_gives_accuracies_of_finished_networks() -> None:
    views = [finished("a", 0.51249), finished("b", 0.75), View("c", Stub(Path("c"), {"state": "running"}), 4)]
    sentence = "Test accuracy on 60 held-out examples: a 0.512, b 0.750."
    assert sentence in summarise(planted(views))


def test_networks_of_one_method_are_summarised_rather_than_listed() -> None:
    names = [f"sg/seed-{k}" for k in range(3)]
    views = [finished(name, 0.5 + 0.1 * k) for k, name in enumerate(["bp", *names])]
    probes = pd.DataFrame(
        {"view": ["bp", *names], "method": ["bp", "sg", "sg", "sg"], "C_at_edge": False, "accuracy": 0.5}
    )
    table = similarity(*[("bp", 1, name, 1, 0.9 - 0.1 * k) for k, name in enumerate(names)])
    summary = summarise(planted(views, probes=probes, similarity=table))
    assert "Test accuracy on 60 held-out examples: bp 0.500, sg 0.700 (mean of 3 networks, 0.600 to 0.800)." in summary
    assert summary[-1] == "Lowest CKA to the same layer of bp: sg 0.70 at hidden.1 (lowest of 3 networks)."


def test_of_many_networks_six_are_named_and_the_others_counted() -> None:
    summary = summarise(planted([finished(f"n{k}", 0.5) for k in range(9)]))
    (sentence,) = (each for each in summary if each.startswith("Test accuracy"))
    assert sentence.endswith("n5 0.500, and 3 more.")


def test_the_first_and_the_last_step_of_a_network_stand_for_all() -> None:
    views = [replace(finished(f"step {k}", 0.5, step=k), network="net") for k in range(5)]
    first = pd.DataFrame(
        [(f"step {k}", 0.9, float(k + 1), f"h{k + 1}", 5, "ok") for k in range(5)],
        columns=["view", "fraction", "depth", "layer", "n_layers", "status"],
    ).assign(method=lambda table: table["view"], message="", target="label")
    probes = pd.DataFrame({"view": ["step 0"], "method": ["step 0"], "C_at_edge": [False], "accuracy": [0.5]})
    assert (
        "First layer whose probe reaches 90 % of the last layer's accuracy: step 0 at h1 (1 of 5), step 4 at h5 (5 of "
        "5)."
    ) in summarise(planted(views, first_layers=first, probes=probes))


def test_steps_of_a_network_are_described_at_their_ends() -> None:
    values = {"untrained": [0.1, 0.02], "step 5": [0.1, 0.2], "step 10": [0.3, 0.6]}
    run = finished("net", 0.5).run
    views = [View(label, run, step, network="net") for label, step in zip(values, (0, 5, 10), strict=True)]
    table = similarity(("untrained", 2, "step 5", 2, 0.1), ("untrained", 2, "step 10", 2, 0.3))
    summary = summarise(planted(views, class_structure=structure(**values), similarity=table))
    assert summary == [
        "Test accuracy on 60 held-out examples: 0.500 at step 10.",
        "Class structure reaches 90 % of its final value: untrained at hidden.1 (1 of 2, final value 0.02), step 10 at "
        "hidden.2 (2 of 2, final value 0.60).",
        "Lowest CKA to the same layer of the untrained network: step 10 0.30 at hidden.2.",
    ]


def test_an_accuracy_is_not_given_for_an_earlier_step() -> None:
    assert not any("accuracy" in sentence for sentence in summarise(planted([finished("a", 0.5, step=3)])))


def test_an_accuracy_that_another_trainer_noted_alone_is_left_out() -> None:
    view = View("a", Stub(Path("a"), {"state": "finished", "step": 3, "test_accuracy": 0.5}, {}), 3)
    assert not any("accuracy" in sentence for sentence in summarise(planted([view])))


@pytest.mark.parametrize("state", ["interrupted", "stopped", "diverged", "running"])
def test_an_unfinished_network_is_named(state: str) -> None:
    views = [finished("a", 0.5), View("b", Stub(Path("b"), {"state": state}), 4)]
    assert f"b is shown at step 4 of 4; its training is {state}." in summarise(planted(views))


def test_an_unfinished_network_seen_over_time_is_named_once() -> None:
    stub = Stub(Path("a"), {"state": "interrupted", "n_steps": 9})
    summary = summarise(planted([View("untrained", stub, 0), View("step 4", stub, 4)]))
    assert [line for line in summary if "shown" in line] == ["a is shown at step 4 of 9; its training is interrupted."]


def test_steps_of_a_finished_network_need_no_warning() -> None:
    stub = Stub(Path("a"), {"state": "finished", "n_steps": 9})
    assert not any(
        "shown" in line for line in summarise(planted([View("untrained", stub, 0), View("step 4", stub, 4)]))
    )


def test_a_finished_network_compared_at_an_earlier_step_is_named() -> None:
    late = View("b", Stub(Path("b"), {"state": "finished", "n_steps": 9}), 4)
    assert "b is shown at step 4 of 9; its training is finished." in summarise(planted([finished("a", 0.5), late]))


def test_a_network_of_another_trainer_is_not_called_unfinished() -> None:
    assert "shown" not in summarise(planted([View("a", Stub(Path("a"), {"state": "created"}, {}), 4)]))[0]


def test_the_summary_gives_the_lowest_similarity_at_one_depth() -> None:
    table = similarity(
        ("a", 1, "a", 1, 1.0),
        ("a", 1, "b", 1, 0.8),
        ("a", 1, "b", 2, 0.1),  # another depth
        ("b", 2, "a", 2, 0.2),  # not from the reference
        ("a", 2, "b", 2, 0.6),
        ("a", 3, "b", 3, np.nan),
        ("a", 1, "c", 1, -0.02),
    )
    summary = summarise(planted([finished("a", 0.5), finished("b", 0.5), finished("c", 0.5)], similarity=table))
    assert summary[-1] == "Lowest CKA to the same layer of a: b 0.60 at hidden.2, c -0.02 at hidden.1."


def test_a_layer_without_a_result_is_named_with_run_step_and_reason() -> None:
    table = undefined(
        ("a", "hidden.1", "rdm, class_structure, cka, probes", "all of it is NaN"),
        ("a", "hidden.2", "rdm, cka, probes", "all of it is NaN"),
        ("a", "x", "cka", "It is constant."),
    )
    tables = planted([replace(finished("a", 0.5), network="net")], undefined=table)
    assert undefined_sentences(tables) == [
        "net, step 10, layer 'hidden.1' has no results. All of it is NaN.",
        "net, step 10, layer 'hidden.2' has no RDM, CKA or probe. All of it is NaN.",
        "net, step 10, layer 'x' has no CKA. It is constant.",
    ]
    assert summarise(tables)[-1].startswith(
        "Results are not defined for 3 layers from hidden.1 to x of a; undefined.csv lists"
    )


def test_neighbouring_layers_without_a_result_share_a_sentence() -> None:
    alike = [("a", f"h{k}", "cka", "It is constant.") for k in (3, 4, 5)]
    table = undefined(*alike, ("a", "h6", "rdm, cka", "It is constant."), ("b", "h1", "cka", "It is constant."))
    views = [replace(finished(name, 0.5), network=name) for name in "ab"]
    assert undefined_sentences(planted(views, undefined=table)) == [
        "a, step 10, 3 layers from 'h3' to 'h5' have no CKA. It is constant.",
        "a, step 10, layer 'h6' has no RDM or CKA. It is constant.",
        "b, step 10, layer 'h1' has no CKA. It is constant.",
    ]
    assert summarise(planted(views, undefined=table))[-1].startswith(
        "Results are not defined for 4 layers from h3 to h6 of a and h1 of b; undefined.csv lists"
    )


def test_at_most_12_layers_without_a_result_are_named() -> None:
    tables = planted([finished("a", 0.5)], undefined=undefined(*[("a", f"h{k}", "cka", f"No {k}.") for k in range(40)]))
    assert len(undefined_sentences(tables)) == 13
    assert undefined_sentences(tables)[-1] == "28 more layers are in undefined.csv."


def test_the_summary_says_how_many_probes_chose_at_the_edge() -> None:
    probes = pd.DataFrame({"view": "a", "method": "a", "C_at_edge": [True, False, True], "accuracy": 0.5})
    summary = summarise(planted([finished("a", 0.5)], probes=probes))
    assert summary[-1] == "C hit the edge of the grid for 2 of 3 probes; widen it with --Cs."
    inside = probes.assign(C_at_edge=False)
    assert not any("--Cs" in sentence for sentence in summarise(planted([finished("a", 0.5)], probes=inside)))


def test_the_summary_names_the_first_layers_that_reach_90_percent() -> None:
    first = pd.DataFrame(
        [
            *[("bp", 0.9, 2.0, "h2", 5, "ok"), ("bp", 0.9, 3.0, "h3", 5, "ok"), ("bp", 0.5, 1.0, "h1", 5, "ok")],
            *[("sg", 0.9, 4.0, "h4", 5, "ok"), ("at chance", 0.9, np.nan, None, 5, "at chance")],
            *[("dead", 0.9, np.nan, None, 5, "failed"), ("half", 0.9, 3.0, "h3", 5, "ok")],
            ("half", 0.9, np.nan, None, 5, "failed"),
        ],
        columns=["method", "fraction", "depth", "layer", "n_layers", "status"],
    )
    first = first.assign(view=first["method"], message="no value for the last layer, 'h5'", target="label")
    probes = pd.DataFrame({"view": ["a"], "method": ["a"], "C_at_edge": [False], "accuracy": [0.5]})
    summary = summarise(planted([finished("a", 0.5)], first_layers=first, probes=probes))
    assert (
        "First layer whose probe reaches 90 % of the last layer's accuracy: bp at layer 2.5 of 5 (mean of 2 networks), "
        "sg at h4 (4 of 5), half at layer 3 of 5 (mean of 1 of 2 networks)."
    ) in summary
    assert (
        "The first layer that reaches 90 % is not known for dead and half: no value for the last layer, 'h5'."
    ) in summary


def test_a_single_network_has_no_sentence_on_similarity() -> None:
    assert not any("CKA" in sentence for sentence in summarise(planted([finished("a", 0.5)])))
