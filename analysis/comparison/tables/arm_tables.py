"""Tables of a comparison of arms: the arms, the effects with verdicts, and permutation tests of similarity."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.comparison.attribution.design import Design
from analysis.comparison.tables.comparison_table import Column, ComparisonTable
from analysis.comparison.tables.probe_tables import LABEL
from analysis.comparison.tasks.analysis_tasks import AnalysisTasks, require
from analysis.comparison.tasks.plan import plan_probes_of
from analysis.comparison.tasks.source import Source
from analysis.execution.task import FunctionByName, Task

if TYPE_CHECKING:
    import pandas as pd

    from analysis.comparison.attribution.effects import ArmLayers, EffectFamily

    Frames = Mapping[str, pd.DataFrame]

__all__ = ["ARMS", "ATTRIBUTION", "SIMILARITY_TESTS", "effects_of"]

_ACCURACY = "accuracy"


# Arms


def _arms(tasks: AnalysisTasks, _: Frames) -> pd.DataFrame:
    import pandas as pd

    from analysis.comparison.attribution.arm_rows import arm_rows

    rows = [] if tasks.design is None else arm_rows(tasks.design)
    numbers = dict.fromkeys(("validation_accuracy", "accuracy_gap", "test_accuracy"), "float64")
    return pd.DataFrame(rows, columns=list(ARMS.columns)).astype(numbers)


ARMS = ComparisonTable(
    row="an arm and aligned step; no rows if there are no arms of three seeds or more",
    columns={
        "arm": Column("name of the arm", is_text=True),
        "role": Column("its role: reference, method, or what the control holds fixed", is_text=True),
        "method": Column("the method that a control is for; empty for all", is_text=True),
        "n_seeds": Column("networks of the arm"),
        "seeds": Column("their seeds", is_text=True),
        "at": Column("aligned step", is_text=True),
        "step": Column("recorded step of the first network"),
        "validation_accuracy": Column("mean over networks at the end of the last epoch up to the step"),
        "accuracy_gap": Column("the same less that of the method, for arms that are matched in accuracy"),
        "test_accuracy": Column("mean over networks at the end of training"),
        "differs": Column("settings of training in which the arm differs from the reference", is_text=True),
    },
    build=_arms,
)


# Effects


def _plan(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield one task per layer and step of all arms, and the tasks of their probes."""
    design = tasks.design
    if design is None:
        return
    from dataclasses import replace

    sources = [[Source.of(view) for view in views] for views in design.views]
    for cell in design.cells():
        layers = [replace(sources[cell.step][k], layers=(cell.layer,)) for k in cell.members]
        inputs = {"sources": tuple(layers), "measures": list(design.measures)}
        yield tasks.make(
            "arms",
            FunctionByName("analysis.comparison.tasks.measuring:measure_layer"),
            inputs,
            cost=0.015 * len(layers),
        )
    if _ACCURACY in design.smallest:
        for step, views in enumerate(design.views):
            for view, source in zip(views, sources[step], strict=True):
                yield from plan_probes_of(tasks, view, source)


def measured(tasks: AnalysisTasks, design: Design) -> ArmLayers:
    """Return what was measured of the layers of all networks."""
    from analysis.comparison.attribution.effects import ArmLayers
    from analysis.comparison.tasks.measuring import QUANTITIES

    n, names = len(design.members), design.layer_names
    shape = (len(design.aligned), len(names), n)
    similarities = {measure: np.full((*shape, n), np.nan) for measure in design.measures}
    quantities = {name: np.full(shape, np.nan) for name in (*QUANTITIES, _ACCURACY) if name in design.smallest}
    undefined: dict[tuple[int, str, int], str] = {}
    planned = tasks.by_table["attribution"]
    for cell, task in zip(design.cells(), [task for task in planned if task.name == "arms"], strict=True):
        result, layer, members = task.result(), names.index(cell.layer), list(cell.members)
        for measure, whole in similarities.items():
            whole[cell.step, layer][np.ix_(members, members)] = require(result.arrays, measure, task)
        for name in quantities.keys() & set(QUANTITIES):
            quantities[name][cell.step, layer, members] = require(result.arrays, name, task)
        for each in result.undefined:
            undefined[cell.step, cell.layer, members[each.source]] = each.reason
    if _ACCURACY in quantities:
        _fill_accuracies(quantities[_ACCURACY], undefined, design, [task for task in planned if task.name != "arms"])
    return ArmLayers(
        members=design.members,
        at=[aligned.name for aligned in design.aligned],
        layers=names,
        similarities=similarities,
        quantities=quantities,
        undefined=undefined,
    )


def _fill_accuracies(
    whole: np.ndarray[Any, Any],
    undefined: dict[tuple[int, str, int], str],
    design: Design,
    tasks: list[Task],
) -> None:
    """Write the accuracies of probes, (n_steps, n_layers, n_members), and the reasons of those that are missing."""
    places = {
        (view.location, view.step): (step, k)
        for step, views in enumerate(design.views)
        for k, view in reversed(list(enumerate(views)))
    }
    same: dict[tuple[int, int], list[tuple[int, int]]] = {}  # a run that is in two arms
    for step, views in enumerate(design.views):
        for k, view in enumerate(views):
            same.setdefault(places[view.location, view.step], []).append((step, k))
    for task in tasks:
        (source,) = task.inputs["sources"]
        probes = require(task.result().tables, "probes", task)
        for row in probes[probes["target"] == LABEL].itertuples():
            for step, k in same[places[source.run, source.step]]:
                whole[step, design.layer_names.index(row.layer), k] = row.accuracy
                if row.status != "ok":
                    undefined[step, row.layer, k] = row.message


def effects_of(tasks: AnalysisTasks, design: Design) -> EffectFamily:
    """Return the effects of a design whose tasks are done."""
    from analysis.comparison.attribution.effects import effect_family

    return effect_family(measured(tasks, design), design.contrasts, design.smallest)


def _attribution(tasks: AnalysisTasks, _: Frames) -> pd.DataFrame:
    import pandas as pd

    if tasks.design is None:
        return pd.DataFrame(columns=list(ATTRIBUTION.columns))
    return effects_of(tasks, tasks.design).table()


ATTRIBUTION = ComparisonTable(
    row="a contrast of arms, quantity, aligned step and layer; no rows if there are no arms of three seeds or more",
    columns={
        "method": Column("the method that the row is about", is_text=True),
        "contrast": Column(
            "total: the method and the reference; beyond: the method and a control; alone: the control and the "
            "reference",
            is_text=True,
        ),
        "control": Column("name of the control; empty for total", is_text=True),
        "arm": Column("the arm whose difference is shown", is_text=True),
        "base": Column("the arm from which it differs", is_text=True),
        "quantity": Column("a measure of similarity, class_structure, accuracy or log_dimension", is_text=True),
        "at": Column("aligned step", is_text=True),
        "layer": Column("name of the layer", is_text=True),
        "depth": Column("position among the layers, from 1"),
        "n_seeds": Column("pairs of networks of equal seed, over all splits; networks per arm if seeds differ"),
        "value": Column("mean of the arm; for a measure, mean similarity of two of its networks"),
        "base_value": Column("the same of the base"),
        "between": Column("for a measure, mean similarity of a network of the arm and one of the base"),
        "difference": Column(
            "value less base_value; for a similarity, the mean of both less between; for a distance, between less that "
            "mean"
        ),
        "standard_error": Column("standard error of the difference, with moderated variance"),
        "low": Column("lower end of a 95 % interval for this row alone"),
        "high": Column("upper end of the same interval"),
        "band_low": Column("lower end of a 95 % band that covers all rows at once"),
        "band_high": Column("upper end of the same band"),
        "smallest": Column("smallest difference of interest"),
        "verdict": Column(
            "different (the band lies beyond the smallest difference), equivalent (within it) or undecided",
            is_text=True,
        ),
        "split_low": Column("smallest difference of any data split"),
        "split_high": Column("largest difference of any data split"),
        "status": Column("ok, or failed if the difference is undefined", is_text=True),
        "message": Column("the reason in a sentence; empty if the status is ok", is_text=True),
    },
    plan=_plan,
    build=_attribution,
)


# Permutation tests of similarity


def _tests(tasks: AnalysisTasks, _: Frames) -> pd.DataFrame:
    import pandas as pd

    design = tasks.design
    columns = list(SIMILARITY_TESTS.columns)
    if design is None:
        return pd.DataFrame(columns=columns)
    found = measured(tasks, design)
    frames = [
        _test(found, contrast.arm, contrast.base, measure, split)
        for contrast in {(each.arm, each.base): each for each in design.contrasts}.values()
        for measure in design.measures
        for split in sorted({member.split for member in design.members})
    ]
    frames = [frame for frame in frames if frame is not None]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _test(found: ArmLayers, arm: str, base: str, measure: str, split: int) -> pd.DataFrame | None:
    """Return the tests of two arms at all steps and layers where the measure is defined for every network."""
    from repsim.similarity import MEASURES, compare_groups

    chosen = [k for k, each in enumerate(found.members) if each.arm in (arm, base) and each.split == split]
    S = found.similarities[measure][:, :, chosen][..., chosen]
    off = ~np.eye(len(chosen), dtype=bool)
    places = np.argwhere(np.isfinite(S[:, :, off]).all(axis=2))
    if not len(places):
        return None
    members = [found.members[k] for k in chosen]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no p-value can be below", category=RuntimeWarning)
        test = compare_groups(
            S[places[:, 0], places[:, 1]],
            [member.arm for member in members],
            reference=base,
            seeds=[member.seed for member in members],
            direction=MEASURES[measure].direction,
        )
    place = {
        "arm": arm,
        "base": base,
        "split": split,
        "measure": measure,
        "at": [found.at[k] for k in places[:, 0]],
        "layer": [found.layers[k] for k in places[:, 1]],
        "depth": places[:, 1] + 1,
    }
    return test.frame(place).assign(p_least=test.p_least)


SIMILARITY_TESTS = ComparisonTable(
    row="a pair of arms, data split, measure, aligned step and layer",
    columns={
        "arm": Column("the arm that is tested", is_text=True),
        "base": Column("the arm that it is compared with", is_text=True),
        "split": Column("seed of the data split"),
        "measure": Column("measure of similarity", is_text=True),
        "at": Column("aligned step", is_text=True),
        "layer": Column("name of the layer", is_text=True),
        "depth": Column("position among the layers, from 1"),
        "within": Column("mean similarity of two networks of the base"),
        "between": Column("mean similarity of a network of the arm and one of the base"),
        "difference": Column("within less between; for a distance, between less within"),
        "p": Column("p-value for this row alone (permutation of the arms of each seed)"),
        "p_max": Column("p-value adjusted for all steps and layers of these arms and this measure"),
        "p_least": Column("smallest p-value that so few seeds can give"),
    },
    build=_tests,
)
