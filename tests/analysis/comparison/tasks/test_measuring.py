"""Measurement of one layer in all networks of arms: warnings about values that are defined."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.comparison.analysis_plan import plan_tasks
from analysis.comparison.attribution.arms import Arm
from analysis.comparison.attribution.design import open_design
from analysis.comparison.tasks import AnalysisCache, Source
from analysis.comparison.tasks.measuring import measure_layer
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig

N = 24


@pytest.fixture
def networks(known_view: Callable[..., View]) -> list[View]:
    """Six networks of one layer of 3 units; the second and the third map one held-out stimulus to 0."""
    rng = np.random.default_rng(0)
    labels, split = np.arange(N) % 3, ["train", "validation", "test", "test"] * 6
    inputs = rng.normal(size=(N, 4))
    inputs[2] = 0.0, 0.0, 0.0, 1.0
    views = []
    for k in range(6):
        weights = rng.normal(size=(4, 3))
        weights[3] = 0.0 if k in (1, 2) else weights[3]
        views.append(known_view(f"seed-{k}", inputs, labels, [weights], split=split))
    return views


def source_of(view: View, layer: str) -> Source:
    return replace(Source.of(view), layers=(layer,))


def test_a_warning_about_a_defined_value_is_kept_with_layer_result_and_network(networks: list[View]) -> None:
    layer = next(iter(networks[0].listed))
    sources = [source_of(view, layer) for view in networks[:3]]
    result = measure_layer(Path("nowhere"), sources=sources, measures=["cka"])
    assert np.isfinite(result.arrays["class_structure"]).all()
    (message,) = result.warnings
    assert message.startswith(
        f"class structure of layer '{layer}' in 2 of 3 networks, the first {networks[1].location} at step "
        f"{networks[1].step}: "
    )
    assert "1 of 12 stimuli have zero variance" in message
    assert not result.undefined


def test_layers_without_warnings_have_none(networks: list[View]) -> None:
    layer = next(iter(networks[0].listed))
    sources = [source_of(view, layer) for view in networks[3:]]
    assert measure_layer(Path("nowhere"), sources=sources, measures=["cka"]).warnings == []


def test_an_analysis_repeats_the_warnings_of_its_arms(networks: list[View], tmp_path: Path) -> None:
    paths = tuple(view.run.path for view in networks)
    arms = [Arm("bp", "reference", paths[:3]), Arm("sg", "method", paths[3:])]
    smallest = DesignConfig(smallest_effects=("cka=0.1", "class_structure=0.1"))
    design = open_design(arms, smallest, AnalysisConfig())
    tasks = plan_tasks(design.shown(), AnalysisConfig(), AnalysisCache(tmp_path), design)
    for task in tasks.by_table["attribution"]:
        task.run()
    (message,) = tasks.warnings()
    assert message.startswith("class structure of layer 'hidden.1' in 2 of 6 networks, the first ")
