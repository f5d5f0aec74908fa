import pytest

from analysis.execution.progress.measured_pace import MeasuredPace


def test_costs_are_kept_until_something_is_measured() -> None:
    assert MeasuredPace().seconds("rdm", 3.0) == pytest.approx(3.0)


def test_measured_durations_correct_the_costs_of_their_kind() -> None:
    pace = MeasuredPace()
    for _ in range(50):
        pace.add("rdm", 1.0, 4.0)
    assert pace.seconds("rdm", 2.0) == pytest.approx(8.0, rel=0.05)


def test_a_kind_that_was_not_measured_gets_the_speed_of_the_machine() -> None:
    pace = MeasuredPace()
    for kind in ("rdm", "probes", "similarity"):
        for _ in range(10):
            pace.add(kind, 1.0, 3.0)
    assert pace.seconds("report", 10.0) == pytest.approx(30.0, rel=0.1)


def test_the_start_of_a_process_counts_little_in_short_work_and_fades() -> None:
    pace = MeasuredPace()
    pace.add("rdm", 0.1, 2.0, is_start=True)  # of which 1.9 s are imports
    assert pace.seconds("rdm", 0.1) < 0.4
    for _ in range(5):
        pace.add("rdm", 0.1, 0.1)
    assert pace.seconds("rdm", 0.1) == pytest.approx(0.1, rel=0.2)


def test_work_that_runs_longer_than_expected_raises_the_expectation() -> None:
    pace = MeasuredPace()
    assert pace.seconds("report", 10.0, so_far=60.0) > 30
    assert pace.seconds("report", 10.0, so_far=1.0) == pytest.approx(10.0)
