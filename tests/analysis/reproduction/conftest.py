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
from analysis.reproduction.kit import deep_findings, deep_networks
from analysis.reproduction.kit.recipe import Recipe

PLAN = Plan(seeds=(0, 1, 2, 3))
TINY_FRACTIONS = (0.5, 1.0)
TINY_DEPTH = 3
N_TINY_SEEDS = 3
TINY_ARMS = ("backprop", "sg-middle", "sg-every-boundary", "backprop-slow", "greedy-middle", "disturbed-middle")


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


def tiny_recipe(plan: Plan, name: str, seed: int, split: int = 0) -> Recipe:
    """Stand in for ``recipe_of``."""
    arm = deep_networks.ARMS[name]
    training = replace(
        arm.training, data="digits", seed=seed, split_seed=split, depth=TINY_DEPTH, width=24, epochs=2, batch_size=64
    )
    training = replace(training, schedule="constant", learning_rate=3e-3)
    steps = ",".join(f"{100 * fraction:g}%" for fraction in TINY_FRACTIONS)
    recording = RecordingConfig(steps=steps, n_train=60, n_validation=20, n_test=40, diagnose="1,last")
    like = tiny_recipe(plan, arm.method, seed, split) if arm.imitates else None
    return Recipe(name=name, training=training, recording=recording, like=like)


def tiny_seeds(plan: Plan) -> dict[int, int]:
    """Stand in for ``network_seeds``."""
    return dict.fromkeys(plan.seeds[:N_TINY_SEEDS], 0)


@pytest.fixture(scope="session")
def tiny_networks() -> Callable[[pytest.MonkeyPatch], None]:
    """Replace the networks of 20 hidden layers by networks of 3 on 8 × 8 digits, with four of the controls."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        arms = {name: arm for name, arm in deep_networks.ARMS.items() if name in TINY_ARMS}
        for module in (deep_networks, deep_findings):
            patch.setattr(module, "ARMS", arms)
            patch.setattr(module, "recipe_of", tiny_recipe)
            patch.setattr(module, "network_seeds", tiny_seeds)
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
