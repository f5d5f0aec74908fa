"""Fixtures for the tests of claims: tables of tasks, sections that can be shown, and tiny networks on digits."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.config.recording import RecordingConfig
from analysis.execution import Cache, Task
from analysis.reproduction.claim import Frames, Plan, Results, Section
from analysis.reproduction.claims import load_claim
from analysis.reproduction.kit import deep_networks
from analysis.reproduction.kit.recipe import Recipe
from analysis.workflows.demo import DEMO_RUNS

PLAN = Plan(seeds=(0, 1, 2, 3))
TINY_FRACTIONS = (0.0, 1.0)
TINY_DEPTH = 3


@pytest.fixture(scope="session")
def run_all() -> Callable[[Sequence[Task], Path], Results]:
    """Run tasks in their order, and return their tables as they are read from disk."""

    def run(tasks: Sequence[Task], folder: Path) -> Results:
        cached = [replace(task, cache=Cache(folder)) for task in tasks]
        for task in cached:
            task.run()
        return Results.read(cached, PLAN, folder)

    return run


@pytest.fixture(scope="session")
def check_reproducible() -> Callable[[Callable[[], Frames]], None]:
    """Check that work returns the same tables twice, to the last bit."""

    def check(work: Callable[[], Frames]) -> None:
        first, again = work(), work()
        assert first.keys() == again.keys()
        for name, table in first.items():
            assert len(table) > 0
            pd.testing.assert_frame_equal(table, again[name], check_exact=True, obj=name)

    return check


@pytest.fixture(scope="session")
def check_section() -> Callable[..., None]:
    """Check that a section can be shown: sentences without NaN, figures with labels, captions and notes."""

    def check(section: Section, *, may_miss: bool = False) -> None:
        assert section.findings
        assert all(sentence.endswith(".") for sentence in (section.setting, *section.findings))
        assert may_miss or "nan" not in " ".join(section.findings)
        assert section.drawings
        for drawing in section.drawings:
            assert drawing.heading, drawing.name
            assert drawing.caption.endswith("."), drawing.name
            note = drawing.figure.get_supxlabel()
            assert "eed" in note and "n = " in note, drawing.name
            shown = [ax for ax in drawing.figure.axes if ax.has_data() and ax.axison]
            assert any(ax.get_xlabel() for ax in shown) or drawing.figure.get_suptitle(), drawing.name
            assert any(ax.get_ylabel() for ax in shown), drawing.name

    return check


def tiny_recipe(plan: Plan, name: str, seed: int) -> Recipe:
    """Stand in for ``recipe_of``."""
    training = replace(DEMO_RUNS[name], data="digits", seed=seed, depth=TINY_DEPTH, width=24, epochs=2, batch_size=64)
    steps = ",".join(f"{100 * fraction:g}%" for fraction in TINY_FRACTIONS)
    recording = RecordingConfig(steps=steps, n_train=60, n_validation=20, n_test=40, diagnose="none")
    return Recipe(name=name, training=training, recording=recording)


@pytest.fixture(scope="session")
def tiny_networks() -> Callable[[pytest.MonkeyPatch], None]:
    """Replace the networks of 20 hidden layers by networks of 3 on 8 × 8 digits."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(deep_networks, "recipe_of", tiny_recipe)
        patch.setattr(deep_networks, "FRACTIONS", TINY_FRACTIONS)

    return apply


@pytest.fixture(scope="session")
def layer_results(
    tmp_path_factory: pytest.TempPathFactory,
    run_all: Callable[[Sequence[Task], Path], Results],
    tiny_networks: Callable[[pytest.MonkeyPatch], None],
) -> dict[str, Results]:
    """Results of the claims "rdm" and "probes" on tiny networks, which they share."""
    folder = tmp_path_factory.mktemp("reproduction")
    with pytest.MonkeyPatch.context() as patch:
        tiny_networks(patch)
        return {name: run_all(load_claim(name).parts(PLAN), folder) for name in ("rdm", "probes")}


@pytest.fixture
def on_tiny_networks(
    layer_results: dict[str, Results],
    monkeypatch: pytest.MonkeyPatch,
    tiny_networks: Callable[[pytest.MonkeyPatch], None],
) -> dict[str, Results]:
    """The same results, while the claims know the tiny networks."""
    tiny_networks(monkeypatch)
    return layer_results
