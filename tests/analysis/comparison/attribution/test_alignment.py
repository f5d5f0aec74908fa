from collections.abc import Mapping
from pathlib import Path

import pytest

from analysis.comparison.attribution.alignment import align
from analysis.comparison.attribution.arms import Arm, OpenArm, open_arms

Paths = Mapping[str, tuple[Path, ...]]


@pytest.fixture
def arms(arm_runs: Paths) -> list[OpenArm]:
    return open_arms([Arm("bp", "reference", arm_runs["bp"]), Arm("sg", "method", arm_runs["sg"])])


def test_shares_of_training_are_aligned_without_the_untrained_networks(arms: list[OpenArm]) -> None:
    steps = [(each.name, {name: set(at) for name, at in each.steps.items()}) for each in align(arms)]
    n = {arm.name: arm.runs[0].status["n_steps"] for arm in arms}
    assert steps == [
        ("50 %", {"bp": {round(n["bp"] / 2)}, "sg": {round(n["sg"] / 2)}}),
        ("100 %", {"bp": {n["bp"]}, "sg": {n["sg"]}}),
    ]
    assert n["bp"] < n["sg"]


@pytest.mark.parametrize(
    ("steps", "names"),
    [("last", ["100 %"]), ("first", ["50 %"]), ("100%,50%", ["50 %", "100 %"]), ("first,last", ["50 %", "100 %"])],
)
def test_steps_choose_among_the_aligned_ones(arms: list[OpenArm], steps: str, names: list[str]) -> None:
    assert [each.name for each in align(arms, steps=steps)] == names


@pytest.mark.parametrize("steps", ["25%", "50", "soon", "0%"])
def test_positions_that_were_not_recorded_are_refused(arms: list[OpenArm], steps: str) -> None:
    with pytest.raises(ValueError, match=f"'{steps}' is not a fraction that all arms recorded.*50%, 100%"):
        align(arms, steps=steps)


def test_arms_without_a_step_in_common_are_refused(arms: list[OpenArm]) -> None:
    with pytest.raises(ValueError, match="bp, sg recorded no step of trained networks at an equal step"):
        align(arms, by="step")


def test_equal_schedules_are_aligned_by_steps_and_epochs(arm_runs: Paths) -> None:
    arms = open_arms([Arm("slow", "reference", arm_runs["slow"]), Arm("sg", "method", arm_runs["sg"])])
    n = arms[0].runs[0].status["n_steps"]
    assert [each.name for each in align(arms, by="step")] == [f"step {round(n / 2)}", f"step {n}"]
    assert [each.name for each in align(arms, by="epoch", steps="last")] == ["epoch 3"]
    assert all(len(set(each.steps.values())) == 1 for each in align(arms, by="step"))


def test_an_arm_that_is_matched_in_accuracy_is_at_its_nearest_accuracy(arm_runs: Paths) -> None:
    arms = open_arms(
        [
            Arm("bp", "reference", arm_runs["bp"]),
            Arm("sg", "method", arm_runs["sg"]),
            Arm("bp at sg's accuracy", "accuracy-matched", arm_runs["bp"], "sg"),
        ]
    )
    aligned = align(arms, matched={"bp at sg's accuracy": "sg"}, steps="last")[0]
    matched, runs = aligned.steps["bp at sg's accuracy"], arms[2].runs

    def accuracy(run: object, step: int) -> float:
        logged = [each for each in run.metrics() if "validation_accuracy" in each and each["step"] <= step]  # type: ignore[attr-defined]
        return float(logged[-1]["validation_accuracy"])

    goal = sum(accuracy(run, step) for run, step in zip(arms[1].runs, aligned.steps["sg"], strict=True)) / 3
    for run, step in zip(runs, matched, strict=True):
        gaps = {each: abs(accuracy(run, each) - goal) for each in run.recorded_steps if each > 0}
        assert gaps[step] == min(gaps.values())
    reached = sum(accuracy(run, step) for run, step in zip(runs, matched, strict=True)) / 3
    assert aligned.accuracy_gaps == {"bp at sg's accuracy": pytest.approx(reached - goal)}


@pytest.mark.parametrize("n_steps", [(30, 1000), (1000, 30), (30, 31), (7, 9)])
def test_shares_that_were_rounded_to_whole_updates_are_aligned(n_steps: tuple[int, int]) -> None:
    runs = [_Recorded(n, [round(share * n) for share in (0.25, 0.5, 1.0)]) for n in n_steps]
    arms = [OpenArm(Arm(str(n), "method", ()), (run,), ()) for n, run in zip(n_steps, runs, strict=True)]  # type: ignore[arg-type]
    for order in (arms, arms[::-1]):
        aligned = align(order)
        steps = {arm.name: [each.steps[arm.name][0] for each in aligned] for arm in arms}
        assert steps == {arm.name: run.recorded_steps for arm, run in zip(arms, runs, strict=True)}


class _Recorded:
    """The steps of a run without files."""

    def __init__(self, n_steps: int, recorded_steps: list[int]) -> None:
        self.status, self.recorded_steps = {"n_steps": n_steps}, recorded_steps
