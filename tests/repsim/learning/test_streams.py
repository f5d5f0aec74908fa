import itertools

import pytest
import torch

from repsim.learning import stream


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**200])
def test_stream_is_a_function_of_its_arguments_alone(seed: int) -> None:
    torch.rand(3, generator=stream(5, "something else"))  # draws elsewhere change nothing
    first, again = (torch.rand(100, generator=stream(seed, "order", 3)) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("other", [(1, "order", 3), (0, "weights", 3), (0, "order", 4)])
def test_stream_changes_with_every_argument(other: tuple[int, str, int]) -> None:
    assert not torch.equal(torch.rand(100, generator=stream(0, "order", 3)), torch.rand(100, generator=stream(*other)))


def test_stream_of_index_0_is_the_default() -> None:
    assert stream(4, "weights").initial_seed() == stream(4, "weights", 0).initial_seed()


def test_a_thousand_streams_begin_differently() -> None:
    names = ["weights", "order", "estimator", "größe"]
    firsts = {
        torch.rand(2, generator=stream(*key)).numpy().tobytes()
        for key in itertools.product(range(10), names, range(25))
    }
    assert len(firsts) == 1000


def test_stream_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    torch.rand(3, generator=stream(0, "weights"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("key", "seed"),
    [
        ((0, "weights", 0), 16113780701386516814),
        ((0, "order", 1), 72016309325334372),
        ((7, "estimator", 3), 509611362010947590),
    ],
)
def test_stream_keeps_its_seeds_so_that_stored_runs_can_be_continued(key: tuple[int, str, int], seed: int) -> None:
    """Golden numbers of version 0.1: NumPy's SeedSequence and CRC-32 are both stable by specification."""
    assert stream(*key).initial_seed() == seed
