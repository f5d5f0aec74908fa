"""The claim on tracking, on tiny problems."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from analysis.reproduction.claim import Plan, Results, Section
from analysis.reproduction.claims.tracking import CLAIM
from analysis.reproduction.claims.tracking.conclude import conclude, summarise
from analysis.reproduction.claims.tracking.parts import (
    BACKPROP,
    FIXED,
    KINDS,
    TOLERANCE,
    Descent,
    Disturbed,
    NoisyProblem,
    descend,
    disturb,
    practise,
    teach,
)
from repsim.learning import Learner, SyntheticGradient, TrainingConfig, true_gradients
from repsim.learning.losses import targets_of
from repsim.theory import track

PLAN = Plan(seeds=(0, 1, 2, 3, 4))
NOWHERE = Path("/nowhere")  # no task of this claim writes anything
SLOW = Descent(rate=0.1, module_steps=1, n_steps=5, dense=2, every=4)
FAST = replace(SLOW, module_steps=1000)
TRAINING = TrainingConfig(
    data="digits", depth=3, width=16, rule="synthetic-gradient", epochs=1, batch_size=64, learning_rate=3e-3
)
CASES = [(network, loss) for network in ("linear", "tanh") for loss in ("mse", "log_loss")]


def problem(network: str = "tanh", loss: str = "mse") -> NoisyProblem:
    return NoisyProblem(network=network, loss=loss, n_examples=30)


def looks_of(network: str, loss: str, seeds: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    descents = {BACKPROP: SLOW, "slow": SLOW, "fast": FAST}
    return descend(NOWHERE, problem=problem(network, loss), descents=descents, seeds=seeds)["looks"]


def disturbed_by(kind: str, *, sizes: tuple[float, ...] = (0.5, 2.0), steps: int = 5) -> pd.DataFrame:
    descent = replace(FAST, rate=1.0, n_steps=steps)
    return disturb(NOWHERE, problem=problem(), descent=descent, kind=kind, sizes=sizes, seeds=[0, 1])["disturbed"]


def practised(seed: int = 0) -> pd.DataFrame:
    return practise(NOWHERE, training=replace(TRAINING, seed=seed), n_looks=2, data_dir=None)["practice"]


@pytest.fixture(scope="module")
def tables() -> Mapping[str, pd.DataFrame]:
    return {
        "looks": pd.concat([looks_of(*case) for case in CASES], ignore_index=True),
        "disturbed": pd.concat([disturbed_by(kind) for kind in KINDS], ignore_index=True),
        "practice": pd.concat([practised(seed) for seed in (0, 1)], ignore_index=True),
    }


@pytest.fixture(scope="module")
def arrived(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the tables as if every descent had ended at a solution."""
    last = {"step": 7, "value": 0.01, "slope_share": TOLERANCE / 2}
    case = ["network", "loss", "method", "size", "seed"]
    changed = {
        name: pd.concat([tables[name], tables[name].drop_duplicates(case, keep="last").assign(**last)])
        for name in ("looks", "disturbed")
    }
    return {**tables, **{name: table.reset_index(drop=True) for name, table in changed.items()}}


def results_of(tables: Mapping[str, pd.DataFrame]) -> Results:
    return Results(plan=PLAN, folder=NOWHERE, tables=dict(tables))


def section_of(tables: Mapping[str, pd.DataFrame]) -> Section:
    return conclude(results_of(tables))


# Tables


@pytest.mark.parametrize(
    "work",
    [lambda: looks_of("linear", "log_loss", (1,)), lambda: disturbed_by("noise"), practised],
    ids=["descend", "disturb", "practise"],
)
def test_results_are_reproducible(work: Callable[[], pd.DataFrame], check_reproducible: Callable[..., None]) -> None:
    check_reproducible(lambda: {"table": work()})


def test_rows_are_unique_by_descent_and_step(tables: Mapping[str, pd.DataFrame]) -> None:
    keys = ["network", "loss", "method", "size", "seed", "step"]
    for name in ("looks", "disturbed"):
        assert not tables[name].duplicated(keys).any()
    assert set(tables["looks"]["method"]) == {BACKPROP, "slow", "fast"}
    assert set(tables["disturbed"]["method"]) == set(KINDS)
    assert list(tables["practice"]["step"])[:3] == [0, *sorted(set(tables["practice"]["step"]) - {0})[:2]]


def test_measurements_are_dense_at_first_and_sparse_later() -> None:
    rows = looks_of("tanh", "mse")
    assert list(rows.loc[(rows["method"] == "slow") & (rows["seed"] == 1), "step"]) == [0, 1, 4, 5]


def test_the_error_never_exceeds_its_bound(tables: Mapping[str, pd.DataFrame]) -> None:
    for table in tables.values():
        seen = table.dropna(subset="ratio")
        assert len(seen) >= 6
        assert (seen["error_norm"] <= seen["error_bound"] * (1 + 1e-6) + 1e-12).all()
        assert (seen["error_norm"] > 1e-3 * seen["error_bound"]).any()


def test_a_descent_with_an_exact_module_starts_and_ends_where_backprop_does() -> None:
    descent = replace(FAST, n_steps=300, dense=1, every=50, rate=1.0, tolerance=1e-3)
    rows = descend(NOWHERE, problem=problem(), descents={BACKPROP: descent, "fast": descent}, seeds=[1])["looks"]
    of = dict(list(rows.groupby("method")))
    assert of["fast"]["value"].iloc[0] == of[BACKPROP]["value"].iloc[0]
    assert of["fast"]["slope_share"].iloc[-1] <= 1e-3 < of["fast"]["slope_share"].iloc[-2]
    assert of["fast"]["value"].iloc[-1] == pytest.approx(of[BACKPROP]["value"].iloc[-1], rel=1e-9)
    assert of["fast"]["ratio"].max() < 1


def test_the_deep_network_learns_and_is_measured_from_the_start() -> None:
    table = practised()
    assert len(table) >= 3
    assert table["step"].iloc[0] == 0
    assert (table["n_classes"] == 10).all()  # of a batch as training sees them, though the digits lie in order
    assert table["validation_accuracy"].iloc[-1] > 0.3 > table["validation_accuracy"].iloc[0]
    assert table["error_norm"].iloc[0] == pytest.approx(table["gradient_norm"].iloc[0])  # S starts at zero


# The module


def learner_and_examples(
    network: str, loss: str, estimator: type[SyntheticGradient] = SyntheticGradient
) -> tuple[Learner, Tensor, Tensor]:
    small = problem(network, loss)
    return small.learner(0, estimator), *small.examples(0)


def at_boundary(learner: Learner, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    h = X
    with torch.no_grad():
        for segment in learner.network.hidden.values():
            h = segment(h)
    return h, true_gradients(learner.network, X, y, loss=learner.loss)[learner.network.boundaries[-1]]


@pytest.mark.parametrize("case", CASES)
def test_teach_is_gradient_descent_on_the_loss_of_the_module(case: tuple[str, str]) -> None:
    taught, X, y = learner_and_examples(*case)
    slow, *_ = learner_and_examples(*case)
    h, t = at_boundary(taught, X, y)
    teach(taught, h, y, t, 0.3, 7)
    labels = targets_of(y, taught.network(X))
    features = torch.cat([h, labels, torch.ones(len(X), 1, dtype=torch.float64)], dim=1)
    largest = 1 / float(torch.linalg.eigvalsh(features.T @ features / len(X))[-1])
    optimizer = torch.optim.SGD(slow.estimators.parameters(), lr=0.3 * largest)
    for _ in range(7):
        optimizer.zero_grad()
        slow.compute_gradients(X, y)
        optimizer.step()
    for found, expected in zip(taught.estimators.parameters(), slow.estimators.parameters(), strict=True):
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_the_best_module_is_exact_for_the_squared_error_and_harmless_below_linear_layers(
    case: tuple[str, str],
) -> None:
    learner, X, y = learner_and_examples(*case)
    h, t = at_boundary(learner, X, y)
    teach(learner, h, y, t, 0.5, 10**7)
    (seen,) = track(learner, X, y).values()
    assert (seen.ratio < 1e-3) == (case[1] == "mse")
    assert (seen.error_norm < 1e-3 * seen.gradient_norm) == (case != ("tanh", "log_loss"))


def test_the_read_out_of_the_tanh_unit_does_not_learn() -> None:
    learner, X, y = learner_and_examples("tanh", "log_loss")
    learner.compute_gradients(X, y)
    assert all(parameter.grad is None for parameter in learner.network.output.parameters())
    assert learner.network.output.weight.flatten().tolist() == [-2.0, 2.0]


# Disturbances


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != FIXED])
def test_proportional_disturbances_have_the_given_ratio(kind: str) -> None:
    rows = disturbed_by(kind)
    assert rows["ratio"].to_numpy() == pytest.approx(rows["size"].to_numpy(), rel=1e-3)


def test_a_bias_of_fixed_size_has_the_given_ratio_only_at_first() -> None:
    rows = disturbed_by(FIXED, sizes=(0.1,), steps=30)
    for _, each in rows.groupby("seed"):
        assert each["ratio"].iloc[0] == pytest.approx(0.1, rel=1e-3)
        assert each["ratio"].iloc[-1] > 0.2
        assert each["slope_share"].iloc[-1] > 0.01


def test_the_worst_disturbance_descends_only_where_the_condition_holds() -> None:
    rows = disturbed_by("against the gradient", sizes=(0.9, 4.0), steps=40)
    ends = rows.groupby(["size", "seed"])["value"].agg(["first", "last"])
    descended = ends["last"] < ends["first"]
    assert descended[0.9].all()
    assert not descended[4.0].any()


def test_noise_changes_with_the_step_and_biases_do_not() -> None:
    J, gradient = torch.ones(5, 3, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)
    noise = [KINDS["noise"](J, gradient, 0, step) for step in (0, 0, 1)]
    assert torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[0], noise[2])
    assert torch.equal(KINDS["bias"](J, gradient, 0, 0), KINDS["bias"](J, gradient, 0, 1))


def test_disturbances_do_not_change_what_the_module_learns() -> None:
    (disturbed, X, y), (plain, *_) = (
        learner_and_examples("tanh", "mse", kind) for kind in (Disturbed, SyntheticGradient)
    )
    (estimator,) = disturbed.placed().values()
    estimator.error = torch.full((len(X), 1), 3.0, dtype=torch.float64)
    gradients = []
    for learner in (disturbed, plain):
        outcome = learner.compute_gradients(X, y, watch=True)
        gradients.append(outcome.gradients[1])
    torch.testing.assert_close(gradients[0], gradients[1] + 3.0)
    for found, expected in zip(disturbed.estimators.parameters(), plain.estimators.parameters(), strict=True):
        assert expected.grad is not None
        torch.testing.assert_close(found.grad, expected.grad)


def test_a_descent_that_diverges_ends_with_its_last_measurement() -> None:
    descent = replace(SLOW, rate=1e3, n_steps=500, dense=1, every=10**4)
    descents = {BACKPROP: descent, "slow": descent}
    rows = descend(NOWHERE, problem=problem("linear"), descents=descents, seeds=[0])["looks"]
    assert list(rows["step"]) == [0, 0]
    assert not summarise(rows, rows[:0])["converged"].any()


# Conclusion


def test_a_descent_that_climbed_to_a_plateau_has_not_converged() -> None:
    case = {"network": "tanh", "loss": "mse", "size": 0.0, "seed": 0}
    rows = [
        {"method": BACKPROP, "step": 0, "value": 1.0, "slope_share": 1.0, "ratio": None},
        {"method": BACKPROP, "step": 9, "value": 0.2, "slope_share": 1e-6, "ratio": None},
        {"method": "down", "step": 0, "value": 1.0, "slope_share": 1.0, "ratio": 0.3},
        {"method": "down", "step": 9, "value": 0.5, "slope_share": 1e-6, "ratio": 0.9},
        {"method": "up", "step": 0, "value": 1.0, "slope_share": 1.0, "ratio": 0.3},
        {"method": "up", "step": 8, "value": 2.0, "slope_share": 1e-6, "ratio": 4.0},
    ]
    table = pd.DataFrame([{**case, **row} for row in rows]).astype({"ratio": float})
    runs = summarise(table[:2], table[2:]).set_index("method")
    assert runs["converged"].to_dict() == {BACKPROP: True, "down": True, "up": False}
    assert runs["holds"].to_dict() == {BACKPROP: False, "down": True, "up": False}
    assert runs["worst_ratio"]["down"] == 0.9
    assert runs["share_held"]["up"] == 0.5
    assert runs["excess"].to_dict() == pytest.approx({BACKPROP: 0.0, "down": 0.3, "up": 1.8})


def test_the_claim_holds_if_every_descent_that_met_the_condition_converged(arrived: dict[str, pd.DataFrame]) -> None:
    section = section_of(arrived)
    assert section.verdict == "holds"
    runs = section.tables["runs"]
    held = int((runs["holds"] & (runs["size"] == 0) & (runs["method"] != BACKPROP)).sum())
    assert held >= 2
    assert f"held throughout in {held} " in section.findings[0]
    assert "the condition is sufficient, not necessary" in section.findings[0]


def test_a_descent_that_met_the_condition_and_stalled_refutes_the_claim(arrived: dict[str, pd.DataFrame]) -> None:
    looks = arrived["looks"].copy()
    stalled = (looks["network"] == "tanh") & (looks["loss"] == "mse") & (looks["method"] == "fast")
    assert looks.loc[stalled, "ratio"].max() < 1
    looks.loc[stalled, "slope_share"] = 0.1
    assert section_of({**arrived, "looks": looks}).verdict == "does not hold"


def test_descents_that_meet_the_condition_by_construction_are_counted_apart_and_do_not_enter_the_verdict(
    arrived: dict[str, pd.DataFrame],
) -> None:
    disturbed = arrived["disturbed"].copy()
    small = disturbed["size"] == 0.5
    assert small.any()
    disturbed.loc[small, "slope_share"] = 0.1  # the condition held, and they did not converge
    before, after = section_of(arrived), section_of({**arrived, "disturbed": disturbed})
    assert before.verdict == after.verdict == "holds"
    assert before.findings[0] == after.findings[0]
    assert before.findings[1] != after.findings[1]
    assert "by construction" in after.findings[1]


def test_an_error_beyond_its_bound_refutes_the_claim(arrived: dict[str, pd.DataFrame]) -> None:
    practice = arrived["practice"].copy()
    practice.loc[1, "error_norm"] = 2 * practice.loc[1, "error_bound"]
    section = section_of({**arrived, "practice": practice})
    assert section.verdict == "does not hold"
    assert "exceeded its bound εC at 1 of the measurements" in section.findings[-1]


def test_the_claim_holds_in_part_if_no_module_meets_the_condition(arrived: dict[str, pd.DataFrame]) -> None:
    looks = arrived["looks"].assign(ratio=arrived["looks"]["ratio"] * 0 + 2)
    assert section_of({**arrived, "looks": looks}).verdict == "holds in part"


def test_measurements_in_practice_that_meet_the_condition_are_counted(arrived: dict[str, pd.DataFrame]) -> None:
    never = arrived["practice"].assign(ratio=3.0)
    assert "met at none of" in section_of({**arrived, "practice": never}).findings[-2]
    once = never.copy()
    once.loc[2, "ratio"] = 0.5
    assert f"met at 1 of {len(once)} measurements" in section_of({**arrived, "practice": once}).findings[-2]


def test_steps_that_raise_the_loss_under_the_condition_are_counted(arrived: dict[str, pd.DataFrame]) -> None:
    def rises(tables: Mapping[str, pd.DataFrame]) -> str:
        return next(each for each in section_of(tables).findings if "single steps" in each)

    assert rises(arrived).endswith("the loss rose in 0.")
    looks = arrived["looks"].copy()
    fast = looks[(looks["network"] == "tanh") & (looks["loss"] == "mse") & (looks["method"] == "fast")]
    looks.loc[fast.index[1], "value"] = 100.0  # the step after the first look of the first seed
    assert rises({**arrived, "looks": looks}).endswith("the loss rose in 1.")


def test_figures_have_labels_titles_and_notes(
    tables: Mapping[str, pd.DataFrame], check_section: Callable[..., None]
) -> None:
    section = CLAIM.section(results_of(tables))
    check_section(section)
    assert [drawing.name for drawing in section.drawings] == ["small_problems", "disturbances", "practice"]
    for drawing in section.drawings:
        for ax in drawing.figure.axes:
            assert ax.get_xlabel()
            assert ax.get_ylabel()
        assert all(ax.get_title() for ax in drawing.figure.axes[:2])
        assert any(ax.get_legend() is not None for ax in drawing.figure.axes)
        assert drawing.figure.get_supxlabel().startswith("Seeds 0, 1. n = ")


def test_the_section_marks_our_choices_and_has_all_tables(tables: Mapping[str, pd.DataFrame]) -> None:
    section = section_of(tables)
    assert "our choices" in section.setting
    assert set(section.tables) == {"looks", "disturbed", "practice", "runs"}
