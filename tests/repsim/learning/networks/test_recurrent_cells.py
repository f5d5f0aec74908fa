from typing import Any

import pytest
import torch
from torch import nn

from repsim.learning import CELLS, recurrent_net
from tests.repsim.small_chains import randn

N, STEPS, FEATURES, WIDTH = 4, 6, 3, 5


def states_of(kind: str) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Return a network, sequences, and the outputs of its cell at every time step."""
    net = recurrent_net(kind, (STEPS, FEATURES), 2, width=WIDTH, generator=torch.Generator().manual_seed(0)).double()
    X, outputs = randn(N, STEPS * FEATURES), []
    for step in net.hidden.values():
        step.register_forward_hook(lambda module, inputs, state: outputs.append(state[..., :WIDTH]))
    net(X)
    return net, X.unflatten(-1, (STEPS, FEATURES)), torch.stack(outputs, dim=1)


@pytest.mark.parametrize(("kind", "reference"), [("rnn", nn.RNN), ("gru", nn.GRU)])
def test_cells_equal_those_of_torch(kind: str, reference: Any) -> None:
    net, X, outputs = states_of(kind)
    theirs = reference(FEATURES, WIDTH, batch_first=True).double()
    copy_weights(theirs, net.cell, list(range(net.cell.n_gates)))
    torch.testing.assert_close(outputs, theirs(X)[0], rtol=0, atol=1e-13)


def test_the_memory_cell_equals_that_of_torch() -> None:
    net, X, outputs = states_of("lstm")
    theirs = nn.LSTM(FEATURES, WIDTH, batch_first=True).double()
    copy_weights(theirs, net.cell, [0, 1, 2, 3])
    torch.testing.assert_close(outputs, theirs(X)[0], rtol=0, atol=1e-13)
    assert torch.equal(net.cell.of_inputs.bias[WIDTH : 2 * WIDTH], torch.ones(WIDTH).double())


@torch.no_grad()
def copy_weights(theirs: Any, cell: Any, order: list[int]) -> None:
    rows = torch.cat([torch.arange(WIDTH) + WIDTH * gate for gate in order])
    theirs.weight_ih_l0.copy_(cell.of_inputs.weight[rows])
    theirs.weight_hh_l0.copy_(cell.of_state.weight[rows])
    theirs.bias_ih_l0.copy_(cell.of_inputs.bias[rows])
    theirs.bias_hh_l0.zero_() if cell.of_state.bias is None else theirs.bias_hh_l0.copy_(cell.of_state.bias[rows])


@pytest.mark.parametrize("kind", CELLS)
def test_initial_maps_of_the_state_are_orthogonal_and_follow_from_the_seed(kind: str) -> None:
    first, again = states_of(kind)[0], states_of(kind)[0]
    for gate in first.cell.of_state.weight.split(WIDTH):
        torch.testing.assert_close(gate @ gate.T, torch.eye(WIDTH).double(), rtol=0, atol=1e-6)
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), again.parameters(), strict=True))
