import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from analysis.executors import completed, count_processors
from analysis.interruption import TrainingInterrupted
from repsim.learning import Diverged


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_is_done_and_those_that_fail_say_why(jobs: int) -> None:
    done = dict(completed(math.sqrt, [4.0, -1.0, 9.0], jobs=jobs))
    assert set(done) == {4.0, -1.0, 9.0}
    assert isinstance(done.pop(-1.0), ValueError)
    assert set(done.values()) == {None}


def diverge(step: int) -> None:
    raise Diverged(step, math.nan, " of the critic")


def stop(step: int) -> None:
    raise TrainingInterrupted(Path("run"), step, "--seeds 0-3")


@pytest.mark.parametrize("fail", [diverge, stop])
@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_come_back_as_they_were(fail: Callable[[int], None], jobs: int) -> None:
    (error,) = {repr(error): error for _, error in completed(fail, [3, 3], jobs=jobs)}.values()
    with pytest.raises(type(error)) as here:
        fail(3)
    assert str(error) == str(here.value)
    assert vars(error)["step"] == 3


@pytest.mark.parametrize("jobs", [1, 2])  # of which 2 starts none
def test_nothing_to_do_is_done(jobs: int) -> None:
    assert list(completed(math.sqrt, [], jobs=jobs)) == []


def test_work_here_has_one_thread_and_gives_the_others_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen: list[int] = []
        list(completed(lambda task: seen.append(torch.get_num_threads()), [0], jobs=1))
        assert seen == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_process_that_dies_is_told_with_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"^A process died .* What is done is kept: .* smaller --jobs\.$"):
        list(completed(os._exit, [3, 3], jobs=2))


def test_there_is_a_processor() -> None:
    assert 1 <= count_processors() <= (os.cpu_count() or 1)
