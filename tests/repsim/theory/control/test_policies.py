import pytest
import torch

from repsim.learning import stream
from repsim.theory.control import LinearPolicy, MLPPolicy, Pendulum


def test_a_linear_policy_is_minus_its_gain_and_copies_it() -> None:
    gain = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    policy = LinearPolicy(gain)
    gain.zero_()
    assert policy(torch.tensor([[[3.0, 4.0]]], dtype=torch.float64)).tolist() == [[[-11.0]]]


def test_an_mlp_keeps_to_its_limit_and_is_a_function_of_its_generator() -> None:
    x = 100 * Pendulum().draw_states(40, stream(0, "starts"))
    first, again, other = (
        MLPPolicy(Pendulum(), limit=0.5, width=8, generator=stream(seed, "policy")) for seed in (0, 0, 1)
    )
    assert 0.4 < float(first(x).detach().abs().max()) <= 0.5
    assert first(x).shape == (40, 1)
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))


@pytest.mark.parametrize("limit", [0.0, float("inf")])
def test_a_limit_that_is_not_positive_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match=rf"limit is {limit}; expected a number above 0"):
        MLPPolicy(Pendulum(), limit=limit, generator=stream(0, "policy"))
