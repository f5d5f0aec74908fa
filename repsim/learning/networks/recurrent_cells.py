"""Cells of recurrent networks, by name: the map from an input and a state to the next state."""

from __future__ import annotations

from math import sqrt
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from repsim.learning.networks.initial_weights import draw_weights

__all__ = ["CELLS", "ElmanCell", "GatedCell", "MemoryCell", "RecurrentCell"]


class RecurrentCell(nn.Module):
    """Base class of cells, whose parameters all time steps share.

    Initial weights of the inputs are drawn from N(0, 1 / n_features); those of the state are one random orthogonal
    matrix per gate (Saxe et al. 2014). Biases start at zero.

    Parameters
    ----------
    n_features : int
        Number of inputs per time step.
    width : int
        Number of units.
    generator : torch.Generator
        Source of the initial weights.
    """

    stacks_by_parts = True  # see stack
    n_gates: ClassVar[int]  # maps of the input and of the state, of ``width`` units each
    n_parts: ClassVar[int] = 1  # vectors of ``width`` numbers in a state, the first of which is the output
    state_bias: ClassVar[bool] = False  # whether the map of the state has a bias beside that of the input

    def __init__(self, n_features: int, width: int, generator: Generator) -> None:
        super().__init__()
        self.width = width
        inputs = nn.utils.skip_init(nn.Linear, n_features, self.n_gates * width)
        self.of_inputs = draw_weights(inputs, 1 / sqrt(n_features), generator)
        of_state = nn.utils.skip_init(nn.Linear, width, self.n_gates * width, bias=self.state_bias)
        self.of_state = draw_weights(of_state, 1.0, generator)
        with torch.no_grad():
            for gate in self.of_state.weight.split(width):
                gate.copy_(torch.linalg.qr(gate.double())[0])

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return the next state (..., N, n_parts · width), given ``of_inputs`` of the input and the state."""
        raise NotImplementedError


class ElmanCell(RecurrentCell):
    """A simple recurrent network: h_t = φ(W x_t + U h_{t-1} + b), with φ = tanh.

    References
    ----------
    Elman (1990), Finding structure in time.
    """

    n_gates = 1

    def __init__(
        self, n_features: int, width: int, generator: Generator, activation: type[nn.Module] = nn.Tanh
    ) -> None:
        super().__init__(n_features, width, generator)
        self.activation = activation()

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return h_t."""
        return self.activation(inputs + self.of_state(state))


class GatedCell(RecurrentCell):
    """A gated recurrent unit, as in ``torch.nn.GRU``.

    r, z = σ(W x_t + U h_{t-1} + b), n = tanh(W' x_t + b' + r (U' h_{t-1} + c')), h_t = (1 - z) n + z h_{t-1}.

    References
    ----------
    Cho et al. (2014), Learning phrase representations using RNN encoder-decoder, section 2.3.
    """

    n_gates = 3
    state_bias = True

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return h_t."""
        width = self.width
        back = self.of_state(state)
        gates = torch.sigmoid(inputs[..., : 2 * width] + back[..., : 2 * width])
        reset, keep = gates[..., :width], gates[..., width:]
        new = torch.tanh(inputs[..., 2 * width :] + reset * back[..., 2 * width :])
        return new + keep * (state - new)


class MemoryCell(RecurrentCell):
    """A long short-term memory, whose state holds its output h_t and its memory c_t.

    i, f, o = σ(W x_t + U h_{t-1} + b), g = tanh(W' x_t + U' h_{t-1} + b'), c_t = f c_{t-1} + i g, h_t = o tanh(c_t).
    The biases of f start at 1 (Gers et al. 2000).

    References
    ----------
    Hochreiter, Schmidhuber (1997), Long short-term memory.
    """

    n_gates = 4
    n_parts = 2

    def __init__(self, n_features: int, width: int, generator: Generator) -> None:
        super().__init__(n_features, width, generator)
        with torch.no_grad():
            self.of_inputs.bias[width : 2 * width] = 1.0

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return h_t and c_t, joined."""
        width = self.width
        sums = inputs + self.of_state(state[..., :width])
        let_in, keep = torch.sigmoid(sums[..., : 2 * width]).split(width, dim=-1)
        memory = keep * state[..., width:] + let_in * torch.tanh(sums[..., 2 * width : 3 * width])
        return torch.cat([torch.sigmoid(sums[..., 3 * width :]) * torch.tanh(memory), memory], dim=-1)


CELLS: dict[str, type[RecurrentCell]] = {"rnn": ElmanCell, "gru": GatedCell, "lstm": MemoryCell}
