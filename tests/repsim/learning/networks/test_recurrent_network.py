from typing import Any

import pytest
import torch
import torch.nn.functional as F

from repsim.learning import CELLS, RecurrentNetwork, recurrent_net, stack, true_gradients
from tests.repsim.small_chains import randn

N, STEPS, FEATURES, WIDTH, OUTPUTS = 4, 7, 3, 5, 6


def network(kind: str = "gru", seed: int = 0, **settings: Any) -> RecurrentNetwork:
    generator = torch.Generator().manual_seed(seed)
    return recurrent_net(kind, (STEPS, FEATURES), OUTPUTS, width=WIDTH, generator=generator, **settings).double()


X = randn(N, STEPS * FEATURES)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("window", [1, 3, 7, None])
def test_windows_do_not_change_the_output(kind: str, window: int | None) -> None:
    plain, net = network(kind), network(kind, window=window)
    torch.testing.assert_close(net(X), plain(X), rtol=0, atol=1e-13)
    assert list(net.boundaries) == [t for t in range(1, STEPS) if window and t % window == 0]
    assert net.shapes == ((net.state_size,),) * len(net.boundaries)


def test_logits_are_those_of_the_scored_time_steps() -> None:
    everywhere = network(scored=range(1, STEPS + 1))(X)
    assert everywhere.shape == (N, STEPS, OUTPUTS)
    torch.testing.assert_close(network(scored=(2, 7), window=2)(X), everywhere[:, [1, 6]], rtol=0, atol=1e-13)
    torch.testing.assert_close(network()(X), everywhere[:, -1], rtol=0, atol=1e-13)


def test_the_losses_of_all_windows_sum_to_the_mean_over_scored_time_steps() -> None:
    net, y = network(scored=(2, 3, 6), window=2), torch.tensor([[0, 1, 2]]).expand(N, 3)
    logits = net.run_windows(X, cut=False).logits
    parts = net.losses_of(logits, y, "log_loss")
    assert [part is None for part in parts] == [False, False, False, True]
    expected = F.cross_entropy(net(X).flatten(0, 1), y.flatten(), reduction="none").view(N, 3).mean(dim=1)
    torch.testing.assert_close(sum(part for part in parts if part is not None), expected, rtol=0, atol=1e-13)


def test_a_later_input_does_not_change_an_earlier_state() -> None:
    net, changed = network(scored=range(1, STEPS + 1)), X.clone()
    changed[:, 4 * FEATURES :] += 1
    same = net(X) == net(changed)
    assert same[:, :4].all()
    assert not same[:, 4:].all()


@pytest.mark.parametrize("kind", CELLS)
def test_stacked_networks_equal_each_alone(kind: str) -> None:
    several = [network(kind, seed, scored=(3, 7), window=3) for seed in range(3)]
    together = stack(several)(torch.stack([X, 2 * X, X]))
    for i, net in enumerate(several):
        torch.testing.assert_close(together[i], net([X, 2 * X, X][i]), rtol=0, atol=1e-12)


def test_images_are_read_row_by_row() -> None:
    net = recurrent_net("rnn", (1, 4, 5), 2, width=3, generator=torch.Generator().manual_seed(0))
    assert list(net.hidden) == ["1", "2", "3", "4"]
    assert net.cell.of_inputs.in_features == 5


def test_the_true_gradient_is_that_of_the_loss_of_later_windows() -> None:
    net, y = network(scored=(2, 5, 7), window=2), torch.tensor([[0, 1, 2]]).expand(N, 3)
    found = true_gradients(net, X, y)
    state, _ = net.run_window(net.input(X), net.first_state(net.input(X)), 0)
    state = state.detach().requires_grad_()
    later, logits = state, []
    for start in (2, 4, 6):
        later, each = net.run_window(net.input(X), later, start)
        logits += [] if each is None else [each]
    loss = F.cross_entropy(torch.cat(logits, dim=1).flatten(0, 1), y[:, 1:].flatten(), reduction="sum") / 3
    torch.testing.assert_close(found[2], torch.autograd.grad(loss, state)[0], rtol=0, atol=1e-12)
    assert list(found) == [2, 4, 6]


def test_a_state_that_no_loss_depends_on_has_the_true_gradient_zero() -> None:
    found = true_gradients(network(scored=(1,), window=3), X, torch.zeros(N, 1, dtype=torch.int64))
    assert [g.any().item() for g in found.values()] == [False, False]
    assert true_gradients(network(), X, torch.zeros(N, dtype=torch.int64)) == {}


def test_what_is_no_sequence_or_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs sequences, of shape \(steps, features\); .* have shape \(64,\)\. Use"):
        recurrent_net("rnn", (64,), 2, generator=torch.Generator())
    with pytest.raises(
        ValueError, match=r"window is 8, but the sequences have 7 time steps; use a window of at most 7"
    ):
        network(window=8)
    with pytest.raises(ValueError, match="window is 0; expected a whole number of 1 or more"):
        network(window=0)
    with pytest.raises(ValueError, match=r"scored is \(0, 3\); expected ascending time steps from 1 to 7"):
        network(scored=(0, 3))
    with pytest.raises(ValueError, match=r"Unknown cell 'elman'\. Choose one of: rnn, gru, lstm"):
        recurrent_net("elman", (3, 2), 2, generator=torch.Generator())
    with pytest.raises(ValueError, match=r"There is no boundary 3; with windows of 2 time steps there is: 2, 4, 6\."):
        network(window=2).check_boundary(3)
    with pytest.raises(ValueError, match="segments of a recurrent network share their parameters"):
        _ = network().segments
