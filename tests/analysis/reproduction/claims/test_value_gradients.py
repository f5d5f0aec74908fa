"""The claim on value gradients: a few updates, and one problem that is learned to the end."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes

from analysis.execution import Task
from analysis.reproduction.claim import Frames, Plan, Results, Section
from analysis.reproduction.claims.value_gradients import CLAIM
from analysis.reproduction.claims.value_gradients.parts import (
    ALLOWED,
    BPTT,
    GOING_ON,
    LINEAR,
    PENDULUM,
    PROBLEMS,
    SPREAD,
    SVG,
    VGL,
    SwingUp,
    learn_linear,
    learn_pendulum,
)

PLAN = Plan(seeds=(0, 1, 2, 3))


def shortened(task: Task) -> Task:
    """Return a task of a few updates."""
    if task.function is learn_linear:
        changes: dict[str, Any] = {"seeds": task.inputs["seeds"][:2]}
    else:
        changes = {"swing_up": SwingUp(width=4, n_starts=5, seconds=1.0, n_evaluations=2)}
    return changed(task, **changes, steps=4, batch_size=4, horizon=3, head_start=1)


def changed(task: Task, *, seeds: Sequence[int] | None = None, swing_up: SwingUp | None = None, **options: Any) -> Task:
    """Return a task with other inputs, and some options of its learning replaced."""
    inputs = {name: value for name, value in {"seeds": seeds, "swing_up": swing_up}.items() if value is not None}
    method = task.inputs["method"]
    learning = replace(method, options=replace(method.options, **options))
    return replace(task, inputs={**task.inputs, **inputs, "method": learning})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, run_all: Callable[[Sequence[Task], Path], Results]) -> Results:
    return run_all([shortened(task) for task in CLAIM.parts(PLAN)], tmp_path_factory.mktemp("value-gradients"))


@pytest.fixture(scope="module")
def section(results: Results) -> Section:
    return CLAIM.section(results)


def task_of(name: str) -> Task:
    return next(task for task in CLAIM.parts(PLAN) if task.name == f"value-gradients-{name}")


def run(task: Task, **changes: Any) -> Frames:
    tables: Any = task.function(Path("unused"), **changed(task, **changes).inputs)
    return tables


# Tasks


@pytest.mark.parametrize(("scale", "n_seeds"), [("quick", 3), ("full", 5)])
def test_every_problem_is_learned_by_every_method_from_every_seed(scale: str, n_seeds: int) -> None:
    tasks = CLAIM.parts(Plan(scale=scale))
    linear = [task.inputs for task in tasks if task.function is learn_linear]
    pendulum = [task.inputs["place"] for task in tasks if task.function is learn_pendulum]
    assert [tuple(each["place"].values()) for each in linear] == [(p, m) for p in PROBLEMS for m in LINEAR]
    assert all(each["seeds"] == (0, 1, 2, 3, 4) for each in linear)
    assert {(each["method"], each["seed"]) for each in pendulum} == {(m, s) for m in PENDULUM for s in range(n_seeds)}


def test_vgl_going_on_differs_from_vgl_only_in_its_restarts() -> None:
    with_restarts, without = PENDULUM[VGL], PENDULUM[GOING_ON]
    assert with_restarts.options.restart == 1 > without.options.restart == PENDULUM[SVG].options.restart
    assert replace(without, options=replace(without.options, restart=1.0)) == with_restarts


@pytest.mark.parametrize("problem", PROBLEMS)
def test_initial_policies_are_stable_and_not_nearly_optimal(problem: str) -> None:
    """Check the corners of the range of initial gains."""
    gain, environment = torch.tensor(PROBLEMS[problem].gain, dtype=torch.float64), PROBLEMS[problem].environment()
    best = environment.cost(environment.optimum.K)
    for corner in range(2 ** gain.numel()):
        signs = torch.tensor([1 - 2 * (corner >> bit & 1) for bit in range(gain.numel())]).reshape(gain.shape)
        assert 0.1 < environment.cost(gain * (1 + SPREAD * signs)) / best - 1 < 2


# Tables


@pytest.mark.parametrize("name", ["unstable-vgl-0.5", "pendulum-svg-1-seed-1"])
def test_results_are_reproducible(name: str, check_reproducible: Callable[..., None]) -> None:
    check_reproducible(lambda: run(shortened(task_of(name))))


@pytest.mark.parametrize("name", ["integrator-0.99-vgl-0", "integrator-0.95-svg-1"])
def test_a_critic_leads_to_the_riccati_solution(name: str) -> None:
    task = task_of(name)
    tables = run(task, seeds=[0], steps=110, batch_size=48)
    (end,) = tables["linear_ends"].to_dict("records")
    assert end["first_excess_cost"] > 0.2
    assert end["excess_cost"] < ALLOWED
    assert end["gradient_error"] < ALLOWED
    assert 30 < end["within_since"] < 110
    gains = tables["gains"]
    np.testing.assert_allclose(gains["learned"], gains["riccati"], rtol=0.1)
    assert not np.allclose(gains["first"], gains["riccati"], rtol=0.1)
    np.testing.assert_allclose(tables["gradients"]["critic"], tables["gradients"]["exact"], rtol=0.1, atol=0.1)


def test_learning_that_diverges_never_counts_as_optimal() -> None:
    ends = run(shortened(task_of("integrator-0.95-backprop-through-time")), policy_rate=1e9)["linear_ends"]
    assert not (ends["excess_cost"] <= ALLOWED).any()
    assert ends["within_since"].isna().all()


def test_curves_start_with_a_zero_critic(results: Results) -> None:
    curves = results["linear_curves"]
    first = curves[(curves["step"] == 1) & (curves["method"] != BPTT)]
    assert len(first) == 2 * 4 * len(PROBLEMS)
    assert (first["gradient_error"] == 1).all()
    assert curves.loc[curves["method"] == BPTT, "gradient_error"].isna().all()


def test_curves_have_at_most_a_hundred_points() -> None:
    task = task_of("integrator-0.95-svg-1")
    curve = run(task, seeds=[0], batch_size=2, critic_updates=1)
    assert 20 < len(curve["linear_curves"]) <= 100
    assert curve["linear_curves"]["step"].iloc[-1] == task.inputs["method"].options.steps


def test_a_swing_up_starts_near_hanging(results: Results) -> None:
    for _, example in results["pendulum_examples"].groupby(["method", "seed"]):
        assert abs(example["angle"].iloc[-1]) <= math.pi
        assert math.cos(example["angle"].iloc[0]) < -0.9
        assert example["time"].iloc[-1] == pytest.approx(0.95)
        assert example["torque"].abs().max() <= 5


def test_the_exact_gradient_is_the_slope_of_the_exact_value(results: Results) -> None:
    """Compare with central differences over the coarse grid, where values are smooth."""
    fields = results["pendulum_fields"]
    field = fields[(fields["method"] == SVG) & (fields["seed"] == 0)]
    angles, speeds = (np.sort(field[name].unique()) for name in ("angle", "speed"))
    shaped = {name: field[name].to_numpy().reshape(len(angles), len(speeds)) for name in field}
    slopes = np.gradient(shaped["exact_value"], angles, axis=0)
    assert np.corrcoef(slopes[1:-1].ravel(), shaped["exact_by_angle"][1:-1].ravel())[0, 1] > 0.9


def test_only_svg_has_values_and_backprop_through_time_has_no_critic(results: Results) -> None:
    known = results["pendulum_fields"].groupby("method")[["value", "by_angle"]].count() > 0
    assert known.loc[known["value"]].index.tolist() == [SVG]
    assert known.loc[~known["by_angle"]].index.tolist() == [BPTT]
    assert results["pendulum_ends"].set_index("method").loc[BPTT, "gradient_angle"].isna().all()


# Conclusion


def with_ends(results: Results, **columns: Callable[[pd.DataFrame], Any]) -> Results:
    """Return results with which the claim holds, except for changed columns ``table__column``."""
    tables = dict(results.tables)
    tables["linear_ends"] = tables["linear_ends"].assign(excess_cost=1e-4, gradient_error=1e-4)
    tables["pendulum_ends"] = tables["pendulum_ends"].assign(success=1.0)
    for name, change in columns.items():
        table, column = name.split("__")
        tables[table] = tables[table].assign(**{column: change})
    return replace(results, tables=tables)


def once(method: str, column: str, value: float) -> Callable[[pd.DataFrame], Any]:
    """Return a column in which the last row of a method has another value."""

    def change(table: pd.DataFrame) -> Any:
        last = table.index[table["method"] == method][-1]
        return table[column].where(table.index != last, value)

    return change


def test_the_claim_does_not_hold_after_few_updates(section: Section) -> None:
    assert section.verdict == "does not hold"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "holds"),
        ({"linear_ends__excess_cost": once(SVG, "excess_cost", 0.02)}, "holds in part"),
        ({"linear_ends__excess_cost": once("VGL(1)", "excess_cost", math.inf)}, "holds in part"),
        ({"linear_ends__gradient_error": once("VGL(0)", "gradient_error", math.nan)}, "holds in part"),
        ({"linear_ends__excess_cost": once(BPTT, "excess_cost", 0.02)}, "holds"),
        ({"pendulum_ends__success": once(SVG, "success", 0.5)}, "holds in part"),
        ({"pendulum_ends__success": once(VGL, "success", 0.5)}, "holds in part"),
        ({"pendulum_ends__success": once(BPTT, "success", 0.0)}, "holds"),
        ({"pendulum_ends__success": once(GOING_ON, "success", 0.0)}, "holds"),
        (
            {
                "linear_ends__excess_cost": once(SVG, "excess_cost", 0.02),
                "pendulum_ends__success": once(SVG, "success", 0.5),
            },
            "does not hold",
        ),
    ],
)
def test_the_verdict_follows_from_the_numbers(results: Results, changes: dict[str, Any], verdict: str) -> None:
    assert CLAIM.conclude(with_ends(results, **changes)).verdict == verdict


def test_the_first_finding_states_the_numbers_behind_the_verdict(results: Results) -> None:
    changes = {
        "linear_ends__excess_cost": once("VGL(1)", "excess_cost", 0.0345),
        "pendulum_ends__success": once(SVG, "success", 0.25),
    }
    first = CLAIM.conclude(with_ends(results, **changes)).findings[0]
    assert "all 24 policies" in first
    assert "at most 3.5e-02 above the optimum" in first
    assert "1.00, 1.00, 0.25 with SVG(1), 1.00, 1.00, 1.00 with VGL(0.5)" in first


def test_figures_have_labels_titles_and_notes(section: Section, check_section: Callable[..., None]) -> None:
    check_section(section, may_miss=True)
    names = {drawing.name for drawing in section.drawings}
    assert names == {"excess_cost", "gradient_error", "at_the_end", "pendulum", "swing_up", "phase_plane"}
    for drawing in section.drawings:
        for ax in drawing.figure.axes:
            assert ax.get_ylabel(), drawing.name
            assert ax.get_xlabel() or not is_panel(ax), drawing.name
            assert ax.get_title() or not is_panel(ax), drawing.name


def is_panel(ax: Axes) -> bool:
    return ax.get_label() != "<colorbar>"


def test_panels_show_the_curves_of_all_methods(section: Section) -> None:
    figures = {drawing.name: drawing.figure for drawing in section.drawings}
    for name, methods in (("excess_cost", list(LINEAR)), ("gradient_error", [m for m in LINEAR if m != BPTT])):
        for ax, problem in zip(figures[name].axes, PROBLEMS, strict=True):
            assert ax.get_title() == problem
            assert ax.get_yscale() == "log"
            assert [line.get_label() for line in ax.lines if len(line.get_xdata()) > 2] == methods
    assert [line.get_label() for line in figures["swing_up"].axes[0].lines[:4]] == list(PENDULUM)


def test_the_tables_of_the_section_list_every_run(section: Section) -> None:
    linear, pendulum = section.shown.values()
    assert len(linear) == len(PROBLEMS) * len(LINEAR)
    assert len(pendulum) == 3 * len(PENDULUM)
    assert "our choices" in section.setting
