"""Recurrent networks: one cell and one readout, applied at every time step of a sequence."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

import torch
from torch import Tensor, nn

from repsim.learning.checks import check_choice, check_integer
from repsim.learning.losses import LOSSES
from repsim.learning.networks.chain import Chain
from repsim.learning.networks.initial_weights import draw_weights
from repsim.learning.networks.recurrent_cells import CELLS, RecurrentCell

__all__ = ["RecurrentNetwork", "WindowPass", "recurrent_net"]


class RecurrentNetwork(Chain):
    """A chain whose segments are time steps, which share the parameters of a cell and of a readout.

    h_t = cell(x_t, h_{t-1}) for t = 1 … T, from h_0 = 0. ``hidden.t`` returns the state h_t, so that recordings have
    one layer per time step; the state of an LSTM is its output and its memory. The readout gives logits from the
    output of the cell at the scored time steps.

    A window is ``window`` consecutive time steps. Boundary t lies after time step t, where a window ends and another
    one begins; the states after other time steps are inside a window.

    Parameters
    ----------
    cell : RecurrentCell
    readout : nn.Linear
    shape : tuple of int
        (steps, features) of an example, or (1, steps, features) of an image that is read row by row.
    scored : sequence of int, optional
        Time steps, from 1 and ascending, at which there is a target; the network then returns logits
        (N, n_scored, n_outputs). By default there is one target per sequence, and logits (N, n_outputs) are those of
        the last time step.
    window : int, optional
        Time steps per window; by default the whole sequence.

    Raises
    ------
    ValueError
        If the shape is not that of a sequence, a scored time step lies outside it, or the window is longer than it.
    """

    def __init__(
        self,
        cell: RecurrentCell,
        readout: nn.Linear,
        shape: tuple[int, ...],
        *,
        scored: Sequence[int] | None = None,
        window: int | None = None,
    ) -> None:
        length, n_features = _steps_and_features(shape)
        super().__init__([nn.Identity() for _ in range(length)], readout, input_shape=(length, n_features))
        self.cell, self.length = cell, length
        self.is_scored = scored is not None
        self.scored = tuple(scored) if scored is not None else (length,)
        if list(self.scored) != sorted(set(self.scored) & set(range(1, length + 1))):
            raise ValueError(f"scored is {self.scored}; expected ascending time steps from 1 to {length}.")
        self._is_scored_at = frozenset(self.scored)
        self.window = length if window is None else window
        check_integer("window", self.window, 1)
        if self.window > length:
            raise ValueError(
                f"window is {window}, but the sequences have {length} time steps; use a window of at most {length}."
            )

    @property
    def state_size(self) -> int:
        """The number of units of a state."""
        return self.cell.n_parts * self.cell.width

    @property
    def boundaries(self) -> range:
        """The time steps after which a window ends and another one begins."""
        return range(self.window, self.length, self.window)

    @property
    def n_outputs(self) -> int:
        """The number of logits."""
        return int(self.output.get_parameter("weight").shape[-2])

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of a state, at each boundary."""
        return tuple((self.state_size,) for _ in self.boundaries)

    @property
    def segments(self) -> tuple[nn.Module, ...]:
        """Not available: the segments share their parameters, so none can learn by itself."""
        raise ValueError(
            "The segments of a recurrent network share their parameters, so they cannot be taken apart. Train it with "
            "train, or use a feed-forward network."
        )

    def learning_below(self, k: int) -> nn.Module:
        """Return the cell, whose parameters all time steps share."""
        return self.cell

    def check_boundary(self, k: int) -> None:
        """Raise ValueError unless a window ends and another one begins after time step k."""
        if k not in self.boundaries:
            listed = ", ".join(map(str, self.boundaries)) or "none"
            raise ValueError(f"There is no boundary {k}; with windows of {self.window} time steps there is: {listed}.")

    def forward(self, X: Tensor) -> Tensor:
        """Return logits (..., N, n_scored, n_outputs), or (..., N, n_outputs) if there is one target per sequence."""
        return self.joined(self.run_windows(X, cut=False).logits)

    def run_windows(self, X: Tensor, *, cut: bool) -> WindowPass:
        """Run the network over all windows of sequences, and keep the states at the boundaries.

        With ``cut`` the state that enters a window is a leaf of the graph, otherwise a view of the state that left the
        window before, whose gradient is that of the loss of later windows.
        """
        X = self.input(X)
        state, passed = self.first_state(X), WindowPass()
        for start in range(0, self.length, self.window):
            if start > 0:
                passed.leaving[start] = state
                state = passed.entering[start] = state.detach().requires_grad_() if cut else state.view_as(state)
            state, logits = self.run_window(X, state, start)
            passed.logits.append(logits)
        return passed

    def first_state(self, X: Tensor) -> Tensor:
        """Return h_0 = 0 for sequences X (..., N, T, n_features)."""
        return X.new_zeros(*X.shape[:-2], self.state_size)

    def run_window(self, X: Tensor, state: Tensor, start: int) -> tuple[Tensor, Tensor | None]:
        """Return the state after the window that begins after time step ``start``, and its logits, if it has any."""
        stop = min(start + self.window, self.length)
        inputs = self.cell.of_inputs(X[..., start:stop, :])
        outputs = []
        for t in range(start + 1, stop + 1):
            state = self.hidden[str(t)](self.cell(inputs[..., t - start - 1, :], state))
            if t in self._is_scored_at:
                outputs.append(state[..., : self.cell.width])
        return state, self.output(torch.stack(outputs, dim=-2)) if outputs else None

    def joined(self, logits: Sequence[Tensor | None]) -> Tensor:
        """Return the logits of all windows as ``forward`` does."""
        found = torch.cat([each for each in logits if each is not None], dim=-2)
        return found if self.is_scored else found.squeeze(-2)

    def losses_of(self, logits: Sequence[Tensor | None], y: Tensor, loss: str) -> list[Tensor | None]:
        """Return ``loss_of_window`` of every window, or None of one without targets."""
        starts = range(0, self.length, self.window)
        pairs = zip(logits, starts, strict=True)
        return [None if each is None else self.loss_of_window(each, y, loss, start) for each, start in pairs]

    def loss_of_window(self, logits: Tensor, y: Tensor, loss: str, start: int) -> Tensor:
        """Return the part of the window after time step ``start`` in the loss of each example, shape (..., N).

        The loss of an example is the mean over its scored time steps; the parts of all windows sum to it.
        """
        if not self.is_scored:
            return LOSSES[loss](logits.squeeze(-2), y)
        first = bisect_right(self.scored, start)
        targets = y[..., first : first + logits.shape[-2]]
        return LOSSES[loss](logits, targets).sum(dim=-1) / len(self.scored)


@dataclass(frozen=True)
class WindowPass:
    """A forward pass over windows: at each boundary the state that leaves one and enters the next; logits by window."""

    leaving: dict[int, Tensor] = field(default_factory=dict)
    entering: dict[int, Tensor] = field(default_factory=dict)
    logits: list[Tensor | None] = field(default_factory=list)


def _steps_and_features(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) == 2 or (len(shape) == 3 and shape[0] == 1):
        return shape[-2], shape[-1]
    raise ValueError(
        f"A recurrent network needs sequences, of shape (steps, features); these examples have shape {tuple(shape)}. "
        "Use network 'mlp', or data such as copy:10."
    )


def recurrent_net(
    kind: str,
    shape: tuple[int, ...],
    n_outputs: int,
    *,
    width: int = 128,
    scored: Sequence[int] | None = None,
    window: int | None = None,
    generator: torch.Generator,
) -> RecurrentNetwork:
    """Return a recurrent network with one layer of units, and a linear readout.

    Parameters
    ----------
    kind : str
        A key of ``CELLS``: ``"rnn"``, ``"gru"`` or ``"lstm"``.
    shape, scored, window
        As for ``RecurrentNetwork``.
    n_outputs : int
        Number of logits.
    width : int, default 128
        Number of units.
    generator : torch.Generator
        Source of the initial weights. Those of the readout are drawn from N(0, 1 / width).

    Raises
    ------
    ValueError
        If the kind is unknown, or for the reasons given in ``RecurrentNetwork``.

    Examples
    --------
    >>> net = recurrent_net("gru", (6, 3), 2, width=8, window=2, generator=torch.Generator().manual_seed(0))
    >>> list(net.boundaries), net(torch.zeros(5, 18)).shape
    ([2, 4], torch.Size([5, 2]))
    """
    check_choice("cell", kind, CELLS)
    check_integer("width", width, 1)
    cell = CELLS[kind](_steps_and_features(shape)[1], width, generator)
    readout = draw_weights(nn.utils.skip_init(nn.Linear, width, n_outputs), 1 / sqrt(width), generator)
    return RecurrentNetwork(cell, readout, shape, scored=scored, window=window)
