import math
import os

import pytest
import torch

from analysis.executors import completed, count_processors


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_is_done_and_those_that_fail_say_why(jobs: int) -> None:
    done = dict(completed(math.sqrt, [4.0, -1.0, 9.0], jobs=jobs))
    assert set(done) == {4.0, -1.0, 9.0}
    assert isinstance(done.pop(-1.0), ValueError)
    assert set(done.values()) == {None}


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
