import itertools

import pytest

from analysis.execution.progress.forecasts import StepForecast
from analysis.execution.progress.work import Work


def test_nothing_is_known_before_the_first_step_has_ended() -> None:
    forecast = StepForecast(10)
    forecast.advance(0, now=5.0)
    assert forecast.left(now=6.0) is None


def test_equal_steps_are_extrapolated() -> None:
    forecast = StepForecast(100)
    for step in range(11):
        forecast.advance(min(step, 1), now=2.0 * step)
    assert forecast.left(now=20.0) == pytest.approx(180)
    assert forecast.left(now=21.0) == pytest.approx(179)


def test_steps_of_an_earlier_training_took_no_time() -> None:
    forecast = StepForecast(100, done=90)
    for step in range(6):
        forecast.advance(min(step, 1), now=2.0 * step)
    assert forecast.done == 95
    assert forecast.left(now=10.0) == pytest.approx(10)


def test_a_training_with_slow_first_steps_and_recordings_is_estimated_within_a_factor_of_two() -> None:
    n = 2000
    recorded = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, n}
    kinds = dict.fromkeys(range(50, n + 1, 50), "epoch") | dict.fromkeys(recorded, "recorded")
    factors = {"epoch": 5.0, "recorded": 20.0}
    seconds = [
        0.02 + (1.0 if step == 1 else 0.0) + (0.4 if step in recorded else 0.0) + (0.3 if step % 50 == 0 else 0.0)
        for step in range(1, n + 1)
    ]
    ends = list(itertools.accumulate(seconds))
    now = 0.0
    work = Work("train", StepForecast(n, kinds=kinds, factors=factors), clock=lambda: now)
    factors_off = []
    for now in ends:
        work.advance()
        left, rest = work.left() or 0.0, ends[-1] - now
        if 0.1 * ends[-1] <= now <= 0.95 * ends[-1]:
            factors_off.append(max(left / rest, rest / left))
    assert max(factors_off) < 2
