"""Networks with symmetric couplings between layers, whose activations are an equilibrium."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from repsim.learning.networks.chain import Chain, Segment

__all__ = ["EquilibriumNetwork", "Pull"]

Pull = Callable[[Tensor], Tensor]  # from the state of the output to what is subtracted from its input


class EquilibriumNetwork(Chain):
    """A multi-layer perceptron in which every layer also acts on the layer below, through the transposed weights.

    The states s_1 … s_K, of which s_K is the output, are a stationary point of the energy

        E = Σ_k (ρ*(s_k) − ⟨s_k, W_k s_{k−1} + b_k⟩),   s_0 = x,

    where the derivative of ρ* is the inverse of the nonlinearity φ of the layer, and φ of the output is the identity.
    There, s_k = φ(W_k s_{k−1} + b_k + W_{k+1}ᵀ s_{k+1}). Starting from zero, the layers are updated by this equation
    one after the other, ``n_sweeps`` times; each update is the minimum of E in s_k, so that E never rises. Nothing
    checks that the sweeps suffice; large weights need more.

    Parameters
    ----------
    network : Chain
        A perceptron of segments without a norm, with tanh or sigmoid units. Its modules are used.
    n_sweeps : int, default 20
        Number of updates of every layer, 1 or more.

    Raises
    ------
    ValueError
        If the network is another one.

    References
    ----------
    Scellier, Bengio (2017), Equilibrium propagation, whose energy is that of a Hopfield network.
    Ernoult, Grollier, Querlioz, Bengio, Scellier (2019), Updates of equilibrium prop match gradients of backprop
    through time in an RNN with static input, for updates by φ.
    """

    def __init__(self, network: Chain, n_sweeps: int = 20) -> None:
        *hidden, output = network.segments
        for k, segment in enumerate(hidden, start=1):
            if why := _why_not_served(segment):
                raise ValueError(
                    f"Equilibrium propagation needs a perceptron without norms, with tanh or sigmoid units, but "
                    f"segment {k} {why}. Use --network mlp --norm none --activation sigmoid --loss mse."
                )
        if type(output) is not nn.Linear:
            raise ValueError(
                f"Equilibrium propagation needs a linear output segment, but it is a {type(output).__name__}. Use "
                "--network mlp --norm none --activation sigmoid --loss mse."
            )
        super().__init__(hidden, output, network.shapes, n_features=network.n_features)
        self._n_outputs, self.n_sweeps = output.out_features, n_sweeps

    def forward(self, X: Tensor) -> Tensor:
        """Return the state of the output in equilibrium; each layer is called once, with the equilibrium as input."""
        with torch.no_grad():
            states = self.relax(X)
        affines = self.affines()
        below = self.input(X)
        for k, segment in enumerate(self.hidden.values()):
            above = states[k + 1] @ affines[k + 1].weight
            below = segment(below, lambda affine, s, above=above: affine(s) + above)
        output: Tensor = self.output(below)
        return output

    def affines(self) -> list[Any]:
        """Return the affine maps W_1 … W_K."""
        return [*(segment.affine for segment in self.hidden.values()), self.output]

    def relax(
        self,
        X: Tensor,
        pull: Pull | None = None,
        *,
        start: Sequence[Tensor] | None = None,
        inputs: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Return the states s_1 … s_K after all sweeps.

        Parameters
        ----------
        X : Tensor, shape (*lead, N, n_features)
        pull : callable, optional
            Nudges the output: s_K = W_K s_{K−1} + b_K − pull(s_K).
        start : sequence of Tensor, optional
            States to start from, in place of zeros.
        inputs : sequence of Tensor, optional
            What is added to the inputs of the hidden layers, one tensor (*lead, N, width) each.
        """
        affines, last = self.affines(), len(self.hidden)
        activations: list[Any] = [segment.activation for segment in self.hidden.values()]
        x = self.input(X)
        states: list[Any] = [None] * (last + 1) if start is None else list(start)
        for _ in range(self.n_sweeps):
            for k in range(last):
                driven = affines[k](states[k - 1] if k else x)
                driven = driven if inputs is None else driven + inputs[k]
                above = states[k + 1]
                states[k] = activations[k](driven if above is None else driven + above @ affines[k + 1].weight)
            driven = affines[last](states[last - 1])
            states[last] = driven if pull is None else driven - pull(states[last])
        return states


def _why_not_served(segment: nn.Module) -> str:
    """Return what keeps a segment from being a layer of an equilibrium network; nothing if it can be one."""
    if not isinstance(segment, Segment) or type(segment.affine) is not nn.Linear:
        inner = type(segment.affine if isinstance(segment, Segment) else segment).__name__
        return f"is a {inner}"
    if type(segment.norm) is not nn.Identity:
        return f"has a {type(segment.norm).__name__}"
    if not isinstance(segment.activation, nn.Tanh | nn.Sigmoid):
        return f"has the nonlinearity {type(segment.activation).__name__}"
    return ""
