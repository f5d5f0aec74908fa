import copy

import pytest
import torch
from torch import Tensor

from repsim.learning import stack
from repsim.learning.draws import Draws


def zeros(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_are_normal_in_the_type_and_shape_asked_for(dtype: torch.dtype) -> None:
    drawn = Draws(0).normal_like(zeros(200, 300, dtype=dtype))
    assert drawn.shape == (200, 300)
    assert drawn.dtype == dtype
    assert drawn.mean().item() == pytest.approx(0.0, abs=0.02)
    assert drawn.std().item() == pytest.approx(1.0, abs=0.01)


def test_draws_are_a_function_of_seed_index_and_how_often_it_has_drawn() -> None:
    def three(*key: int) -> list[Tensor]:
        draws = Draws(*key)
        torch.rand(1)  # the global generator has no say
        return [draws.normal_like(zeros(4)) for _ in range(3)]

    one, again = three(0, 1), three(0, 1)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    everything = [drawn for key in ((0, 1), (0, 2), (1, 1), (2**40, 0)) for drawn in three(*key)]
    assert len({drawn.numpy().tobytes() for drawn in everything}) == len(everything)


def test_draws_continue_from_a_state_dict() -> None:
    draws = Draws(3, 1)
    draws.normal_like(zeros(4))
    saved = copy.deepcopy(draws.state_dict())
    assert list(saved) == ["count"]
    expected = draws.normal_like(zeros(4))
    resumed = Draws(3, 1)
    resumed.load_state_dict(saved)
    assert torch.equal(resumed.normal_like(zeros(4)), expected)
    assert int(resumed.count) == 2


def test_the_count_survives_a_change_of_type() -> None:
    draws = Draws(0).double()
    draws.normal_like(zeros(4))
    assert draws.count.dtype == torch.int64
    assert int(draws.count) == 1


def test_a_stack_draws_what_each_would_have_drawn_alone() -> None:
    keys = [(0, 1), (0, 2), (5, 1)]
    together = stack([Draws(*key) for key in keys])
    alone = [Draws(*key) for key in keys]
    for _ in range(2):
        expected = torch.stack([draws.normal_like(zeros(4, 2)) for draws in alone])
        assert torch.equal(together.normal_like(zeros(3, 4, 2)), expected)
    assert together.count.tolist() == [2, 2, 2]


def test_a_stack_of_stacks_draws_what_each_would_have_drawn_alone() -> None:
    keys = [[(0, 1), (0, 2)], [(7, 1), (7, 2)]]
    together = stack([stack([Draws(*key) for key in row]) for row in keys])
    expected = torch.stack([torch.stack([Draws(*key).normal_like(zeros(4)) for key in row]) for row in keys])
    assert torch.equal(together.normal_like(zeros(2, 2, 4)), expected)
