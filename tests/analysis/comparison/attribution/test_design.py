"""Designs: aligned steps, cells, shown networks, and what their results follow from."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from analysis import AnalysisConfig
from analysis.comparison.attribution.arms import Arm
from analysis.comparison.attribution.design import Cell, open_design
from analysis.config.comparison_design import DesignConfig
from checkpoints import Run

Paths = Mapping[str, tuple[Path, ...]]
USUAL = AnalysisConfig()


def arms(paths: Paths, *more: Arm) -> list[Arm]:
    return [Arm("bp", "reference", paths["bp"]), Arm("sg", "method", paths["sg"]), *more]


def test_cells_are_the_layers_at_each_step_in_the_networks_that_have_them(arm_runs: Paths) -> None:
    design = open_design(arms(arm_runs, Arm("short", "truncated", arm_runs["short"])), DesignConfig(), USUAL)
    every, deep = tuple(range(9)), tuple(range(6))
    assert list(design.cells()) == [
        Cell(step, layer, 0, every if layer == "hidden.1" else deep)
        for step in (0, 1)
        for layer in ("hidden.1", "hidden.2", "hidden.3")
    ]
    assert design.layer_names == ["hidden.1", "hidden.2", "hidden.3"]


def test_chosen_layers_and_steps_are_compared(arm_runs: Paths) -> None:
    chosen = AnalysisConfig(steps="last", layers=("hidden.2",))
    design = open_design(arms(arm_runs), DesignConfig(), chosen)
    assert list(design.cells()) == [Cell(0, "hidden.2", 0, tuple(range(6)))]
    assert [aligned.name for aligned in design.aligned] == ["100 %"]


def test_a_layer_that_an_arm_lacks_is_refused_with_the_arm_and_what_to_type(arm_runs: Paths) -> None:
    given = arms(arm_runs, Arm("short", "truncated", arm_runs["short"]))
    lacking = (
        r"Arm 'short' has no layer 'hidden\.3'; .*short/seed-0 recorded hidden\.1\. Choose layers that all arms have, "
        r"such as --layers hidden\.1, or leave --layers out"
    )
    with pytest.raises(ValueError, match=lacking):
        open_design(given, DesignConfig(), AnalysisConfig(layers=("hidden.1", "hidden.3")))
    with pytest.raises(ValueError, match=r"Arm 'bp' has no layer 'output'; .* recorded hidden\.1 to hidden\.3\."):
        open_design(given, DesignConfig(), AnalysisConfig(layers=("output",)))
    assert open_design(given, DesignConfig(), AnalysisConfig(layers=("hidden.*",))).layer_names[-1] == "hidden.3"


def test_one_network_of_each_arm_is_shown_at_the_last_step_the_reference_first(arm_runs: Paths) -> None:
    design = open_design(list(reversed(arms(arm_runs))), DesignConfig(), USUAL)
    last = {name: Run.open(arm_runs[name][0]).last().step for name in ("bp", "sg")}
    assert [(view.label, view.run.path, view.step) for view in design.shown()] == [
        ("bp", arm_runs["bp"][0], last["bp"]),
        ("sg", arm_runs["sg"][0], last["sg"]),
    ]


def test_a_network_that_is_in_two_arms_is_shown_once_per_step(arm_runs: Paths) -> None:
    again = Arm("again", "reseeded", arm_runs["bp"])
    assert [view.label for view in open_design(arms(arm_runs, again), DesignConfig(), USUAL).shown()] == ["bp", "sg"]


def test_at_equal_accuracy_every_other_arm_is_compared_once_per_method(arm_runs: Paths) -> None:
    given = arms(
        arm_runs,
        Arm("greedy", "method", arm_runs["greedy"]),
        Arm("slow", "schedule-matched", arm_runs["slow"]),
        Arm("slow for sg", "schedule-matched", arm_runs["slow"], "sg"),
        Arm("at", "accuracy-matched", arm_runs["bp"], "greedy"),
    )
    design = open_design(given, DesignConfig(align="accuracy"), USUAL)
    assert [arm.name for arm in design.arms] == [
        "sg",
        "greedy",
        "bp at the accuracy of sg",
        "bp at the accuracy of greedy",
        "slow at the accuracy of sg",
        "slow at the accuracy of greedy",
        "slow for sg at the accuracy of sg",
        "at",
    ]
    assert {(each.arm, each.base) for each in design.contrasts if each.kind == "total"} == {
        ("sg", "bp at the accuracy of sg"),
        ("greedy", "bp at the accuracy of greedy"),
    }
    alone = [(each.control, each.arm, each.base) for each in design.contrasts if each.kind == "alone"]
    assert ("slow", "slow at the accuracy of greedy", "bp at the accuracy of greedy") in alone
    assert ("at", "at", "bp at the accuracy of greedy") in alone
    for aligned in design.aligned:
        assert set(aligned.accuracy_gaps) == {arm.name for arm in design.arms} - {"sg", "greedy"}


def test_a_control_matched_to_one_of_several_methods_has_to_say_which(arm_runs: Paths) -> None:
    given = arms(arm_runs, Arm("greedy", "method", arm_runs["greedy"]), Arm("at", "accuracy-matched", arm_runs["bp"]))
    with pytest.raises(ValueError, match="there are several methods; say which by method = 'sg' or 'greedy'"):
        open_design(given, DesignConfig(), USUAL)


def test_only_measures_with_a_smallest_effect_are_compared(arm_runs: Paths) -> None:
    config = AnalysisConfig(measures=("rsa", "cka", "procrustes"))
    design = open_design(arms(arm_runs), DesignConfig(smallest_effects=("cka=0.1",)), config)
    assert (design.measures, dict(design.smallest)) == (("cka",), {"cka": 0.1})


def test_the_identity_changes_with_everything_that_the_tables_follow_from(arm_runs: Paths) -> None:
    usual = open_design(arms(arm_runs), DesignConfig(), USUAL).identity
    assert open_design(arms(arm_runs), DesignConfig(), USUAL).identity == usual
    others = [
        open_design(arms(arm_runs), DesignConfig(smallest_effects=("cka=0.1",)), USUAL),
        open_design(arms(arm_runs), DesignConfig(align="accuracy"), USUAL),
        open_design(arms(arm_runs), DesignConfig(), AnalysisConfig(steps="last")),
        open_design(arms(arm_runs), DesignConfig(), AnalysisConfig(layers=("hidden.1",))),
        open_design(arms(arm_runs, Arm("slow", "schedule-matched", arm_runs["slow"])), DesignConfig(), USUAL),
        open_design([Arm("x", "reference", arm_runs["bp"]), arms(arm_runs)[1]], DesignConfig(), USUAL),
    ]
    identities = [str(each.identity) for each in others]
    assert len({str(usual), *identities}) == 1 + len(others)
