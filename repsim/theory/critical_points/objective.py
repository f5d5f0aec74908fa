"""The true loss of a small network as a function of its parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev

from repsim.learning.checks import check_choice, check_range
from repsim.learning.losses import LOSSES, count_examples
from repsim.learning.networks import Chain

__all__ = ["Objective", "function_distance"]


class Objective:
    """L(θ) = mean over examples of the loss + (weight_decay / 2) ‖θ‖², as a function of one flat vector θ.

    θ holds the parameters of the network in the order of ``network.parameters()``. The network itself is not changed.

    Parameters
    ----------
    network : Chain
        A small network (every Jacobian is dense), in float64, without buffers.
    X : Tensor, shape (N, n_features)
        float64.
    y : Tensor, shape (N,) or (N, n_outputs)
        Classes (int64), or regression targets (float64).
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    weight_decay : float, default 0
        Weight decay, 0 or more; it also applies to biases.

    Attributes
    ----------
    network, X, y, weight_decay
        The arguments.
    start : Tensor, shape (P,)
        Parameters of the network.

    Raises
    ------
    ValueError
        If the loss is unknown; if the weight decay is negative; if the network holds buffers or batch norm; if the
        network, X or regression targets are not float64; or if the shapes of X, y and the network are inconsistent.
    """

    def __init__(
        self, network: Chain, X: Tensor, y: Tensor, *, loss: str = "log_loss", weight_decay: float = 0.0
    ) -> None:
        check_choice("loss", loss, LOSSES)
        check_range("weight_decay", weight_decay, 0.0)
        _check_network(network)
        _check_examples(X, y)
        self.network, self.X, self.y = network, X.detach(), y.detach()
        self.weight_decay, self._loss = weight_decay, LOSSES[loss]
        self.start = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
        self._check_fit()

    def _check_fit(self) -> None:
        """Raise ValueError if X or y is inconsistent with the inputs or outputs of the network."""
        try:
            outputs = self.output(self.start)
        except RuntimeError as error:
            shape = tuple(self.X.shape[1:])
            raise ValueError(
                f"The network cannot process examples of shape {shape}. Pass X with the shape of its inputs."
            ) from error
        n_outputs = outputs.shape[-1]
        if not self.y.is_floating_point() and not 0 <= int(self.y.min()) <= int(self.y.max()) < n_outputs:
            raise ValueError(
                f"y holds classes {int(self.y.min())} to {int(self.y.max())}; the network has {n_outputs} outputs, for "
                f"classes 0 to {n_outputs - 1}."
            )
        self.loss(self.start)  # raises if the shapes of targets and outputs differ

    def activation(self, theta: Tensor, k: int) -> Tensor:
        """Return h_k, shape (N, *shape_k), for parameters theta (P,)."""
        return self._climb(theta, self.network.input(self.X), 0, k)

    def output(self, theta: Tensor) -> Tensor:
        """Return the network's outputs, shape (N, n_outputs), for parameters theta (P,)."""
        return self.output_above(theta, self.network.input(self.X), 0)

    def output_above(self, theta: Tensor, h: Tensor, k: int) -> Tensor:
        """Return the outputs (N, n_outputs) as a function of theta (P,) above boundary k and of h_k."""
        return self._climb(theta, h, k, len(self.network.segments))

    def loss_above(self, theta: Tensor, h: Tensor, k: int) -> Tensor:
        """Return the mean loss, without weight decay, as a function of theta (P,) above boundary k and of h_k."""
        return self._loss(self.output_above(theta, h, k), self.y).mean()

    def loss(self, theta: Tensor) -> Tensor:
        """Return L(θ), a scalar, for parameters theta (P,)."""
        data = self.loss_above(theta, self.network.input(self.X), 0)
        return data + self.weight_decay / 2 * theta.square().sum()

    def gradient(self, theta: Tensor) -> Tensor:
        """Return ∂L/∂θ, shape (P,)."""
        return grad(self.loss)(theta)

    def hessian(self, theta: Tensor) -> Tensor:
        """Return ∂²L/∂θ², shape (P, P)."""
        return jacrev(self.gradient)(theta)  # forward mode raises deprecation warnings

    def _climb(self, theta: Tensor, h: Tensor, below: int, above: int) -> Tensor:
        """Return the activation at boundary ``above``, given the activation at boundary ``below``."""
        start = 0
        for k, segment in enumerate(self.network.segments, start=1):
            parameters = {}
            for name, parameter in segment.named_parameters():
                parameters[name] = theta[start : start + parameter.numel()].view(parameter.shape)
                start += parameter.numel()
            if below < k <= above:
                h = functional_call(segment, parameters, (h,))
        return h


def function_distance(objective: Objective, first: Tensor, second: Tensor) -> float:
    """Return the root mean square, over examples and outputs, of the difference of the outputs at two points (P,).

    It is 0 or more, and does not change under permutations of hidden units, which do not change the outputs.
    """
    return float((objective.output(first) - objective.output(second)).square().mean().sqrt())


def _check_network(network: Chain) -> None:
    buffers = [name for name, _ in network.named_buffers()]
    norms = [name for name, part in network.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if held := buffers + norms:
        raise ValueError(
            f"The network holds '{held[0]}', a buffer or batch norm; critical points need outputs that depend only on "
            "parameters and one example. Use norm 'none' or 'layer'."
        )
    for name, parameter in network.named_parameters():
        if parameter.dtype != torch.float64:
            raise ValueError(f"{name} is {parameter.dtype}; expected torch.float64. Call network.double().")


def _check_examples(X: Tensor, y: Tensor) -> None:
    for name, values in (("X", X), ("y", y)):
        if (name == "X" or values.is_floating_point()) and values.dtype != torch.float64:
            raise ValueError(f"{name} is {values.dtype}; expected torch.float64. Call {name}.double().")
    if len(X) != count_examples(y):
        raise ValueError(f"X has {len(X)} examples and y has {count_examples(y)}; expected equally many.")
